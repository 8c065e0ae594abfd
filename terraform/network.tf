# The network policies. All traffic is denied except DNS; each workload's own policy allows the connections that it needs.
# An existing Kafka or PostgreSQL may be anywhere: for those only the port is restricted.

locals {
  # Outgoing connections per workload: to another workload here, or to anywhere (null).
  to_kafka = local.own_kafka ? [
    for port in distinct([for broker in var.kafka_brokers : split(":", broker)[1]]) : { workload = null, port = port }
  ] : [{ workload = "kafka", port = "9092" }]
  to_postgres = [{ workload = local.own_postgres ? null : "postgres", port = tostring(local.database.port) }]

  # Anyone in the cluster may read the metrics; everything else is only for the workloads named here.
  paths = merge(
    {
      weather-pipeline = { port = "http", from = [], to = concat(local.to_kafka, local.to_postgres) }
    },
    var.producer_enabled ? {
      weather-producer = { port = "http", from = [], to = local.to_kafka }
    } : {},
    local.own_kafka ? {} : {
      kafka = {
        port = "kafka"
        from = ["weather-pipeline", "weather-producer"]
        to   = [for workload in ["zookeeper"] : { workload = workload, port = "2181" } if local.zookeeper]
      }
    },
    local.zookeeper ? {
      zookeeper = { port = "zookeeper", from = ["kafka"], to = [] }
    } : {},
    local.own_postgres ? {} : {
      postgres = { port = "postgres", from = ["weather-pipeline"], to = [] }
    },
  )
}

resource "kubernetes_network_policy_v1" "default" {
  metadata {
    name      = "default"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.common_labels
  }
  spec {
    pod_selector {}
    policy_types = ["Ingress", "Egress"]
    # Not pinned to a pod, because clusters with a cache on each node answer from the node's own address.
    egress {
      ports {
        port     = "53"
        protocol = "UDP"
      }
      ports {
        port     = "53"
        protocol = "TCP"
      }
    }
  }
}

resource "kubernetes_network_policy_v1" "workload" {
  for_each = local.paths

  metadata {
    name      = each.key
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels[each.key]
  }
  spec {
    pod_selector {
      match_labels = local.selectors[each.key]
    }
    policy_types = ["Ingress", "Egress"]
    ingress {
      dynamic "from" {
        for_each = each.value.from
        content {
          pod_selector {
            match_labels = local.selectors[from.value]
          }
        }
      }
      ports {
        port     = each.value.port
        protocol = "TCP"
      }
    }
    dynamic "egress" {
      for_each = each.value.to
      content {
        dynamic "to" {
          for_each = egress.value.workload == null ? [] : [egress.value.workload]
          content {
            pod_selector {
              match_labels = local.selectors[to.value]
            }
          }
        }
        ports {
          port     = egress.value.port
          protocol = "TCP"
        }
      }
    }
  }
}
