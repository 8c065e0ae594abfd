//! The flags about keeping stations apart.

use super::{Flag, Name, put, value};

const PROCESS: &[Name] = &[Name::Process];

/// Every flag about stations.
pub(super) const FLAGS: &[Flag] = &[
    Flag {
        name: "by",
        on: PROCESS,
        metavar: "station",
        default: None,
        help: "station: keep the same averages, minima and maxima for each station, too: read weather_station_summary.",
        set: |o, v| put(&mut o.by, value::by(v)),
    },
    Flag {
        name: "max-stations",
        on: &[Name::Process, Name::Verify],
        metavar: "N",
        default: Some("10000"),
        help: "Stations that a window of one partition keeps apart; the readings of all others count for station *.",
        set: |o, v| put(&mut o.max_stations, value::integer(v, 1, 10_000_000)),
    },
    Flag {
        name: "station-flush-interval",
        on: PROCESS,
        metavar: "DURATION",
        default: Some("10s"),
        help: "With --by station, how long a partition of which many stations change may wait before it is written. \
               Where few do, --flush-interval applies.",
        set: |o, v| put(&mut o.station_flush_interval, value::interval(v)),
    },
    Flag {
        name: "station-retention",
        on: PROCESS,
        metavar: "DURATION",
        default: None,
        help: "How long windows of single stations are kept in the database. Without it: for ever.",
        set: |o, v| put(&mut o.station_retention, value::retention(v)),
    },
];
