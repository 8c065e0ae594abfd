//! Child processes that cannot be left behind, with their CPU time and peak memory.
//!
//! A thread watches each child: it samples `/proc`, sees the end, reads the final CPU time while the child is a zombie,
//! and only then reaps it. Signals are sent under the same lock, so never to a process id that has been reused.
//! There is no libc here, so `kill` is the shell's. Should this test program die, `guard.sh` at the other end of a pipe
//! ends the children; that of tests/run removes all folders.

use super::poll;
use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Between two samples of `/proc`, and the longest delay before an exit is noticed.
const SAMPLE: Duration = Duration::from_millis(10);
/// How many tenths of a second a dropped process may take to end after its signal.
const GRACE_ATTEMPTS: u32 = 100;
/// The unit of CPU times in `/proc`: USER_HZ, 100 a second on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// What a process used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time, in steps of 10 ms.
    pub cpu: Duration,
    /// The most memory that was resident at any time; what was allocated in the last 10 ms may be missing.
    pub peak_rss_bytes: u64,
}

struct Watched {
    child: Child,
    status: Option<ExitStatus>,
    usage: Usage,
}

/// A running or ended child.
pub struct Process {
    id: u32,
    end_signal: &'static str,
    watched: Arc<Mutex<Watched>>,
}

impl Process {
    /// Starts `command`; `end_signal` (as `kill` names it) ends it when this value is dropped.
    pub fn spawn(command: &mut Command, end_signal: &'static str) -> Self {
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let id = child.id();
        tell_guard(&format!("end {end_signal} {id}"));
        let watched = Arc::new(Mutex::new(Watched { child, status: None, usage: Usage::default() }));
        let watcher = Arc::clone(&watched);
        std::thread::spawn(move || {
            while !lock(&watcher).observe() {
                std::thread::sleep(SAMPLE);
            }
            tell_guard(&format!("forget {id}"));
        });
        Self { id, end_signal, watched }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Sends a signal by its name, as in `TERM`; nothing if the process has ended.
    pub fn signal(&self, name: &str) {
        let watched = lock(&self.watched);
        if watched.status.is_none() {
            // Fails when it has just ended and is not reaped yet: no harm.
            let _ = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.id)]).output();
        }
    }

    /// How it ended, if it has.
    pub fn status(&self) -> Option<ExitStatus> {
        lock(&self.watched).status
    }

    /// How it ended; `None` if it has not within `limit`.
    pub async fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        poll(limit, || self.status()).await
    }

    /// What it has used so far, or had at its end.
    ///
    /// # Panics
    /// Where there is no `/proc`.
    pub fn usage(&self) -> Usage {
        assert!(
            Path::new("/proc/self/stat").exists(),
            "CPU time and memory are read from /proc: only Linux has it"
        );
        let mut watched = lock(&self.watched);
        watched.observe();
        watched.usage
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Repeatedly: a shell that is about to become the server ignores some signals.
        for attempt in 0..GRACE_ATTEMPTS {
            self.signal(if attempt + 1 < GRACE_ATTEMPTS { self.end_signal } else { "KILL" });
            for _ in 0..10 {
                if self.status().is_some() {
                    return;
                }
                std::thread::sleep(SAMPLE);
            }
        }
    }
}

impl Watched {
    /// Samples the child and reaps it if it has ended: then `true`.
    fn observe(&mut self) -> bool {
        if self.status.is_some() {
            return true;
        }
        let ended = match stat(self.child.id()) {
            Some((is_zombie, cpu)) => {
                self.usage.cpu = cpu;
                is_zombie
            }
            None => true, // no /proc here: ask the child
        };
        if let Some(bytes) = peak_rss_bytes(self.child.id()) {
            self.usage.peak_rss_bytes = bytes;
        }
        if ended {
            self.status = self.child.try_wait().expect("a child can be waited for");
        }
        self.status.is_some()
    }
}

/// Whether the process is a zombie, and its CPU time.
fn stat(id: u32) -> Option<(bool, Duration)> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in parentheses, may hold anything; state is the first field after it, user and system time 12th and 13th.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks: u32 = fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?;
    Some((fields.first() == Some(&"Z"), TICK * ticks))
}

/// The high-water mark of resident memory; gone once the process is a zombie.
fn peak_rss_bytes(id: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(kib.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes a folder, as the guard does it.
pub fn remove(folder: &Path) {
    let mut guard = start_guard();
    let input = guard.stdin.take().expect("it was piped");
    writeln!(&input, "remove {}", folder.display()).expect("it reads");
    drop(input);
    let _ = guard.wait();
}

/// One order to this test program's guard, which it executes when the program is gone.
fn tell_guard(order: &str) {
    static GUARD: LazyLock<Mutex<ChildStdin>> =
        LazyLock::new(|| Mutex::new(start_guard().stdin.expect("it was piped")));
    writeln!(lock(&GUARD), "{order}").expect("the guard outlives this program");
}

fn start_guard() -> Child {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/guard.sh");
    let mut command = Command::new("bash");
    command.arg(script).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("bash runs")
}
