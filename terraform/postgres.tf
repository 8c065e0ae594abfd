# One PostgreSQL, where none of your own is given.

locals {
  postgres_uid = 999
}

resource "kubernetes_persistent_volume_claim_v1" "postgres" {
  count = local.own_postgres ? 0 : 1

  metadata {
    name      = "postgres-data"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["postgres"]
  }
  spec {
    access_modes       = ["ReadWriteOnce"]
    storage_class_name = var.storage_class
    resources {
      requests = { storage = var.storage.postgres }
    }
  }
  wait_until_bound = false
}

# A Deployment, so that `kubectl exec deployment/postgres` works; Recreate, because two servers must not share the data.
resource "kubernetes_deployment_v1" "postgres" {
  count = local.own_postgres ? 0 : 1

  metadata {
    name      = "postgres"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["postgres"]
  }
  spec {
    replicas               = 1
    revision_history_limit = 3
    selector {
      match_labels = local.selectors["postgres"]
    }
    strategy {
      type = "Recreate"
    }
    template {
      metadata {
        labels = local.labels["postgres"]
      }
      spec {
        automount_service_account_token  = false
        enable_service_links             = false
        termination_grace_period_seconds = 60
        security_context {
          run_as_non_root        = true
          run_as_user            = local.postgres_uid
          run_as_group           = local.postgres_uid
          fs_group               = local.postgres_uid
          fs_group_change_policy = "OnRootMismatch"
          seccomp_profile {
            type = "RuntimeDefault"
          }
        }
        container {
          name              = "postgres"
          image             = var.postgres_image
          image_pull_policy = var.image_pull_policy
          # A deleted pod's successor starts while the old server still shuts down: it waits for the old one's lock, since
          # the server's own does not reach from container to container.
          command = ["flock", "--no-fork", "/data/lock", "docker-entrypoint.sh", "postgres"]
          # Away from where the image declares a volume, which changed with version 18; a folder of its own, because the
          # server wants to own it.
          env {
            name  = "PGDATA"
            value = "/data/pgdata"
          }
          env {
            name  = "POSTGRES_DB"
            value = local.database.database
          }
          env {
            name  = "POSTGRES_PASSWORD_FILE"
            value = "/run/secrets/postgres/password"
          }
          env {
            name  = "POSTGRES_USER"
            value = local.database.user
          }
          port {
            name           = "postgres"
            container_port = 5432
          }
          # By TCP: while the database is set up, the server listens on its socket alone.
          startup_probe {
            exec {
              command = ["pg_isready", "--quiet", "--host=127.0.0.1", "--username=postgres", "--dbname=weather_db"]
            }
            period_seconds    = 2
            failure_threshold = 150
          }
          readiness_probe {
            exec {
              command = ["pg_isready", "--quiet", "--host=127.0.0.1", "--username=postgres", "--dbname=weather_db"]
            }
            period_seconds  = 5
            timeout_seconds = 5
          }
          liveness_probe {
            tcp_socket {
              port = "postgres"
            }
            period_seconds    = 10
            timeout_seconds   = 5
            failure_threshold = 6
          }
          resources {
            requests = { cpu = var.resources.postgres.cpu_request, memory = var.resources.postgres.memory_request }
            limits   = { cpu = var.resources.postgres.cpu_limit, memory = var.resources.postgres.memory_limit }
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
            name       = "data"
            mount_path = "/data"
          }
          volume_mount {
            name       = "password"
            mount_path = "/run/secrets/postgres"
            read_only  = true
          }
          volume_mount {
            name       = "scratch"
            mount_path = "/tmp"
            sub_path   = "tmp"
          }
          volume_mount {
            name       = "scratch"
            mount_path = "/var/run/postgresql"
            sub_path   = "run"
          }
        }
        volume {
          name = "data"
          persistent_volume_claim {
            claim_name = kubernetes_persistent_volume_claim_v1.postgres[0].metadata[0].name
          }
        }
        volume {
          name = "password"
          secret {
            secret_name  = kubernetes_secret_v1.postgres.metadata[0].name
            default_mode = "0440"
          }
        }
        volume {
          name = "scratch"
          empty_dir {}
        }
      }
    }
  }

  lifecycle {
    replace_triggered_by = [terraform_data.volume_class]
  }
}

resource "kubernetes_service_v1" "postgres" {
  count = local.own_postgres ? 0 : 1

  metadata {
    name      = "postgres"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["postgres"]
  }
  spec {
    selector = local.selectors["postgres"]
    port {
      name        = "postgres"
      port        = 5432
      target_port = "postgres"
    }
  }
}
