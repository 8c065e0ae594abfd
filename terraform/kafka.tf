# One Kafka broker, unless an existing cluster is given: its own controller (KRaft), or with ZooKeeper as in the replaced
# system.

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
    # The full name, so that clients in other namespaces (an autoscaler, a Kafka UI) can connect too.
    KAFKA_ADVERTISED_LISTENERS = "PLAINTEXT://kafka.${var.namespace}.svc:9092"
    # The producer creates topics, with their number of partitions; a metadata request must not.
    KAFKA_AUTO_CREATE_TOPICS_ENABLE = "false"
    KAFKA_HEAP_OPTS                 = "-Xms256m -Xmx${var.kafka_heap}"
    # A subfolder of the volume, because file systems put their own folders at its root.
    KAFKA_LOG_DIRS            = "/var/lib/kafka/data/${var.kafka_coordination}"
    KAFKA_LOG_RETENTION_HOURS = tostring(var.kafka_retention_hours)
    # Kafka deletes whole segments: with the default of 1 GiB, it would keep readings for days longer than configured.
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

module "kafka" {
  source = "./workload"
  count  = local.own_kafka ? 0 : 1

  kind                 = "StatefulSet"
  name                 = "kafka"
  namespace            = kubernetes_namespace_v1.weather.metadata[0].name
  labels               = local.labels["kafka"]
  selector             = local.selectors["kafka"]
  grace_period_seconds = 60
  user                 = var.fixed_users ? local.kafka_uid : null
  image_pull_policy    = var.image_pull_policy
  replace_on           = local.volume_class
  # The Service before the broker, whose first connection otherwise may go to an address that leads nowhere yet: it waits two
  # minutes for an answer, and then for a restart.
  depends_on = [kubernetes_service_v1.zookeeper]

  # Confluent's image writes its settings next to other files: these are copied to a folder that is writable.
  init_containers = local.zookeeper ? [{
    name      = "config"
    image     = local.kafka_image
    command   = ["cp", "-r", "/etc/kafka/.", "/config"]
    resources = var.resources.kafka
    mounts    = [{ volume = "scratch", path = "/config", sub_path = "config" }]
  }] : []
  container = {
    name        = "kafka"
    image       = local.kafka_image
    environment = local.kafka_broker_environment
    port        = { name = "kafka", number = 9092 }
    startup     = { period = 2, failures = 150 }
    readiness   = {}
    liveness    = {}
    resources   = var.resources.kafka
    mounts = [
      { volume = "data", path = "/var/lib/kafka/data" },
      { volume = "scratch", path = local.kafka.settings, sub_path = "config" },
      { volume = "scratch", path = local.kafka.logs, sub_path = "logs" },
      { volume = "scratch", path = "/tmp", sub_path = "tmp" },
    ]
  }
  volumes = [
    { name = "data", claim = kubernetes_persistent_volume_claim_v1.kafka[0].metadata[0].name },
    { name = "scratch" },
  ]
}

moved {
  from = kubernetes_stateful_set_v1.kafka[0]
  to   = module.kafka[0].kubernetes_stateful_set_v1.this[0]
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

module "zookeeper" {
  source = "./workload"
  count  = local.zookeeper ? 1 : 0

  kind                 = "StatefulSet"
  name                 = "zookeeper"
  namespace            = kubernetes_namespace_v1.weather.metadata[0].name
  labels               = local.labels["zookeeper"]
  selector             = local.selectors["zookeeper"]
  grace_period_seconds = 30
  user                 = var.fixed_users ? local.kafka_uid : null
  image_pull_policy    = var.image_pull_policy
  replace_on           = local.volume_class

  container = {
    name        = "zookeeper"
    image       = var.zookeeper_image
    environment = { ZK_SERVER_HEAP = "256" }
    port        = { name = "zookeeper", number = 2181 }
    startup     = { period = 2, failures = 150 }
    readiness   = {}
    liveness    = {}
    resources   = var.resources.zookeeper
    mounts = [
      { volume = "config", path = "/conf/zoo.cfg", sub_path = "zoo.cfg", read_only = true },
      { volume = "data", path = "/data" },
      { volume = "scratch", path = "/logs", sub_path = "logs" },
      { volume = "scratch", path = "/tmp", sub_path = "tmp" },
    ]
  }
  volumes = [
    { name = "config", config_map = kubernetes_config_map_v1.zookeeper[0].metadata[0].name },
    { name = "data", claim = kubernetes_persistent_volume_claim_v1.zookeeper[0].metadata[0].name },
    { name = "scratch" },
  ]
}

moved {
  from = kubernetes_stateful_set_v1.zookeeper[0]
  to   = module.zookeeper[0].kubernetes_stateful_set_v1.this[0]
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
