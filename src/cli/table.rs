//! The table of flags: what each is called, where it applies, its default, its help and its parser.
//!
//! Everything about a flag stands in its one entry; parsing, environment names, help and the README's list follow from
//! it. A flag may have two entries when its default differs between commands (`--listen`), but only one a command.

mod format;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::value::{self, Parsed};
use crate::config::{
    Assign, Compression, LogFormat, LogLevel, LogSent, OnDataLoss, OnUnreadable, Pace, ReadingSource,
    SaslMechanism, StartFrom,
};
use crate::reading::{FieldRule, MissingTimestamp, Unit, Zone};

/// A subcommand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Producer,
    Process,
    Demo,
    Inspect,
}

/// What a subcommand is for.
pub(super) struct Subcommand {
    pub(super) name: Name,
    pub(super) word: &'static str,
    pub(super) summary: &'static str,
}

/// All subcommands, in the order of the help.
pub(super) const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand { name: Name::Producer, word: "producer", summary: "Send weather readings to a Kafka topic" },
    Subcommand {
        name: Name::Process,
        word: "process",
        summary: "Write hourly averages of the topic's readings to PostgreSQL",
    },
    Subcommand {
        name: Name::Demo,
        word: "demo",
        summary: "Try it out: producer and processor on an embedded broker",
    },
    Subcommand {
        name: Name::Inspect,
        word: "inspect",
        summary: "Show checkpoints, leases and lag (read-only)",
    },
];

/// One flag.
pub(super) struct Flag {
    /// Without the dashes.
    pub(super) name: &'static str,
    /// The commands that have it.
    pub(super) on: &'static [Name],
    /// What the value is, for the help; empty for a switch.
    pub(super) metavar: &'static str,
    /// Taken when neither the flag nor its variable is given.
    pub(super) default: Option<&'static str>,
    /// One sentence or two.
    pub(super) help: &'static str,
    /// Parses a value into its place.
    pub(super) set: fn(&mut FlagValues, &str) -> Parsed<()>,
}

impl Flag {
    /// The environment variable that stands for this flag.
    pub(super) fn variable(&self) -> String {
        format!("WEATHER_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }

    /// The variable of the replaced system's container that counts where ours is not set.
    pub(super) fn old_variable(&self) -> Option<&'static str> {
        (self.name == "brokers").then_some("KAFKA_BOOTSTRAP_SERVERS")
    }

    /// Whether it takes no value.
    pub(super) fn is_switch(&self) -> bool {
        self.metavar.is_empty()
    }
}

/// Every flag of every command.
pub(super) fn flags() -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().chain(format::FLAGS)
}

/// The flags of one command, in the table's order.
pub(super) fn flags_of(command: Name) -> impl Iterator<Item = &'static Flag> {
    flags().filter(move |flag| flag.on.contains(&command))
}

/// Parsed values, before relations between them are checked; None = not given and without a default.
#[derive(Debug, Default)]
pub(super) struct FlagValues {
    pub(super) brokers: Option<Vec<String>>,
    pub(super) broker_map: Option<Vec<(String, String)>>,
    pub(super) topic: Option<String>,
    pub(super) sasl_mechanism: Option<SaslMechanism>,
    pub(super) sasl_username: Option<String>,
    pub(super) listen: Option<Option<SocketAddr>>,
    pub(super) log_level: Option<LogLevel>,
    pub(super) log_format: Option<LogFormat>,
    pub(super) interval: Option<Duration>,
    pub(super) rate: Option<Pace>,
    pub(super) count: Option<u64>,
    pub(super) duration: Option<Duration>,
    pub(super) source: Option<ReadingSource>,
    pub(super) poll: Option<Duration>,
    pub(super) stations: Option<u32>,
    pub(super) seed: Option<u64>,
    pub(super) backfill: Option<Duration>,
    pub(super) speedup: Option<f64>,
    pub(super) late_ratio: Option<f64>,
    pub(super) malformed_ratio: Option<f64>,
    pub(super) future_ratio: Option<f64>,
    pub(super) partitions: Option<i32>,
    pub(super) linger: Option<Duration>,
    pub(super) compression: Option<Compression>,
    pub(super) log_sent: Option<LogSent>,
    pub(super) database_url: Option<String>,
    pub(super) checkpoint_dir: Option<PathBuf>,
    pub(super) window: Option<Duration>,
    pub(super) watermark: Option<Duration>,
    pub(super) from: Option<StartFrom>,
    pub(super) until_latest: Option<bool>,
    pub(super) assign: Option<Assign>,
    pub(super) flush_interval: Option<Duration>,
    pub(super) checkpoint_interval: Option<Duration>,
    pub(super) max_future: Option<Duration>,
    pub(super) dead_letter_retention: Option<Duration>,
    pub(super) dead_letter_max_bytes: Option<i64>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) lease: Option<Duration>,
    pub(super) on_data_loss: Option<OnDataLoss>,
    pub(super) group: Option<Option<String>>,
    pub(super) on_unreadable: Option<OnUnreadable>,
    pub(super) fetch_bytes: Option<i32>,
    pub(super) json: Option<bool>,
    pub(super) without_postgres: Option<bool>,
    pub(super) fields: Option<Vec<FieldRule>>,
    pub(super) zone: Option<Zone>,
    pub(super) missing_timestamp: Option<MissingTimestamp>,
    pub(super) missing_values: Option<Vec<i64>>,
    pub(super) output_units: Option<[Unit; 3]>,
}

fn put<T>(place: &mut Option<T>, parsed: Parsed<T>) -> Parsed<()> {
    *place = Some(parsed?);
    Ok(())
}

const KAFKA: &[Name] = &[Name::Producer, Name::Process, Name::Inspect];
const DATABASE: &[Name] = &[Name::Process, Name::Inspect];
const ALL: &[Name] = &[Name::Producer, Name::Process, Name::Demo, Name::Inspect];
const PRODUCER: &[Name] = &[Name::Producer];
const PROCESS: &[Name] = &[Name::Process];
const DEMO: &[Name] = &[Name::Demo];

/// Every flag but those of the format, which have a table of their own.
const FLAGS: &[Flag] = &[
    Flag {
        name: "brokers",
        on: KAFKA,
        metavar: "HOST:PORT,…",
        default: Some("127.0.0.1:9092"),
        help: "Kafka bootstrap brokers. Default port: 9092.",
        set: |o, v| put(&mut o.brokers, value::brokers(v)),
    },
    Flag {
        name: "broker-map",
        on: KAFKA,
        metavar: "FROM=TO,…",
        default: None,
        help: "Connect to TO (host:port) where a broker advertises FROM, for tunnels and forwarded ports.",
        set: |o, v| put(&mut o.broker_map, value::broker_map(v)),
    },
    Flag {
        name: "topic",
        on: KAFKA,
        metavar: "NAME",
        default: Some("weather_data"),
        help: "Topic with the readings.",
        set: |o, v| put(&mut o.topic, value::topic(v)),
    },
    Flag {
        name: "sasl-mechanism",
        on: KAFKA,
        metavar: "MECHANISM",
        default: None,
        help: "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, for a listener that requires authentication. The \
               password comes from WEATHER_SASL_PASSWORD or from the file named by WEATHER_SASL_PASSWORD_FILE.",
        set: |o, v| put(&mut o.sasl_mechanism, value::sasl_mechanism(v)),
    },
    Flag {
        name: "sasl-username",
        on: KAFKA,
        metavar: "NAME",
        default: None,
        help: "User name for --sasl-mechanism.",
        set: |o, v| put(&mut o.sasl_username, value::text(v)),
    },
    Flag {
        name: "source",
        on: PRODUCER,
        metavar: "SOURCE",
        default: Some("synthetic"),
        help: "Where readings come from: synthetic (simulated stations), - (standard input, one JSON reading per \
               line), a file of such lines, or http://… (an API, requested every --poll). For https: curl -s \
               https://… | weather producer --source -",
        set: |o, v| put(&mut o.source, value::source(v)),
    },
    Flag {
        name: "interval",
        on: PRODUCER,
        metavar: "DURATION",
        default: Some("6ms"),
        help: "Time between two readings; 6ms is 10,000 a minute. Lines and API responses are sent as they arrive \
               unless this or --rate is given.",
        set: |o, v| put(&mut o.interval, value::interval(v)),
    },
    Flag {
        name: "rate",
        on: PRODUCER,
        metavar: "N",
        default: None,
        help: "Readings per second, instead of --interval; 0 = as fast as Kafka accepts them.",
        set: |o, v| put(&mut o.rate, value::rate(v)),
    },
    Flag {
        name: "count",
        on: PRODUCER,
        metavar: "N",
        default: None,
        help: "Stop after N readings.",
        set: |o, v| put(&mut o.count, value::count(v)),
    },
    Flag {
        name: "duration",
        on: PRODUCER,
        metavar: "DURATION",
        default: None,
        help: "Stop after this time.",
        set: |o, v| put(&mut o.duration, value::interval(v)),
    },
    Flag {
        name: "duration",
        on: DEMO,
        metavar: "DURATION",
        default: Some("30s"),
        help: "Stop after this time, then recompute everything from the log and compare. Ctrl-C stops at once.",
        set: |o, v| put(&mut o.duration, value::interval(v)),
    },
    Flag {
        name: "without-postgres",
        on: DEMO,
        metavar: "",
        default: Some("false"),
        help: "Do not start PostgreSQL even if it is installed: rows go to the terminal only.",
        set: |o, v| put(&mut o.without_postgres, value::boolean(v)),
    },
    Flag {
        name: "poll",
        on: PRODUCER,
        metavar: "DURATION",
        default: Some("10s"),
        help: "How often an http:// source is requested.",
        set: |o, v| put(&mut o.poll, value::interval(v)),
    },
    Flag {
        name: "stations",
        on: PRODUCER,
        metavar: "N",
        default: Some("100"),
        help: "Number of simulated stations.",
        set: |o, v| put(&mut o.stations, value::integer(v, 1, 100_000)),
    },
    Flag {
        name: "seed",
        on: PRODUCER,
        metavar: "N",
        default: Some("1"),
        help: "Seed of the simulation: the same seed gives the same stations and weather.",
        set: |o, v| put(&mut o.seed, value::integer(v, 0, u64::MAX)),
    },
    Flag {
        name: "backfill",
        on: PRODUCER,
        metavar: "DURATION",
        default: Some("0s"),
        help: "Send this much simulated history first, as fast as possible.",
        set: |o, v| put(&mut o.backfill, value::whole_ms(v)),
    },
    Flag {
        name: "speedup",
        on: PRODUCER,
        metavar: "X",
        default: Some("1"),
        help: "With --backfill: send history at the pace of --interval while event time runs X times as fast as \
               the clock, until it has caught up.",
        set: |o, v| put(&mut o.speedup, value::speedup(v)),
    },
    Flag {
        name: "late-ratio",
        on: PRODUCER,
        metavar: "SHARE",
        default: Some("0"),
        help: "Share of simulated readings that are hours late, 0 to 1.",
        set: |o, v| put(&mut o.late_ratio, value::ratio(v)),
    },
    Flag {
        name: "malformed-ratio",
        on: PRODUCER,
        metavar: "SHARE",
        default: Some("0"),
        help: "Share of simulated readings that are malformed, 0 to 1.",
        set: |o, v| put(&mut o.malformed_ratio, value::ratio(v)),
    },
    Flag {
        name: "future-ratio",
        on: PRODUCER,
        metavar: "SHARE",
        default: Some("0"),
        help: "Share of simulated readings with a time a century ahead, 0 to 1.",
        set: |o, v| put(&mut o.future_ratio, value::ratio(v)),
    },
    Flag {
        name: "partitions",
        on: PRODUCER,
        metavar: "N",
        default: Some("6"),
        help: "Number of partitions if the topic has to be created.",
        set: |o, v| put(&mut o.partitions, value::integer(v, 1, 10_000)),
    },
    Flag {
        name: "linger",
        on: PRODUCER,
        metavar: "DURATION",
        default: Some("100ms"),
        help: "Longest time a batch waits for more readings. Longer means fewer, larger requests.",
        set: |o, v| put(&mut o.linger, value::duration(v)),
    },
    Flag {
        name: "compression",
        on: PRODUCER,
        metavar: "CODEC",
        default: Some("none"),
        help: "Compression of batches: none, gzip or snappy.",
        set: |o, v| put(&mut o.compression, value::compression(v)),
    },
    Flag {
        name: "log-sent",
        on: PRODUCER,
        metavar: "WHICH",
        default: Some("sample"),
        help: "Which 'Sent: {...}' lines to print for acknowledged readings: sample (one a second, with a count), \
               all or none.",
        set: |o, v| put(&mut o.log_sent, value::log_sent(v)),
    },
    Flag {
        name: "database-url",
        on: DATABASE,
        metavar: "URL",
        default: None,
        help: "postgres://user@host:port/database, or key=value pairs. Without it: DATABASE_URL. What is \
               missing comes from PGHOST, PGPORT, PGUSER and PGDATABASE, then 127.0.0.1:5432, user postgres, \
               database weather_db. The password comes from PGPASSWORD or the file named by PGPASSWORD_FILE. \
               process also takes none, to try it without PostgreSQL: rows go to standard output only, and the \
               checkpoint folder must not be shared with another process.",
        set: |o, v| put(&mut o.database_url, value::text(v)),
    },
    Flag {
        name: "checkpoint-dir",
        on: DATABASE,
        metavar: "FOLDER",
        default: Some("checkpoint"),
        help: "Folder for checkpoint files. Put it on a volume that outlives the process.",
        set: |o, v| put(&mut o.checkpoint_dir, value::folder(v)),
    },
    Flag {
        name: "window",
        on: PROCESS,
        metavar: "DURATION",
        default: Some("1h"),
        help: "Length of a window. Must divide a day evenly or be a whole number of days.",
        set: |o, v| put(&mut o.window, value::whole_ms(v)),
    },
    Flag {
        name: "watermark",
        on: PROCESS,
        metavar: "DURATION",
        default: Some("10m"),
        help: "How late readings may be: the watermark is this far behind the newest event time.",
        set: |o, v| put(&mut o.watermark, value::whole_ms(v)),
    },
    Flag {
        name: "from",
        on: PROCESS,
        metavar: "WHERE",
        default: Some("earliest"),
        help: "Where to start reading if there is no saved state: earliest, latest or an ISO 8601 time.",
        set: |o, v| put(&mut o.from, value::start_from(v)),
    },
    Flag {
        name: "until-latest",
        on: PROCESS,
        metavar: "",
        default: Some("false"),
        help: "Exit when everything that was in the topic at start is in the table.",
        set: |o, v| put(&mut o.until_latest, value::boolean(v)),
    },
    Flag {
        name: "assign",
        on: PROCESS,
        metavar: "PARTITIONS",
        default: Some("auto"),
        help: "auto: share the partitions with the other processes. Or a fixed list, such as 0,2-5.",
        set: |o, v| put(&mut o.assign, value::assign(v)),
    },
    Flag {
        name: "flush-interval",
        on: PROCESS,
        metavar: "DURATION",
        default: Some("250ms"),
        help: "Longest time before a change is written to PostgreSQL.",
        set: |o, v| put(&mut o.flush_interval, value::interval(v)),
    },
    Flag {
        name: "checkpoint-interval",
        on: PROCESS,
        metavar: "DURATION",
        default: Some("5s"),
        help: "How often checkpoint files are written.",
        set: |o, v| put(&mut o.checkpoint_interval, value::interval(v)),
    },
    Flag {
        name: "max-future",
        on: PROCESS,
        metavar: "DURATION",
        default: Some("10m"),
        help: "How far ahead of the clock an event time may be. Readings further ahead become dead letters.",
        set: |o, v| put(&mut o.max_future, value::whole_ms(v)),
    },
    Flag {
        name: "dead-letter-retention",
        on: PROCESS,
        metavar: "DURATION",
        default: Some("7d"),
        help: "How long dead letters are kept in the database.",
        set: |o, v| put(&mut o.dead_letter_retention, value::retention(v)),
    },
    Flag {
        name: "dead-letter-max-bytes",
        on: PROCESS,
        metavar: "BYTES",
        default: Some("1GiB"),
        help: "Beyond so many bytes in the database the oldest dead letters are deleted.",
        set: |o, v| put(&mut o.dead_letter_max_bytes, value::table_bytes(v)),
    },
    Flag {
        name: "idle-timeout",
        on: PROCESS,
        metavar: "DURATION",
        default: Some("30s"),
        help: "A partition that is caught up and has had no records for this long no longer keeps windows open.",
        set: |o, v| put(&mut o.idle_timeout, value::interval(v)),
    },
    Flag {
        name: "lease",
        on: PROCESS,
        metavar: "DURATION",
        default: Some("15s"),
        help: "How long a process that stops responding keeps its partitions.",
        set: |o, v| put(&mut o.lease, value::interval(v)),
    },
    Flag {
        name: "on-data-loss",
        on: PROCESS,
        metavar: "WHAT",
        default: Some("continue"),
        help: "What to do when Kafka has deleted records before they were read: continue (and count them) or stop.",
        set: |o, v| put(&mut o.on_data_loss, value::on_data_loss(v)),
    },
    Flag {
        name: "group",
        on: PROCESS,
        metavar: "NAME",
        default: Some("weather-pipeline"),
        help: "The consumer group under which offsets are committed to Kafka once their rows are in the table, so that \
               kafka-consumer-groups.sh and lag exporters see the lag. Empty: none.",
        set: |o, v| put(&mut o.group, value::group(v)),
    },
    Flag {
        name: "on-unreadable",
        on: PROCESS,
        metavar: "WHAT",
        default: Some("pause"),
        help: "When a record batch is in a form that this program cannot read, such as a codec that is not built in: \
               pause (read no more of that partition, and say why) or stop.",
        set: |o, v| put(&mut o.on_unreadable, value::on_unreadable(v)),
    },
    Flag {
        name: "fetch-bytes",
        on: PROCESS,
        metavar: "BYTES",
        default: Some("1MiB"),
        help: "Maximum size of all fetched records held at once, whatever the number of partitions.",
        set: |o, v| put(&mut o.fetch_bytes, value::fetch_bytes(v)),
    },
    Flag {
        name: "json",
        on: &[Name::Inspect],
        metavar: "",
        default: Some("false"),
        help: "Print one JSON document instead of a table.",
        set: |o, v| put(&mut o.json, value::boolean(v)),
    },
    Flag {
        name: "listen",
        on: &[Name::Producer],
        metavar: "HOST:PORT",
        default: Some(""),
        help: "Address of the HTTP endpoint; empty = off.",
        set: |o, v| put(&mut o.listen, value::listen(v)),
    },
    Flag {
        name: "listen",
        on: &[Name::Process, Name::Demo],
        metavar: "HOST:PORT",
        default: Some("127.0.0.1:8080"),
        help: "Address of the HTTP endpoint; empty = off. If the port is in use, the next free one is taken.",
        set: |o, v| put(&mut o.listen, value::listen(v)),
    },
    Flag {
        name: "log-level",
        on: &[Name::Producer, Name::Process, Name::Inspect],
        metavar: "LEVEL",
        default: Some("info"),
        help: "Least severe level to log: error, warn, info or debug.",
        set: |o, v| put(&mut o.log_level, value::log_level(v)),
    },
    // Standard error is the same terminal that the demo draws on.
    Flag {
        name: "log-level",
        on: DEMO,
        metavar: "LEVEL",
        default: Some("warn"),
        help: "Least severe level to log: error, warn, info or debug.",
        set: |o, v| put(&mut o.log_level, value::log_level(v)),
    },
    Flag {
        name: "log-format",
        on: ALL,
        metavar: "FORMAT",
        default: Some("text"),
        help: "Format of log lines: text or json.",
        set: |o, v| put(&mut o.log_format, value::log_format(v)),
    },
];
