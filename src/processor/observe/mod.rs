//! What the processor knows of itself and shows: nothing here decides anything.
//!
//! - [`stats`], [`rates`]: what the tasks note while they work.
//! - [`status`]: all of it in one place, with health; shown by `site` (HTTP), `exposition` (`/metrics`), `progress`
//!   (`/progress`) and `live_line` (a terminal).
//! - [`history`]: rates and lag of the last ten minutes.
//! - [`tables`], [`station_page`]: what the dashboard shows of the tables; `/stations`. `measures`: what both say of a window.
//! - [`windows`]: what the tables would show, where there are none.
//! - [`advice`]: what refused records carry, and the flag that reads them.
//! - [`intake_log`]: warnings about records that are rejected, and the counts at the end.
//! - [`batch_log`]: `Batch {id}:`, rows and `write OK` on standard output.

pub mod advice;
pub mod batch_log;
mod exposition;
pub mod history;
pub mod intake_log;
mod live_line;
mod measures;
mod progress;
pub mod rates;
mod site;
pub mod station_page;
pub mod stats;
pub mod status;
pub mod tables;
pub mod windows;
