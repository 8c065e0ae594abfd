# --- the cluster ---

variable "kubeconfig" {
  description = "Path of the kubeconfig file with the cluster."
  type        = string
  default     = "~/.kube/config"
  nullable    = false

  validation {
    condition     = fileexists(pathexpand(var.kubeconfig))
    error_message = "kubeconfig: there is no file ${var.kubeconfig}. Start the cluster first (minikube start writes it), or give another path."
  }
}

variable "kube_context" {
  description = "Context in the kubeconfig, such as minikube; null = the current one."
  type        = string
  default     = null

  validation {
    condition     = var.kube_context == null || try(length(var.kube_context), 0) > 0
    error_message = "kube_context: expected a context's name as shown by `kubectl config get-contexts`, or null."
  }
}

variable "namespace" {
  description = "Namespace to create and deploy to."
  type        = string
  default     = "weather"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", var.namespace))
    error_message = "namespace: expected lower-case letters, digits and dashes, at most 63, such as weather."
  }
}

variable "fixed_users" {
  description = "Whether each workload runs as its image's user. false = as a user that the cluster chooses, which OpenShift requires."
  type        = bool
  default     = true
  nullable    = false
}

variable "storage_class" {
  description = "Storage class of every volume; null = the cluster's default class."
  type        = string
  default     = null

  validation {
    condition     = var.storage_class == null || can(regex("^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$", var.storage_class))
    error_message = "storage_class: expected a class's name as shown by `kubectl get storageclass`, or null."
  }
}

variable "storage" {
  description = "Size of each volume. Kafka needs about 2Gi a day for 10,000 readings a minute."
  type = object({
    checkpoint = optional(string, "64Mi")
    kafka      = optional(string, "10Gi")
    zookeeper  = optional(string, "1Gi")
    postgres   = optional(string, "2Gi")
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for size in values(var.storage) : can(regex("^[1-9][0-9]*[MGT]i$", size))])
    error_message = "storage: expected sizes such as 64Mi, 10Gi or 1Ti."
  }
  validation {
    condition = alltrue([
      for volume, least_mebibytes in { checkpoint = 16, kafka = 1024, zookeeper = 256, postgres = 512 } :
      try(tonumber(regex("^[0-9]+", var.storage[volume])) * { M = 1, G = 1024, T = 1048576 }[regex("[MGT]", var.storage[volume])], least_mebibytes) >= least_mebibytes
    ])
    error_message = "storage: too small. At least checkpoint 16Mi, kafka 1Gi, zookeeper 256Mi, postgres 512Mi."
  }
}

# --- the program ---

variable "image" {
  description = "Image of weather. Give each version its own tag, so that updates are rolled out."
  type        = string
  default     = "weather-pipeline:latest"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._/:-]*[a-zA-Z0-9._-]+(@sha256:[0-9a-f]{64})?$", var.image))
    error_message = "image: expected an image's name such as weather-pipeline:latest or registry.example.com/weather-pipeline:0.1.0."
  }
}

variable "image_pull_policy" {
  description = "When images are pulled. Images loaded with `minikube image load` are in no registry: do not use Always for them."
  type        = string
  default     = "IfNotPresent"
  nullable    = false

  validation {
    condition     = contains(["IfNotPresent", "Always", "Never"], var.image_pull_policy)
    error_message = "image_pull_policy: expected IfNotPresent, Always or Never."
  }
}

variable "topic" {
  description = "Kafka topic of the readings. A database belongs to one topic; another topic needs another database."
  type        = string
  default     = "weather_data"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]{1,249}$", var.topic)) && !contains([".", ".."], var.topic)
    error_message = "topic: expected 1 to 249 letters, digits, dots, underscores or dashes, such as weather_data."
  }
}

variable "log_level" {
  description = "Least severe level to log: error, warn, info or debug."
  type        = string
  default     = "info"
  nullable    = false

  validation {
    condition     = contains(["error", "warn", "info", "debug"], var.log_level)
    error_message = "log_level: expected error, warn, info or debug."
  }
}

variable "stunnel_image" {
  description = "Image of stunnel, for kafka_tls and postgres_tls; `nix build .#image-stunnel` builds it."
  type        = string
  default     = "weather-stunnel:latest"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._/:-]*[a-zA-Z0-9._-]+(@sha256:[0-9a-f]{64})?$", var.stunnel_image))
    error_message = "stunnel_image: expected an image's name such as registry.example.com/weather-stunnel:5.76."
  }
}

variable "reading" {
  description = <<-TEXT
    Format of a reading, where it differs from the defaults: fields, time_zone, missing_timestamp, missing_values and
    output_units are the flags of these names in `weather process --help`.
  TEXT
  type = object({
    fields            = optional(string)
    time_zone         = optional(string)
    missing_timestamp = optional(string)
    missing_values    = optional(string)
    output_units      = optional(string)
  })
  default  = {}
  nullable = false

  validation {
    condition     = contains(["reject", "kafka"], coalesce(var.reading.missing_timestamp, "reject"))
    error_message = "reading.missing_timestamp: expected reject or kafka."
  }
}

variable "by_station" {
  description = "Whether to keep the averages, minima and maxima of each station, too, in the views weather_station_summary and weather_station_daily."
  type        = bool
  default     = false
  nullable    = false
}

variable "settings" {
  description = "Any other setting of producer and processor, by environment variable: { WEATHER_FLUSH_INTERVAL = \"1s\" }. Every flag of `weather process --help` has one."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.settings) : can(regex("^WEATHER_[A-Z_]+$", name))])
    error_message = "settings: expected variables of the program, such as WEATHER_FLUSH_INTERVAL."
  }
  validation {
    condition = length(setintersection(keys(var.settings), [
      "WEATHER_BROKERS", "WEATHER_BROKER_MAP", "WEATHER_TOPIC", "WEATHER_LISTEN", "WEATHER_LOG_LEVEL", "WEATHER_GROUP", "WEATHER_CHECKPOINT_DIR",
      "WEATHER_SASL_MECHANISM", "WEATHER_SASL_USERNAME", "WEATHER_SASL_PASSWORD", "WEATHER_SASL_PASSWORD_FILE",
      "WEATHER_BACKFILL", "WEATHER_INTERVAL", "WEATHER_PARTITIONS", "WEATHER_BY",
      "WEATHER_FIELDS", "WEATHER_TIME_ZONE", "WEATHER_MISSING_TIMESTAMP", "WEATHER_MISSING_VALUES", "WEATHER_OUTPUT_UNITS",
    ])) == 0
    error_message = "settings: one of these has its own Terraform variable (kafka_brokers, topic, reading and so on), or is a secret or a path that Terraform sets."
  }
}

# --- processors ---

variable "pipeline_replicas" {
  description = "Number of processors, which share the topic's partitions; more than there are partitions wait in reserve. 0 = stopped."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.pipeline_replicas >= 0 && var.pipeline_replicas <= 100 && floor(var.pipeline_replicas) == var.pipeline_replicas
    error_message = "pipeline_replicas: expected a whole number from 0 to 100."
  }
}

variable "autoscaling" {
  description = <<-TEXT
    Let the cluster choose the number of processors, from min to max; pipeline_replicas is then ignored.
    by = lag: KEDA (install it before the plan) keeps the lag in Kafka below this number of readings per processor.
    by = cpu: a HorizontalPodAutoscaler keeps the CPU use of each processor below this value (needs the metrics server). null = off.
  TEXT
  type = object({
    by             = string
    min            = optional(number, 1)
    max            = optional(number, 6)
    lag            = optional(number, 100000)
    cpu            = optional(string, "500m")
    keda_namespace = optional(string, "keda")
  })
  default = null

  validation {
    condition     = var.autoscaling == null || contains(["lag", "cpu"], try(var.autoscaling.by, ""))
    error_message = "autoscaling.by: expected lag or cpu."
  }
  validation {
    condition     = var.autoscaling == null || try(var.autoscaling.min >= 1 && var.autoscaling.max >= var.autoscaling.min && var.autoscaling.max <= 100, false)
    error_message = "autoscaling: expected min from 1 and max from min to 100; more than the topic has partitions wait in reserve."
  }
  validation {
    condition     = var.autoscaling == null || try(var.autoscaling.lag >= 1 && floor(var.autoscaling.lag) == var.autoscaling.lag, false)
    error_message = "autoscaling.lag: expected a whole number of readings, such as 100000."
  }
  validation {
    condition     = var.autoscaling == null || can(regex("^[1-9][0-9]*m?$", var.autoscaling.cpu))
    error_message = "autoscaling.cpu: expected cores or thousandths of a core, such as 500m."
  }
}

variable "checkpoint" {
  description = <<-TEXT
    Where processors keep checkpoint files. volume = shared: one volume for all; with ReadWriteOnce all processors must
    run on one node; several nodes need a class that supports ReadWriteMany. volume = per-pod: one volume per pod,
    deleted with it; its successor starts from PostgreSQL's state.
  TEXT
  type = object({
    volume      = optional(string, "shared")
    access_mode = optional(string, "ReadWriteOnce")
  })
  default  = {}
  nullable = false

  validation {
    condition     = contains(["shared", "per-pod"], var.checkpoint.volume)
    error_message = "checkpoint.volume: expected shared or per-pod."
  }
  validation {
    condition     = contains(["ReadWriteOnce", "ReadWriteMany"], var.checkpoint.access_mode)
    error_message = "checkpoint.access_mode: expected ReadWriteOnce or ReadWriteMany."
  }
}

# --- the producer ---

variable "producer_enabled" {
  description = "Whether to deploy a producer that sends readings of simulated stations."
  type        = bool
  default     = true
  nullable    = false
}

variable "producer_rate" {
  description = "Readings per minute that the producer sends."
  type        = number
  default     = 10000
  nullable    = false

  validation {
    condition     = var.producer_rate >= 1 && var.producer_rate <= 60000000
    error_message = "producer_rate: expected readings per minute from 1 to 60000000, such as 10000."
  }
}

variable "producer_backfill" {
  description = "How much simulated history the producer sends first, so that the first minute already shows windows."
  type        = string
  default     = "3h"
  nullable    = false

  validation {
    condition     = can(regex("^[0-9]+(s|m|h|d)$", var.producer_backfill))
    error_message = "producer_backfill: expected a duration such as 3h, 2d or 0s."
  }
}

variable "topic_partitions" {
  description = "Partitions of the topic if the producer creates it; at most this many processors can work at once."
  type        = number
  default     = 6
  nullable    = false

  validation {
    condition     = var.topic_partitions >= 1 && var.topic_partitions <= 10000 && floor(var.topic_partitions) == var.topic_partitions
    error_message = "topic_partitions: expected a whole number from 1 to 10000."
  }
}

# --- resources ---

variable "resources" {
  description = "CPU and memory of each container: what is reserved for it (request), and the most that it may use (limit)."
  type = object({
    pipeline = optional(object({
      cpu_request    = optional(string, "25m")
      cpu_limit      = optional(string, "1")
      memory_request = optional(string, "32Mi")
      memory_limit   = optional(string, "128Mi")
    }), {})
    producer = optional(object({
      cpu_request    = optional(string, "25m")
      cpu_limit      = optional(string, "1")
      memory_request = optional(string, "32Mi")
      memory_limit   = optional(string, "128Mi")
    }), {})
    stunnel = optional(object({
      cpu_request    = optional(string, "10m")
      cpu_limit      = optional(string, "1")
      memory_request = optional(string, "16Mi")
      memory_limit   = optional(string, "64Mi")
    }), {})
    kafka = optional(object({
      cpu_request    = optional(string, "250m")
      cpu_limit      = optional(string, "2")
      memory_request = optional(string, "768Mi")
      memory_limit   = optional(string, "1Gi")
    }), {})
    zookeeper = optional(object({
      cpu_request    = optional(string, "100m")
      cpu_limit      = optional(string, "1")
      memory_request = optional(string, "256Mi")
      memory_limit   = optional(string, "512Mi")
    }), {})
    postgres = optional(object({
      cpu_request    = optional(string, "100m")
      cpu_limit      = optional(string, "1")
      memory_request = optional(string, "128Mi")
      memory_limit   = optional(string, "512Mi")
    }), {})
  })
  default  = {}
  nullable = false

  validation {
    condition = alltrue(flatten([for r in values(var.resources) : [
      for cpu in [r.cpu_request, r.cpu_limit] : can(regex("^[1-9][0-9]*m?$", cpu))
    ]]))
    error_message = "resources: expected CPU in cores or thousandths of a core, such as 2 or 250m."
  }
  validation {
    condition = alltrue(flatten([for r in values(var.resources) : [
      for memory in [r.memory_request, r.memory_limit] : can(regex("^[1-9][0-9]*[MG]i$", memory))
    ]]))
    error_message = "resources: expected memory such as 128Mi or 1Gi."
  }
  validation {
    condition = alltrue([for r in values(var.resources) : try(
      tonumber(trimsuffix(r.cpu_request, "m")) * (endswith(r.cpu_request, "m") ? 1 : 1000) <=
      tonumber(trimsuffix(r.cpu_limit, "m")) * (endswith(r.cpu_limit, "m") ? 1 : 1000) &&
      tonumber(regex("^[0-9]+", r.memory_request)) * (endswith(r.memory_request, "Gi") ? 1024 : 1) <=
      tonumber(regex("^[0-9]+", r.memory_limit)) * (endswith(r.memory_limit, "Gi") ? 1024 : 1),
      true
    )])
    error_message = "resources: a request is larger than its limit. If you raise one, you may have to raise the other."
  }
}

# --- monitoring ---

variable "monitoring" {
  description = <<-TEXT
    PodMonitor, alerts and a Grafana dashboard, for a cluster in which the Prometheus operator is installed before the
    plan; {} = with the defaults, null = none. labels: labels by which Prometheus selects its objects. repository: base
    URL of the links in alerts.
  TEXT
  type = object({
    labels     = optional(map(string), {})
    repository = optional(string, "https://example.com/weather")
  })
  default = null

  validation {
    condition     = var.monitoring == null || can(regex("^https?://[^ ]+$", var.monitoring.repository))
    error_message = "monitoring.repository: expected an address such as https://git.example.com/weather/blob/main."
  }
}

# --- variables of the replaced system ---

variable "docker_image" {
  description = "Variable of the replaced system; use image."
  type        = string
  default     = null

  validation {
    condition     = var.docker_image == null
    error_message = "docker_image named the replaced system's image, which cannot run here: build the new one (nix build) and set image=NAME:TAG, or leave both unset for weather-pipeline:latest."
  }
}

variable "image_tag" {
  description = "Variable of the replaced system; use image."
  type        = string
  default     = null

  validation {
    condition     = var.image_tag == null
    error_message = "image_tag is a part of image now: image=NAME:TAG."
  }
}
