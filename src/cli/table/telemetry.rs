//! The flags of the HTTP endpoint and of the log; their defaults differ between commands.

use super::{Flag, Name, put, value};

const ALL: &[Name] = &[Name::Producer, Name::Process, Name::Demo, Name::Inspect, Name::Verify, Name::Readmit];

pub(super) const FLAGS: &[Flag] = &[
    Flag {
        name: "listen",
        on: &[Name::Producer],
        metavar: "HOST:PORT",
        default: Some(""),
        help: "Address of the HTTP endpoint; empty = off.",
        set: |o, v| put(&mut o.listen, value::listen(v)),
    },
    Flag {
        name: "listen",
        on: &[Name::Process, Name::Demo],
        metavar: "HOST:PORT",
        default: Some("127.0.0.1:8080"),
        help: "Address of the HTTP endpoint; empty = off. If the port is in use, the next free one is taken.",
        set: |o, v| put(&mut o.listen, value::listen(v)),
    },
    Flag {
        name: "log-level",
        on: &[Name::Producer, Name::Process, Name::Inspect, Name::Verify, Name::Readmit],
        metavar: "LEVEL",
        default: Some("info"),
        help: "Least severe level to log: error, warn, info or debug.",
        set: |o, v| put(&mut o.log_level, value::log_level(v)),
    },
    // Standard error is the same terminal that the demo draws on.
    Flag {
        name: "log-level",
        on: &[Name::Demo],
        metavar: "LEVEL",
        default: Some("warn"),
        help: "Least severe level to log: error, warn, info or debug.",
        set: |o, v| put(&mut o.log_level, value::log_level(v)),
    },
    Flag {
        name: "log-format",
        on: ALL,
        metavar: "FORMAT",
        default: Some("text"),
        help: "Format of log lines: text or json.",
        set: |o, v| put(&mut o.log_format, value::log_format(v)),
    },
];
