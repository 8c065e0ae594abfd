//! One table for each rule of the reading format; what mutation finds beyond them is in `fuzz`.

mod malformed;
mod settings;
mod times;
mod values;

use std::sync::Arc;

use super::Cause::{Absent, Null};
use super::Reason::{Malformed, MissingTimestamp, NoMetric};
use super::*;

const MS: i64 = 1_700_000_000_123;

/// What a value is read as, the first time and again, when its shape is known.
fn parse(value: impl AsRef<[u8]>) -> Result<Reading, Reason> {
    parse_in(&Arc::new(Format::default()), value.as_ref())
}

fn parse_in(format: &Arc<Format>, value: &[u8]) -> Result<Reading, Reason> {
    let mut parser = Parser::new(Arc::clone(format));
    let result = parser.parse(value, None);
    assert_eq!(parser.parse(value, None), result, "by its shape: {}", String::from_utf8_lossy(value));
    result
}

type Metrics = Result<(i64, [Option<i64>; 3]), Reason>;

fn reading(metrics: [Option<i64>; 3]) -> Metrics {
    Ok((MS, metrics))
}

#[track_caller]
fn check(value: impl AsRef<[u8]>, expected: Metrics) {
    let value = value.as_ref();
    let result = parse(value).map(|reading| (reading.event_time_ms, reading.metrics));
    assert_eq!(result, expected, "{}", String::from_utf8_lossy(&value[..value.len().min(300)]));
}

/// A value with these fields and a `timestamp`.
#[track_caller]
fn check_fields(fields: &str, expected: Metrics) {
    check(format!(r#"{{"timestamp":{MS},{fields}}}"#), expected);
}

#[track_caller]
fn check_time(timestamp: &str, expected: Result<i64, Reason>) {
    let value = format!(r#"{{"timestamp":{timestamp},"humidity":50}}"#);
    assert_eq!(parse(&value).map(|reading| reading.event_time_ms), expected, "{value}");
}

/// What became of each metric of a reading.
#[track_caller]
fn check_causes(fields: &str, expected: [Result<i64, Cause>; 3]) {
    let value = format!(r#"{{"timestamp":{MS},{fields}}}"#);
    let reading = parse(&value).unwrap_or_else(|reason| panic!("{value}: {reason:?}"));
    for (index, expected) in expected.into_iter().enumerate() {
        assert_eq!(reading.metrics[index], expected.ok(), "{value}");
        assert_eq!(reading.left_out[index], expected.err(), "{value}");
    }
}

#[test]
fn a_parser_may_change_threads() {
    fn check<T: Send>(_: &T) {}
    check(&Parser::default());
}

#[test]
fn indexes_and_names_agree() {
    for (index, reason) in Reason::ALL.into_iter().enumerate() {
        assert_eq!(reason.index(), index);
    }
    let names = "malformed missing_timestamp no_metric out_of_range future late oversized";
    assert_eq!(Reason::ALL.map(Reason::as_str).join(" "), names);
    for (index, cause) in Cause::ALL.into_iter().enumerate() {
        assert_eq!(cause.index(), index);
    }
    for (index, metric) in Metric::ALL.into_iter().enumerate() {
        assert_eq!(metric.index(), index);
        let mut metrics = [None; 3];
        metrics[index] = Some(SCALE);
        check_fields(&format!(r#""{}":1"#, metric.as_str()), reading(metrics));
    }
}

fn format(fields: &str, zone: Option<&str>) -> Arc<Format> {
    let zone = zone.map(|zone| Zone::from_text(zone, None).unwrap());
    Arc::new(Format::new(FormatSettings {
        fields: super::fields(fields).unwrap(),
        zone,
        ..FormatSettings::default()
    }))
}
