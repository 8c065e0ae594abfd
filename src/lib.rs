//! `weather`: realtime weather averages from Kafka to PostgreSQL, exactly once, in one static binary.

pub mod cli;
pub mod config;
pub mod error;
pub mod kafka;
pub mod postgres;
pub mod processor;
pub mod reading;
pub mod shutdown;
pub mod telemetry;
pub mod time;
