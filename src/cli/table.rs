//! The table of flags: what each is called, where it applies, its default, its help and its parser.
//!
//! The entries are in the files below, by what they are about: a flag that one command has is in the file of that command.
//! Everything about a flag is in its one entry; parsing, environment variables and help follow from it. A flag may have
//! two entries if its default differs between commands (`--listen`), but only one per command.

mod demo;
mod format;
mod inspect;
mod process;
mod producer;
mod readmit;
mod services;
mod stations;
mod telemetry;
mod verify;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::value::{self, Parsed};
use crate::config::{
    Assign, By, Compression, LogFormat, LogLevel, LogSent, OnDataLoss, OnUnreadable, ReadingSource,
    SaslMechanism, SendPace, StartFrom,
};
use crate::reading::{FieldRule, MissingTimestamp, Reason, Unit, Zone};

/// A subcommand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Producer,
    Process,
    Demo,
    Inspect,
    Verify,
    Readmit,
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
    Subcommand {
        name: Name::Verify,
        word: "verify",
        summary: "Prove the tables by reading the topic again (read-only)",
    },
    Subcommand {
        name: Name::Readmit,
        word: "readmit",
        summary: "Take dead letters into their windows, each once",
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

    /// The variable of the replaced system's container that counts if the new one is not set.
    pub(super) fn old_variable(&self) -> Option<&'static str> {
        (self.name == "brokers").then_some("KAFKA_BOOTSTRAP_SERVERS")
    }

    /// Whether it takes no value.
    pub(super) fn is_switch(&self) -> bool {
        self.metavar.is_empty()
    }
}

/// Every flag, in the order of the help.
const FLAGS: &[&[Flag]] = &[
    services::FLAGS,
    producer::FLAGS,
    process::FLAGS,
    stations::FLAGS,
    demo::FLAGS,
    inspect::FLAGS,
    verify::FLAGS,
    readmit::FLAGS,
    telemetry::FLAGS,
    format::FLAGS,
];

/// Every flag of every command.
pub(super) fn flags() -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().copied().flatten()
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
    pub(super) rate: Option<SendPace>,
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
    pub(super) range_from: Option<i64>,
    pub(super) range_to: Option<i64>,
    pub(super) window_start: Option<i64>,
    pub(super) reasons: Option<Vec<Reason>>,
    pub(super) dry_run: Option<bool>,
    pub(super) until_latest: Option<bool>,
    pub(super) assign: Option<Assign>,
    pub(super) flush_interval: Option<Duration>,
    pub(super) checkpoint_interval: Option<Duration>,
    pub(super) max_future: Option<Duration>,
    pub(super) dead_letter_retention: Option<Duration>,
    pub(super) dead_letter_max_bytes: Option<i64>,
    pub(super) by: Option<By>,
    pub(super) max_stations: Option<usize>,
    pub(super) station_flush_interval: Option<Duration>,
    pub(super) station_retention: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) lease: Option<Duration>,
    pub(super) on_data_loss: Option<OnDataLoss>,
    pub(super) group: Option<Option<String>>,
    pub(super) on_unreadable: Option<OnUnreadable>,
    pub(super) accept_cluster: Option<Option<String>>,
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
