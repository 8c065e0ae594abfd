# Processors and producer: two Deployments of the same program.

locals {
  kafka_environment = merge(
    var.settings,
    { for name, value in var.reading : "WEATHER_${upper(name)}" => value if value != null },
    length(var.kafka_broker_map) == 0 ? {} : {
      WEATHER_BROKER_MAP = join(",", [for advertised, reachable in var.kafka_broker_map : "${advertised}=${reachable}"])
    },
    {
      WEATHER_BROKERS   = join(",", local.brokers)
      WEATHER_LISTEN    = "0.0.0.0:8080"
      WEATHER_LOG_LEVEL = var.log_level
      WEATHER_TOPIC     = var.topic
    },
    var.kafka_sasl == null ? {} : {
      WEATHER_SASL_MECHANISM     = var.kafka_sasl.mechanism
      WEATHER_SASL_USERNAME      = var.kafka_sasl.username
      WEATHER_SASL_PASSWORD_FILE = "/run/secrets/kafka/password"
    },
    local.kafka_tls_environment,
  )
  pipeline_environment = merge(local.kafka_environment, {
    PGDATABASE             = local.database.database
    PGHOST                 = local.database.host
    PGPASSWORD_FILE        = "/run/secrets/postgres/password"
    PGPORT                 = tostring(local.database.port)
    PGUSER                 = local.database.user
    WEATHER_CHECKPOINT_DIR = "/checkpoint"
    WEATHER_GROUP          = var.kafka_group
  }, var.by_station ? { WEATHER_BY = "station" } : {}, local.postgres_tls_environment)
  producer_environment = merge(local.kafka_environment, {
    WEATHER_BACKFILL = var.producer_backfill
    # Whole microseconds if they are exact, otherwise nanoseconds.
    WEATHER_INTERVAL = (
      60000000 % var.producer_rate == 0
      ? format("%.0fus", 60000000 / var.producer_rate)
      : format("%.0fns", 60000000000 / var.producer_rate)
    )
    WEATHER_PARTITIONS = tostring(var.topic_partitions)
  })

  scrape_annotations = {
    "prometheus.io/scrape" = "true"
    "prometheus.io/port"   = "8080"
    "prometheus.io/path"   = "/metrics"
  }
  # The user of the image.
  weather_uid = 65532

  # Startup, liveness and readiness probes.
  weather_port  = { name = "http", number = 8080 }
  weather_probe = { path = "/livez", period = 1, failures = 60 }

  # The Secrets with passwords, as volumes and mounts.
  kafka_secret_volumes = [for secret in kubernetes_secret_v1.kafka : { name = "kafka", secret = secret.metadata[0].name }]
  kafka_secret_mounts  = [for secret in kubernetes_secret_v1.kafka : { volume = "kafka", path = "/run/secrets/kafka", read_only = true }]
}

# The checkpoint files: a few kilobytes a partition.
resource "kubernetes_persistent_volume_claim_v1" "checkpoint" {
  count = var.checkpoint.volume == "shared" ? 1 : 0

  metadata {
    name      = "weather-checkpoint"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["weather-pipeline"]
  }
  spec {
    access_modes       = [var.checkpoint.access_mode]
    storage_class_name = var.storage_class
    resources {
      requests = { storage = var.storage.checkpoint }
    }
  }
  # Many classes create the volume only when a pod uses it.
  wait_until_bound = false
}

# Replicas share the topic's partitions through leases in PostgreSQL; on one node they also share the checkpoint volume,
# each with the files of its own partitions.
module "pipeline" {
  source = "./workload"

  name        = "weather-pipeline"
  namespace   = kubernetes_namespace_v1.weather.metadata[0].name
  labels      = local.labels["weather-pipeline"]
  selector    = local.selectors["weather-pipeline"]
  annotations = local.scrape_annotations
  replicas    = var.autoscaling == null ? var.pipeline_replicas : null
  strategy    = "RollingUpdate"
  # The last flush, the checkpoints and the release of the partitions take at most 15 s, even without PostgreSQL.
  grace_period_seconds = 30
  user                 = var.fixed_users ? local.weather_uid : null
  # A shared ReadWriteOnce volume keeps all of them on its node.
  spread            = var.checkpoint.volume == "per-pod" || var.checkpoint.access_mode == "ReadWriteMany"
  image_pull_policy = var.image_pull_policy
  replace_on        = "${local.volume_class} ${var.checkpoint.access_mode}"

  init_containers = values(local.stunnel_containers)
  container = {
    name        = "weather"
    image       = var.image
    args        = ["process"]
    environment = local.pipeline_environment
    port        = local.weather_port
    startup     = local.weather_probe
    readiness   = { path = "/readyz", timeout = 2 }
    liveness    = { path = "/livez" }
    resources   = var.resources.pipeline
    mounts = concat([
      { volume = "checkpoint", path = "/checkpoint" },
      { volume = "postgres", path = "/run/secrets/postgres", read_only = true },
    ], local.kafka_secret_mounts)
  }
  volumes = concat(
    [
      var.checkpoint.volume == "shared"
      ? { name = "checkpoint", claim = kubernetes_persistent_volume_claim_v1.checkpoint[0].metadata[0].name, claim_per_pod = null }
      : { name = "checkpoint", claim = null, claim_per_pod = { labels = local.labels["weather-pipeline"], storage_class = var.storage_class, size = var.storage.checkpoint } },
    ],
    [{ name = "postgres", secret = kubernetes_secret_v1.postgres.metadata[0].name }],
    local.kafka_secret_volumes,
    flatten(values(local.stunnel_volumes)),
  )
}

moved {
  from = kubernetes_deployment_v1.pipeline
  to   = module.pipeline.kubernetes_deployment_v1.this[0]
}

# The endpoint of all processors: metrics, progress, dashboard.
resource "kubernetes_service_v1" "pipeline" {
  metadata {
    name      = "weather-pipeline"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["weather-pipeline"]
  }
  spec {
    # A pod that is not ready is the one to look at.
    publish_not_ready_addresses = true
    selector                    = local.selectors["weather-pipeline"]
    port {
      name        = "http"
      port        = 8080
      target_port = "http"
    }
  }
}

# Nodes are drained one processor at a time; a single one may be evicted too; its partitions wait for its successor.
resource "kubernetes_pod_disruption_budget_v1" "pipeline" {
  metadata {
    name      = "weather-pipeline"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["weather-pipeline"]
  }
  spec {
    max_unavailable = "1"
    selector {
      match_labels = local.selectors["weather-pipeline"]
    }
  }
}

module "producer" {
  source = "./workload"
  count  = var.producer_enabled ? 1 : 0

  name        = "weather-producer"
  namespace   = kubernetes_namespace_v1.weather.metadata[0].name
  labels      = local.labels["weather-producer"]
  selector    = local.selectors["weather-producer"]
  annotations = local.scrape_annotations
  # Never two at once: both would simulate the same stations.
  strategy = "Recreate"
  # What was accepted is acknowledged within 10 s, or reported as lost.
  grace_period_seconds = 30
  user                 = var.fixed_users ? local.weather_uid : null
  image_pull_policy    = var.image_pull_policy

  init_containers = [for name, container in local.stunnel_containers : container if name == "kafka"]
  container = {
    name        = "weather"
    image       = var.image
    args        = ["producer"]
    environment = local.producer_environment
    port        = local.weather_port
    startup     = local.weather_probe
    readiness   = { path = "/readyz", timeout = 2 }
    liveness    = { path = "/livez" }
    resources   = var.resources.producer
    mounts      = local.kafka_secret_mounts
  }
  volumes = concat(local.kafka_secret_volumes, try(local.stunnel_volumes["kafka"], []))
}

moved {
  from = kubernetes_deployment_v1.producer[0]
  to   = module.producer[0].kubernetes_deployment_v1.this[0]
}
