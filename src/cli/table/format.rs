//! The flags that say how records are read: names, units, zones and what is missing.

use super::{Flag, Name, put, value};

const READERS: &[Name] = &[Name::Producer, Name::Process, Name::Inspect, Name::Verify, Name::Readmit];

/// Every flag of the format.
pub(super) const FLAGS: &[Flag] = &[
    Flag {
        name: "fields",
        on: READERS,
        metavar: "FIELD=PATH[:UNIT],…",
        default: None,
        help: "Where a record holds station, timestamp, temperature, humidity and wind_speed, and in which units, if \
               its field names are not among the known ones. Example: timestamp=dt,temperature=main.temp:K. \
               Units: C, F, K, %, m/s, km/h, mph, kn; or :@PATH, a field of the record that names the unit. \
               list[].dt: each element of the array is a reading.",
        set: |o, v| put(&mut o.fields, value::fields(v)),
    },
    Flag {
        name: "time-zone",
        on: READERS,
        metavar: "ZONE",
        default: None,
        help: "Time zone of times written without an offset: UTC, +07:00 or an IANA name such as Asia/Kolkata. \
               Default: UTC.",
        set: |o, v| put(&mut o.zone, value::zone(v)),
    },
    Flag {
        name: "missing-timestamp",
        on: READERS,
        metavar: "WHAT",
        default: Some("reject"),
        help: "What to do with a record without a time: reject (it becomes a dead letter) or kafka (use the timestamp \
               of its Kafka record).",
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
               tables and cannot be changed later.",
        set: |o, v| put(&mut o.output_units, value::output_units(v)),
    },
];
