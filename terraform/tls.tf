# TLS to an existing Kafka or PostgreSQL: a stunnel in each pod, to which weather connects in plain text on the loopback
# interface. It starts before weather and ends after it, so that the last flush still gets through.
# k8s/components/kafka-tls and postgres-tls are the same as plain manifests.

locals {
  # The local end of the tunnel for each broker that Kafka advertises.
  kafka_tunnels = var.kafka_tls == null ? {} : {
    for index, broker in var.kafka_brokers : broker => "127.0.0.1:${19092 + index}"
  }
  postgres_tunnel = { host = "127.0.0.1", port = 15432 }

  # Settings of weather that differ from those for a direct connection.
  kafka_tls_environment = var.kafka_tls == null ? {} : {
    WEATHER_BROKERS    = join(",", [for broker in var.kafka_brokers : local.kafka_tunnels[broker]])
    WEATHER_BROKER_MAP = join(",", [for broker in var.kafka_brokers : "${broker}=${local.kafka_tunnels[broker]}"])
  }
  postgres_tls_environment = var.postgres_tls == null ? {} : {
    PGHOST = local.postgres_tunnel.host
    PGPORT = tostring(local.postgres_tunnel.port)
  }

  tls = {
    for name, tls in { kafka = var.kafka_tls, postgres = var.postgres_tls } : name => {
      # The certificate itself; the variable has its file's path.
      ca = tls.ca == null ? null : file(pathexpand(tls.ca))
      sections = name == "kafka" ? [
        for index, broker in var.kafka_brokers : {
          name = "kafka-${index + 1}", accept = local.kafka_tunnels[broker], connect = broker, protocol = null
        }
        ] : [{
          name     = "postgres"
          accept   = "${local.postgres_tunnel.host}:${local.postgres_tunnel.port}"
          connect  = "${local.database.host}:${local.database.port}"
          protocol = "pgsql"
      }]
      check_host = tls.check_host
    } if tls != null
  }
  stunnel_conf = {
    for name, tls in local.tls : name => join("\n", concat(
      ["foreground = yes", "syslog = no", "pid =", "debug = notice"],
      flatten([
        for section in tls.sections : [
          "",
          "[${section.name}]",
          "client = yes",
          section.protocol == null ? [] : ["protocol = ${section.protocol}"],
          "accept = ${section.accept}",
          "connect = ${section.connect}",
          "delay = yes",
          "sni = ${split(":", section.connect)[0]}",
          "verifyChain = yes",
          tls.check_host ? ["checkHost = ${split(":", section.connect)[0]}"] : [],
          "CAfile = ${tls.ca == null ? local.public_authorities : "/run/secrets/${name}-ca/ca.crt"}",
        ]
      ]),
      [""],
    ))
  }
  # The user of stunnel's image.
  public_authorities = "/etc/ssl/certs/ca-bundle.crt"

  # The sidecars and their volumes.
  stunnel_containers = {
    for name, tls in local.tls : name => {
      name      = "stunnel-${name}"
      image     = var.stunnel_image
      args      = ["/etc/stunnel/stunnel.conf"]
      restart   = "Always"
      resources = var.resources.stunnel
      mounts = concat(
        [{ volume = "stunnel-${name}", path = "/etc/stunnel", read_only = true }],
        tls.ca == null ? [] : [{ volume = "${name}-ca", path = "/run/secrets/${name}-ca", read_only = true }],
      )
    }
  }
  stunnel_volumes = {
    for name, tls in local.tls : name => concat(
      [{ name = "stunnel-${name}", config_map = kubernetes_config_map_v1.stunnel[name].metadata[0].name, secret = null }],
      tls.ca == null ? [] : [{ name = "${name}-ca", config_map = null, secret = kubernetes_secret_v1.authority[name].metadata[0].name }],
    )
  }
}

resource "kubernetes_config_map_v1" "stunnel" {
  for_each = local.tls

  metadata {
    # The name depends on the content, so that pods are replaced when it changes: stunnel reads its files at the start only.
    name      = "stunnel-${each.key}-${substr(sha256(local.stunnel_conf[each.key]), 0, 10)}"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["weather-pipeline"]
  }
  data = { "stunnel.conf" = local.stunnel_conf[each.key] }

  lifecycle {
    create_before_destroy = true
  }
}

# The authority that signed the server's certificate, unless it is a public one.
resource "kubernetes_secret_v1" "authority" {
  for_each = { for name, tls in local.tls : name => tls.ca if tls.ca != null }

  metadata {
    name      = "${each.key}-ca-${substr(sha256(each.value), 0, 10)}"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels[each.key]
  }
  data = { "ca.crt" = each.value }

  lifecycle {
    create_before_destroy = true
  }
}
