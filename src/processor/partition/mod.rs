//! One partition while this process owns it.
//!
//! - [`start`]: from a partition that was just taken to its running tasks.
//! - [`task`]: holds the state, applies records, publishes after every batch.
//! - [`snapshot`]: the published state, lock-free.
//! - [`handle`]: what the other tasks hold of it, and the registry of all.

pub mod handle;
pub mod snapshot;
pub mod start;
pub mod task;
