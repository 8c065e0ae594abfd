//! One partition while this process owns it.
//!
//! - [`start`]: from a partition that was just claimed to its running task.
//! - [`task`]: holds the state, takes what is read, publishes after every answer.
//! - [`decode`]: from record batches into the state.
//! - [`snapshot`]: the published state, lock-free.
//! - [`handle`]: what the other tasks hold of it, and the registry of all.

pub mod decode;
pub mod handle;
pub mod snapshot;
pub mod start;
pub mod task;
