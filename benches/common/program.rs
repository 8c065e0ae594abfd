//! The built `weather`, and whatever it is compared with, as processes of their own: how long, how much CPU, how much memory.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::support::Process;

/// Longest that a program may run in a benchmark.
const LIMIT: Duration = Duration::from_secs(300);

/// What one run took.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// From start to end.
    pub wall: Duration,
    /// User and system time.
    pub cpu: Duration,
    /// Most memory that was resident.
    pub peak_rss_bytes: u64,
}

/// The program to measure: the one that `WEATHER_BENCH_BINARY` names (the shipped form, say), else cargo's.
pub fn weather() -> PathBuf {
    super::setting("WEATHER_BENCH_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_weather").into(), PathBuf::from)
}

/// `weather ARGUMENTS…`, silent.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(weather());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.env("WEATHER_LOG_LEVEL", "warn").env_remove("DATABASE_URL");
    command
}

/// This benchmark's program as the floor to compare with.
pub fn bare(brokers: &str, topic: &str, partitions: i32, threads: usize, fetch_bytes: usize) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    let (partitions, threads) = (partitions.to_string(), threads.to_string());
    command.args(["bare", brokers, topic, &partitions, &threads, &fetch_bytes.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Starts a program that ends with the returned value.
pub fn spawn(mut command: Command) -> Process {
    Process::spawn(&mut command, "TERM")
}

/// Runs a program to its end.
///
/// # Panics
/// When it fails, or takes too long.
pub async fn run(command: Command) -> Run {
    let what = format!("{command:?}");
    let start = Instant::now();
    let process = spawn(command);
    let status = process.wait(LIMIT).await.unwrap_or_else(|| panic!("{what} still ran after {LIMIT:?}"));
    assert!(status.success(), "{what} ended with {status}");
    let (wall, usage) = (start.elapsed(), process.usage());
    Run { wall, cpu: usage.cpu, peak_rss_bytes: usage.peak_rss_bytes }
}

/// A folder for checkpoints, removed with this value.
pub struct Folder(PathBuf);

impl Folder {
    /// A new, empty one.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("checkpoints-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).expect("cargo's folder for temporary files can be written");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &str {
        self.0.to_str().expect("cargo's folders are UTF-8")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
