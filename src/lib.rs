//! `weather`: realtime weather averages from Kafka to PostgreSQL, exactly once, in one static binary.
//!
//! # Data flow
//! ```text
//! producer: source → reading → sink ──▶ Kafka topic, partitioned by station
//!                                         │ one task a partition
//! process:  kafka::fetcher ▶ processor::partition::task (engine: parse, judge, aggregate) ─▶ published state
//!                                         │                                   │
//!                      checkpoint files ◀─┤ whole, at one offset              ├─▶ flush ─▶ PostgreSQL
//!                                         │                                   │   many partitions in one transaction
//!           leases in PostgreSQL ◀── processor::lease_keeper (who reads which partition)
//! ```
//!
//! # Invariants
//! - The partition is the unit of everything: one owner, one task, one watermark, one state, one checkpoint file, one
//!   row and one epoch in PostgreSQL.
//! - A state is always taken and stored whole, at one offset. Every offset is exactly one of aggregated, a duplicate, rejected
//!   for one reason (late is one), skipped and lost, whatever crashes, restarts, moves or is replayed.
//! - Every write for a partition to PostgreSQL names the epoch under which the partition is held; an older epoch writes nothing.
//! - What a result depends on is decided in [`engine`], which does no I/O and reads no clock; the tasks wait and carry out.
//! - No state is published before [`engine::invariants`] has checked it.
//!
//! # Where things live
//! - [`cli`], [`config`], [`mod@error`]: from the command line to checked values; from failures to one line and an exit code.
//! - [`reading`]: the format of a reading.
//! - [`engine`]: the pure core: windows, watermarks, state, checkpoints, and what to claim, flush and recover from.
//! - [`kafka`], [`postgres`]: the two services, with the peculiarities of each kept inside.
//! - [`producer`], [`processor`], [`inspect`], [`verify`], [`readmit`]: the subcommands;
//!   [`demo`]: producer and processor at once, to try them out.
//! - [`embedded`]: a Kafka broker inside the process, for trying things out and for tests.
//! - [`telemetry`], [`shutdown`], [`retry`], [`time`]: what all of them use.
//!
//! # Where to find
//! - whether a reading is late, or from the future: [`engine::partition`], by [`engine::watermark`];
//! - what a flush writes, and what a refusal of PostgreSQL means for which partition: [`engine::flush_plan`]; which SQLSTATE is which refusal:
//!   [`postgres::failure`]; the SQL: [`mod@postgres::write`]; who sends it: `processor::flusher`;
//! - whether a checkpoint file or the table is used: [`engine::recovery`]; who asks, at each claim:
//!   `processor::partition::start`; the files: [`processor::checkpoints`];
//! - which partitions a process takes and gives up: [`engine::assignment`]; the leases: [`postgres::leases`];
//! - which broker leads a partition: [`kafka::cluster`]; the fetches that follow it: [`kafka::fetcher`];
//!   the batches that they bring, and their checksums: [`kafka::batch`];
//! - the stations of a window, and how many there may be: [`engine::stations`]; when reading pauses because too much waits
//!   for PostgreSQL: `processor::partition::task`;
//! - names, units and time zones of a reading: [`reading::format`], [`reading::units`], [`reading::zone`];
//! - metrics: `processor::observe::exposition` and [`producer`]'s `status`; `/progress`, the live line: [`processor::observe`];
//!   their format: [`telemetry`];
//! - flags and their help: `cli::table`.

pub mod cli;
pub mod config;
pub mod demo;
pub mod embedded;
pub mod engine;
pub mod error;
pub mod inspect;
pub mod kafka;
pub mod postgres;
pub mod processor;
pub mod producer;
pub mod reading;
pub mod readmit;
pub mod retry;
pub mod shutdown;
pub mod telemetry;
pub mod time;
pub mod verify;
