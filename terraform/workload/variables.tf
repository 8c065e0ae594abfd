# What differs between workloads. Everything else (no root, no capability, no writable root, no token of the cluster) is
# the same for all and is set with the objects.

variable "kind" {
  description = "Deployment, or StatefulSet where two pods must never run at once, not even while a node is lost."
  type        = string
  default     = "Deployment"

  validation {
    condition     = contains(["Deployment", "StatefulSet"], var.kind)
    error_message = "kind: expected Deployment or StatefulSet."
  }
}

variable "name" {
  description = "The workload's name; of a StatefulSet also its Service's."
  type        = string
}

variable "namespace" {
  type = string
}

variable "labels" {
  type = map(string)
}

variable "selector" {
  description = "The part of the labels that never changes."
  type        = map(string)
}

variable "replicas" {
  description = "null = left to an autoscaler."
  type        = number
  default     = 1
}

variable "strategy" {
  description = "How a Deployment is updated: Recreate = the old pod goes first, RollingUpdate = the new one comes first."
  type        = string
  default     = "Recreate"
}

variable "annotations" {
  description = "Of the pods."
  type        = map(string)
  default     = {}
}

variable "grace_period_seconds" {
  description = "How long a pod may take to end."
  type        = number
}

variable "user" {
  description = "The number of user, group and the volumes' group; null = the image's or the cluster's choice."
  type        = number
}

variable "spread" {
  description = "Whether pods go to different nodes where they can."
  type        = bool
  default     = false
}

variable "image_pull_policy" {
  type = string
}

variable "replace_on" {
  description = "A text whose change replaces the whole workload: of what volumes it has, for one."
  type        = string
  default     = ""
}

variable "init_containers" {
  description = "Run before the containers: to their end, or with restart = Always beside them until they have ended."
  type = list(object({
    name    = string
    image   = string
    command = optional(list(string))
    args    = optional(list(string))
    restart = optional(string)
    resources = object({
      cpu_request    = string
      cpu_limit      = string
      memory_request = string
      memory_limit   = string
    })
    mounts = list(object({
      volume    = string
      path      = string
      sub_path  = optional(string)
      read_only = optional(bool, false)
    }))
  }))
  default = []
}

variable "container" {
  description = "The container. A probe asks by HTTP (path), runs a command, or else opens a connection to the port."
  type = object({
    name        = string
    image       = string
    command     = optional(list(string))
    args        = optional(list(string))
    environment = map(string)
    port        = object({ name = string, number = number })
    startup     = object({ path = optional(string), command = optional(list(string)), period = number, failures = number })
    readiness   = object({ path = optional(string), command = optional(list(string)), timeout = optional(number, 1) })
    liveness    = object({ path = optional(string) })
    resources = object({
      cpu_request    = string
      cpu_limit      = string
      memory_request = string
      memory_limit   = string
    })
    mounts = list(object({
      volume    = string
      path      = string
      sub_path  = optional(string)
      read_only = optional(bool, false)
    }))
  })
}

variable "volumes" {
  description = "Each of one kind: a claim's name, a claim for each pod, a Secret's or ConfigMap's name, or none = scratch space."
  type = list(object({
    name          = string
    claim         = optional(string)
    claim_per_pod = optional(object({ labels = map(string), storage_class = string, size = string }))
    secret        = optional(string)
    config_map    = optional(string)
  }))
  default = []
}
