# One PostgreSQL, unless an existing one is given.

locals {
  postgres_uid = 999
  # Over TCP: while the database is being set up, the server listens only on its socket.
  postgres_probe = ["pg_isready", "--quiet", "--host=127.0.0.1", "--username=postgres", "--dbname=weather_db"]
}

resource "kubernetes_persistent_volume_claim_v1" "postgres" {
  count = local.own_postgres ? 0 : 1

  metadata {
    name      = "postgres-data"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["postgres"]
  }
  spec {
    access_modes       = ["ReadWriteOnce"]
    storage_class_name = var.storage_class
    resources {
      requests = { storage = var.storage.postgres }
    }
  }
  wait_until_bound = false
}

# A Deployment, so that `kubectl exec deployment/postgres` works; Recreate, because two servers must not share the data.
module "postgres" {
  source = "./workload"
  count  = local.own_postgres ? 0 : 1

  name                 = "postgres"
  namespace            = kubernetes_namespace_v1.weather.metadata[0].name
  labels               = local.labels["postgres"]
  selector             = local.selectors["postgres"]
  grace_period_seconds = 60
  user                 = var.fixed_users ? local.postgres_uid : null
  image_pull_policy    = var.image_pull_policy
  replace_on           = local.volume_class

  container = {
    name  = "postgres"
    image = var.postgres_image
    # A deleted pod's successor starts while the old server is still shutting down: it waits for the old one's lock,
    # because the server's own lock does not work across containers.
    command = ["flock", "--no-fork", "/data/lock", "docker-entrypoint.sh", "postgres"]
    environment = {
      # Not where the image declares a volume, which changed with version 18; in a subfolder, because the server must own it.
      PGDATA                 = "/data/pgdata"
      POSTGRES_DB            = local.database.database
      POSTGRES_PASSWORD_FILE = "/run/secrets/postgres/password"
      POSTGRES_USER          = local.database.user
    }
    port      = { name = "postgres", number = 5432 }
    startup   = { command = local.postgres_probe, period = 2, failures = 150 }
    readiness = { command = local.postgres_probe, timeout = 5 }
    liveness  = {}
    resources = var.resources.postgres
    mounts = [
      { volume = "data", path = "/data" },
      { volume = "password", path = "/run/secrets/postgres", read_only = true },
      { volume = "scratch", path = "/tmp", sub_path = "tmp" },
      { volume = "scratch", path = "/var/run/postgresql", sub_path = "run" },
    ]
  }
  volumes = [
    { name = "data", claim = kubernetes_persistent_volume_claim_v1.postgres[0].metadata[0].name },
    { name = "password", secret = kubernetes_secret_v1.postgres.metadata[0].name },
    { name = "scratch" },
  ]
}

moved {
  from = kubernetes_deployment_v1.postgres[0]
  to   = module.postgres[0].kubernetes_deployment_v1.this[0]
}

resource "kubernetes_service_v1" "postgres" {
  count = local.own_postgres ? 0 : 1

  metadata {
    name      = "postgres"
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
    labels    = local.labels["postgres"]
  }
  spec {
    selector = local.selectors["postgres"]
    port {
      name        = "postgres"
      port        = 5432
      target_port = "postgres"
    }
  }
}
