//! A service of `service.sh` as a test sees it: started, stopped, killed, and started again where it was.

use super::{Folder, Process, poll};
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A JVM on a busy machine takes its time.
const START_LIMIT: Duration = Duration::from_secs(90);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// What a service logs when it has to be started again a little later, as a supervisor would do:
/// ZooKeeper still holds the killed broker's session; a killed PostgreSQL's children are not all gone.
const STILL_HELD: [&str; 2] = ["NodeExistsException", "pre-existing shared memory block"];

/// One service in a folder of its own.
pub struct Service {
    process: Option<Process>,
    folder: Folder,
    arguments: Vec<String>,
    stop_signal: &'static str,
    end_signal: &'static str,
}

impl Service {
    /// The service `kind…` (and its folder, then `settings`), set up but not started.
    ///
    /// `stop_signal` lets it end in order; `end_signal` ends it at once when it is dropped.
    pub fn new(
        kind: &[&str],
        settings: &[String],
        stop_signal: &'static str,
        end_signal: &'static str,
    ) -> Self {
        let folder = Folder::new(kind[0]);
        let mut arguments: Vec<String> = kind.iter().map(ToString::to_string).collect();
        arguments.push(folder.path().display().to_string());
        arguments.extend_from_slice(settings);
        Self { process: None, folder, arguments, stop_signal, end_signal }
    }

    /// Starts it and waits until it serves. It comes back on the same port with the same data.
    pub async fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.arguments[0]);
        let deadline = tokio::time::Instant::now() + START_LIMIT;
        loop {
            let log_start = self.log().len();
            let process = self.spawn();
            let limit = deadline.duration_since(tokio::time::Instant::now());
            let ready = poll(limit, || match self.is_ready(log_start) {
                true => Some(true),
                false => process.status().map(|_| false),
            });
            match ready.await {
                Some(true) => {
                    self.process = Some(process);
                    return;
                }
                Some(false) if STILL_HELD.iter().any(|words| self.log()[log_start..].contains(words)) => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                _ => panic!("{:?} did not start; its log ends so:\n{}", self.arguments, self.log_end()),
            }
        }
    }

    /// Lets it end in order.
    pub async fn stop(&mut self) {
        self.end(self.stop_signal).await;
    }

    /// SIGKILL: what only its memory held is lost.
    pub async fn kill(&mut self) {
        self.end("KILL").await;
    }

    async fn end(&mut self, signal: &str) {
        let process = self.process.take().expect("it runs");
        process.signal(signal);
        let ended = process.wait(STOP_LIMIT).await;
        assert!(ended.is_some(), "SIG{signal} did not end it; its log ends so:\n{}", self.log_end());
    }

    /// The process, while it runs.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Where its data and its log are.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// All that it has written, over all its starts.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn spawn(&self) -> Process {
        let open = || -> std::io::Result<File> {
            OpenOptions::new().create(true).append(true).open(self.path().join("log"))
        };
        let mut command = Command::new("bash");
        command
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/service.sh"))
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(open().expect("the log can be written"))
            .stderr(open().expect("the log can be written"));
        Process::spawn(&mut command, self.end_signal)
    }

    fn is_ready(&self, log_start: usize) -> bool {
        let Ok(words) = std::fs::read_to_string(self.path().join("ready")) else { return false };
        self.log()[log_start..].contains(words.trim())
    }
}

/// What has a service of its own, at least where a test asked for one.
pub trait Served {
    /// The private service's process and log.
    ///
    /// # Panics
    /// For the shared one, which must not be disturbed.
    fn service(&mut self) -> &mut Service;

    /// SIGKILL; children of the process end when they notice.
    async fn kill(&mut self) {
        self.service().kill().await;
    }

    /// Ends it gracefully, with its connections.
    async fn stop(&mut self) {
        self.service().stop().await;
    }

    /// Starts it again, on the same port with the same data.
    async fn start(&mut self) {
        self.service().start().await;
    }

    /// Stops and starts it.
    async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the end of the log of {:?} ---\n{}", self.arguments, self.log_end());
        }
    }
}

/// The port of the service in `folder`, which stays the same over restarts.
pub fn port(folder: &Path) -> u16 {
    let path = folder.join("port");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.trim().parse().unwrap_or_else(|_| panic!("{} holds no port but {text:?}", path.display()))
}
