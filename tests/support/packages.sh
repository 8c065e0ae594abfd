# What the tests need besides Rust: found, or installed by the machine's own package manager. Sourced by tests/run.
#
# prepare sets and exports
#   WEATHER_TEST_JAVA     a java of 17 to 23: Kafka 4 needs at least 17, and Kafka 3.5 does not run on 24
#   WEATHER_TEST_PG_BIN   the folder of PostgreSQL's server programs, 15 or newer
#   WEATHER_TEST_JARS     the folder with kafka-VERSION/*.jar, kept for later runs, which then need no network
# or ends with one sentence that says what is missing and how to get it. What is already there is not installed again.

WEATHER_TEST_JARS=${XDG_CACHE_HOME:-$HOME/.cache}/weather-tests

# The new and the last but one way to run Kafka, and the replaced system's (cp-kafka 7.5 is Kafka 3.5).
kafka_versions='4.1.0 3.9.1 3.5.2'

say() { echo "tests/run: $*" >&2; }
fail() {
  say "$*"
  exit 1
}

prepare() {
  need 'a C linker (cc)' find_linker build-essential gcc gcc
  need 'Java 17' find_java 'openjdk-17-jre-headless openjdk-21-jre-headless' openjdk@17 \
    'java-17-openjdk-headless java-21-openjdk-headless'
  need 'the server of PostgreSQL 15 or newer' find_postgres postgresql postgresql@17 postgresql-server
  need 'Chromium with chromedriver' find_browser 'chromium-driver chromium-chromedriver' chromedriver chromedriver
  need_cargo_tool fmt rustfmt
  need_cargo_tool clippy clippy
  need_kafka
  export WEATHER_TEST_JAVA WEATHER_TEST_PG_BIN WEATHER_TEST_JARS
}

# --- finding ---

find_linker() { command -v cc >/dev/null; }

find_maven() { command -v mvn >/dev/null; }

find_java() {
  local java major
  for java in "${JAVA_HOME:-}/bin/java" "$(command -v java || true)" /usr/lib/jvm/*/bin/java \
    {/opt/homebrew,/usr/local}/opt/openjdk@{17,21}/bin/java; do
    [ -x "$java" ] || continue
    major=$("$java" -XX:-UsePerfData -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
    if [ "${major:-0}" -ge 17 ] && [ "$major" -le 23 ]; then
      WEATHER_TEST_JAVA=$java
      return
    fi
  done
  return 1
}

find_postgres() {
  local bin major
  for bin in /usr/lib/postgresql/*/bin {/opt/homebrew,/usr/local}/opt/postgresql@*/bin /usr/pgsql-*/bin \
    "$(dirname "$(command -v initdb || echo /none/initdb)")"; do
    if [ ! -x "$bin/initdb" ] || [ ! -x "$bin/postgres" ]; then continue; fi
    major=$("$bin/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
    if [ "$major" -ge 15 ]; then
      WEATHER_TEST_PG_BIN=$bin
      return
    fi
  done
  return 1
}

find_browser() { command -v chromedriver >/dev/null; }

# --- installing ---

# need WHAT FIND APT BREW DNF: installs the first of the packages that the system offers.
need() {
  local what=$1 find=$2
  "$find" && return
  if command -v apt-get >/dev/null; then
    apt_install "$what" $3 # unquoted: one or several
  elif command -v brew >/dev/null; then
    say "installing $what: brew install $4"
    brew install "$4" >&2 || true
  elif command -v dnf >/dev/null; then
    as_root "$what" dnf install -y -q "$(first_known 'dnf -q list' $5)"
  else
    fail "$what is missing, and there is no apt-get, brew or dnf here to get it with; please install it."
  fi
  "$find" || fail "$what is needed, and the packages of this system did not bring it; please install it by hand."
}

apt_install() { # WHAT PACKAGE…
  local what=$1 package install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends)
  local conf=/etc/postgresql-common/createcluster.conf
  shift
  # Without the lists of packages, which a new machine lacks, an installation would fail.
  [ "${apt_updated:-}" ] || as_root "$what ($1)" apt-get update -q
  apt_updated=yes
  package=$(first_known 'apt-cache show' "$@")
  if [ "$package" != postgresql ]; then
    as_root "$what" "${install[@]}" "$package"
    return
  fi
  # Debian's package would create a cluster and start it on port 5432; the tests have their own.
  as_root "$what" "${install[@]}" postgresql-common
  as_root "$what" pg_conftool "$conf" set create_main_cluster off
  as_root "$what" "${install[@]}" postgresql
  as_root "$what" pg_conftool "$conf" remove create_main_cluster
}

# as_root WHAT COMMAND…: with sudo if need be (which may ask for the password, but never under CI).
as_root() {
  local what=$1 sudo=''
  shift
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "$what is missing, and only root may install it: please do, and try again."
    sudo="sudo ${CI:+-n}"
  fi
  say "installing $what: $*"
  $sudo "$@" >&2 || fail "$what is missing, and could not be installed: please do by hand what failed above."
}

first_known() { # QUERY PACKAGE…
  local query=$1 package
  shift
  for package; do
    $query "$package" >/dev/null 2>&1 && break
  done
  echo "$package"
}

need_cargo_tool() { # SUBCOMMAND COMPONENT
  cargo "$1" --version >/dev/null 2>&1 && return
  if command -v rustup >/dev/null && rustup component add "$2" >&2; then return; fi
  fail "cargo $1 is missing; please install it, with rustup: rustup component add $2"
}

# --- Apache Kafka's own jars, fetched by Maven ---

need_kafka() {
  local version missing=''
  for version in $kafka_versions; do
    [ -d "$WEATHER_TEST_JARS/kafka-$version" ] || missing="$missing $version"
  done
  [ "$missing" ] || return 0
  need 'Maven, which fetches Apache Kafka' find_maven maven maven maven
  for version in $missing; do fetch_kafka "$version"; done
  rm -rf "$WEATHER_TEST_JARS/maven"
}

# The broker, its command line tools (without Kafka Connect, their dependency) and a logger.
fetch_kafka() {
  local version=$1 folder=$WEATHER_TEST_JARS/kafka-$1
  local part=$folder.part.$$
  say "fetching Apache Kafka $version into $folder"
  mkdir -p "$part"
  cat >"$part.pom" <<END
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>weather</groupId><artifactId>tests</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version>
    </dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$version</version>
      <exclusions>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-api</artifactId></exclusion>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-runtime</artifactId></exclusion>
      </exclusions>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-reload4j</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
END
  # -C: a wrong checksum is an error. Maven's own downloads go with the folder, so that nothing is kept twice.
  mvn -B -C -q -Dstyle.color=never -Dmaven.repo.local="$WEATHER_TEST_JARS/maven" -f "$part.pom" \
    org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$part" >"$part.log" 2>&1 || {
    tail -n 20 "$part.log" >&2
    rm -rf "$part" "$part.pom" "$part.log"
    fail "Apache Kafka $version could not be fetched; the network is needed once, and these lines say what went wrong."
  }
  [ -d "$folder" ] || mv "$part" "$folder"
  rm -rf "$part" "$part.pom" "$part.log"
}
