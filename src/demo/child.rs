//! `weather process` as a child of the demo: the same executable, so that it can be killed without notice.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::scratch::Scratch;
use super::system;
use crate::error::{Error, Result};

/// Longest wait for a graceful end.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Lines of its log that an error shows.
const SHOWN_LINES: usize = 3;

/// The processor; killed with this value.
#[derive(Debug)]
pub(super) struct Processor {
    arguments: Vec<String>,
    log: PathBuf,
    child: Child,
}

impl Processor {
    /// Starts it with these arguments; its output goes to a file in the demo's folder.
    pub(super) fn start(arguments: Vec<String>, scratch: &Scratch) -> Result<Self> {
        let log = scratch.path().join("processor.log");
        let child = spawn(&arguments, &log, scratch)?;
        Ok(Self { arguments, log, child })
    }

    /// SIGKILL, and waits until it is gone.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again, as a supervisor would do in production.
    pub(super) fn start_again(&mut self, scratch: &Scratch) -> Result<()> {
        self.child = spawn(&self.arguments, &self.log, scratch)?;
        Ok(())
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails when it has ended, which it never does by itself.
    pub(super) fn check(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.failed(&format!("ended with {status}"))),
            Err(e) => Err(self.failed(&e.to_string())),
        }
    }

    /// SIGTERM: last flush, last checkpoint, exit code 0.
    pub(super) async fn stop(&mut self) -> Result<()> {
        system::signal(self.id(), "TERM");
        let start = Instant::now();
        while start.elapsed() < STOP_LIMIT {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(None) => sleep(Duration::from_millis(10)).await,
                Ok(Some(status)) => return Err(self.failed(&format!("ended with {status}"))),
                Err(e) => return Err(self.failed(&e.to_string())),
            }
        }
        Err(self.failed("did not stop after SIGTERM"))
    }

    /// The address of its HTTP endpoint, once it has printed it.
    pub(super) fn dashboard(&self) -> Option<String> {
        let log = fs::read_to_string(&self.log).ok()?;
        let line = log.lines().rfind(|line| line.contains(" listening") && line.contains(" url="))?;
        line.split(" url=").nth(1)?.split(' ').next().map(str::to_owned)
    }

    fn failed(&self, how: &str) -> Error {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("; ");
        Error::failure(format!("weather process {how}; its last lines: {end}"))
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(arguments: &[String], log: &PathBuf, scratch: &Scratch) -> Result<Child> {
    let cannot = |e: std::io::Error| Error::failure(format!("cannot start weather process: {e}"));
    let output = || File::options().create(true).append(true).open(log);
    let mut command = Command::new(std::env::current_exe().map_err(cannot)?);
    // Without the environment: a variable for another pipeline must not affect this one.
    command.args(arguments).env_clear().current_dir(scratch.path()).process_group(0);
    command.stdin(Stdio::null()).stdout(output().map_err(cannot)?).stderr(output().map_err(cannot)?);
    let child = command.spawn().map_err(cannot)?;
    scratch.note_process("processor", child.id());
    Ok(child)
}
