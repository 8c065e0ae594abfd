# Kafka and PostgreSQL: deployed here, or existing ones.

# --- Kafka ---

variable "kafka_brokers" {
  description = "Brokers of an existing Kafka cluster, host:port each. Empty = deploy one broker."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for broker in var.kafka_brokers : can(regex("^[A-Za-z0-9._-]+:[0-9]{1,5}$", broker))])
    error_message = "kafka_brokers: expected host:port each, such as [\"kafka-1.example.com:9092\", \"kafka-2.example.com:9092\"]."
  }
}

variable "kafka_broker_map" {
  description = "Addresses at which the brokers of an existing Kafka cluster are reached, if not at the ones that they advertise: { \"kafka-1:9092\" = \"kafka-1.elsewhere.svc:9092\" }."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for address in concat(keys(var.kafka_broker_map), values(var.kafka_broker_map)) : can(regex("^[A-Za-z0-9._-]+:[0-9]{1,5}$", address))])
    error_message = "kafka_broker_map: expected host:port on both sides."
  }
  validation {
    condition     = length(var.kafka_broker_map) == 0 || (length(var.kafka_brokers) > 0 && var.kafka_tls == null)
    error_message = "kafka_broker_map requires kafka_brokers and cannot be combined with kafka_tls, which sets its own map."
  }
}

variable "kafka_group" {
  description = "Consumer group under which processors commit to Kafka the offsets that are in the table, so that lag exporters, KEDA and Kafka's tools see the lag."
  type        = string
  default     = "weather-pipeline"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]{1,255}$", var.kafka_group))
    error_message = "kafka_group: expected 1 to 255 letters, digits, dots, underscores or dashes."
  }
}

variable "kafka_sasl" {
  description = "SASL login to an existing Kafka cluster; null = its listener requires none."
  type = object({
    mechanism = string
    username  = string
  })
  default = null

  validation {
    condition     = var.kafka_sasl == null || contains(["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], try(var.kafka_sasl.mechanism, ""))
    error_message = "kafka_sasl.mechanism: expected PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."
  }
  validation {
    condition     = var.kafka_sasl == null || length(var.kafka_brokers) > 0
    error_message = "kafka_sasl requires kafka_brokers: the broker deployed here requires no login."
  }
  validation {
    condition     = var.kafka_sasl == null || try(length(var.kafka_sasl.username), 0) > 0
    error_message = "kafka_sasl.username: expected a name."
  }
}

variable "kafka_sasl_password" {
  description = "Password for kafka_sasl; best given as TF_VAR_kafka_sasl_password."
  type        = string
  default     = null
  sensitive   = true

  validation {
    condition     = (var.kafka_sasl_password == null) == (var.kafka_sasl == null)
    error_message = "kafka_sasl_password and kafka_sasl go together: give both or neither."
  }
}

variable "kafka_tls" {
  description = "TLS to an existing Kafka cluster, by a stunnel in each pod; {} = its certificate is from a public authority. ca: path of the certificate (PEM) of a private authority. check_host = false: accept any host with a certificate of that authority. null = no TLS."
  type = object({
    ca         = optional(string)
    check_host = optional(bool, true)
  })
  default = null

  validation {
    condition     = var.kafka_tls == null || length(var.kafka_brokers) > 0
    error_message = "kafka_tls requires kafka_brokers: the broker deployed here does not use TLS."
  }
  validation {
    condition     = try(var.kafka_tls.ca, null) == null || can(regex("-----BEGIN CERTIFICATE-----", file(pathexpand(var.kafka_tls.ca))))
    error_message = "kafka_tls.ca: expected the path of a file with the authority's certificate in PEM format, such as ca.crt."
  }
}

variable "kafka_coordination" {
  description = "kraft: the broker is its own controller (apache/kafka). zookeeper: ZooKeeper and Confluent's Kafka."
  type        = string
  default     = "kraft"
  nullable    = false

  validation {
    condition     = contains(["kraft", "zookeeper"], var.kafka_coordination)
    error_message = "kafka_coordination: expected kraft or zookeeper."
  }
}

variable "kafka_image" {
  description = "Image of the broker; null = apache/kafka:4.1.0, with ZooKeeper confluentinc/cp-kafka:7.5.0."
  type        = string
  default     = null

  validation {
    condition     = var.kafka_image == null || can(regex("^[a-z0-9][a-z0-9._/:-]*[a-zA-Z0-9._-]+(@sha256:[0-9a-f]{64})?$", var.kafka_image))
    error_message = "kafka_image: expected an image's name such as apache/kafka:4.1.0."
  }
}

variable "kafka_retention_hours" {
  description = "How long the broker keeps readings, in hours."
  type        = number
  default     = 48
  nullable    = false

  validation {
    condition     = var.kafka_retention_hours >= 1 && var.kafka_retention_hours <= 87600 && floor(var.kafka_retention_hours) == var.kafka_retention_hours
    error_message = "kafka_retention_hours: expected a whole number of hours from 1 to 87600."
  }
}

variable "kafka_heap" {
  description = "Java heap of the broker; resources.kafka.memory_limit must be at least 1.5 times as large."
  type        = string
  default     = "512m"
  nullable    = false

  validation {
    condition     = can(regex("^[1-9][0-9]*[mg]$", var.kafka_heap))
    error_message = "kafka_heap: expected megabytes or gigabytes as Java writes them, such as 512m or 2g."
  }
  validation {
    condition = try(
      tonumber(regex("^[0-9]+", var.kafka_heap)) * { m = 1, g = 1024 }[regex("[mg]$", var.kafka_heap)] * 1.5 <=
      tonumber(regex("^[0-9]+", var.resources.kafka.memory_limit)) * { M = 1, G = 1024 }[regex("[MG]", var.resources.kafka.memory_limit)],
      true
    )
    error_message = "kafka_heap: resources.kafka.memory_limit must be at least 1.5 times the heap. Raise the limit, or choose a smaller heap."
  }
}

variable "zookeeper_image" {
  description = "Image of ZooKeeper, for kafka_coordination = zookeeper."
  type        = string
  default     = "zookeeper:3.9.2"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._/:-]*[a-zA-Z0-9._-]+(@sha256:[0-9a-f]{64})?$", var.zookeeper_image))
    error_message = "zookeeper_image: expected an image's name such as zookeeper:3.9.2."
  }
}

# --- PostgreSQL ---

variable "postgres" {
  description = "An existing PostgreSQL: its host, and what differs from the defaults. null = deploy one."
  type = object({
    host     = string
    port     = optional(number, 5432)
    user     = optional(string, "postgres")
    database = optional(string, "weather_db")
  })
  default = null

  validation {
    condition     = var.postgres == null || can(regex("^[A-Za-z0-9._-]+$", var.postgres.host))
    error_message = "postgres.host: expected a host's name or address, such as db.example.com."
  }
  validation {
    condition     = var.postgres == null || try(var.postgres.port >= 1 && var.postgres.port <= 65535, false)
    error_message = "postgres.port: expected a port, such as 5432."
  }
}

variable "postgres_password" {
  description = "Password for postgres; best given as TF_VAR_postgres_password. The PostgreSQL deployed here gets a generated one."
  type        = string
  default     = null
  sensitive   = true

  validation {
    condition     = (var.postgres_password == null) == (var.postgres == null)
    error_message = "postgres_password and postgres go together: give both or neither. The PostgreSQL deployed here gets a generated password."
  }
}

variable "postgres_tls" {
  description = "TLS to an existing PostgreSQL, by a stunnel in each pod; {} = its certificate is from a public authority. ca: path of the certificate (PEM) of a private authority. check_host = false: accept any host with a certificate of that authority. null = no TLS."
  type = object({
    ca         = optional(string)
    check_host = optional(bool, true)
  })
  default = null

  validation {
    condition     = var.postgres_tls == null || var.postgres != null
    error_message = "postgres_tls requires postgres: the PostgreSQL deployed here does not use TLS."
  }
  validation {
    condition     = try(var.postgres_tls.ca, null) == null || can(regex("-----BEGIN CERTIFICATE-----", file(pathexpand(var.postgres_tls.ca))))
    error_message = "postgres_tls.ca: expected the path of a file with the authority's certificate in PEM format, such as ca.crt."
  }
}

variable "postgres_image" {
  description = "Image of PostgreSQL (Debian, not Alpine). A major version cannot read the database of another one."
  type        = string
  default     = "postgres:18"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._/:-]*[a-zA-Z0-9._-]+(@sha256:[0-9a-f]{64})?$", var.postgres_image))
    error_message = "postgres_image: expected an image's name such as postgres:18."
  }
}
