//! The flags that choose windows, for the commands that look back.

use super::{Flag, Name, put, value};

const RANGE: &[Name] = &[Name::Verify, Name::Readmit];

pub(super) const FLAGS: &[Flag] = &[
    Flag {
        name: "from",
        on: RANGE,
        metavar: "TIME",
        default: None,
        help: "Only windows that start at this ISO 8601 time or later (without an offset: UTC).",
        set: |o, v| put(&mut o.range_from, value::time(v)),
    },
    Flag {
        name: "to",
        on: RANGE,
        metavar: "TIME",
        default: None,
        help: "Only windows that start before this time.",
        set: |o, v| put(&mut o.range_to, value::time(v)),
    },
    Flag {
        name: "window-start",
        on: &[Name::Verify],
        metavar: "TIME",
        default: None,
        help: "Only the window that starts at this time.",
        set: |o, v| put(&mut o.window_start, value::time(v)),
    },
];
