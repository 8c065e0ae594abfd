# A Deployment of one container.
#
# Terraform cannot share a block between two types of resource: the pod below is identical to the one in stateful_set.tf.
# tests/deploy/run compares the objects made from both with the manifests in k8s/.

resource "terraform_data" "replace_on" {
  input = var.replace_on
}

resource "kubernetes_deployment_v1" "this" {
  count = var.kind == "Deployment" ? 1 : 0

  metadata {
    name      = var.name
    namespace = var.namespace
    labels    = var.labels
  }
  spec {
    replicas               = var.replicas
    revision_history_limit = 3
    selector {
      match_labels = var.selector
    }
    strategy {
      type = var.strategy
      dynamic "rolling_update" {
        for_each = var.strategy == "RollingUpdate" ? [1] : []
        content {
          max_surge       = "1"
          max_unavailable = "0"
        }
      }
    }
    template {
      metadata {
        labels      = var.labels
        annotations = var.annotations
      }
      spec {
        automount_service_account_token = false
        # A Service named kafka would set KAFKA_PORT, which Kafka's images interpret as a setting.
        enable_service_links             = false
        termination_grace_period_seconds = var.grace_period_seconds
        security_context {
          run_as_non_root        = true
          run_as_user            = var.user
          run_as_group           = var.user
          fs_group               = var.user
          fs_group_change_policy = var.user == null ? null : "OnRootMismatch"
          seccomp_profile {
            type = "RuntimeDefault"
          }
        }
        dynamic "topology_spread_constraint" {
          for_each = var.spread ? [1] : []
          content {
            max_skew           = 1
            topology_key       = "kubernetes.io/hostname"
            when_unsatisfiable = "ScheduleAnyway"
            label_selector {
              match_labels = var.selector
            }
          }
        }
        dynamic "init_container" {
          for_each = var.init_containers
          content {
            name              = init_container.value.name
            image             = init_container.value.image
            image_pull_policy = var.image_pull_policy
            command           = init_container.value.command
            args              = init_container.value.args
            restart_policy    = init_container.value.restart
            resources {
              requests = { cpu = init_container.value.resources.cpu_request, memory = init_container.value.resources.memory_request }
              limits   = { cpu = init_container.value.resources.cpu_limit, memory = init_container.value.resources.memory_limit }
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
              for_each = init_container.value.mounts
              content {
                name       = volume_mount.value.volume
                mount_path = volume_mount.value.path
                sub_path   = volume_mount.value.sub_path
                read_only  = volume_mount.value.read_only
              }
            }
          }
        }
        container {
          name              = var.container.name
          image             = var.container.image
          image_pull_policy = var.image_pull_policy
          command           = var.container.command
          args              = var.container.args
          dynamic "env" {
            for_each = var.container.environment
            content {
              name  = env.key
              value = env.value
            }
          }
          port {
            name           = var.container.port.name
            container_port = var.container.port.number
          }
          startup_probe {
            dynamic "http_get" {
              for_each = var.container.startup.path == null ? [] : [var.container.startup.path]
              content {
                path = http_get.value
                port = var.container.port.name
              }
            }
            dynamic "exec" {
              for_each = var.container.startup.command == null ? [] : [var.container.startup.command]
              content {
                command = exec.value
              }
            }
            dynamic "tcp_socket" {
              for_each = var.container.startup.path == null && var.container.startup.command == null ? [var.container.port.name] : []
              content {
                port = tcp_socket.value
              }
            }
            period_seconds    = var.container.startup.period
            failure_threshold = var.container.startup.failures
          }
          readiness_probe {
            dynamic "http_get" {
              for_each = var.container.readiness.path == null ? [] : [var.container.readiness.path]
              content {
                path = http_get.value
                port = var.container.port.name
              }
            }
            dynamic "exec" {
              for_each = var.container.readiness.command == null ? [] : [var.container.readiness.command]
              content {
                command = exec.value
              }
            }
            dynamic "tcp_socket" {
              for_each = var.container.readiness.path == null && var.container.readiness.command == null ? [var.container.port.name] : []
              content {
                port = tcp_socket.value
              }
            }
            period_seconds  = 5
            timeout_seconds = var.container.readiness.timeout
          }
          liveness_probe {
            dynamic "http_get" {
              for_each = var.container.liveness.path == null ? [] : [var.container.liveness.path]
              content {
                path = http_get.value
                port = var.container.port.name
              }
            }
            dynamic "tcp_socket" {
              for_each = var.container.liveness.path == null ? [var.container.port.name] : []
              content {
                port = tcp_socket.value
              }
            }
            period_seconds    = 10
            timeout_seconds   = 5
            failure_threshold = 6
          }
          resources {
            requests = { cpu = var.container.resources.cpu_request, memory = var.container.resources.memory_request }
            limits   = { cpu = var.container.resources.cpu_limit, memory = var.container.resources.memory_limit }
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
            for_each = var.container.mounts
            content {
              name       = volume_mount.value.volume
              mount_path = volume_mount.value.path
              sub_path   = volume_mount.value.sub_path
              read_only  = volume_mount.value.read_only
            }
          }
        }
        dynamic "volume" {
          for_each = var.volumes
          content {
            name = volume.value.name
            dynamic "persistent_volume_claim" {
              for_each = volume.value.claim == null ? [] : [volume.value.claim]
              content {
                claim_name = persistent_volume_claim.value
              }
            }
            dynamic "ephemeral" {
              for_each = volume.value.claim_per_pod == null ? [] : [volume.value.claim_per_pod]
              content {
                volume_claim_template {
                  metadata {
                    labels = ephemeral.value.labels
                  }
                  spec {
                    access_modes       = ["ReadWriteOnce"]
                    storage_class_name = ephemeral.value.storage_class
                    resources {
                      requests = { storage = ephemeral.value.size }
                    }
                  }
                }
              }
            }
            dynamic "secret" {
              for_each = volume.value.secret == null ? [] : [volume.value.secret]
              content {
                secret_name  = secret.value
                default_mode = "0440"
              }
            }
            dynamic "config_map" {
              for_each = volume.value.config_map == null ? [] : [volume.value.config_map]
              content {
                name = config_map.value
              }
            }
            dynamic "empty_dir" {
              for_each = volume.value.claim == null && volume.value.claim_per_pod == null && volume.value.secret == null && volume.value.config_map == null ? [1] : []
              content {}
            }
          }
        }
      }
    }
  }

  lifecycle {
    replace_triggered_by = [terraform_data.replace_on]
  }
}
