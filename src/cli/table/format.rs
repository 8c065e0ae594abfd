//! The flags that say how records are read: names, units, zones and what is missing.

use super::{Flag, Name, put, value};

const READERS: &[Name] = &[Name::Producer, Name::Process, Name::Inspect];

/// Every flag of the format.
pub(super) const FLAGS: &[Flag] = &[
    Flag {
        name: "fields",
        on: READERS,
        metavar: "FIELD=PATH[:UNIT],…",
        default: None,
        help: "By which paths and in which units the records have station, timestamp, temperature, humidity and \
               wind_speed, where names are not known by themselves, such as \
               timestamp=dt,temperature=main.temp:K. Units: C, F, K, %, \
               m/s, km/h, mph, kn; or :@PATH of a field that says it.",
        set: |o, v| put(&mut o.fields, value::fields(v)),
    },
    Flag {
        name: "time-zone",
        on: READERS,
        metavar: "ZONE",
        default: None,
        help: "Zone of times that are text without an offset: UTC, +07:00, or a place such as Asia/Kolkata. \
               Without it: UTC.",
        set: |o, v| put(&mut o.zone, value::zone(v)),
    },
    Flag {
        name: "missing-timestamp",
        on: READERS,
        metavar: "WHAT",
        default: Some("reject"),
        help: "A record without a time: reject it (a dead letter), or take the time of its kafka record.",
        set: |o, v| put(&mut o.missing_timestamp, value::missing_timestamp(v)),
    },
    Flag {
        name: "missing-values",
        on: READERS,
        metavar: "NUMBER,…",
        default: None,
        help: "Numbers that stand for a missing value, such as -99,-9999.",
        set: |o, v| put(&mut o.missing_values, value::missing_values(v)),
    },
    Flag {
        name: "output-units",
        on: READERS,
        metavar: "METRIC=UNIT,…",
        default: None,
        help: "Units of the averages other than °C, % and m/s, such as wind_speed=km/h. They are stored with the \
               tables: another choice later is refused.",
        set: |o, v| put(&mut o.output_units, value::output_units(v)),
    },
];
