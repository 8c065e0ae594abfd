# PgBouncer before the database: its session mode works, its transaction mode is refused. Sourced by tests/deploy/services.

try_pgbouncer() {
  need 'PgBouncer' find_pgbouncer pgbouncer pgbouncer pgbouncer
  start_pgbouncer session
  send session 5000
  database session
  quietly through_pgbouncer session --until-latest
  counted session 5000 || fail 'pgbouncer, session mode: the table does not hold everything'
  say 'session mode: everything is in the table'

  # A connection that PgBouncer takes away under load is an outage like any other.
  start process TERM through_pgbouncer session --flush-interval 50ms
  stop pgbouncer
  send session 5000 0s
  start_pgbouncer session "$pgbouncer_port"
  eventually 60 'after PgBouncer came back, the table holds everything' counted session 10000
  stop process
  stop pgbouncer
  say 'session mode: PgBouncer may go and come back'

  start_pgbouncer transaction
  local code=0 said
  said=$(through_pgbouncer session --until-latest 2>&1) || code=$?
  [ "$code" = 2 ] && grep -q 'a pooler in transaction mode' <<<"$said" ||
    fail "transaction mode: exit code $code: $said"
  stop pgbouncer
  say 'transaction mode: refused'
}

find_pgbouncer() { find_program pgbouncer; }

# start_pgbouncer MODE [PORT]
start_pgbouncer() {
  local folder=$WEATHER_TEST_DIR/pgbouncer
  pgbouncer_port=${2:-$(port)}
  mkdir -p "$folder"
  echo "\"postgres\" \"$WEATHER_TEST_PG_PASSWORD\"" >"$folder/users.txt"
  cat >"$folder/pgbouncer.ini" <<END
[databases]
* = host=127.0.0.1 port=$postgres_port
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $pgbouncer_port
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $folder/users.txt
pool_mode = $1
END
  chmod -R go+rX "$folder"
  local as=()
  [ "$(id -u)" != 0 ] || as=(setpriv --reuid="$WEATHER_TEST_PG_USER" --regid="$(id -g "$WEATHER_TEST_PG_USER")" --clear-groups --)
  start pgbouncer TERM env PATH="$PATH:/usr/sbin" "${as[@]}" pgbouncer "$folder/pgbouncer.ini"
  eventually 20 'PgBouncer serves' eval "(: </dev/tcp/127.0.0.1/$pgbouncer_port) 2>/dev/null"
}

through_pgbouncer() { # DATABASE ARGUMENT…
  PGPASSWORD=$WEATHER_TEST_PG_PASSWORD "$WEATHER_BIN" process --brokers "$kafka" --topic "$1" \
    --database-url "postgres://postgres@127.0.0.1:$pgbouncer_port/$1" --checkpoint-dir "$WEATHER_TEST_DIR/$1" --listen '' "${@:2}"
}
