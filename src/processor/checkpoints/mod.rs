//! Checkpoint files: [`store`] writes and reads them, [`task`] decides when.

pub mod store;
pub mod task;
