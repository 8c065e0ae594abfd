//! The flag of reports.

use super::{Flag, Name, put, value};

pub(super) const FLAGS: &[Flag] = &[Flag {
    name: "json",
    on: &[Name::Inspect, Name::Verify],
    metavar: "",
    default: Some("false"),
    help: "Print one JSON document instead of a table.",
    set: |o, v| put(&mut o.json, value::boolean(v)),
}];
