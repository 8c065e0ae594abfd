# Scales processors by the lag in Kafka (KEDA must be installed) or by CPU use (needs the metrics server). Off by default.
# k8s/components/autoscaling* are the same objects.

locals {
  by_lag = try(var.autoscaling.by == "lag", false)
  by_cpu = try(var.autoscaling.by == "cpu", false)

  # A processor that is removed hands over its partitions within a lease of 15 s; the next is removed a minute later at
  # the earliest, and only if there was little to do for five minutes.
  scale_down = { window = 300, period = 60 }

  # KEDA connects from another namespace: it needs the full name of the Kafka deployed here.
  keda_brokers = local.own_kafka ? join(",", var.kafka_brokers) : "kafka.${var.namespace}.svc:9092"
  keda_trigger = {
    bootstrapServers   = local.keda_brokers
    consumerGroup      = var.kafka_group
    topic              = var.topic
    lagThreshold       = tostring(try(var.autoscaling.lag, 0))
    offsetResetPolicy  = "earliest" # a group without offsets has read nothing yet
    allowIdleConsumers = "false"    # at most one replica per partition
    version            = "2.1.0"    # of the protocol; Kafka 4 supports none before
  }
  keda_sasl = var.kafka_sasl == null ? {} : {
    sasl = {
      PLAIN         = "plaintext"
      SCRAM-SHA-256 = "scram_sha256"
      SCRAM-SHA-512 = "scram_sha512"
    }[var.kafka_sasl.mechanism]
  }

  # KEDA has its own TLS.
  keda_tls            = var.kafka_tls == null ? {} : { tls = "enable", unsafeSsl = tostring(!var.kafka_tls.check_host) }
  keda_authentication = var.kafka_sasl != null || try(var.kafka_tls.ca, null) != null
}

resource "kubernetes_manifest" "scaled_object" {
  count = local.by_lag ? 1 : 0

  manifest = {
    apiVersion = "keda.sh/v1alpha1"
    kind       = "ScaledObject"
    metadata = {
      name      = "weather-pipeline"
      namespace = kubernetes_namespace_v1.weather.metadata[0].name
      labels    = local.labels["weather-pipeline"]
    }
    spec = {
      scaleTargetRef  = { name = module.pipeline.name }
      pollingInterval = 15
      minReplicaCount = var.autoscaling.min
      maxReplicaCount = var.autoscaling.max
      advanced = {
        horizontalPodAutoscalerConfig = {
          behavior = {
            scaleUp = { stabilizationWindowSeconds = 0 }
            scaleDown = {
              stabilizationWindowSeconds = local.scale_down.window
              policies                   = [{ type = "Pods", value = 1, periodSeconds = local.scale_down.period }]
            }
          }
        }
      }
      triggers = [merge(
        { type = "kafka", metadata = merge(local.keda_trigger, local.keda_sasl, local.keda_tls) },
        local.keda_authentication ? { authenticationRef = { name = "kafka" } } : {},
      )]
    }
  }
}

# The same login and authority as the processors have.
resource "kubernetes_manifest" "trigger_authentication" {
  count = local.by_lag && local.keda_authentication ? 1 : 0

  manifest = {
    apiVersion = "keda.sh/v1alpha1"
    kind       = "TriggerAuthentication"
    metadata = {
      name      = "kafka"
      namespace = kubernetes_namespace_v1.weather.metadata[0].name
      labels    = local.labels["kafka"]
    }
    spec = {
      env = [for sasl in var.kafka_sasl[*] : { parameter = "username", name = "WEATHER_SASL_USERNAME", containerName = "weather" }]
      secretTargetRef = concat(
        [for secret in kubernetes_secret_v1.kafka : { parameter = "password", name = secret.metadata[0].name, key = "password" }],
        [for name, secret in kubernetes_secret_v1.authority : { parameter = "ca", name = secret.metadata[0].name, key = "ca.crt" } if name == "kafka"],
      )
    }
  }
}

resource "kubernetes_network_policy_v1" "keda" {
  count = local.by_lag && !local.own_kafka ? 1 : 0

  metadata {
    name      = "kafka-from-keda"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["kafka"]
  }
  spec {
    pod_selector {
      match_labels = local.selectors["kafka"]
    }
    policy_types = ["Ingress"]
    ingress {
      from {
        namespace_selector {
          match_labels = { "kubernetes.io/metadata.name" = var.autoscaling.keda_namespace }
        }
      }
      ports {
        port     = "kafka"
        protocol = "TCP"
      }
    }
  }
}

resource "kubernetes_horizontal_pod_autoscaler_v2" "pipeline" {
  count = local.by_cpu ? 1 : 0

  metadata {
    name      = "weather-pipeline"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["weather-pipeline"]
  }
  spec {
    scale_target_ref {
      api_version = "apps/v1"
      kind        = "Deployment"
      name        = module.pipeline.name
    }
    min_replicas = var.autoscaling.min
    max_replicas = var.autoscaling.max
    metric {
      type = "Resource"
      resource {
        name = "cpu"
        target {
          # Not relative to the request, which is far below what a backlog needs.
          type          = "AverageValue"
          average_value = var.autoscaling.cpu
        }
      }
    }
    behavior {
      scale_up {
        stabilization_window_seconds = 0
        select_policy                = "Max"
        policy {
          type           = "Pods"
          value          = 4
          period_seconds = 15
        }
      }
      scale_down {
        stabilization_window_seconds = local.scale_down.window
        select_policy                = "Max"
        policy {
          type           = "Pods"
          value          = 1
          period_seconds = local.scale_down.period
        }
      }
    }
  }
}
