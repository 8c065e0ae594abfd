//! The log: one locked write a line to standard error, text or JSON, `key=value` after the message.
//!
//! Standard output is for what the user asked to see (`Sent: {...}`, `Batch {id}:`), the log is for how the work goes.
//! A warning or error that repeats is one line with a count (`repeats`); of services, `Outage` says when one goes and
//! when it is back, nothing between. Secrets never reach this file: `config::Secret` does not print.

use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{Log, LogFormat, LogLevel};
use crate::telemetry::repeats::Repeats;
use crate::telemetry::terminal::{self, Colour};
use crate::time::{Rfc3339, now_ms};

// Relaxed throughout: set once at start-up, and a line more or less around that moment harms nobody.
static LEVEL: AtomicU8 = AtomicU8::new(LogLevel::Info as u8);
static JSON: AtomicBool = AtomicBool::new(false);
static REPEATS: Mutex<Repeats> = Mutex::new(Repeats::new());

/// Sets level and format for the whole process.
pub fn init(log: Log) {
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
        terminal::print_error(&lines);
    }
}

/// The time before, and how often it was held back behind.
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

/// Logs what somebody should look at.
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

/// A service that may be away: one line when it goes, one when it is back, a reminder each minute between.
///
/// A clone watches the same service: one for whoever calls it, one for whoever wants to know.
#[derive(Debug, Clone)]
pub struct Outage {
    service: String,
    away: Arc<Mutex<Option<Away>>>,
}

#[derive(Debug)]
struct Away {
    since: Instant,
    said: Instant,
    reason: String,
}

impl Outage {
    const REMIND: Duration = Duration::from_secs(60);

    /// Watches a service of this name, as the log shall call it.
    pub fn new(service: impl Into<String>) -> Self {
        Self { service: service.into(), away: Arc::default() }
    }

    /// A call failed: says so the first time and each minute.
    pub fn failed(&self, reason: &dyn Display) {
        let now = Instant::now();
        let reason = reason.to_string();
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        match away.as_mut() {
            None => {
                crate::warn!(format_args!("{} is not available, waiting for it", self.service), "reason" => reason);
                *away = Some(Away { since: now, said: now, reason });
            }
            Some(a) if now.duration_since(a.said) >= Self::REMIND => {
                let seconds = now.duration_since(a.since).as_secs();
                crate::warn!(format_args!("{} is still not available", self.service), "seconds" => seconds, "reason" => reason);
                a.said = now;
                a.reason = reason;
            }
            Some(a) => a.reason = reason,
        }
    }

    /// A call succeeded: says so if the service was away.
    pub fn ok(&self) {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(a) = away {
            crate::info!(format_args!("{} is back", self.service), "away_seconds" => a.since.elapsed().as_secs());
        }
    }

    /// What to tell about the service, if it is away.
    pub fn complaint(&self) -> Option<String> {
        self.reason().map(|reason| format!("{} is not available: {reason}", self.service))
    }

    /// Why the service is away, if it is.
    pub fn reason(&self) -> Option<String> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|a| a.reason.clone())
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
    }
}
