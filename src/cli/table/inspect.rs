//! The flags of `weather inspect` alone.

use super::{Flag, Name, put, value};

const INSPECT: &[Name] = &[Name::Inspect];

pub(super) const FLAGS: &[Flag] = &[Flag {
    name: "json",
    on: INSPECT,
    metavar: "",
    default: Some("false"),
    help: "Print one JSON document instead of a table.",
    set: |o, v| put(&mut o.json, value::boolean(v)),
}];
