//! The flags of `weather demo` alone.

use super::{Flag, Name, put, value};

const DEMO: &[Name] = &[Name::Demo];

pub(super) const FLAGS: &[Flag] = &[
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
];
