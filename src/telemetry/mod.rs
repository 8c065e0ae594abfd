//! What the program reports about itself: to people in the log and on the terminal, to other programs over HTTP.
//!
//! - [`output`]: everything that is printed, written by threads of its own; [`log`]: one line an event; [`terminal`]:
//!   colours and the live line.
//! - [`http`]: a few read-only pages, bounded so that no client can harm the work; [`page`]: the dashboard among them.
//! - [`metrics`]: Prometheus' text format; [`latency`]: what goes into its histograms; [`process`]: CPU and memory.
//! - [`health`]: whether the loops run. [`human`]: numbers as people read them.
//!
//! The numbers come from those who do the work: they count in atomics, once a batch; the rest happens on request.

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
