# Apache Kafka and PostgreSQL for one run of a script, gone however it ends. Sourced by tests/run and benches/run,
# which have set `-m` and sourced packages.sh.
#
#   start_services      both, in the background, and the environment that tells where: WEATHER_TEST_DIR, _PG_USER, _PG_PASSWORD
#   wait_for NAME       until kafka or postgres serves
#   run COMMAND…        a command that ends with this script

# At the end of this process, however it comes, the guard at the other end of descriptor 9 cleans up.
start_guard() {
  WEATHER_TEST_DIR=$(mktemp -d /tmp/weather-tests.XXXXXX) # not TMPDIR: a unix socket's path has to be short
  chmod 711 "$WEATHER_TEST_DIR" # PostgreSQL may run as another user
  exec 9> >(exec tests/support/guard.sh)
  echo "remove $WEATHER_TEST_DIR" >&9
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
}

finish() {
  local status=$? tenths
  trap '' INT TERM HUP
  disown -a # else the end of a job is reported
  exec 9>&-
  for ((tenths = 300; tenths > 0; tenths--)); do
    [ -d "$WEATHER_TEST_DIR" ] || break
    sleep 0.1
  done
  exit "$status"
}

# background SIGNAL COMMAND…: sets job; the signal ends its process group should this script end before it.
background() {
  local signal=$1
  shift
  "$@" 9>&- </dev/null &
  job=$!
  echo "end $signal -$job" >&9
}

# A foreground command, but signals to this script are heard at once.
run() {
  background TERM "$@"
  local status=0
  wait "$job" || status=$?
  echo "forget -$job" >&9
  return "$status"
}

# service NAME SIGNAL ARGUMENT…: starts it with NAME's folder for its log; wait_for NAME waits until it serves.
service() {
  local signal=$2 dir=$WEATHER_TEST_DIR/$1
  shift 2
  mkdir -p "$dir"
  background "$signal" tests/support/service.sh "$@" >"$dir/log" 2>&1
  disown "$job" # else its end is reported
  echo "$job" >"$dir/pid"
}
wait_for() {
  local dir=$WEATHER_TEST_DIR/$1 tenths
  for ((tenths = 1200; tenths > 0; tenths--)); do
    if [ -f "$dir/ready" ] && grep -qF "$(cat "$dir/ready")" "$dir/log"; then return; fi
    kill -0 "$(cat "$dir/pid")" 2>/dev/null || break
    sleep 0.1
  done
  tail -n 20 "$dir/log" >&2
  fail "$1 did not start; its last lines are above"
}

start_services() {
  start_guard
  WEATHER_TEST_PG_USER=nobody
  ! id postgres >/dev/null 2>&1 || WEATHER_TEST_PG_USER=postgres
  WEATHER_TEST_PG_PASSWORD=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  export WEATHER_TEST_DIR WEATHER_TEST_PG_USER WEATHER_TEST_PG_PASSWORD

  service kafka KILL kafka 4.1.0 "$WEATHER_TEST_DIR/kafka"
  service postgres QUIT postgres "$WEATHER_TEST_DIR/postgres"
}
