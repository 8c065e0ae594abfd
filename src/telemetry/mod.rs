//! What the program reports about itself: to people in the log and on the terminal, to other programs over HTTP.
//!
//! - [`output`]: everything that is printed, written by its own threads; [`log`]: one line per event; [`terminal`]:
//!   colours and the live line.
//! - [`http`]: a few read-only pages, bounded so that no client can harm the work; [`page`]: the dashboard among them.
//! - [`metrics`]: Prometheus' text format; [`latency`]: what goes into its histograms; [`process`]: CPU and memory.
//! - [`health`]: whether the loops run. [`human`]: numbers as people read them.
//!
//! The numbers come from the tasks that do the work: they count once per batch; the rest happens on request. Which
//! metrics there are is in `processor::observe::exposition` and `producer::status`, and those of every command in [`metrics`].

pub mod health;
pub mod http;
pub mod human;
pub mod latency;
pub mod log;
pub mod metrics;
pub mod output;
pub mod page;
pub mod process;
mod repeats;
pub mod terminal;
