# One Kafka broker, where none of your own is given: its own controller (KRaft), or with ZooKeeper as the replaced system.
#
# Neither StatefulSet is waited for: the provider reports an error after an update that it waited for, though the update
# is applied. The processors and the producer become ready when the broker serves them, and those are waited for.

locals {
  kafka = {
    kraft = {
      image    = "apache/kafka:4.1.0"
      settings = "/opt/kafka/config"
      logs     = "/opt/kafka/logs"
      environment = {
        KAFKA_CONTROLLER_LISTENER_NAMES      = "CONTROLLER"
        KAFKA_CONTROLLER_QUORUM_VOTERS       = "1@localhost:9093"
        KAFKA_LISTENERS                      = "PLAINTEXT://:9092,CONTROLLER://localhost:9093"
        KAFKA_LISTENER_SECURITY_PROTOCOL_MAP = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"
        KAFKA_NODE_ID                        = "1"
        KAFKA_PROCESS_ROLES                  = "broker,controller"
      }
    }
    zookeeper = {
      image    = "confluentinc/cp-kafka:7.5.0"
      settings = "/etc/kafka"
      logs     = "/var/log/kafka"
      environment = {
        KAFKA_BROKER_ID         = "1"
        KAFKA_LISTENERS         = "PLAINTEXT://:9092"
        KAFKA_ZOOKEEPER_CONNECT = "zookeeper:2181"
      }
    }
  }[var.kafka_coordination]

  kafka_broker_environment = merge(local.kafka.environment, {
    KAFKA_ADVERTISED_LISTENERS = "PLAINTEXT://kafka:9092"
    # Topics are made by the producer, with their partitions, not by a question about them.
    KAFKA_AUTO_CREATE_TOPICS_ENABLE = "false"
    KAFKA_HEAP_OPTS                 = "-Xms256m -Xmx${var.kafka_heap}"
    # A folder of its own on the volume, beside what file systems put there.
    KAFKA_LOG_DIRS            = "/var/lib/kafka/data/${var.kafka_coordination}"
    KAFKA_LOG_RETENTION_HOURS = tostring(var.kafka_retention_hours)
    # What is kept goes by whole segments: with the default of 1 GiB, days longer than asked for.
    KAFKA_LOG_SEGMENT_BYTES                        = tostring(128 * 1024 * 1024)
    KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR         = "1"
    KAFKA_TRANSACTION_STATE_LOG_MIN_ISR            = "1"
    KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR = "1"
  })
  kafka_image = coalesce(var.kafka_image, local.kafka.image)
  kafka_uid   = 1000
}

resource "kubernetes_persistent_volume_claim_v1" "kafka" {
  count = local.own_kafka ? 0 : 1

  metadata {
    name      = "kafka-data"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["kafka"]
  }
  spec {
    access_modes       = ["ReadWriteOnce"]
    storage_class_name = var.storage_class
    resources {
      requests = { storage = var.storage.kafka }
    }
  }
  wait_until_bound = false
}

resource "kubernetes_stateful_set_v1" "kafka" {
  count = local.own_kafka ? 0 : 1

  metadata {
    name      = "kafka"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["kafka"]
  }
  spec {
    replicas               = "1"
    revision_history_limit = 3
    service_name           = "kafka"
    # A broken update is replaced by the next one; with OrderedReady it would wait for ever.
    pod_management_policy = "Parallel"
    selector {
      match_labels = local.selectors["kafka"]
    }
    template {
      metadata {
        labels = local.labels["kafka"]
      }
      spec {
        automount_service_account_token = false
        # A Service named kafka would set KAFKA_PORT, which the images take for a setting.
        enable_service_links             = false
        termination_grace_period_seconds = 60
        security_context {
          run_as_non_root        = true
          run_as_user            = local.kafka_uid
          run_as_group           = local.kafka_uid
          fs_group               = local.kafka_uid
          fs_group_change_policy = "OnRootMismatch"
          seccomp_profile {
            type = "RuntimeDefault"
          }
        }
        dynamic "init_container" {
          # Confluent's image writes its settings beside files of its own: they go along to where it may write.
          for_each = local.zookeeper ? [1] : []
          content {
            name              = "config"
            image             = local.kafka_image
            image_pull_policy = var.image_pull_policy
            command           = ["cp", "-r", "/etc/kafka/.", "/config"]
            resources {
              requests = { cpu = var.resources.kafka.cpu_request, memory = var.resources.kafka.memory_request }
              limits   = { cpu = var.resources.kafka.cpu_limit, memory = var.resources.kafka.memory_limit }
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
              name       = "scratch"
              mount_path = "/config"
              sub_path   = "config"
            }
          }
        }
        container {
          name              = "kafka"
          image             = local.kafka_image
          image_pull_policy = var.image_pull_policy
          dynamic "env" {
            for_each = local.kafka_broker_environment
            content {
              name  = env.key
              value = env.value
            }
          }
          port {
            name           = "kafka"
            container_port = 9092
          }
          startup_probe {
            tcp_socket {
              port = "kafka"
            }
            period_seconds    = 2
            failure_threshold = 150
          }
          readiness_probe {
            tcp_socket {
              port = "kafka"
            }
            period_seconds = 5
          }
          liveness_probe {
            tcp_socket {
              port = "kafka"
            }
            period_seconds    = 10
            timeout_seconds   = 5
            failure_threshold = 6
          }
          resources {
            requests = { cpu = var.resources.kafka.cpu_request, memory = var.resources.kafka.memory_request }
            limits   = { cpu = var.resources.kafka.cpu_limit, memory = var.resources.kafka.memory_limit }
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
            mount_path = "/var/lib/kafka/data"
          }
          volume_mount {
            name       = "scratch"
            mount_path = local.kafka.settings
            sub_path   = "config"
          }
          volume_mount {
            name       = "scratch"
            mount_path = local.kafka.logs
            sub_path   = "logs"
          }
          volume_mount {
            name       = "scratch"
            mount_path = "/tmp"
            sub_path   = "tmp"
          }
        }
        volume {
          name = "data"
          persistent_volume_claim {
            claim_name = kubernetes_persistent_volume_claim_v1.kafka[0].metadata[0].name
          }
        }
        volume {
          name = "scratch"
          empty_dir {}
        }
      }
    }
  }
  wait_for_rollout = false

  lifecycle {
    replace_triggered_by = [terraform_data.volume_class]
  }
}

resource "kubernetes_service_v1" "kafka" {
  count = local.own_kafka ? 0 : 1

  metadata {
    name      = "kafka"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["kafka"]
  }
  spec {
    selector = local.selectors["kafka"]
    port {
      name        = "kafka"
      port        = 9092
      target_port = "kafka"
    }
  }
}

# --- ZooKeeper ---

resource "kubernetes_persistent_volume_claim_v1" "zookeeper" {
  count = local.zookeeper ? 1 : 0

  metadata {
    name      = "zookeeper-data"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["zookeeper"]
  }
  spec {
    access_modes       = ["ReadWriteOnce"]
    storage_class_name = var.storage_class
    resources {
      requests = { storage = var.storage.zookeeper }
    }
  }
  wait_until_bound = false
}

resource "kubernetes_config_map_v1" "zookeeper" {
  count = local.zookeeper ? 1 : 0

  metadata {
    name      = "zookeeper"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["zookeeper"]
  }
  data = {
    "zoo.cfg" = <<-CFG
      dataDir=/data
      clientPort=2181
      tickTime=2000
      initLimit=5
      syncLimit=2
      maxClientCnxns=60
      autopurge.snapRetainCount=3
      autopurge.purgeInterval=24
      admin.enableServer=false
    CFG
  }
}

resource "kubernetes_stateful_set_v1" "zookeeper" {
  count = local.zookeeper ? 1 : 0

  metadata {
    name      = "zookeeper"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["zookeeper"]
  }
  spec {
    replicas               = "1"
    revision_history_limit = 3
    service_name           = "zookeeper"
    pod_management_policy  = "Parallel"
    selector {
      match_labels = local.selectors["zookeeper"]
    }
    template {
      metadata {
        labels = local.labels["zookeeper"]
      }
      spec {
        automount_service_account_token  = false
        enable_service_links             = false
        termination_grace_period_seconds = 30
        security_context {
          run_as_non_root        = true
          run_as_user            = local.kafka_uid
          run_as_group           = local.kafka_uid
          fs_group               = local.kafka_uid
          fs_group_change_policy = "OnRootMismatch"
          seccomp_profile {
            type = "RuntimeDefault"
          }
        }
        container {
          name              = "zookeeper"
          image             = var.zookeeper_image
          image_pull_policy = var.image_pull_policy
          env {
            name  = "ZK_SERVER_HEAP"
            value = "256"
          }
          port {
            name           = "zookeeper"
            container_port = 2181
          }
          startup_probe {
            tcp_socket {
              port = "zookeeper"
            }
            period_seconds    = 2
            failure_threshold = 150
          }
          readiness_probe {
            tcp_socket {
              port = "zookeeper"
            }
            period_seconds = 5
          }
          liveness_probe {
            tcp_socket {
              port = "zookeeper"
            }
            period_seconds    = 10
            timeout_seconds   = 5
            failure_threshold = 6
          }
          resources {
            requests = { cpu = var.resources.zookeeper.cpu_request, memory = var.resources.zookeeper.memory_request }
            limits   = { cpu = var.resources.zookeeper.cpu_limit, memory = var.resources.zookeeper.memory_limit }
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
            name       = "config"
            mount_path = "/conf/zoo.cfg"
            sub_path   = "zoo.cfg"
            read_only  = true
          }
          volume_mount {
            name       = "data"
            mount_path = "/data"
          }
          volume_mount {
            name       = "scratch"
            mount_path = "/logs"
            sub_path   = "logs"
          }
          volume_mount {
            name       = "scratch"
            mount_path = "/tmp"
            sub_path   = "tmp"
          }
        }
        volume {
          name = "config"
          config_map {
            name = kubernetes_config_map_v1.zookeeper[0].metadata[0].name
          }
        }
        volume {
          name = "data"
          persistent_volume_claim {
            claim_name = kubernetes_persistent_volume_claim_v1.zookeeper[0].metadata[0].name
          }
        }
        volume {
          name = "scratch"
          empty_dir {}
        }
      }
    }
  }
  wait_for_rollout = false

  lifecycle {
    replace_triggered_by = [terraform_data.volume_class]
  }
}

resource "kubernetes_service_v1" "zookeeper" {
  count = local.zookeeper ? 1 : 0

  metadata {
    name      = "zookeeper"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["zookeeper"]
  }
  spec {
    selector = local.selectors["zookeeper"]
    port {
      name        = "zookeeper"
      port        = 2181
      target_port = "zookeeper"
    }
  }
}
