//! `weather process`.

pub mod checkpoint;
pub mod checkpoint_store;
pub mod dead_letter;
pub mod partition;
pub mod published;
pub mod state;
pub mod watermark;
pub mod window;
