//! Prometheus' text format, version 0.0.4.
//!
//! A family is a name, its type and help, then its samples; the builder keeps them together, as the format demands.
//! Names are ours and constant; label values may come from outside and are escaped. Conventions: base units (seconds,
//! bytes), `_total` for what only grows, a gauge for the rest.

use std::fmt::{Display, Write as _};

use crate::telemetry::latency::Buckets;
use crate::telemetry::process;

/// The content type of an exposition.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Names and values of a sample's labels.
pub type Labels<'a> = [(&'static str, &'a dyn Display)];

/// A growing exposition.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// A family that takes samples.
#[derive(Debug)]
pub struct Family<'a> {
    name: &'static str,
    text: &'a mut String,
}

// Writing to a String cannot fail, here and below.

impl Exposition {
    /// What only grows since the start, or since the state began; the name ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        debug_assert!(name.ends_with("_total"), "{name}");
        self.family(name, "counter", help)
    }

    /// What goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// Durations in seconds; the name ends in `_seconds`.
    pub fn histogram(&mut self, name: &'static str, help: &str, buckets: &Buckets) {
        debug_assert!(name.ends_with("_seconds"), "{name}");
        let text = self.family(name, "histogram", help).text;
        for (bound, within) in buckets.cumulative() {
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {within}");
        }
        let count = buckets.count();
        let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(text, "{name}_sum {}\n{name}_count {count}", buckets.sum());
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        debug_assert!(!help.contains(['\\', '\n']), "{help}");
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { name, text: &mut self.text }
    }

    /// What every process has: its build and what it uses.
    pub fn process(&mut self, role: &str) {
        let labels: &Labels<'_> = &[("version", &env!("CARGO_PKG_VERSION")), ("role", &role)];
        self.gauge("weather_build_info", "Version of the program and what it runs as; always 1.")
            .with(labels, 1);
        let Some(usage) = process::usage() else { return };
        self.counter("process_cpu_seconds_total", "CPU time used, user and system, in seconds.")
            .value(usage.cpu_seconds);
        self.gauge("process_resident_memory_bytes", "Memory in use, in bytes.").value(usage.resident_bytes);
        self.gauge("process_start_time_seconds", "Start of the process, in seconds since 1970.")
            .value(usage.started_seconds);
        self.gauge("process_open_fds", "Open file descriptors.").value(usage.open_fds);
        self.gauge("process_threads", "Threads of the operating system.").value(usage.threads);
    }

    /// The finished text.
    pub fn finish(self) -> String {
        self.text
    }
}

impl Family<'_> {
    /// The only sample of a family without labels.
    pub fn value(self, value: impl Display) {
        let _ = writeln!(self.text, "{} {value}", self.name);
    }

    /// A sample with labels.
    pub fn with(&mut self, labels: &Labels<'_>, value: impl Display) {
        self.text.push_str(self.name);
        for (i, (label, value)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"", if i == 0 { '{' } else { ',' });
            push_escaped(self.text, &value.to_string());
            self.text.push('"');
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

fn push_escaped(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::latency::Latency;
    use std::time::Duration;

    #[test]
    fn looks_as_the_format_says() {
        let mut exposition = Exposition::default();
        let mut family = exposition.counter("weather_x_total", "Things.");
        family.with(&[("partition", &0), ("reason", &"a\"b\\c\nd")], 5);
        family.with(&[], 0.25);
        let latency = Latency::default();
        latency.record(Duration::from_secs(400));
        exposition.histogram("weather_y_seconds", "Time.", &latency.buckets());
        let text = exposition.finish();
        let (counter, histogram) = text.split_once("# HELP weather_y").unwrap();
        assert_eq!(
            counter,
            "# HELP weather_x_total Things.\n# TYPE weather_x_total counter\n\
             weather_x_total{partition=\"0\",reason=\"a\\\"b\\\\c\\nd\"} 5\nweather_x_total 0.25\n"
        );
        assert!(histogram.contains("weather_y_seconds_bucket{le=\"0.001\"} 0\n"), "{histogram}");
        assert!(
            histogram.ends_with(
                "weather_y_seconds_bucket{le=\"+Inf\"} 1\nweather_y_seconds_sum 400\nweather_y_seconds_count 1\n"
            ),
            "{histogram}"
        );
    }
}
