//! The flags of `weather process` alone: windows, state, and what it does when something goes wrong.

use super::{Flag, Name, put, value};

const PROCESS: &[Name] = &[Name::Process];
/// Those that judge readings.
const JUDGES: &[Name] = &[Name::Process, Name::Verify];

pub(super) const FLAGS: &[Flag] = &[
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
        on: JUDGES,
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
        on: &[Name::Process, Name::Verify, Name::Readmit],
        metavar: "DURATION",
        default: Some("10m"),
        help: "How far ahead of the clock an event time may be. Readings further ahead become dead letters.",
        set: |o, v| put(&mut o.max_future, value::whole_ms(v)),
    },
    Flag {
        name: "dead-letter-retention",
        on: JUDGES,
        metavar: "DURATION",
        default: Some("7d"),
        help: "How long dead letters are kept in the database.",
        set: |o, v| put(&mut o.dead_letter_retention, value::retention(v)),
    },
    Flag {
        name: "dead-letter-max-bytes",
        on: JUDGES,
        metavar: "BYTES",
        default: Some("1GiB"),
        help: "Maximum size of the dead letter table; beyond it, the oldest dead letters are deleted.",
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
        help: "What to do when Kafka has deleted records before they were read: continue (count and log them) or stop.",
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
        help: "What to do with a record batch that this program cannot read, for example because its codec is not \
               built in: pause (stop reading that partition and log why) or stop (end the process).",
        set: |o, v| put(&mut o.on_unreadable, value::on_unreadable(v)),
    },
    Flag {
        name: "accept-cluster",
        on: PROCESS,
        metavar: "ID",
        default: Some(""),
        help: "Continue on the Kafka cluster with this ID although the tables belong to another one. If that cluster was \
               never read, reading starts at --from; what is in the tables stays.",
        set: |o, v| put(&mut o.accept_cluster, value::cluster_id(v)),
    },
    Flag {
        name: "fetch-bytes",
        on: JUDGES,
        metavar: "BYTES",
        default: Some("1MiB"),
        help: "Maximum size of all fetched records held at once, whatever the number of partitions.",
        set: |o, v| put(&mut o.fetch_bytes, value::fetch_bytes(v)),
    },
];
