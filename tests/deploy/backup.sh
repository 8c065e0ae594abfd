# A backup of the database, and the way back to it while Kafka and the checkpoint files have gone on. Sourced by
# tests/deploy/services.

try_backup() {
  local dump=$WEATHER_TEST_DIR/backup.dump
  database backup
  send backup 5000
  process_to_the_end backup
  postgres_tool pg_dump -Fc -f "$dump" backup
  send backup 5000 0s
  process_to_the_end backup
  counted backup 10000 || fail 'backup: the table does not hold everything before the restore'
  table backup >"$WEATHER_TEST_DIR/backup.before"

  postgres_tool pg_restore -d backup --clean --if-exists "$dump"
  counted backup 5000 || fail 'backup: the restored table is not that of the backup'
  process_to_the_end backup
  table backup >"$WEATHER_TEST_DIR/backup.after"
  diff "$WEATHER_TEST_DIR/backup.before" "$WEATHER_TEST_DIR/backup.after" >&2 || fail 'backup: the table differs after the restore'
  quietly env PGPASSWORD="$WEATHER_TEST_PG_PASSWORD" "$WEATHER_BIN" verify --brokers "$kafka" --topic backup \
    --database-url "postgres://postgres@127.0.0.1:$postgres_port/backup"
  say "restored, and read again from there: $(wc -l <"$WEATHER_TEST_DIR/backup.after") windows of 10000 readings, the same as before, as verify says too"
}

# postgres_tool NAME ARGUMENT…
postgres_tool() {
  quietly env PGPASSWORD="$WEATHER_TEST_PG_PASSWORD" PGHOST=127.0.0.1 PGPORT="$postgres_port" PGUSER=postgres "$WEATHER_TEST_PG_BIN/$1" "${@:2}"
}
