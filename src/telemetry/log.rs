//! The log: lines on standard error, text or JSON, `key=value` after the message; `output` writes them.
//!
//! Standard output is for what the user asked to see (`Sent: {...}`, `Batch {id}:`), the log is for how the work goes.
//! A warning or error that repeats is one line with a count (`repeats`); `Outage` logs when a service goes
//! away and when it is back, nothing between. Secrets never reach this file: `config::Secret` does not print.

use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{LogFormat, LogLevel, LogSettings};
use crate::telemetry::output;
use crate::telemetry::repeats::Repeats;
use crate::telemetry::terminal::Colour;
use crate::time::{Rfc3339, now_ms};

// Relaxed throughout: set once at start-up, and a line more or less around that moment does not matter.
static LEVEL: AtomicU8 = AtomicU8::new(LogLevel::Info as u8);
static JSON: AtomicBool = AtomicBool::new(false);
static REPEATS: Mutex<Repeats> = Mutex::new(Repeats::new());

/// Sets level and format for the whole process.
pub fn init(log: LogSettings) {
    LEVEL.store(log.level as u8, Ordering::Relaxed);
    JSON.store(log.format == LogFormat::Json, Ordering::Relaxed);
}

/// Whether lines of this level are written.
pub fn enabled(level: LogLevel) -> bool {
    level as u8 <= LEVEL.load(Ordering::Relaxed)
}

/// Writes one line; use the macros [`crate::error!`], [`crate::warn!`], [`crate::info!`], [`crate::debug!`].
pub fn write(level: LogLevel, message: &dyn Display, fields: &[(&str, &dyn Display)]) {
    let json = JSON.load(Ordering::Relaxed);
    let mut body = String::with_capacity(160);
    // Writing to a String cannot fail.
    let _ = if json {
        json_body(&mut body, level, message, fields)
    } else {
        text_body(&mut body, message, fields)
    };
    let now = Instant::now();
    let mut repeats = REPEATS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut lines = String::with_capacity(200);
    for (level, body, count) in repeats.due(now) {
        push_line(&mut lines, json, level, &body, Some(count));
    }
    if level > LogLevel::Warn || !repeats.holds_back(level, &body, now) {
        push_line(&mut lines, json, level, &body, None);
    }
    drop(repeats);
    if !lines.is_empty() {
        output::print_log(lines);
    }
}

/// Adds the time in front, and the number of suppressed repeats at the end.
fn push_line(lines: &mut String, json: bool, level: LogLevel, body: &str, repeated: Option<u64>) {
    let time = Rfc3339(now_ms());
    let _ = if json {
        let repeated = repeated.map_or_else(String::new, |count| format!(",\"repeated\":\"{count}\""));
        writeln!(lines, "{{\"time\":\"{time}\",{body}{repeated}}}")
    } else {
        let word = format!("{:5}", name(level).to_ascii_uppercase());
        let word = match level {
            LogLevel::Error => Colour::Red.paint_log(&word),
            LogLevel::Warn => Colour::Yellow.paint_log(&word),
            _ => word.as_str().into(),
        };
        let repeated = repeated.map_or_else(String::new, |count| format!(" repeated={count}"));
        writeln!(lines, "{time} {word} {body}{repeated}")
    };
}

fn name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    }
}

fn text_body(out: &mut String, message: &dyn Display, fields: &[(&str, &dyn Display)]) -> std::fmt::Result {
    push_printable(out, &message.to_string());
    for (key, value) in fields {
        let value = value.to_string();
        write!(out, " {key}=")?;
        if value.is_empty() || value.contains([' ', '"', '=']) {
            out.push('"');
            push_printable(out, &value.replace('"', "'"));
            out.push('"');
        } else {
            push_printable(out, &value);
        }
    }
    Ok(())
}

/// Appends text that may come from outside: one line, no terminal control sequences.
fn push_printable(out: &mut String, text: &str) {
    out.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c }));
}

fn json_body(
    out: &mut String,
    level: LogLevel,
    message: &dyn Display,
    fields: &[(&str, &dyn Display)],
) -> std::fmt::Result {
    write!(out, "\"level\":\"{}\",\"message\":", name(level))?;
    push_json_string(out, &message.to_string());
    for (key, value) in fields {
        write!(out, ",\"{key}\":")?;
        push_json_string(out, &value.to_string());
    }
    Ok(())
}

fn push_json_string(out: &mut String, text: &str) {
    // A string always serialises; if it ever did not, an empty one keeps the line valid.
    out.push_str(&simd_json::to_string(text).unwrap_or_else(|_| String::from("\"\"")));
}

/// `log_at!(LogLevel::Info, "message", "key" => value, …)`; evaluates nothing when the level is off.
#[macro_export]
macro_rules! log_at {
    ($level:expr, $message:expr $(, $key:literal => $value:expr)* $(,)?) => {
        if $crate::telemetry::log::enabled($level) {
            $crate::telemetry::log::write($level, &$message, &[$(($key, &$value)),*]);
        }
    };
}

/// Logs what stops or harms the work.
#[macro_export]
macro_rules! error {
    ($($t:tt)*) => { $crate::log_at!($crate::config::LogLevel::Error, $($t)*) };
}

/// Logs what needs attention.
#[macro_export]
macro_rules! warn {
    ($($t:tt)*) => { $crate::log_at!($crate::config::LogLevel::Warn, $($t)*) };
}

/// Logs a milestone.
#[macro_export]
macro_rules! info {
    ($($t:tt)*) => { $crate::log_at!($crate::config::LogLevel::Info, $($t)*) };
}

/// Logs a detail for finding a fault.
#[macro_export]
macro_rules! debug {
    ($($t:tt)*) => { $crate::log_at!($crate::config::LogLevel::Debug, $($t)*) };
}

/// A service that may be unavailable: one line when it goes, one when it is back, a reminder each minute between.
///
/// A refusal is another line, logged when the service has refused twice in a row: once may be by chance. Each thing that
/// is refused has a line of its own, however they alternate, and there are few of them.
/// Clones watch the same service: one for the caller, others for tasks that report its state.
#[derive(Debug, Clone)]
pub struct Outage {
    service: String,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

#[derive(Debug)]
struct Trouble {
    since: Instant,
    /// What was logged and when, the oldest first: a refusal by its reason, being unavailable without one.
    logged: Vec<(String, Instant)>,
    refuses: bool,
    reason: String,
}

impl Outage {
    const REMIND: Duration = Duration::from_secs(60);
    /// Most different lines in that time.
    const MOST_LINES: usize = 8;

    /// Watches a service, by its name in the log.
    pub fn new(service: impl Into<String>) -> Self {
        Self { service: service.into(), trouble: Arc::default() }
    }

    /// A call failed because the service is unavailable: logs it the first time and each minute.
    pub fn failed(&self, reason: &dyn Display) {
        self.note(false, reason.to_string());
    }

    /// A call failed because the service refuses it: logs it the second time and each minute.
    pub fn refused(&self, reason: &dyn Display) {
        self.note(true, reason.to_string());
    }

    fn note(&self, refuses: bool, reason: String) {
        let now = Instant::now();
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let before = trouble.take();
        let is_again = before.as_ref().is_some_and(|before| before.refuses == refuses);
        let (since, mut logged) = before.map_or((now, Vec::new()), |before| (before.since, before.logged));
        let line = if refuses { reason.clone() } else { String::new() };
        let known = logged.iter().position(|(text, _)| *text == line);
        // What makes room for this line, or is this line.
        let older = known.or((logged.len() >= Self::MOST_LINES).then_some(0));
        let due = match older.and_then(|at| logged.get(at)) {
            Some((_, at)) => now.duration_since(*at) >= Self::REMIND,
            None => !refuses || is_again,
        };
        if due {
            let state = match (refuses, known) {
                (true, None) => "refuses requests; retrying until it accepts them",
                (true, Some(_)) => "still refuses requests",
                (false, None) => "is not available; retrying",
                (false, Some(_)) => "is still not available",
            };
            let seconds = now.duration_since(since).as_secs();
            crate::warn!(format_args!("{} {state}", self.service), "seconds" => seconds, "reason" => reason);
            older.map(|at| logged.remove(at));
            logged.push((line, now));
        }
        *trouble = Some(Trouble { since, logged, refuses, reason });
    }

    /// A call succeeded: logs it if the trouble was logged.
    pub fn ok(&self) {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(t) = trouble.filter(|t| !t.logged.is_empty()) {
            let state = if t.refuses { "accepts requests again" } else { "is back" };
            crate::info!(format_args!("{} {state}", self.service), "away_seconds" => t.since.elapsed().as_secs());
        }
    }

    /// A sentence about the service, if it is in trouble.
    pub fn problem(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.as_ref().map(|t| {
            let state = if t.refuses { "refuses requests" } else { "is not available" };
            format!("{} {state}: {}", self.service, t.reason)
        })
    }

    /// Why the service is in trouble, if it is.
    pub fn reason(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|t| t.reason.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_line_stays_one_printable_line() {
        let mut line = String::new();
        text_body(&mut line, &"a\nb\x1b[31m", &[("k", &"x y"), ("n", &1)]).unwrap();
        assert_eq!(line, "a b [31m k=\"x y\" n=1");
        let mut lines = String::new();
        push_line(&mut lines, false, LogLevel::Info, &line, Some(3));
        assert!(lines.ends_with(" INFO  a b [31m k=\"x y\" n=1 repeated=3\n"), "{lines}");
    }

    #[test]
    fn json_line_escapes() {
        let mut line = String::new();
        json_body(&mut line, LogLevel::Info, &"say \"hi\"\n", &[("k", &1)]).unwrap();
        assert_eq!(line, r#""level":"info","message":"say \"hi\"\n","k":"1""#);
        let mut lines = String::new();
        push_line(&mut lines, true, LogLevel::Info, &line, Some(3));
        assert!(
            lines.starts_with("{\"time\":\"") && lines.ends_with(",\"k\":\"1\",\"repeated\":\"3\"}\n"),
            "{lines}"
        );
    }

    #[test]
    fn outage_remembers_its_reason_until_the_service_is_back() {
        let outage = Outage::new("Test");
        assert_eq!(outage.reason(), None);
        outage.failed(&"refused");
        outage.failed(&"timed out");
        assert_eq!(outage.reason().as_deref(), Some("timed out"));
        outage.ok();
        assert_eq!(outage.reason(), None);
        outage.refused(&"no right");
        assert_eq!(outage.problem().as_deref(), Some("Test refuses requests: no right"));
    }

    #[test]
    fn each_refusal_is_logged_once_a_minute_however_they_alternate() {
        let outage = Outage::new("Test");
        let lines = || match &*outage.trouble.lock().unwrap() {
            Some(trouble) => trouble.logged.iter().map(|(line, _)| line.clone()).collect(),
            None => Vec::new(),
        };
        outage.refused(&"no INSERT");
        assert_eq!(lines(), [""; 0], "once may be by chance");
        for _ in 0..3 {
            outage.refused(&"no SELECT");
            outage.failed(&"connection closed");
            outage.refused(&"no INSERT");
        }
        outage.refused(&"no INSERT");
        assert_eq!(lines(), ["no SELECT", "", "no INSERT"]);
        for row in 0..100 {
            outage.refused(&format!("no row {row}"));
        }
        assert_eq!(lines().len(), Outage::MOST_LINES);
        outage.ok();
        assert_eq!(lines(), [""; 0]);
    }
}
