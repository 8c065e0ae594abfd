# Alerts and dashboard. Sourced by tests/deploy/services.

monitoring=k8s/components/monitoring

try_monitoring() {
  need 'Prometheus with promtool' find_prometheus prometheus prometheus prometheus
  alerts_fire
  each_alert_has_its_paragraph
  dashboard_shows_a_running_pipeline
}

find_prometheus() { find_program promtool && find_program prometheus; }

# The rules as Prometheus reads them are the spec of the object.
alerts_fire() {
  sed '1,/^spec:$/d; s/^  //' "$monitoring/rules.yaml" >"$WEATHER_TEST_DIR/rules.groups.yaml"
  cp "$monitoring/rules_test.yaml" "$WEATHER_TEST_DIR"
  quietly promtool check rules "$WEATHER_TEST_DIR/rules.groups.yaml"
  quietly promtool test rules "$WEATHER_TEST_DIR/rules_test.yaml"
  local alert
  for alert in $(sed -n 's/^ *- alert: //p' "$monitoring/rules.yaml"); do
    grep -q "name: $alert fires" "$monitoring/rules_test.yaml" || fail "no series for which $alert fires"
    grep -q "name: $alert does not fire" "$monitoring/rules_test.yaml" || fail "no series for which $alert does not fire"
  done
  say 'each alert fires when it has to, and not else'
}

each_alert_has_its_paragraph() {
  local alert
  for alert in $(sed -n 's/^ *- alert: //p' "$monitoring/rules.yaml"); do
    grep -q "^## $alert\$" "$monitoring/README.md" || fail "$monitoring/README.md has no paragraph on $alert"
    grep -q "README.md#${alert,,}\$" "$monitoring/rules.yaml" || fail "$alert does not link to its paragraph"
  done
}

dashboard_shows_a_running_pipeline() {
  local process producer prometheus
  process=127.0.0.1:$(port) producer=127.0.0.1:$(port) prometheus=127.0.0.1:$(port)
  database monitoring
  start producer TERM env WEATHER_BROKERS="$kafka" "$WEATHER_BIN" producer --topic monitoring --rate 200 --partitions 4 \
    --backfill 0s --late-ratio 0.1 --malformed-ratio 0.1 --listen "$producer"
  start process TERM env WEATHER_BROKERS="$kafka" PGPASSWORD="$WEATHER_TEST_PG_PASSWORD" "$WEATHER_BIN" process --topic monitoring \
    --database-url "postgres://postgres@127.0.0.1:$postgres_port/monitoring" --checkpoint-dir "$WEATHER_TEST_DIR/monitoring" \
    --listen "$process"
  cat >"$WEATHER_TEST_DIR/prometheus.yml" <<END
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [rules.groups.yaml]
scrape_configs:
  - job_name: weather
    static_configs:
      - {targets: ["$process"], labels: {namespace: weather, pod: weather-pipeline-0}}
      - {targets: ["$producer"], labels: {namespace: weather, pod: weather-producer-0}}
END
  start prometheus TERM prometheus --config.file="$WEATHER_TEST_DIR/prometheus.yml" --storage.tsdb.path="$WEATHER_TEST_DIR/tsdb" \
    --web.listen-address="$prometheus" --log.level=warn
  eventually 60 'Prometheus serves' eval "(: </dev/tcp/${prometheus/://}) 2>/dev/null"
  run python3 tests/deploy/dashboard.py "$monitoring/dashboard.json" "http://$prometheus" 90 ||
    fail 'panels without data are named above'
  stop prometheus
  stop process
  stop producer
}
