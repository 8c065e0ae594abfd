//! Typed, checked configuration: what every subcommand runs with.
//!
//! `cli` fills these from flags, environment and defaults; nothing below reads either. A value here has been checked,
//! including relations between values, so the rest of the code does not check again.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::reading::{Format, Reason};

/// A password: never printed, logged or shown in a `Debug` form.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The password itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How to authenticate to Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslMechanism {
    /// RFC 4616.
    Plain,
    /// RFC 7677.
    ScramSha256,
    /// As SCRAM-SHA-256, with SHA-512.
    ScramSha512,
}

/// Credentials for Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sasl {
    /// How the password is proved.
    pub mechanism: SaslMechanism,
    /// The user's name.
    pub username: String,
    /// The user's password.
    pub password: Secret,
}

/// Where the topic is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kafka {
    /// Bootstrap brokers, each `host:port`; at least one.
    pub brokers: Vec<String>,
    /// Advertised `host:port` → the `host:port` at which that broker can be reached from here, for tunnels.
    pub broker_map: Vec<(String, String)>,
    /// The topic of readings.
    pub topic: String,
    /// None = a listener without authentication.
    pub sasl: Option<Sasl>,
}

/// The least severe level to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum LogLevel {
    /// What stops or harms the work.
    Error = 0,
    /// What needs attention.
    Warn = 1,
    /// Milestones.
    Info = 2,
    /// Details for finding a fault.
    Debug = 3,
}

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Time, level, message, `key=value`.
    Text,
    /// One JSON object a line.
    Json,
}

/// The log of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// The least severe level to log.
    pub level: LogLevel,
    /// The format of lines.
    pub format: LogFormat,
}

/// How fast the producer sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SendPace {
    /// One reading each interval.
    Every(Duration),
    /// As fast as the broker accepts them.
    Unlimited,
}

/// Where the producer's readings come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadingSource {
    /// Simulated stations.
    Synthetic,
    /// Newline-delimited JSON on standard input.
    Stdin,
    /// Newline-delimited JSON in a file.
    File(PathBuf),
    /// A plain-http API, polled.
    Http(String),
}

/// Codec of produced batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    None,
    /// gzip.
    Gzip,
    /// snappy.
    Snappy,
}

/// Which `Sent: {...}` lines are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSent {
    /// One a second, with the count since the last.
    Sample,
    /// Every one, as the old system did.
    All,
    /// None.
    None,
    /// Not even the summary. For a run inside another subcommand; there is no flag for it.
    Silent,
}

/// `weather producer`.
#[derive(Debug, Clone, PartialEq)]
pub struct Producer {
    /// Where the topic is.
    pub kafka: Kafka,
    /// How records are read.
    pub format: Arc<Format>,
    /// HTTP endpoint; None = off.
    pub listen: Option<SocketAddr>,
    /// The log.
    pub log: LogSettings,
    /// How fast to send.
    pub pace: SendPace,
    /// Stop after this number of readings.
    pub count: Option<u64>,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// Where readings come from.
    pub source: ReadingSource,
    /// How often an http source is requested.
    pub poll: Duration,
    /// Number of simulated stations.
    pub stations: u32,
    /// Seed of the simulated stations; the same seed gives the same readings.
    pub seed: u64,
    /// History to send first: event time starts this long before now.
    pub backfill: Duration,
    /// Event time runs this many times as fast as the clock.
    pub speedup: f64,
    /// Share of simulated readings that come too late, 0 to 1.
    pub late_ratio: f64,
    /// Share of simulated readings that are malformed, 0 to 1.
    pub malformed_ratio: f64,
    /// Share of simulated readings from a clock far ahead, 0 to 1.
    pub future_ratio: f64,
    /// Partitions of the topic when it has to be created.
    pub partitions: i32,
    /// How long a batch waits for more readings.
    pub linger: Duration,
    /// Codec of batches.
    pub compression: Compression,
    /// Which `Sent:` lines are printed.
    pub log_sent: LogSent,
}

/// Where reading starts if there is no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFrom {
    /// The oldest record that the topic still has.
    Earliest,
    /// Only records from now on.
    Latest,
    /// The first record that Kafka stamped at or after this time, ms since 1970.
    Timestamp(i64),
}

/// Which partitions a process takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assign {
    /// A fair share, by leases in PostgreSQL.
    Auto,
    /// Exactly these, ascending.
    Static(Vec<i32>),
}

/// What to do when Kafka no longer has records that were not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDataLoss {
    /// Count and log the loss, then continue.
    Continue,
    /// Exit with code 1.
    Stop,
}

/// What to do about a record batch that this program cannot read, for example because its codec is not built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnreadable {
    /// Stop reading that partition, log why, continue with the others.
    Pause,
    /// End with exit code 1.
    Stop,
}

/// `weather process`.
#[derive(Debug, Clone)]
pub struct Process {
    /// Where the topic is.
    pub kafka: Kafka,
    /// How records are read.
    pub format: Arc<Format>,
    /// HTTP endpoint; None = off.
    pub listen: Option<SocketAddr>,
    /// The log.
    pub log: LogSettings,
    /// Where the table is, password included; None = rows go to standard output only.
    pub database: Option<tokio_postgres::Config>,
    /// Folder of the checkpoint files.
    pub checkpoint_dir: PathBuf,
    /// Length of a window.
    pub window: Duration,
    /// How far the watermark trails the greatest event time.
    pub watermark: Duration,
    /// Where reading starts if there is no state.
    pub from: StartFrom,
    /// End when everything that the topic holds at start is in the table.
    pub until_latest: bool,
    /// Which partitions this process takes.
    pub assign: Assign,
    /// How long a change may wait before it is written to PostgreSQL.
    pub flush_interval: Duration,
    /// How often checkpoint files are written.
    pub checkpoint_interval: Duration,
    /// How far ahead of the wall clock an event time may be.
    pub max_future: Duration,
    /// A caught-up partition without records for this long no longer holds windows back.
    pub idle_timeout: Duration,
    /// How long a silent process keeps its partitions.
    pub lease: Duration,
    /// What to do about records that Kafka no longer has.
    pub on_data_loss: OnDataLoss,
    /// The consumer group under which offsets are committed to Kafka, so that its tools show the lag; None = none.
    pub group: Option<String>,
    /// What to do about a record batch that this program cannot read.
    pub on_unreadable: OnUnreadable,
    /// The cluster to go over to where the tables are of another one; None = such a cluster is refused.
    pub accept_cluster: Option<String>,
    /// Maximum size of all fetched answers together, in bytes.
    pub fetch_bytes: i32,
    /// How long dead letters are kept.
    pub dead_letter_retention: Duration,
    /// Maximum size of the dead letter table, in bytes; beyond it the oldest are deleted.
    pub dead_letter_max_bytes: i64,
    /// Whether and how stations are kept apart.
    pub by_station: Option<ByStation>,
}

/// What averages can be kept by beside the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The station.
    Station,
}

/// How stations are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByStation {
    /// Stations that a window of a partition keeps apart.
    pub max_stations: usize,
    /// How long a partition of which many stations change may wait for a flush.
    pub flush_interval: Duration,
    /// How long windows of single stations are kept in the database; None = for ever.
    pub retention: Option<Duration>,
}

/// `weather inspect`.
#[derive(Debug, Clone)]
pub struct Inspect {
    /// Where the topic is.
    pub kafka: Kafka,
    /// How records are read.
    pub format: Arc<Format>,
    /// The log.
    pub log: LogSettings,
    /// Where the table is, password included.
    pub database: tokio_postgres::Config,
    /// Folder of the checkpoint files.
    pub checkpoint_dir: PathBuf,
    /// Machine-readable output.
    pub json: bool,
}

/// Windows that begin from here on, up to there, in ms since 1970; `None` without a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Between {
    /// The first that counts.
    pub from_ms: Option<i64>,
    /// The first that does not count any more.
    pub to_ms: Option<i64>,
}

impl Between {
    /// Whether every window counts.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

/// `weather verify`.
#[derive(Debug, Clone)]
pub struct Verify {
    /// Where the topic is.
    pub kafka: Kafka,
    /// How records are read.
    pub format: Arc<Format>,
    /// The log.
    pub log: LogSettings,
    /// Where the tables are, password included.
    pub database: tokio_postgres::Config,
    /// How far the watermark trails the greatest event time.
    pub watermark: Duration,
    /// How far ahead of the wall clock an event time may be.
    pub max_future: Duration,
    /// How long dead letters are kept.
    pub dead_letter_retention: Duration,
    /// Maximum size of the dead letter table, in bytes; beyond it the oldest are deleted.
    pub dead_letter_max_bytes: i64,
    /// Maximum size of all fetched answers together, in bytes.
    pub fetch_bytes: i32,
    /// Stations that a window of a partition keeps apart, where they are.
    pub max_stations: usize,
    /// Which windows are compared.
    pub between: Between,
    /// Machine-readable output.
    pub json: bool,
}

/// `weather readmit`.
#[derive(Debug, Clone)]
pub struct Readmit {
    /// The topic of the tables.
    pub topic: String,
    /// How records are read.
    pub format: Arc<Format>,
    /// The log.
    pub log: LogSettings,
    /// Where the tables are, password included.
    pub database: tokio_postgres::Config,
    /// Dead letters of which reasons are taken.
    pub reasons: Vec<Reason>,
    /// How far ahead of the wall clock an event time may be.
    pub max_future: Duration,
    /// Into which windows.
    pub between: Between,
    /// Only look what would be taken.
    pub dry_run: bool,
}

/// `weather demo`.
#[derive(Debug, Clone, PartialEq)]
pub struct Demo {
    /// The log.
    pub log: LogSettings,
    /// HTTP endpoint; None = off.
    pub listen: Option<SocketAddr>,
    /// Stop after this time, and then check everything.
    pub duration: Duration,
    /// Whether to start a PostgreSQL, if its programs are installed.
    pub postgres: bool,
}
