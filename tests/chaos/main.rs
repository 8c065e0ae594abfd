//! Chaos: the built program on real Apache Kafka and PostgreSQL, and everything goes wrong between and around them.
//!
//! Every test ends with the oracle: all tables equal a plain recomputation of the topic; and with the audit of `rig`: no
//! count, offset, watermark or epoch ever went back, and nobody wrote for a partition that it had not taken. What each
//! test stands for is in `tests/faults.md`.
//!
//! Tests that promise a time run alone ([`alone`]), the others beside each other ([`together`]).

#[path = "../support/mod.rs"]
mod support;

mod logs;
mod network;
mod processes;
mod rig;
mod scale;
mod services;
mod tables;
mod upgrade;
mod volume;
mod windows;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static TURN: RwLock<()> = RwLock::const_new(());

/// Waits until no other test of this program runs, and keeps them waiting: for tests that measure time.
async fn alone() -> RwLockWriteGuard<'static, ()> {
    TURN.write().await
}

/// Waits until no test runs that wants to be alone.
async fn together() -> RwLockReadGuard<'static, ()> {
    TURN.read().await
}
