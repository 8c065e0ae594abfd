#!/usr/bin/env bash
# One service of the tests, in the foreground: this process becomes the server, so its id is the one to signal.
#
#   service.sh kafka VERSION DIR [key=value…]   Apache Kafka: KRaft, or with zookeeper.connect=… the old way; one more broker
#                                               of a cluster with process.roles=broker and its controller.quorum.voters=…
#   service.sh zookeeper VERSION DIR            the ZooKeeper that this version of Kafka brings along
#   service.sh postgres DIR [key=value…]        PostgreSQL
#
# The first start sets DIR up; later ones come back with the same data on the same port. DIR/port says which, DIR/ready
# the words in the log (standard output and error) that show that it is up. Every listener is on 127.0.0.1, every
# file in DIR. The environment is what tests/run exports: WEATHER_TEST_JAVA, _JARS, _PG_BIN, _PG_USER, _PG_PASSWORD.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# free_port DIR: no two services of a run get the same port, even if they start at once. Below the ports that systems give to
# outgoing connections, so that no client takes it while its server restarts.
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 10000))
    if ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null && mkdir "${WEATHER_TEST_DIR:-$1}/port.$port" 2>/dev/null; then
      echo "$port"
      return
    fi
  done
}

# set_up DIR READY: the folder, its port and its words, which are read while they are written.
set_up() {
  mkdir -p "$1"
  if [ ! -f "$1/ready" ]; then
    free_port "$1" >"$1/port"
    echo "$2" >"$1/ready.part"
    mv "$1/ready.part" "$1/ready"
  fi
}

# run_java VERSION DIR CLASS ARGUMENT…: small and quick to start rather than fast, unless WEATHER_TEST_JAVA_OPTIONS says
# otherwise; temporary files stay in DIR.
run_java() {
  local version=$1 dir=$2 options
  shift 2
  read -ra options <<<"${WEATHER_TEST_JAVA_OPTIONS:--Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1}"
  exec "$WEATHER_TEST_JAVA" "${options[@]}" -XX:-UsePerfData -XX:+ExitOnOutOfMemoryError \
    -Djava.awt.headless=true -Djava.io.tmpdir="$dir" \
    -Dlog4j.configuration="file:$here/log4j.properties" -cp "$WEATHER_TEST_JARS/kafka-$version/*" "$@"
}

# Kafka's own defaults (also automatic creation of topics, as the old system had it) but for: one replica of everything,
# no waiting at start, memory, retention checked from the first second on, and a killed broker's session, which has to
# run out before the next start is let in, of 3 s instead of 9 (with ZooKeeper 6 instead of 18).
kafka() {
  local version=$1 dir=$2 port controller control words='Kafka Server started' old=''
  shift 2
  case " $*" in *' zookeeper.connect='*) old=yes words='started (kafka.server.KafkaServer)' ;; esac
  set_up "$dir" "$words"
  port=$(cat "$dir/port")
  {
    cat <<END
log.dirs=$dir/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=4194304
log.initial.task.delay.ms=500
END
    if [ "$old" ]; then
      cat <<END
broker.id=1
listeners=PLAINTEXT://127.0.0.1:$port
zookeeper.session.timeout.ms=6000
END
    else
      [ -s "$dir/controller-port" ] || free_port "$dir" >"$dir/controller-port"
      controller=127.0.0.1:$(cat "$dir/controller-port")
      control=,CONTROLLER://$controller
      case " $* " in *' process.roles=broker '*) control='' ;; esac
      cat <<END
process.roles=broker,controller
node.id=1
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
controller.quorum.voters=1@$controller
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$port$control
advertised.listeners=PLAINTEXT://127.0.0.1:$port
END
    fi
    [ $# = 0 ] || printf '%s\n' "$@"
  } >"$dir/server.properties"
  if [ -z "$old" ] && [ ! -f "$dir/data/meta.properties" ]; then
    # Brokers of one controller are one cluster.
    controller=$(sed -n 's/^controller\.quorum\.voters=.*://p' "$dir/server.properties" | tail -n 1)
    (run_java "$version" "$dir" kafka.tools.StorageTool format -t "weather-tests-$controller" -c "$dir/server.properties")
  fi
  run_java "$version" "$dir" kafka.Kafka "$dir/server.properties"
}

zookeeper() {
  local version=$1 dir=$2
  set_up "$dir" 'ZooKeeper audit is disabled'
  cat >"$dir/zookeeper.properties" <<END
dataDir=$dir/data
clientPort=$(cat "$dir/port")
clientPortAddress=127.0.0.1
admin.enableServer=false
tickTime=1000
END
  run_java "$version" "$dir" org.apache.zookeeper.server.ZooKeeperServerMain "$dir/zookeeper.properties"
}

# No fsync: what is committed outlives a killed server, though not a power loss. The server's time zone is
# far from UTC, so that no test passes only because the server is set to UTC.
postgres() {
  local dir=$1 as=() settings=() setting
  shift
  set_up "$dir" 'database system is ready to accept connections'
  if [ "$(id -u)" = 0 ]; then # PostgreSQL refuses to run as root
    as=(setpriv --reuid="$WEATHER_TEST_PG_USER" --regid="$(id -g "$WEATHER_TEST_PG_USER")" --clear-groups --)
    chown "$WEATHER_TEST_PG_USER" "$dir"
  fi
  cd "$dir"
  if [ ! -f data/PG_VERSION ]; then
    (umask 077 && echo "$WEATHER_TEST_PG_PASSWORD" >password)
    [ "$(id -u)" != 0 ] || chown "$WEATHER_TEST_PG_USER" password
    # Ended half-way, its servers would leave their shared memory behind: signals to our process group pass it by.
    trap '' HUP INT QUIT TERM
    set -m
    ${as[@]+"${as[@]}"} "$WEATHER_TEST_PG_BIN/initdb" -D data -U postgres -E UTF8 --locale=C -A scram-sha-256 \
      --pwfile=password --no-sync --no-instructions &
    wait $!
    set +m
    trap - HUP INT QUIT TERM
  fi
  for setting in port="$(cat port)" listen_addresses=127.0.0.1 unix_socket_directories="$dir" max_connections=200 \
    shared_buffers=32MB dynamic_shared_memory_type=mmap fsync=off full_page_writes=off lc_messages=C \
    timezone=Asia/Ho_Chi_Minh "$@"; do
    settings+=(-c "$setting")
  done
  exec ${as[@]+"${as[@]}"} "$WEATHER_TEST_PG_BIN/postgres" -D data "${settings[@]}"
}

case ${1:-} in
kafka | zookeeper | postgres) "$@" ;;
*)
  sed -n '4,7s/^# *//p' "$0" >&2
  exit 2
  ;;
esac
