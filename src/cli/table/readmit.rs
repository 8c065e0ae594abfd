//! The flags of `weather readmit` alone.

use super::{Flag, Name, put, value};

const READMIT: &[Name] = &[Name::Readmit];

pub(super) const FLAGS: &[Flag] = &[
    Flag {
        name: "reason",
        on: READMIT,
        metavar: "REASON,…",
        default: Some("late,future,out_of_range"),
        help: "Take dead letters that were refused for these reasons.",
        set: |o, v| put(&mut o.reasons, value::reasons(v)),
    },
    Flag {
        name: "dry-run",
        on: READMIT,
        metavar: "",
        default: Some("false"),
        help: "Change nothing; print what would be taken.",
        set: |o, v| put(&mut o.dry_run, value::boolean(v)),
    },
];
