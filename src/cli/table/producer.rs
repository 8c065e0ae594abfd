//! The flags of `weather producer` alone: which readings it sends, and how fast.

use super::{Flag, Name, put, value};

const PRODUCER: &[Name] = &[Name::Producer];

pub(super) const FLAGS: &[Flag] = &[
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
];
