# Processors and producer: two Deployments of the one program.

locals {
  kafka_environment = merge(
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
  )
  pipeline_environment = merge(local.kafka_environment, {
    PGDATABASE             = local.database.database
    PGHOST                 = local.database.host
    PGPASSWORD_FILE        = "/run/secrets/postgres/password"
    PGPORT                 = tostring(local.database.port)
    PGUSER                 = local.database.user
    WEATHER_CHECKPOINT_DIR = "/checkpoint"
  })
  producer_environment = merge(local.kafka_environment, {
    WEATHER_BACKFILL = var.producer_backfill
    # Whole microseconds where they are exact, else to the nanosecond.
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
  # Many classes make the volume only when a pod wants it.
  wait_until_bound = false
}

# Replicas share the topic's partitions by leases in PostgreSQL; on one node they share the checkpoint volume as well,
# each with files of its own partitions.
resource "kubernetes_deployment_v1" "pipeline" {
  metadata {
    name      = "weather-pipeline"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["weather-pipeline"]
  }
  spec {
    replicas               = var.pipeline_replicas
    revision_history_limit = 3
    selector {
      match_labels = local.selectors["weather-pipeline"]
    }
    strategy {
      type = "RollingUpdate"
      rolling_update {
        max_surge       = "1"
        max_unavailable = "0"
      }
    }
    template {
      metadata {
        labels      = local.labels["weather-pipeline"]
        annotations = local.scrape_annotations
      }
      spec {
        automount_service_account_token = false
        enable_service_links            = false
        # The last flush, the checkpoints and handing the partitions back take at most 15 s, without PostgreSQL too.
        termination_grace_period_seconds = 30
        security_context {
          run_as_non_root        = true
          run_as_user            = local.weather_uid
          run_as_group           = local.weather_uid
          fs_group               = local.weather_uid
          fs_group_change_policy = "OnRootMismatch"
          seccomp_profile {
            type = "RuntimeDefault"
          }
        }
        dynamic "topology_spread_constraint" {
          # A ReadWriteOnce volume that all share keeps them on its node.
          for_each = var.checkpoint.volume == "per-pod" || var.checkpoint.access_mode == "ReadWriteMany" ? [1] : []
          content {
            max_skew           = 1
            topology_key       = "kubernetes.io/hostname"
            when_unsatisfiable = "ScheduleAnyway"
            label_selector {
              match_labels = local.selectors["weather-pipeline"]
            }
          }
        }
        container {
          name              = "weather"
          image             = var.image
          image_pull_policy = var.image_pull_policy
          args              = ["process"]
          dynamic "env" {
            for_each = local.pipeline_environment
            content {
              name  = env.key
              value = env.value
            }
          }
          port {
            name           = "http"
            container_port = 8080
          }
          startup_probe {
            http_get {
              path = "/livez"
              port = "http"
            }
            period_seconds    = 1
            failure_threshold = 60
          }
          readiness_probe {
            http_get {
              path = "/readyz"
              port = "http"
            }
            period_seconds  = 5
            timeout_seconds = 2
          }
          liveness_probe {
            http_get {
              path = "/livez"
              port = "http"
            }
            period_seconds    = 10
            timeout_seconds   = 5
            failure_threshold = 6
          }
          resources {
            requests = { cpu = var.resources.pipeline.cpu_request, memory = var.resources.pipeline.memory_request }
            limits   = { cpu = var.resources.pipeline.cpu_limit, memory = var.resources.pipeline.memory_limit }
          }
          security_context {
            run_as_non_root            = true
            allow_privilege_escalation = false
            read_only_root_filesystem  = true
            capabilities {
              drop = ["ALL"]
            }
          }
          volume_mount {
            name       = "checkpoint"
            mount_path = "/checkpoint"
          }
          volume_mount {
            name       = "postgres"
            mount_path = "/run/secrets/postgres"
            read_only  = true
          }
          dynamic "volume_mount" {
            for_each = kubernetes_secret_v1.kafka
            content {
              name       = "kafka"
              mount_path = "/run/secrets/kafka"
              read_only  = true
            }
          }
        }
        volume {
          name = "checkpoint"
          dynamic "persistent_volume_claim" {
            for_each = kubernetes_persistent_volume_claim_v1.checkpoint
            content {
              claim_name = persistent_volume_claim.value.metadata[0].name
            }
          }
          dynamic "ephemeral" {
            for_each = var.checkpoint.volume == "per-pod" ? [1] : []
            content {
              volume_claim_template {
                metadata {
                  labels = local.labels["weather-pipeline"]
                }
                spec {
                  access_modes       = ["ReadWriteOnce"]
                  storage_class_name = var.storage_class
                  resources {
                    requests = { storage = var.storage.checkpoint }
                  }
                }
              }
            }
          }
        }
        volume {
          name = "postgres"
          secret {
            secret_name  = kubernetes_secret_v1.postgres.metadata[0].name
            default_mode = "0440"
          }
        }
        dynamic "volume" {
          for_each = kubernetes_secret_v1.kafka
          content {
            name = "kafka"
            secret {
              secret_name  = volume.value.metadata[0].name
              default_mode = "0440"
            }
          }
        }
      }
    }
  }

  lifecycle {
    replace_triggered_by = [terraform_data.volume_class, terraform_data.checkpoint_access]
  }
}

# The endpoint of all processors: metrics, progress, dashboard.
resource "kubernetes_service_v1" "pipeline" {
  metadata {
    name      = "weather-pipeline"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["weather-pipeline"]
  }
  spec {
    # Who is not ready has most to tell.
    publish_not_ready_addresses = true
    selector                    = local.selectors["weather-pipeline"]
    port {
      name        = "http"
      port        = 8080
      target_port = "http"
    }
  }
}

# Nodes are drained one processor at a time; a single one may go too, its partitions wait for the next.
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

resource "kubernetes_deployment_v1" "producer" {
  count = var.producer_enabled ? 1 : 0

  metadata {
    name      = "weather-producer"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["weather-producer"]
  }
  spec {
    replicas               = 1
    revision_history_limit = 3
    selector {
      match_labels = local.selectors["weather-producer"]
    }
    # Never two at once: both would simulate the same stations.
    strategy {
      type = "Recreate"
    }
    template {
      metadata {
        labels      = local.labels["weather-producer"]
        annotations = local.scrape_annotations
      }
      spec {
        automount_service_account_token = false
        enable_service_links            = false
        # What was accepted is acknowledged within 10 s, or said to be lost.
        termination_grace_period_seconds = 30
        security_context {
          run_as_non_root        = true
          run_as_user            = local.weather_uid
          run_as_group           = local.weather_uid
          fs_group               = local.weather_uid
          fs_group_change_policy = "OnRootMismatch"
          seccomp_profile {
            type = "RuntimeDefault"
          }
        }
        container {
          name              = "weather"
          image             = var.image
          image_pull_policy = var.image_pull_policy
          args              = ["producer"]
          dynamic "env" {
            for_each = local.producer_environment
            content {
              name  = env.key
              value = env.value
            }
          }
          port {
            name           = "http"
            container_port = 8080
          }
          startup_probe {
            http_get {
              path = "/livez"
              port = "http"
            }
            period_seconds    = 1
            failure_threshold = 60
          }
          readiness_probe {
            http_get {
              path = "/readyz"
              port = "http"
            }
            period_seconds  = 5
            timeout_seconds = 2
          }
          liveness_probe {
            http_get {
              path = "/livez"
              port = "http"
            }
            period_seconds    = 10
            timeout_seconds   = 5
            failure_threshold = 6
          }
          resources {
            requests = { cpu = var.resources.producer.cpu_request, memory = var.resources.producer.memory_request }
            limits   = { cpu = var.resources.producer.cpu_limit, memory = var.resources.producer.memory_limit }
          }
          security_context {
            run_as_non_root            = true
            allow_privilege_escalation = false
            read_only_root_filesystem  = true
            capabilities {
              drop = ["ALL"]
            }
          }
          dynamic "volume_mount" {
            for_each = kubernetes_secret_v1.kafka
            content {
              name       = "kafka"
              mount_path = "/run/secrets/kafka"
              read_only  = true
            }
          }
        }
        dynamic "volume" {
          for_each = kubernetes_secret_v1.kafka
          content {
            name = "kafka"
            secret {
              secret_name  = volume.value.metadata[0].name
              default_mode = "0440"
            }
          }
        }
      }
    }
  }
}
