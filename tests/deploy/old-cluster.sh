# Coming from the replaced system's cluster, as terraform/README.md says: side by side, compare, go back. Sourced by
# tests/deploy/run.

try_old_cluster() {
  local new=(-var=namespace=weather-next -var=producer_enabled=false '-var=kafka_brokers=["kafka-service.weather.svc:9092"]'
    '-var=kafka_broker_map={"kafka-service:9092"="kafka-service.weather.svc:9092"}' '-var=reading={output_units="wind_speed=km/h"}')
  quietly kubectl apply -f tests/deploy/old-cluster.yaml
  wait_until_ready
  eventually 300 'the old producer sends' old_topic_has 500
  quietly sql 'CREATE TABLE weather_summary (window_start TIMESTAMP, window_end TIMESTAMP, avg_temp DOUBLE PRECISION,
    avg_humidity DOUBLE PRECISION, avg_wind_speed DOUBLE PRECISION)'
  say 'the old cluster runs'

  if terraform -chdir="$work/terraform" apply -no-color -input=false -auto-approve >"$work/output" 2>&1; then
    fail 'terraform took the namespace of the old cluster'
  fi
  grep -q '"weather" already exists' "$work/output" || fail "unclear: $(<"$work/output")"
  quietly terraform destroy -input=false -auto-approve
  k get deployment/kafka >/dev/null || fail 'the old cluster was touched'

  quietly terraform apply -input=false -auto-approve "${new[@]}"
  plan_is_empty "${new[@]}"
  quietly k scale --replicas=0 deployment/weather-pipeline
  eventually 40 'the old producer ends' eval '[ -z "$(k get pods --selector=app=weather-pipeline --output=name)" ]'
  sleep 2
  eventually 60 'the new table holds every record of the old topic' all_of_the_old_topic
  say "side by side: the new table holds all $(old_records) records of the old topic, and the old cluster is as it was"

  quietly terraform destroy -input=false -auto-approve "${new[@]}"
  nothing_is_left weather-next
  is 'SELECT COUNT(*) FROM weather_summary' 0 || fail 'the old table was touched'
  quietly kubectl delete -f tests/deploy/old-cluster.yaml
  nothing_is_left
  say 'the new one is gone, the old table as it was; then the old cluster is gone, too'
}

old_records() {
  k exec deployment/kafka -- env KAFKA_HEAP_OPTS=-Xmx96m kafka-get-offsets --bootstrap-server localhost:9092 --topic weather_data |
    awk -F: '{sum += $3} END {print sum + 0}'
}
old_topic_has() { [ "$(old_records)" -ge "$1" ]; }
all_of_the_old_topic() {
  [ "$(sql_in weather-next 'SELECT SUM(reading_count) FROM weather_summary')" = "$(old_records)" ]
}
