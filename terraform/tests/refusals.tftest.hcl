# Values that are refused while planning, each with the variable's own sentence.

mock_provider "kubernetes" {}

variables {
  # Any file that exists.
  kubeconfig = "versions.tf"
}

run "no_kubeconfig" {
  command = plan

  variables {
    kubeconfig = "no-such-file"
  }
  expect_failures = [var.kubeconfig]
}

run "replicas_below_zero" {
  command = plan

  variables {
    pipeline_replicas = -1
  }
  expect_failures = [var.pipeline_replicas]
}

run "half_a_replica" {
  command = plan

  variables {
    pipeline_replicas = 1.5
  }
  expect_failures = [var.pipeline_replicas]
}

run "unknown_coordination" {
  command = plan

  variables {
    kafka_coordination = "raft"
  }
  expect_failures = [var.kafka_coordination]
}

run "rate_zero" {
  command = plan

  variables {
    producer_rate = 0
  }
  expect_failures = [var.producer_rate]
}

run "volume_too_small" {
  command = plan

  variables {
    storage = { kafka = "100Mi" }
  }
  expect_failures = [var.storage]
}

run "size_without_unit" {
  command = plan

  variables {
    storage = { postgres = "10" }
  }
  expect_failures = [var.storage]
}

run "memory_without_unit" {
  command = plan

  variables {
    resources = { pipeline = { memory_limit = "128" } }
  }
  expect_failures = [var.resources]
}

run "image_with_a_space" {
  command = plan

  variables {
    image = "weather pipeline"
  }
  expect_failures = [var.image]
}

run "broker_without_port" {
  command = plan

  variables {
    kafka_brokers = ["kafka.example.com"]
  }
  expect_failures = [var.kafka_brokers]
}

run "login_to_our_own_kafka" {
  command = plan

  variables {
    kafka_sasl          = { mechanism = "PLAIN", username = "weather" }
    kafka_sasl_password = "secret"
  }
  expect_failures = [var.kafka_sasl]
}

run "login_without_password" {
  command = plan

  variables {
    kafka_brokers = ["kafka.example.com:9092"]
    kafka_sasl    = { mechanism = "PLAIN", username = "weather" }
  }
  expect_failures = [var.kafka_sasl_password]
}

run "unknown_mechanism" {
  command = plan

  variables {
    kafka_brokers       = ["kafka.example.com:9092"]
    kafka_sasl          = { mechanism = "GSSAPI", username = "weather" }
    kafka_sasl_password = "secret"
  }
  expect_failures = [var.kafka_sasl]
}

run "postgres_without_password" {
  command = plan

  variables {
    postgres = { host = "db.example.com" }
  }
  expect_failures = [var.postgres_password]
}

run "password_without_postgres" {
  command = plan

  variables {
    postgres_password = "secret"
  }
  expect_failures = [var.postgres_password]
}

run "unknown_checkpoint" {
  command = plan

  variables {
    checkpoint = { volume = "none" }
  }
  expect_failures = [var.checkpoint]
}

run "backfill_without_unit" {
  command = plan

  variables {
    producer_backfill = "3"
  }
  expect_failures = [var.producer_backfill]
}

run "empty_context" {
  command = plan

  variables {
    kube_context = ""
  }
  expect_failures = [var.kube_context]
}

run "class_with_a_space" {
  command = plan

  variables {
    storage_class = "a class"
  }
  expect_failures = [var.storage_class]
}

run "request_above_limit" {
  command = plan

  variables {
    resources = { pipeline = { cpu_request = "2" } }
  }
  expect_failures = [var.resources]
}

run "heap_without_room" {
  command = plan

  variables {
    kafka_heap = "1g"
  }
  expect_failures = [var.kafka_heap]
}

run "broker_image_with_a_space" {
  command = plan

  variables {
    kafka_image = "apache kafka"
  }
  expect_failures = [var.kafka_image]
}

run "empty_zookeeper_image" {
  command = plan

  variables {
    zookeeper_image = ""
  }
  expect_failures = [var.zookeeper_image]
}

run "database_image_with_a_space" {
  command = plan

  variables {
    postgres_image = "postgres 18"
  }
  expect_failures = [var.postgres_image]
}

run "namespace_in_capitals" {
  command = plan

  variables {
    namespace = "Weather"
  }
  expect_failures = [var.namespace]
}

run "unknown_pull_policy" {
  command = plan

  variables {
    image_pull_policy = "Sometimes"
  }
  expect_failures = [var.image_pull_policy]
}

run "topic_with_a_space" {
  command = plan

  variables {
    topic = "weather data"
  }
  expect_failures = [var.topic]
}

run "unknown_log_level" {
  command = plan

  variables {
    log_level = "trace"
  }
  expect_failures = [var.log_level]
}

run "no_partition" {
  command = plan

  variables {
    topic_partitions = 0
  }
  expect_failures = [var.topic_partitions]
}

run "no_retention" {
  command = plan

  variables {
    kafka_retention_hours = 0
  }
  expect_failures = [var.kafka_retention_hours]
}

run "unknown_access" {
  command = plan

  variables {
    checkpoint = { access_mode = "ReadOnlyMany" }
  }
  expect_failures = [var.checkpoint]
}

run "cpu_in_percent" {
  command = plan

  variables {
    resources = { kafka = { cpu_limit = "50%" } }
  }
  expect_failures = [var.resources]
}

run "unknown_autoscaling" {
  command = plan

  variables {
    autoscaling = { by = "mood" }
  }
  expect_failures = [var.autoscaling]
}

run "more_than_at_most" {
  command = plan

  variables {
    autoscaling = { by = "cpu", min = 4, max = 2 }
  }
  expect_failures = [var.autoscaling]
}

run "repository_without_scheme" {
  command = plan

  variables {
    monitoring = { repository = "git.example.com" }
  }
  expect_failures = [var.monitoring]
}

run "tls_to_our_own_kafka" {
  command = plan

  variables {
    kafka_tls = {}
  }
  expect_failures = [var.kafka_tls]
}

run "tls_to_our_own_postgres" {
  command = plan

  variables {
    postgres_tls = {}
  }
  expect_failures = [var.postgres_tls]
}

run "authority_that_is_no_certificate" {
  command = plan

  variables {
    kafka_brokers = ["kafka.example.com:9093"]
    kafka_tls     = { ca = "versions.tf" }
  }
  expect_failures = [var.kafka_tls]
}

run "sidecar_image_with_a_space" {
  command = plan

  variables {
    stunnel_image = "weather stunnel"
  }
  expect_failures = [var.stunnel_image]
}

run "setting_with_a_variable_of_its_own" {
  command = plan

  variables {
    settings = { WEATHER_TOPIC = "readings" }
  }
  expect_failures = [var.settings]
}

run "setting_of_nobody" {
  command = plan

  variables {
    settings = { PGHOST = "db" }
  }
  expect_failures = [var.settings]
}

run "unknown_missing_timestamp" {
  command = plan

  variables {
    reading = { missing_timestamp = "now" }
  }
  expect_failures = [var.reading]
}

run "map_without_a_kafka_of_ones_own" {
  command = plan

  variables {
    kafka_broker_map = { "kafka:9092" = "kafka.example.com:9092" }
  }
  expect_failures = [var.kafka_broker_map]
}

run "group_with_a_space" {
  command = plan

  variables {
    kafka_group = "my group"
  }
  expect_failures = [var.kafka_group]
}

run "the_old_image" {
  command = plan

  variables {
    docker_image = "somebody/weather-pipeline"
  }
  expect_failures = [var.docker_image]
}

run "the_old_tag" {
  command = plan

  variables {
    image_tag = "latest"
  }
  expect_failures = [var.image_tag]
}
