//! What the tests stand on: real services to start, stop and kill, the built `weather`, and an oracle for the tables.
//!
//! - [`Kafka`] and [`Postgres`]: the ones that `tests/run` started for all tests (`shared`), or a private one to kill,
//!   stop and restart on the same port.
//! - [`Weather`]: the built program, its output line by line, signals, CPU time and memory.
//! - [`Proxy`]: a network between the two that cuts, stalls, goes silent and loses answers.
//! - [`Pipeline`]: the usual steps: a topic, readings, a database, `weather process` on them, and an [`audit`] of its writes.
//! - [`oracle`]: what `weather_summary` has to hold, computed from the topic by other code than the product's.
//! - [`turn`]: how many tests run at once.
//!
//! Invariants: a test never skips because a service is missing: it fails and says so; every process and folder is gone when its
//! owner is dropped, and, through a guard outside, however the test program ends; every wait has a limit.

// Tests and benchmarks are crates of their own, each of which uses only some of this.
#![allow(dead_code, unreachable_pub, unused_imports)]

pub mod audit;
pub mod kafka;
pub mod oracle;
pub mod pipeline;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod service;
pub mod turn;
pub mod weather;

pub use kafka::Kafka;
pub use pipeline::Pipeline;
pub use postgres::{Database, Postgres};
pub use process::Process;
pub use proxy::Proxy;
pub use service::Served;
pub use weather::Weather;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How often a condition is checked while waiting for it.
const POLL: Duration = Duration::from_millis(5);

/// A setting that `tests/run` exports.
///
/// # Panics
/// Without it: a test fails rather than being skipped.
pub fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: these tests need Apache Kafka and PostgreSQL, which tests/run brings; \
             please run tests/run (all tests) or tests/run NAME (those whose name contains NAME)"
        )
    })
}

/// A name that no other test of this run uses, for topics, databases and folders: `label_PROCESS_COUNT`.
pub fn unique(label: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{label}_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Waits until `condition` returns something; `None` if it does not within `limit`.
pub async fn poll<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return Some(found);
        }
        if start.elapsed() > limit {
            return None;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The answer of a call that must not take longer than `limit`.
///
/// # Panics
/// When it does, with `what`.
pub async fn within<T>(limit: Duration, what: &str, call: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| panic!("{what}: not within {limit:?}"))
}

/// A folder of a test, removed with this value.
pub struct Folder(PathBuf);

impl Folder {
    /// A new, empty folder below the one of this run.
    pub fn new(label: &str) -> Self {
        let path = Path::new(&setting("WEATHER_TEST_DIR")).join(unique(label));
        std::fs::create_dir(&path).unwrap_or_else(|e| panic!("cannot create {}: {e}", path.display()));
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        process::remove(&self.0);
    }
}
