//! The built program: its output line by line, its end, signals, CPU time and memory.

use super::process::Usage;
use super::{Process, poll};
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How much of the output a failed test shows.
const SHOWN_LINES: usize = 60;

type Lines = Arc<Mutex<Vec<Line>>>;

/// One line that the program wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// To standard error, not standard output.
    pub is_error: bool,
    /// Without the line's end; what is not UTF-8 is replaced.
    pub text: String,
}

/// A run of `weather`, killed with this value. When the test fails, its last lines are shown.
pub struct Weather {
    process: Process,
    lines: Lines,
    arguments: Vec<String>,
}

/// How to run it; see [`Weather::command`].
pub struct Run {
    command: Command,
    arguments: Vec<String>,
}

impl Weather {
    /// `weather ARGUMENTS…`, in an environment without any variable that the program would read.
    pub fn command<A: AsRef<str>>(arguments: impl IntoIterator<Item = A>) -> Run {
        let arguments: Vec<String> = arguments.into_iter().map(|a| a.as_ref().to_owned()).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_weather"));
        command.args(&arguments).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("WEATHER_")
                || text.starts_with("PG")
                || text == "DATABASE_URL"
                || text == "NO_COLOR"
            {
                command.env_remove(&name);
            }
        }
        Run { command, arguments }
    }

    /// Starts `weather ARGUMENTS…`.
    pub fn spawn<A: AsRef<str>>(arguments: impl IntoIterator<Item = A>) -> Self {
        Self::command(arguments).spawn()
    }

    /// What it has written so far.
    pub fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.lines().into_iter().filter(|line| !line.is_error).map(|line| line.text).collect()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.is_error).map(|line| line.text).collect()
    }

    /// The first line, written or still to come, that contains `words`.
    ///
    /// # Panics
    /// When none has come within `limit`, or the program has ended without it.
    pub async fn wait_for_line(&self, words: &str, limit: Duration) -> String {
        self.wait_for_line_after(0, words, limit).await.1
    }

    /// As [`Self::wait_for_line`], but not among the first `skip` lines (of both outputs); also returns the number of
    /// lines up to and including it, for the next call.
    pub async fn wait_for_line_after(&self, skip: usize, words: &str, limit: Duration) -> (usize, String) {
        let mut next = skip;
        let found = poll(limit, || {
            let has_ended = self.has_ended();
            let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            while let Some(line) = lines.get(next) {
                next += 1;
                if line.text.contains(words) {
                    return Some(Some((next, line.text.clone())));
                }
            }
            has_ended.then_some(None)
        });
        match found.await {
            Some(Some(found)) => found,
            Some(None) => panic!("{self} ended without a line that contains {words:?}"),
            None => panic!("{self} wrote no line that contains {words:?} within {limit:?}"),
        }
    }

    /// How it ended.
    ///
    /// # Panics
    /// When it still runs after `limit`.
    pub async fn wait(&self, limit: Duration) -> ExitStatus {
        let status =
            self.process.wait(limit).await.unwrap_or_else(|| panic!("{self} still ran after {limit:?}"));
        poll(Duration::from_secs(1), || self.has_ended().then_some(())).await;
        status
    }

    /// Whether it has ended and all that it wrote is read: the threads that read then have given up their shares.
    fn has_ended(&self) -> bool {
        self.process.status().is_some() && Arc::strong_count(&self.lines) == 1
    }

    /// Waits for an end with exit code 0.
    ///
    /// # Panics
    /// When it ends otherwise or not within `limit`.
    pub async fn succeed(&self, limit: Duration) {
        let status = self.wait(limit).await;
        assert!(status.success(), "{self} ended with {status}");
    }

    /// How it ended, if it has.
    pub fn status(&self) -> Option<ExitStatus> {
        self.process.status()
    }

    /// CPU time and peak memory, so far or in all.
    pub fn usage(&self) -> Usage {
        self.process.usage()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// SIGKILL, and waits for the end.
    pub async fn kill9(&self) -> ExitStatus {
        self.process.signal("KILL");
        self.wait(Duration::from_secs(10)).await
    }

    /// SIGTERM.
    pub fn sigterm(&self) {
        self.process.signal("TERM");
    }

    /// SIGINT, as Ctrl-C.
    pub fn sigint(&self) {
        self.process.signal("INT");
    }

    /// SIGSTOP: it is stopped until `sigcont`.
    pub fn sigstop(&self) {
        self.process.signal("STOP");
    }

    /// SIGCONT.
    pub fn sigcont(&self) {
        self.process.signal("CONT");
    }
}

impl Run {
    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it in another folder.
    pub fn current_dir(mut self, folder: &std::path::Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Lets it have only so many files and connections open at once.
    pub fn open_files(mut self, most: u32) -> Self {
        let mut limited = Command::new("bash");
        limited.args(["-c", "ulimit -n \"$1\" && shift && exec \"$@\"", "bash", &most.to_string()]);
        limited.arg(self.command.get_program()).args(self.command.get_args()).stdin(Stdio::null());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        self.command = limited;
        self
    }

    /// Gives it a file as standard input; otherwise that is empty.
    pub fn stdin(mut self, file: std::fs::File) -> Self {
        self.command.stdin(file);
        self
    }

    /// Starts it with both outputs at pipes that are full and never read, as of a pager that nobody scrolls.
    pub fn spawn_unread(mut self) -> (Weather, [PipeReader; 2]) {
        let (stdout_reader, stdout_writer) = full_pipe();
        let (stderr_reader, stderr_writer) = full_pipe();
        self.command.stdout(stdout_writer).stderr(stderr_writer);
        let process = Process::spawn(&mut self.command, "KILL");
        let weather = Weather { process, lines: Lines::default(), arguments: self.arguments };
        (weather, [stdout_reader, stderr_reader])
    }

    /// Starts it.
    pub fn spawn(mut self) -> Weather {
        let (stdout_reader, stdout_writer) = std::io::pipe().expect("a pipe");
        let (stderr_reader, stderr_writer) = std::io::pipe().expect("a pipe");
        self.command.stdout(stdout_writer).stderr(stderr_writer);
        let process = Process::spawn(&mut self.command, "KILL");
        drop(self.command); // holds the pipes' other ends
        let lines = Lines::default();
        collect(stdout_reader, false, &lines);
        collect(stderr_reader, true, &lines);
        Weather { process, lines, arguments: self.arguments }
    }
}

impl std::fmt::Display for Weather {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`weather {}`", self.arguments.join(" "))
    }
}

impl Drop for Weather {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The log apart: the batches would push it out.
            let (log, output): (Vec<Line>, Vec<Line>) =
                self.lines().into_iter().partition(|line| line.is_error);
            eprintln!("--- the last lines of {self}, process {} ---", self.id());
            for (kind, lines) in [("err|", log), ("out|", output)] {
                for line in &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
                    eprintln!("{kind} {}", line.text);
                }
            }
        }
    }
}

/// A pipe that takes no byte more until it is read.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut filler = writer.try_clone().expect("a file descriptor");
    // It is in the middle of a write until the reader is dropped.
    std::thread::spawn(move || while filler.write_all(&[b'x'; 4096]).is_ok() {});
    (reader, writer)
}

/// Reads lines until the program closes its end.
fn collect(output: impl Read + Send + 'static, is_error: bool, lines: &Lines) {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut bytes = Vec::new();
        while output.read_until(b'\n', &mut bytes).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(Line { is_error, text });
            bytes.clear();
        }
    });
}
