# Scraping, alerts and a dashboard, for a cluster with the Prometheus operator. Off by default.
#
# The objects are those of k8s/components/monitoring, read from there: rules and dashboard are written once.

locals {
  monitoring_folder = "${path.module}/../k8s/components/monitoring"
  monitoring_labels = merge(local.labels["weather-pipeline"], try(var.monitoring.labels, {}))
  monitoring_objects = {
    for name in var.monitoring == null ? [] : ["pod-monitor", "rules"] : name => yamldecode(replace(
      file("${local.monitoring_folder}/${name}.yaml"), "https://example.com/weather", trimsuffix(var.monitoring.repository, "/")
    ))
  }
}

resource "kubernetes_manifest" "monitoring" {
  for_each = local.monitoring_objects

  manifest = merge(each.value, {
    metadata = {
      name      = each.value.metadata.name
      namespace = kubernetes_namespace_v1.weather.metadata[0].name
      labels    = local.monitoring_labels
    }
  })
}

resource "kubernetes_config_map_v1" "dashboard" {
  count = var.monitoring == null ? 0 : 1

  metadata {
    name      = "weather-dashboard"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    # What Grafana's sidecar looks for.
    labels = merge(local.labels["weather-pipeline"], { grafana_dashboard = "1" })
  }
  data = {
    "weather.json" = file("${local.monitoring_folder}/dashboard.json")
  }
}
