# A user, a group and a volume that the cluster chose: OpenShift gives each namespace a user of its own, with root's group and
# without an entry in any password file; some volumes belong to root alone. Sourced by tests/deploy/services.

somebody=1000650000

try_user() {
  need 'setpriv' find_setpriv util-linux util-linux util-linux
  [ "$(id -u)" = 0 ] || fail 'user: only root can become another user; run it as root'
  database users
  send users 1000
  install -m 755 "$WEATHER_BIN" "$WEATHER_TEST_DIR/weather"

  install -d -m 2775 "$WEATHER_TEST_DIR/volume"
  quietly as_somebody "$WEATHER_TEST_DIR/volume"
  eventually 10 'the table holds everything' counted users 1000
  compgen -G "$WEATHER_TEST_DIR/volume/users-*.ckpt" >/dev/null || fail 'user: there are no checkpoint files'
  say 'a user without name, home or group of its own aggregates and writes its checkpoints'

  install -d -m 755 "$WEATHER_TEST_DIR/roots"
  local status=0
  as_somebody "$WEATHER_TEST_DIR/roots" >"$WEATHER_TEST_DIR/roots.log" 2>&1 || status=$?
  [ "$status" = 2 ] || fail "user: a volume that cannot be written to gives exit code $status: $(<"$WEATHER_TEST_DIR/roots.log")"
  grep -q 'cannot be written to' "$WEATHER_TEST_DIR/roots.log" || fail "user: unclear: $(<"$WEATHER_TEST_DIR/roots.log")"
  say "a volume of root's alone is refused: $(grep -m 1 'cannot be written to' "$WEATHER_TEST_DIR/roots.log")"
}

find_setpriv() { command -v setpriv >/dev/null; }

as_somebody() { # FOLDER
  env -i PGPASSWORD="$WEATHER_TEST_PG_PASSWORD" setpriv --reuid=$somebody --regid=0 --clear-groups "$WEATHER_TEST_DIR/weather" process \
    --topic users --brokers "$kafka" --database-url "postgres://postgres@127.0.0.1:$postgres_port/users" --checkpoint-dir "$1" \
    --listen '' --until-latest
}
