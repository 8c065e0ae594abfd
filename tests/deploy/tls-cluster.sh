# TLS by the sidecars of kafka_tls and postgres_tls: a broker that speaks nothing but TLS with a login, a PostgreSQL that takes
# nothing but TLS, both in another namespace, as if a provider ran them. Sourced by tests/deploy/run.

try_tls() {
  make_certificates
  start_servers
  deploy_with_tls
  wait_until_ready
  eventually 90 'three rows in weather_summary' server_has 'SELECT COUNT(*) >= 3 FROM weather_summary'
  server_has "SELECT COUNT(*) > 0 AND bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_addr IS NOT NULL" ||
    fail 'a connection to PostgreSQL is not encrypted'
  say 'TLS to Kafka and PostgreSQL through the sidecars: rows are written'
  verify_through_tunnels

  stop_weather
  trust stranger
  quietly k scale --replicas=1 deployment/weather-pipeline deployment/weather-producer
  refused_by_sidecar kafka weather-producer
  refused_by_sidecar postgres weather-pipeline
  stop_weather
  deploy_with_tls
  wait_until_ready
  verify_through_tunnels
  destroy
  quietly kubectl delete -f tests/deploy/tls-servers.yaml
}

# Two authorities, and of the first a certificate for both servers.
make_certificates() {
  local authority
  for authority in authority stranger; do
    quietly openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$authority" -keyout "$work/$authority.key" -out "$work/$authority.crt"
  done
  quietly openssl req -newkey rsa:2048 -nodes -subj /CN=server -keyout "$work/server.key" -out "$work/server.csr"
  printf 'subjectAltName=DNS:kafka.elsewhere.svc,DNS:postgres.elsewhere.svc' >"$work/names"
  quietly openssl x509 -req -in "$work/server.csr" -CA "$work/authority.crt" -CAkey "$work/authority.key" -CAcreateserial -days 2 \
    -extfile "$work/names" -out "$work/server.crt"
  cat "$work/server.key" "$work/server.crt" >"$work/server.pem"
}

start_servers() {
  quietly kubectl create namespace elsewhere
  quietly kubectl --namespace=elsewhere create secret generic certificate \
    --from-file="$work/server.key" --from-file="$work/server.crt" --from-file="$work/server.pem"
  quietly kubectl apply -f tests/deploy/tls-servers.yaml
  quietly kubectl --namespace=elsewhere rollout status deployment/postgres --timeout=180s
  quietly kubectl --namespace=elsewhere rollout status deployment/kafka --timeout=180s
  say 'a broker and a PostgreSQL that take nothing but TLS'
}

# Also repairs what was changed by other means.
deploy_with_tls() {
  local given=('-var=kafka_brokers=["kafka.elsewhere.svc:9092"]' '-var=kafka_sasl={mechanism="PLAIN",username="weather"}'
    '-var=postgres={host="postgres.elsewhere.svc"}' -var=kafka_sasl_password=secret -var=postgres_password=secret
    "-var=kafka_tls={ca=\"$work/authority.crt\"}" "-var=postgres_tls={ca=\"$work/authority.crt\"}")
  quietly terraform apply -input=false -auto-approve "${given[@]}"
  plan_is_empty "${given[@]}"
}

# trust AUTHORITY: behind Terraform's back, which would wait for pods that are never ready.
trust() {
  local secret
  for secret in $(k get secrets --output=name | grep -- '-ca-'); do
    quietly k patch "$secret" --patch "{\"data\": {\"ca.crt\": \"$(base64 --wrap=0 "$work/$1.crt")\"}}"
  done
}

# server_has CONDITION
server_has() { [ "$(sql_in elsewhere "$1")" = t ]; }

stop_weather() {
  quietly k scale --replicas=0 deployment/weather-pipeline deployment/weather-producer
  eventually 60 'the pods end' eval '[ -z "$(k get pods --output=name)" ]'
}

verify_through_tunnels() {
  quietly k scale --replicas=0 deployment/weather-producer
  eventually 60 'the producer ends' eval '[ -z "$(k get pods --selector=app.kubernetes.io/name=weather-producer --output=name)" ]'
  sleep 3
  eventually 60 'everything is read' server_has 'SELECT bool_and(next_offset = high_watermark) FROM weather_partition'
  k exec deployment/weather-pipeline --container=weather -- /bin/weather verify >"$work/output" 2>&1 || fail "weather verify: $(<"$work/output")"
  say "weather verify through the sidecars: $(tail -n 1 "$work/output")"
}

# refused_by_sidecar SERVICE DEPLOYMENT: the sidecar's log says why, the program's that it does not get through, and nobody is ready.
refused_by_sidecar() {
  eventually 60 "the sidecar's log says that the certificate is refused" in_log "$2" "stunnel-$1" 'certificate verify failed'
  say "wrong authority, stunnel: $(in_log "$2" "stunnel-$1" 'certificate verify failed')"
  eventually 60 'the program says that it does not get through' in_log "$2" weather 'is not available'
  say "wrong authority, weather: $(in_log "$2" weather 'is not available')"
  k get "deployment/$2" --output=json | jq --exit-status '.status.readyReplicas // 0 == 0' >"$work/output" || fail "$2 is ready"
}

# in_log DEPLOYMENT CONTAINER WORDS: the first such line.
in_log() {
  k logs "deployment/$1" --container="$2" >"$work/log" 2>/dev/null
  grep -m 1 -F "$3" "$work/log"
}
