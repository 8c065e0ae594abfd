//! The pure core: every decision about readings, windows, flushes and ownership. No I/O, no clock, no randomness.
//!
//! It is the part that the program and its simulation share: the tasks around it only move bytes, wait and call it.
//!
//! - [`state`]: what is stored of a partition, always whole and at one offset.
//! - [`partition`]: the state machine of one partition: records in, state and dead letters out. Decides whether a
//!   reading is late.
//! - [`window`], [`watermark`], [`dead_letter`]: its parts.
//! - [`stations`]: the same by station, where the user asks for it.
//! - [`invariants`]: what must be true of every state; checked in release builds too.
//! - [`checkpoint`]: the bytes of a checkpoint file; `crc`: what its checksum is computed by.
//! - [`recovery`]: file or database, when a partition is claimed.
//! - [`assignment`]: which partitions a process takes and gives up.
//! - [`flush_plan`]: what a flush writes, and what a refusal means.
//! - [`readmission`]: whether a dead letter can be taken into its window after all.
//! - [`verification`]: whether the tables say of a partition what its log says.
//! - [`silence`]: when a partition is idle.
//! - [`bounded`]: when a run that has an end is done.
//! - [`intake`]: what became of the records of a run, and when to warn about rejected ones.
//!
//! Invariants
//! - It imports nothing of the project but [`reading`](crate::reading) and [`error`](mod@crate::error).
//! - Every function depends on its arguments alone, so a replay decides the same.

pub mod assignment;
pub mod bounded;
pub mod checkpoint;
pub(crate) mod crc;
pub mod dead_letter;
pub mod flush_plan;
pub mod intake;
pub mod invariants;
pub mod partition;
pub mod readmission;
pub mod recovery;
pub mod silence;
pub mod state;
pub mod stations;
pub mod verification;
pub mod watermark;
pub mod window;
