# TLS through stunnel, with the configuration of k8s/components/kafka-tls and postgres-tls: two real brokers that speak nothing
# but TLS with a login, a real PostgreSQL that takes nothing but TLS. Sourced by tests/deploy/services.



try_tls() {
  tls=$WEATHER_TEST_DIR/tls
  need 'stunnel' find_stunnel stunnel4 stunnel stunnel
  make_certificates
  start_brokers
  start_postgres_tls
  start_tunnels authority
  pipeline_is_exact
  wrong_certificates_are_refused
}

find_stunnel() { find_program stunnel; }

# Two authorities, and of the first a certificate for all names of the configurations.
make_certificates() {
  local authority
  mkdir -p "$tls"
  for authority in authority stranger; do
    quietly openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$authority" -keyout "$tls/$authority.key" -out "$tls/$authority.crt"
  done
  quietly openssl req -newkey rsa:2048 -nodes -subj /CN=server -keyout "$tls/server.key" -out "$tls/server.csr"
  printf 'subjectAltName=%s' DNS:kafka-1.example.com,DNS:kafka-2.example.com,DNS:kafka-3.example.com,DNS:db.example.com >"$tls/names"
  quietly openssl x509 -req -in "$tls/server.csr" -CA "$tls/authority.crt" -CAkey "$tls/authority.key" -CAcreateserial -days 2 \
    -extfile "$tls/names" -out "$tls/server.crt"
  cat "$tls/server.key" "$tls/server.crt" >"$tls/server.pem"
  install -m 600 "$tls/server.key" "$tls/postgres.key"
  [ "$(id -u)" != 0 ] || chown "$WEATHER_TEST_PG_USER" "$tls/postgres.key"
  chmod 711 "$tls"
}

# Each advertises, by TLS, a name that nobody here can resolve: only the map leads there.
start_brokers() {
  local node controller listeners
  controller=$(port)
  for node in 1 2; do
    broker_tls[node]=$(port) broker_plain[node]=$(port)
    listeners=TLS://127.0.0.1:${broker_tls[node]},PLAIN://127.0.0.1:${broker_plain[node]}
    [ $node = 2 ] || listeners+=,CONTROLLER://127.0.0.1:$controller
    service "broker-$node" KILL kafka 4.1.0 "$WEATHER_TEST_DIR/broker-$node" "node.id=$node" \
      "process.roles=broker$([ $node = 2 ] || echo ,controller)" "controller.quorum.voters=1@127.0.0.1:$controller" \
      "listeners=$listeners" "advertised.listeners=TLS://kafka-$node.example.com:9092,PLAIN://127.0.0.1:${broker_plain[node]}" \
      listener.security.protocol.map=TLS:SASL_SSL,PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT inter.broker.listener.name=PLAIN \
      ssl.keystore.type=PEM "ssl.keystore.location=$tls/server.pem" sasl.enabled.mechanisms=PLAIN \
      'listener.name.tls.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_weather="secret";'
  done
  wait_for broker-1
  wait_for broker-2
}
broker_tls=() broker_plain=()

start_postgres_tls() {
  local hba=$WEATHER_TEST_DIR/postgres-tls.hba
  echo 'hostssl all all 127.0.0.1/32 scram-sha-256' >"$hba"
  chmod 644 "$hba" "$tls/server.crt"
  service postgres-tls QUIT postgres "$WEATHER_TEST_DIR/postgres-tls" ssl=on "ssl_cert_file=$tls/server.crt" \
    "ssl_key_file=$tls/postgres.key" "hba_file=$hba"
  wait_for postgres-tls
  postgres_tls_port=$(<"$WEATHER_TEST_DIR/postgres-tls/port")
  postgres_port=$postgres_tls_port database tls
}

# start_tunnels AUTHORITY [SED-SCRIPT]: the configurations of the components, but for where things are on this machine.
start_tunnels() {
  local conf=$tls/stunnel.conf
  { cat k8s/components/kafka-tls/stunnel.conf && sed -n '/^\[/,$p' k8s/components/postgres-tls/stunnel.conf; } |
    sed -e "s|^CAfile = .*|CAfile = $tls/$1.crt|" \
      -e "s|^connect = kafka-\([12]\).*|connect = 127.0.0.1:\1|" \
      -e "s|^connect = 127.0.0.1:1\$|connect = 127.0.0.1:${broker_tls[1]}|; s|^connect = 127.0.0.1:2\$|connect = 127.0.0.1:${broker_tls[2]}|" \
      -e "s|^connect = db.*|connect = 127.0.0.1:$postgres_tls_port|" -e "${2:-}" >"$conf"
  start stunnel TERM env PATH="$PATH:/usr/sbin" stunnel "$conf"
  eventually 20 'stunnel serves' eval '(: </dev/tcp/127.0.0.1/15432) 2>/dev/null'
}

# through_tunnels COMMAND ARGUMENT…: with the environment that the sidecars' patches set.
through_tunnels() {
  env WEATHER_BROKERS=127.0.0.1:19092,127.0.0.1:19093 \
    WEATHER_BROKER_MAP=kafka-1.example.com:9092=127.0.0.1:19092,kafka-2.example.com:9092=127.0.0.1:19093 \
    WEATHER_SASL_MECHANISM=PLAIN WEATHER_SASL_USERNAME=weather WEATHER_SASL_PASSWORD=secret \
    PGHOST=127.0.0.1 PGPORT=15432 PGUSER=postgres PGDATABASE=tls PGPASSWORD="$WEATHER_TEST_PG_PASSWORD" \
    "$WEATHER_BIN" "$1" --topic tls "${@:2}"
}

# The same topic once through the tunnels and once without any: the same rows.
pipeline_is_exact() {
  quietly through_tunnels producer --count 20000 --rate 0 --partitions 4 --seed 7 --backfill 3h
  quietly through_tunnels process --checkpoint-dir "$tls/checkpoint" --listen '' --until-latest
  database plain
  quietly env PGPASSWORD="$WEATHER_TEST_PG_PASSWORD" "$WEATHER_BIN" process --brokers "127.0.0.1:${broker_plain[1]}" --topic tls \
    --database-url "postgres://postgres@127.0.0.1:$postgres_port/plain" --checkpoint-dir "$tls/plain" --listen '' --until-latest
  table plain >"$tls/expected"
  postgres_port=$postgres_tls_port table tls >"$tls/found"
  diff "$tls/expected" "$tls/found" >&2 || fail 'tls: the table differs from that of a pipeline without TLS'
  [ "$(awk -F'|' '{sum += $2} END {print sum}' "$tls/found")" = 20000 ] || fail "tls: not every reading is in the table: $(<"$tls/found")"
  say "$(wc -l <"$tls/found") windows of 20000 readings, the same through the tunnels and without"
}

wrong_certificates_are_refused() {
  refused_by 'another authority' stranger '' 'verif'
  refused_by 'another host' authority 's/^checkHost = .*/checkHost = elsewhere.example.com/' 'verif'
}

# refused_by WHAT AUTHORITY SED-SCRIPT WORDS: nothing comes through; the sidecar's log says why, the program's that the tunnel closed.
refused_by() {
  stop stunnel
  start_tunnels "$2" "$3"
  start refused TERM through_tunnels process --checkpoint-dir "$tls/refused" --listen ''
  eventually 20 "stunnel's log says that $1 is refused" grep -qi "$4" "$WEATHER_TEST_DIR/stunnel.log"
  eventually 20 'the program says that it does not get through' grep -qE 'WARN|ERROR' "$WEATHER_TEST_DIR/refused.log"
  stop refused
  say "$1 is refused. stunnel: $(grep -im 1 "$4" "$WEATHER_TEST_DIR/stunnel.log")"
  say "$1 is refused. weather: $(grep -m 1 -E 'WARN|ERROR' "$WEATHER_TEST_DIR/refused.log")"
}
