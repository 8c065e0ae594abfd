# The steps of tests/deploy/run and tests/deploy/variables, and what they are made of. Sourced by them.

# --- beginning and end ---

# begin NAMESPACE…: works on copies in $work, so that nothing is left in the project. None of the namespaces may be there;
# from now on they are ours to delete.
begin() {
  local namespace
  export KUBECONFIG=${KUBECONFIG:-$HOME/.kube/config} TF_IN_AUTOMATION=1
  export TF_VAR_kubeconfig=$KUBECONFIG
  work=$(mktemp -d)
  trap finish EXIT
  say "against $(kubectl config current-context), files in $work"
  for namespace; do
    ! kubectl get namespace "$namespace" >/dev/null 2>&1 || fail "there is a namespace $namespace already; this cluster is in use"
  done
  namespaces=("$@")
  cp -r terraform k8s "$work"
  rm -rf "$work"/terraform/{.terraform,*.tfstate*}
  quietly terraform init -input=false
}

# Takes down what a failed run leaves; says where its pods stood.
finish() {
  local status=$? namespace
  trap - EXIT
  if [ "$status" != 0 ] && [ "${namespaces[*]:-}" ]; then
    for namespace in "${namespaces[@]}"; do
      tell_about "$namespace" >&2 2>/dev/null || true
    done
    kubectl delete namespace "${namespaces[@]}" --ignore-not-found --wait=false >/dev/null || true
    no_custom_resources || true
  fi
  rm -rf "$work"
  exit "$status"
}

# tell_about NAMESPACE: its pods, events, and last log lines, also those from before a restart.
tell_about() {
  local namespaced=(kubectl --namespace="$1") pod
  "${namespaced[@]}" get pods,pvc
  "${namespaced[@]}" get events --sort-by=.lastTimestamp | tail -n 15
  for pod in $("${namespaced[@]}" get pods --output=name); do
    "${namespaced[@]}" logs --all-containers --prefix --tail=15 "$pod"
    "${namespaced[@]}" logs --all-containers --prefix --tail=15 --previous "$pod"
  done
}

# --- telling and waiting ---

# say WHAT: with the seconds since the start, and those since it was last called.
say() {
  printf 'deploy: %4d s (+%d): %s\n' "$SECONDS" $((SECONDS - ${said:-0})) "$*"
  said=$SECONDS
}

fail() {
  say "FAILED: $*" >&2
  exit 1
}

# A command whose output matters only if it fails. Terraform runs on the copy.
quietly() {
  local run=("$@")
  [ "$1" != terraform ] || run=(terraform -chdir="$work/terraform" "${@:2}" -no-color)
  "${run[@]}" >"$work/output" 2>&1 || {
    tail -n 40 "$work/output" >&2
    fail "$*"
  }
}

# eventually SECONDS WHAT COMMAND…
eventually() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || fail "$what: not in time"
    sleep 0.5
  done
}

k() { kubectl --namespace=weather "$@"; }

# sql_in NAMESPACE STATEMENT, sql STATEMENT: rows, tabs between the columns.
sql_in() { kubectl --namespace="$1" exec deployment/postgres -- psql -U postgres -d weather_db -AtqF $'\t' -c "$2"; }
sql() { sql_in weather "$1"; }

# is STATEMENT VALUE: whether the statement gives that value.
is() { [ "$(sql "$1")" = "$2" ]; }

at_least() { [ "$(sql "$1")" -ge "$2" ]; }

# --- deploying ---

# A tenth of the usual rate, so that the three hours of history are read again in seconds.
thin_out_history() {
  export TF_VAR_producer_rate=1000
  sed -i 's/value: 6000us/value: 60000us/' "$work/k8s/components/producer/deployment.yaml"
}

# plan_is_empty ARGUMENT…
plan_is_empty() { quietly terraform plan -input=false -detailed-exitcode "$@"; }

deploy_with_terraform() { # COORDINATION
  local start=$SECONDS
  quietly terraform apply -input=false -auto-approve -var=kafka_coordination="$1"
  wait_until_ready
  ((SECONDS - start < 120)) || fail "everything ready took $((SECONDS - start)) s"
  say "terraform apply, $1: everything ready in $((SECONDS - start)) s"
  plan_is_empty -var=kafka_coordination="$1"
  tests/deploy/objects >"$work/$1.json"
}

# The file that the overlays for minikube take the database's password from.
choose_password() {
  od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$work/k8s/overlays/minikube/postgres-password"
}

deploy_with_kustomize() { # OVERLAY
  local start=$SECONDS
  choose_password
  quietly kubectl apply -k "$work/k8s/overlays/$1"
  wait_until_ready
  say "kubectl apply -k, $1: everything ready in $((SECONDS - start)) s"
}

# The namespace, in which no pod may be made: for when the objects alone matter.
without_pods() {
  quietly kubectl apply -f "$work/k8s/base/namespace.yaml"
  quietly k create quota no-pods --hard=pods=0
}

wait_until_ready() {
  local workload
  for workload in $(k get statefulsets,deployments --output=name); do
    quietly k rollout status "$workload" --timeout=180s
  done
}

destroy() {
  local start=$SECONDS
  quietly terraform destroy -input=false -auto-approve
  nothing_is_left
  say "terraform destroy: nothing left after $((SECONDS - start)) s"
}

undeploy_with_kustomize() { # OVERLAY
  quietly kubectl delete -k "$work/k8s/overlays/$1"
  nothing_is_left
  say "kubectl delete -k, $1: nothing left"
}

# nothing_is_left [NAMESPACE]. Volumes of a class that retains them stay, by their owner's wish.
nothing_is_left() {
  local namespace=${1:-weather} left
  left='[.items[] | select(.spec.claimRef.namespace == "'$namespace'" and .spec.persistentVolumeReclaimPolicy == "Delete")] | length'
  ! kubectl get namespace "$namespace" >/dev/null 2>&1 || fail "the namespace $namespace is still there"
  eventually 60 'volumes are deleted' eval "[ \"\$(kubectl get persistentvolumes --output=json | jq '$left')\" = 0 ]"
}

# Its image, Kafka and PostgreSQL are at example.com, so that no pod could run; but the API server has to take the objects.
accept_overlay_for_a_real_cluster() {
  local overlay=$work/k8s/overlays/production
  echo secret | tee "$overlay/postgres-password" >"$overlay/kafka-password"
  without_pods
  quietly kubectl apply -k "$overlay"
  grep -qi warning "$work/output" && fail "$(<"$work/output")"
  undeploy_with_kustomize production
}

# What the API server stored of Terraform's objects and of the overlay's.
compare_objects() { # COORDINATION OVERLAY
  tests/deploy/objects >"$work/$2.json"
  diff "$work/$1.json" "$work/$2.json" >&2 || fail "Terraform ($1) and the overlay $2 differ: < Terraform, > overlay"
  say "Terraform ($1) and the overlay $2 made the same objects"
}

# --- checks ---

# What the walk shows: rows, both old log lines, a query in less than 5 ms.
look_at_it() {
  local plan query="SELECT * FROM weather_summary WHERE window_start > NOW() - INTERVAL '1 hour'"
  eventually 60 'three rows in weather_summary' at_least 'SELECT COUNT(*) FROM weather_summary' 3
  eventually 10 '"Batch 0:" in the log' eval "k logs deployment/weather-pipeline | grep -q '^Batch 0:'"
  eventually 10 '"write OK" in the log' eval "k logs deployment/weather-pipeline | grep -q '^write OK'"
  eventually 10 '"Sent: {...}" in the log' eval "k logs deployment/weather-producer | grep -q '^Sent: {'"
  plan=$(for _ in 1 2 3; do sql "EXPLAIN ANALYZE $query"; done)
  # The best of three: others may use the machine as well.
  sed -n 's/^Execution Time: \(.*\) ms$/\1/p' <<<"$plan" | sort -n | head -n 1 >"$work/output"
  awk 'END {exit !(NR && $1 < 5)}' "$work/output" || fail "the query takes $(<"$work/output") ms"
  say "$(sql 'SELECT COUNT(*) FROM weather_summary') rows, both log lines, the query takes $(<"$work/output") ms"
}

owners="SELECT COUNT(DISTINCT owner) FROM weather_partition WHERE lease_expires_at > now()"

scale_to_three() {
  quietly k scale --replicas=3 deployment/weather-pipeline
  eventually 60 'three processors share the partitions' is "$owners" 3
  say 'kubectl scale --replicas=3: three processors share the partitions'
}

# As an autoscaler does it, while readings come in: one goes, its partitions are handed over, and nobody waits for a lease.
scale_in() {
  local start
  quietly k scale --replicas=2 deployment/weather-pipeline
  start=$SECONDS
  eventually 14 'two processors share all partitions, before a lease has run out' is "$owners" 2
  eventually 14 'no partition is free' is 'SELECT COUNT(*) FROM weather_partition WHERE lease_expires_at < now() OR owner IS NULL' 0
  say "scaled in to two: every partition has an owner again after $((SECONDS - start)) s"
}

# One pod every few seconds: processors mostly, at times PostgreSQL or Kafka, every third time without a grace period.
delete_pods_at_random() {
  local end=$((SECONDS + chaos_seconds)) deleted=0 pod grace
  say "deleting pods for $chaos_seconds s, WEATHER_CHAOS_SEED=$seed"
  while ((SECONDS < end)); do
    case $((RANDOM % 6)) in
      0) pod=$(one_of postgres) ;;
      1) pod=$(one_of kafka) ;;
      *) pod=$(one_of weather-pipeline) ;;
    esac
    grace=()
    ((RANDOM % 3)) || grace=(--grace-period=0 --force)
    if [ "$pod" ]; then
      k delete "$pod" --wait=false "${grace[@]}" >"$work/output" 2>&1 && deleted=$((deleted + 1))
    fi
    sleep $((2 + RANDOM % 6))
  done
  wait_until_ready
  eventually 60 'three processors share the partitions' is "$owners" 3
  say "$deleted pods deleted; all are back"
}

# one_of NAME: a running pod of this workload, at random; nothing if it has none.
one_of() {
  local pods
  mapfile -t pods < <(k get pods --selector="app.kubernetes.io/name=$1" --field-selector=status.phase=Running --output=name)
  [ "${#pods[@]}" = 0 ] || echo "${pods[RANDOM % ${#pods[@]}]}"
}

# Stops the producer, reads the topic from its start, and compares with the table.
compare_with_topic() {
  quietly k scale --replicas=0 deployment/weather-producer
  eventually 40 'the producer ends' eval '[ -z "$(k get pods --selector=app.kubernetes.io/name=weather-producer --output=name)" ]'
  sleep 3
  eventually 60 'everything is read' is 'SELECT bool_and(next_offset = high_watermark) FROM weather_partition' t
  sql 'SELECT window_start, reading_count, avg_temp, avg_humidity, avg_wind_speed FROM weather_summary' >"$work/table"
  print_topic | gzip -dc >"$work/topic"
  python3 tests/deploy/recount.py "$work/table" <"$work/topic" >"$work/output" || fail "$(<"$work/output")"
  say "the table is exact: $(sed 's/^recount: //' "$work/output")"
  k exec deployment/weather-pipeline -- /bin/weather verify >"$work/output" 2>&1 || fail "weather verify: $(<"$work/output")"
  say "weather verify agrees: $(tail -n 1 "$work/output")"
  run_job 'verify'
  run_job 'readmit, --reason, "late,future", --dry-run'
}

# run_job ARGS: the Job of k8s/README.md is admitted without a warning, and does its work.
run_job() {
  local job
  job=$(sed "s/args: .*/args: [$1]/" k8s/job.yaml | k create --filename=- --output=name 2>"$work/output") || fail "$(<"$work/output")"
  [ ! -s "$work/output" ] || fail "a warning about k8s/job.yaml: $(<"$work/output")"
  quietly k wait --for=condition=complete --timeout=90s "$job"
  say "$job, [$1]: $(k logs "$job" | tail -n 1)"
  quietly k delete "$job"
}

# The topic's records as recount.py reads them. The images have the tools in different folders and under two names.
print_topic() {
  k exec kafka-0 --container=kafka -- env KAFKA_HEAP_OPTS=-Xmx128m sh -c '
    PATH=$PATH:/opt/kafka/bin
    tool() { name=$1; shift; "$(command -v "$name.sh" || command -v "$name")" --bootstrap-server localhost:9092 --topic weather_data "$@"; }
    records=$(tool kafka-get-offsets | awk -F: "{sum += \$3} END {print sum}")
    tool kafka-console-consumer --from-beginning --max-messages "$records" --timeout-ms 60000 \
      --property print.partition=true 2>/dev/null | gzip -1'
}

# Another image, rate, log level and memory, another setting of Kafka: rolled out under load. The history is not sent again.
update() {
  local change=(-var=pipeline_replicas=3 -var=producer_rate=60000 -var=producer_backfill=0s -var=log_level=debug
    -var='resources={pipeline={memory_limit="96Mi"}}' -var=kafka_retention_hours=24 -var=image="${WEATHER_NEXT_IMAGE:-weather-pipeline:latest}")
  quietly terraform apply -input=false -auto-approve "${change[@]}"
  wait_until_ready
  plan_is_empty "${change[@]}"
  eventually 60 'three processors share the partitions' is "$owners" 3
  say 'terraform apply with another image, rate and settings: rolled out, the plan after it is empty'
}

# scale --replicas=0: every processor ends by itself with exit code 0 and hands its partitions back.
stop_cleanly() {
  local watch=$work/watch
  k get pods --selector=app.kubernetes.io/name=weather-pipeline --watch --output=json >"$watch" &
  local watcher=$!
  sleep 1
  quietly k scale --replicas=0 deployment/weather-pipeline
  eventually 40 'the processors end' eval '[ -z "$(k get pods --selector=app.kubernetes.io/name=weather-pipeline --output=name)" ]'
  kill "$watcher"
  wait "$watcher" 2>/dev/null || true
  local codes
  codes=$(jq --raw-output '.metadata.name as $pod | .status.containerStatuses[]?.state.terminated? | select(.) | "\($pod) \(.exitCode)"' "$watch" | sort -u)
  [ "$(wc -l <<<"$codes")" -ge 2 ] && ! grep -qv ' 0$' <<<"$codes" || fail "exit codes of the processors: $codes"
  is 'SELECT COUNT(owner) FROM weather_partition' 0 || fail 'partitions are still owned'
  say 'kubectl scale --replicas=0: every processor ended with 0 and handed its partitions back'
}

# --- custom resources ---

# The custom resources that the components need, where the cluster has no operator that brings them.
custom_resources() {
  kubectl get customresourcedefinitions --output=name >"$work/output"
  grep -qE 'scaledobjects.keda.sh|podmonitors.monitoring.coreos.com' "$work/output" || {
    quietly kubectl create -f tests/deploy/crds.yaml
    quietly kubectl wait --for=condition=Established -f tests/deploy/crds.yaml --timeout=30s
    our_resources=yes
  }
}
no_custom_resources() { [ -z "${our_resources:-}" ] || quietly kubectl delete -f tests/deploy/crds.yaml; }
