//! `weather`: realtime weather averages from Kafka to PostgreSQL, exactly once, in one static binary.

pub mod error;
