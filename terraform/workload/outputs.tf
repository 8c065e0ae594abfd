output "name" {
  description = "The workload's name, once it is there."
  value       = one(concat(kubernetes_deployment_v1.this[*].metadata[0].name, kubernetes_stateful_set_v1.this[*].metadata[0].name))
}

output "pod" {
  description = "The pods' specification, as planned."
  value       = one(concat(kubernetes_deployment_v1.this[*].spec[0].template[0].spec[0], kubernetes_stateful_set_v1.this[*].spec[0].template[0].spec[0]))
}
