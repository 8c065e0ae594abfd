//! The flags that say where Kafka, PostgreSQL and the checkpoint files are.

use super::{Flag, Name, put, value};

const KAFKA: &[Name] = &[Name::Producer, Name::Process, Name::Inspect, Name::Verify];
const DATABASE: &[Name] = &[Name::Process, Name::Inspect, Name::Verify, Name::Readmit];

pub(super) const FLAGS: &[Flag] = &[
    Flag {
        name: "brokers",
        on: KAFKA,
        metavar: "HOST:PORT,…",
        default: Some("127.0.0.1:9092"),
        help: "Kafka bootstrap brokers. Default port: 9092.",
        set: |o, v| put(&mut o.brokers, value::brokers(v)),
    },
    Flag {
        name: "broker-map",
        on: KAFKA,
        metavar: "FROM=TO,…",
        default: None,
        help: "Connect to TO (host:port) where a broker advertises FROM, for tunnels and forwarded ports.",
        set: |o, v| put(&mut o.broker_map, value::broker_map(v)),
    },
    Flag {
        name: "topic",
        on: &[Name::Producer, Name::Process, Name::Inspect, Name::Verify, Name::Readmit],
        metavar: "NAME",
        default: Some("weather_data"),
        help: "Topic with the readings.",
        set: |o, v| put(&mut o.topic, value::topic(v)),
    },
    Flag {
        name: "sasl-mechanism",
        on: KAFKA,
        metavar: "MECHANISM",
        default: None,
        help: "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, for a listener that requires authentication. The \
               password comes from WEATHER_SASL_PASSWORD or from the file named by WEATHER_SASL_PASSWORD_FILE.",
        set: |o, v| put(&mut o.sasl_mechanism, value::sasl_mechanism(v)),
    },
    Flag {
        name: "sasl-username",
        on: KAFKA,
        metavar: "NAME",
        default: None,
        help: "User name for --sasl-mechanism.",
        set: |o, v| put(&mut o.sasl_username, value::text(v)),
    },
    Flag {
        name: "database-url",
        on: DATABASE,
        metavar: "URL",
        default: None,
        help: "postgres://user@host:port/database, or key=value pairs. Without it: DATABASE_URL. What is \
               missing comes from PGHOST, PGPORT, PGUSER and PGDATABASE, then 127.0.0.1:5432, user postgres, \
               database weather_db. The password comes from PGPASSWORD or the file named by PGPASSWORD_FILE. \
               The value none (process only) runs without PostgreSQL, to try things out: rows are printed to standard \
               output and shown on the dashboard only, and the checkpoint folder must not be shared with another \
               process.",
        set: |o, v| put(&mut o.database_url, value::text(v)),
    },
    Flag {
        name: "checkpoint-dir",
        on: &[Name::Process, Name::Inspect],
        metavar: "FOLDER",
        default: Some("checkpoint"),
        help: "Folder for checkpoint files. Put it on a volume that outlives the process.",
        set: |o, v| put(&mut o.checkpoint_dir, value::folder(v)),
    },
];
