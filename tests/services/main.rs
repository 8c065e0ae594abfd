//! The built program on real services, and everything that may go wrong between and around them.
//!
//! - What it makes of readings: [`readings`] of all [`forms`], [`windows`], [`stations`], whole [`days`], [`adoption`] of the replaced system's table,
//!   [`upgrade`] from earlier versions, and what it does [`without_postgres`].
//! - What happens to it: [`crashes`], [`owners`] of partitions, [`scale`] under full load, [`volume`] of the checkpoint
//!   files; a [`bounded`] run.
//! - What happens around it: [`outages`], [`network`], [`sending`] through both, [`topics`], [`transactions`], what the [`database`] refuses and costs, [`tables`]
//!   changed by others, a database [`set_back`].
//! - What it shows: its output [`streams`], [`telemetry`], [`inspect`], [`verify`], [`readmit`], [`dashboard`], [`demo`]; who may connect: [`security`].
//! - What all of this stands on: [`conformance`] of the embedded broker, the [`oracle`], and the [`harness`].
//!
//! Invariants: a test of readings ends with the oracle, so that all tables equal a plain recomputation of the topic, and
//! where [`support::audit`] is on, no count, offset, watermark or epoch has ever gone back, and no process has written for a
//! partition that it had not taken. A test begins with its turn ([`support::turn`]), which bounds what runs at once. What
//! each test stands for is in `tests/faults.md`.

#[path = "../support/mod.rs"]
mod support;

mod adoption;
mod bounded;
mod clusters;
mod conformance;
mod crashes;
mod dashboard;
mod database;
mod days;
mod demo;
mod forms;
mod harness;
mod inspect;
mod network;
mod old_system;
mod oracle;
mod outages;
mod owners;
mod readings;
mod readmit;
mod scale;
mod security;
mod sending;
mod set_back;
mod stations;
mod streams;
mod tables;
mod telemetry;
mod topics;
mod transactions;
mod upgrade;
mod verify;
mod volume;
mod windows;
mod without_postgres;
