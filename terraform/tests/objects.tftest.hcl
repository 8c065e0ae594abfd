# What is planned for which variables. The provider is a mock: no cluster is asked.

mock_provider "kubernetes" {}

variables {
  # Any file that exists.
  kubeconfig = "versions.tf"
}

run "everything_in_one_cluster" {
  command = apply

  assert {
    condition     = length(module.kafka) == 1 && length(module.zookeeper) == 0
    error_message = "One broker without ZooKeeper is the default."
  }
  assert {
    condition     = module.kafka[0].pod.container[0].image == "apache/kafka:4.1.0"
    error_message = "The default broker is Apache's."
  }
  assert {
    condition     = length(module.postgres) == 1 && length(module.producer) == 1
    error_message = "PostgreSQL and the producer are deployed by default."
  }
  assert {
    condition     = kubernetes_secret_v1.postgres.data.password == terraform_data.postgres_password.output && length(kubernetes_secret_v1.postgres.data.password) >= 32
    error_message = "The generated password is what the Secret holds."
  }
  assert {
    condition = one([
      for e in module.producer[0].pod.container[0].env : e.value if e.name == "WEATHER_INTERVAL"
    ]) == "6000us"
    error_message = "10,000 readings a minute are one every 6 ms."
  }
  assert {
    condition     = keys(kubernetes_network_policy_v1.workload) == ["kafka", "postgres", "weather-pipeline", "weather-producer"]
    error_message = "Each workload has its policy."
  }
}

run "the_password_stays" {
  command = apply

  assert {
    condition     = kubernetes_secret_v1.postgres.data.password == run.everything_in_one_cluster.password
    error_message = "A second apply keeps the password."
  }
}

run "every_container_is_restricted" {
  command = apply

  variables {
    kafka_coordination = "zookeeper"
  }

  assert {
    condition = alltrue([
      for pod in [module.pipeline.pod, module.producer[0].pod, module.postgres[0].pod, module.kafka[0].pod, module.zookeeper[0].pod] :
      !pod.automount_service_account_token &&
      pod.security_context[0].seccomp_profile[0].type == "RuntimeDefault" &&
      alltrue([
        for c in concat(pod.container, pod.init_container) :
        c.security_context[0].run_as_non_root &&
        c.security_context[0].read_only_root_filesystem &&
        !c.security_context[0].allow_privilege_escalation &&
        c.security_context[0].capabilities[0].drop == tolist(["ALL"]) &&
        tolist(keys(c.resources[0].limits)) == tolist(["cpu", "memory"])
      ])
    ])
    error_message = "No container runs as root, with capabilities, with a writable root or without limits."
  }
  assert {
    condition     = module.kafka[0].pod.container[0].image == "confluentinc/cp-kafka:7.5.0"
    error_message = "With ZooKeeper the broker is Confluent's."
  }
  assert {
    condition     = kubernetes_network_policy_v1.workload["kafka"].spec[0].egress[0].to[0].pod_selector[0].match_labels["app.kubernetes.io/name"] == "zookeeper"
    error_message = "The broker may reach ZooKeeper."
  }
}

run "own_kafka_and_postgres" {
  command = plan

  variables {
    kafka_brokers       = ["kafka-1.example.com:9094", "kafka-2.example.com:9094"]
    kafka_sasl          = { mechanism = "SCRAM-SHA-512", username = "weather" }
    kafka_sasl_password = "secret"
    postgres            = { host = "db.example.com", user = "weather" }
    postgres_password   = "secret"
    producer_enabled    = false
    pipeline_replicas   = 3
    by_station          = true
    checkpoint          = { volume = "per-pod" }
  }

  assert {
    condition     = length(module.kafka) + length(module.postgres) + length(module.producer) == 0
    error_message = "Nothing is deployed that is there already."
  }
  assert {
    condition = alltrue([
      for name, value in {
        PGHOST                 = "db.example.com"
        PGUSER                 = "weather"
        WEATHER_BROKERS        = "kafka-1.example.com:9094,kafka-2.example.com:9094"
        WEATHER_BY             = "station"
        WEATHER_SASL_MECHANISM = "SCRAM-SHA-512"
      } :
      one([for e in module.pipeline.pod.container[0].env : e.value if e.name == name]) == value
    ])
    error_message = "The processors get the addresses, and keep stations apart."
  }
  assert {
    condition = [
      for rule in kubernetes_network_policy_v1.workload["weather-pipeline"].spec[0].egress : rule.ports[0].port
    ] == ["9094", "5432"]
    error_message = "The paths to both are open, by port."
  }
  assert {
    condition     = length(kubernetes_persistent_volume_claim_v1.checkpoint) == 0 && length(module.pipeline.pod.topology_spread_constraint) == 1
    error_message = "Processors with volumes of their own spread over the nodes."
  }
}

run "tls" {
  command = plan

  variables {
    kafka_brokers     = ["kafka-1.example.com:9093", "kafka-2.example.com:9093"]
    kafka_tls         = { ca = "tests/authority.crt" }
    postgres          = { host = "db.example.com" }
    postgres_password = "secret"
    postgres_tls      = {}
  }

  assert {
    condition = [for c in module.pipeline.pod.init_container : "${c.name} ${c.restart_policy}"] == [
      "stunnel-kafka Always", "stunnel-postgres Always"
    ] && [for c in module.producer[0].pod.init_container : c.name] == ["stunnel-kafka"]
    error_message = "Each program has the tunnels that it needs, for as long as it runs."
  }
  assert {
    condition = alltrue([
      for name, value in {
        PGHOST             = "127.0.0.1"
        PGPORT             = "15432"
        WEATHER_BROKERS    = "127.0.0.1:19092,127.0.0.1:19093"
        WEATHER_BROKER_MAP = "kafka-1.example.com:9093=127.0.0.1:19092,kafka-2.example.com:9093=127.0.0.1:19093"
      } :
      one([for e in module.pipeline.pod.container[0].env : e.value if e.name == name]) == value
    ])
    error_message = "The program goes to this end of the tunnels."
  }
  assert {
    condition = alltrue([
      for name, hosts in { kafka = ["kafka-1.example.com", "kafka-2.example.com"], postgres = ["db.example.com"] } : alltrue([
        for host in hosts : strcontains(kubernetes_config_map_v1.stunnel[name].data["stunnel.conf"], "verifyChain = yes\ncheckHost = ${host}\n")
      ])
    ])
    error_message = "The certificate and the host's name in it are checked."
  }
  assert {
    condition     = [for name, secret in kubernetes_secret_v1.authority : "${name} ${secret.data["ca.crt"]}"] == ["kafka ${file("tests/authority.crt")}"]
    error_message = "The Secret holds the private authority's certificate; a public one needs none."
  }
}

run "a_user_of_the_clusters_choice" {
  command = plan

  variables {
    fixed_users        = false
    kafka_coordination = "zookeeper"
  }

  assert {
    condition = alltrue([
      for pod in [module.pipeline.pod, module.producer[0].pod, module.postgres[0].pod, module.kafka[0].pod, module.zookeeper[0].pod] :
      pod.security_context[0].run_as_user == null && pod.security_context[0].fs_group == null && pod.security_context[0].run_as_non_root
    ])
    error_message = "No pod names a user, and none is root."
  }
}

run "autoscaled" {
  command = plan

  variables {
    autoscaling = { by = "cpu", max = 4 }
  }

  assert {
    condition     = kubernetes_horizontal_pod_autoscaler_v2.pipeline[0].spec[0].max_replicas == 4
    error_message = "There is an autoscaler."
  }
}
