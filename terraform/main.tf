# The namespace, and what all workloads share.
#
# Each workload has a file: kafka.tf (with ZooKeeper), postgres.tf, weather.tf (processors and producer); network.tf has
# the network policies. k8s/ has the same objects as plain manifests.

locals {
  own_kafka    = length(var.kafka_brokers) > 0
  own_postgres = var.postgres != null
  zookeeper    = !local.own_kafka && var.kafka_coordination == "zookeeper"

  brokers = local.own_kafka ? var.kafka_brokers : ["kafka:9092"]
  database = local.own_postgres ? var.postgres : {
    host     = "postgres"
    port     = 5432
    user     = "postgres"
    database = "weather_db"
  }

  # Another class or access mode means a new volume, and the old one is deleted only when nobody uses it: such a change
  # replaces the workloads as well.
  volume_class = coalesce(var.storage_class, "default")

  common_labels = {
    "app.kubernetes.io/instance"   = "weather"
    "app.kubernetes.io/managed-by" = "terraform"
    "app.kubernetes.io/part-of"    = "weather"
  }
  components = {
    weather-pipeline = "processor"
    weather-producer = "producer"
    kafka            = "broker"
    zookeeper        = "coordinator"
    postgres         = "database"
  }
  labels = {
    for name, component in local.components : name => merge(local.common_labels, {
      "app.kubernetes.io/name"      = name
      "app.kubernetes.io/component" = component
    })
  }
  # Only part of the labels, because selectors cannot be changed later.
  selectors = {
    for name in keys(local.components) : name => {
      "app.kubernetes.io/name"     = name
      "app.kubernetes.io/instance" = "weather"
    }
  }
}

resource "kubernetes_namespace_v1" "weather" {
  metadata {
    name = var.namespace
    labels = merge(local.common_labels, {
      # Pods that need more than the strictest Pod Security Standard allows are refused.
      "pod-security.kubernetes.io/enforce" = "restricted"
      "pod-security.kubernetes.io/warn"    = "restricted"
    })
  }
}

# Random, generated once, kept in the state.
resource "terraform_data" "postgres_password" {
  input = sensitive(uuid())

  lifecycle {
    ignore_changes = [input]
  }
}

resource "kubernetes_secret_v1" "postgres" {
  metadata {
    name      = "postgres"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["postgres"]
  }
  data = {
    password = local.own_postgres ? var.postgres_password : sensitive(terraform_data.postgres_password.output)
  }
}

resource "kubernetes_secret_v1" "kafka" {
  count = var.kafka_sasl == null ? 0 : 1

  metadata {
    name      = "kafka"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["kafka"]
  }
  data = {
    password = var.kafka_sasl_password
  }
}
