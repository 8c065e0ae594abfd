output "namespace" {
  description = "The namespace that everything runs in."
  value       = kubernetes_namespace_v1.weather.metadata[0].name
}

output "next" {
  description = "Commands to look at the result."
  value = join("\n", concat(
    [
      "kubectl -n ${var.namespace} get pods",
      "kubectl -n ${var.namespace} logs -f deployment/weather-pipeline --timestamps",
    ],
    var.producer_enabled ? ["kubectl -n ${var.namespace} logs -f deployment/weather-producer --timestamps"] : [],
    local.own_postgres ? [] : [
      "kubectl -n ${var.namespace} exec -it deployment/postgres -- psql -U postgres -d weather_db -c \"SELECT * FROM weather_summary ORDER BY window_start;\"",
    ],
    [
      "kubectl -n ${var.namespace} scale --replicas=3 deployment/weather-pipeline",
      "kubectl -n ${var.namespace} port-forward service/weather-pipeline 8080",
    ],
  ))
}

output "password" {
  description = "The password of PostgreSQL: terraform output -raw password."
  value       = kubernetes_secret_v1.postgres.data.password
  sensitive   = true
}
