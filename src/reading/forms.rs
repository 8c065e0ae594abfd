//! The forms of `forms.txt`: what each is read as and the flags that it needs, or why it is rejected and what the hint says.

use std::sync::Arc;

use super::explain::explain;
use super::*;

const FORMS: &str = include_str!("forms.txt");
/// When the Kafka records were made.
const RECORD_MS: i64 = 1_709_700_000_000;

#[derive(Default)]
struct Form {
    name: String,
    settings: FormatSettings,
    record: Vec<u8>,
    expected: Option<Expected>,
    hint: Option<String>,
}

enum Expected {
    Reading { time_ms: i64, metrics: [Option<i64>; 3] },
    Refused(String),
}

fn forms() -> Vec<Form> {
    FORMS.split("\n## ").skip(1).map(form).collect()
}

fn form(text: &str) -> Form {
    let mut lines = text.lines();
    let mut form = Form { name: lines.next().unwrap().to_owned(), ..Form::default() };
    for line in lines.filter(|line| !line.is_empty()) {
        match line.split_once(' ') {
            Some(("zone", zone)) => form.settings.zone = Some(Zone::from_text(zone, None).unwrap()),
            Some(("fields", text)) => form.settings.fields = fields(text).unwrap(),
            Some(("missing", "kafka")) => form.settings.missing_timestamp = MissingTimestamp::Kafka,
            Some(("=", expected)) => form.expected = Some(reading(expected)),
            Some(("!", expected)) => {
                let (reason, hint) = expected.split_once(' ').unwrap();
                form.expected = Some(Expected::Refused(reason.to_owned()));
                form.hint = Some(hint.to_owned());
            }
            Some(("?", hint)) => form.hint = Some(hint.to_owned()),
            _ => form.record = line.replace("\\0", "\0").replace("\\7", "\u{7}").into_bytes(),
        }
    }
    form
}

fn reading(text: &str) -> Expected {
    let parts: Vec<&str> = text.split(' ').collect();
    let [time, metrics @ ..] = parts.as_slice() else { panic!("{text}") };
    let time_ms = if *time == "record" { RECORD_MS } else { timestamp::from_text(time).unwrap() };
    let fixed = |text: &str| (text.parse::<f64>().unwrap() * 1e6).round() as i64;
    let metrics = [0, 1, 2].map(|index| (metrics[index] != "-").then(|| fixed(metrics[index])));
    Expected::Reading { time_ms, metrics }
}

#[test]
fn every_form_is_read_as_it_is_meant_or_refused_with_a_hint() {
    let (mut right, mut refused) = (0, 0);
    for form in forms() {
        // Forms with a letter repeat an earlier one, without the flags that it needs.
        let number = form.name.split(' ').next().unwrap_or_default();
        let is_counted = number.starts_with(|c: char| c.is_ascii_digit()) && !number.ends_with('a');
        let format = Arc::new(Format::new(form.settings));
        let mut parser = Parser::new(Arc::clone(&format));
        let results = [0; 3].map(|_| parser.parse(&form.record, Some(RECORD_MS)));
        assert_eq!([results[1], results[2]], [results[0]; 2], "{}: again, by its shape", form.name);
        let hint = explain(&format, &form.record).hint();
        match (results[0], form.expected.unwrap_or_else(|| panic!("{}: nothing expected", form.name))) {
            (Ok(reading), Expected::Reading { time_ms, metrics }) => {
                assert_eq!(reading.event_time_ms, time_ms, "{}", form.name);
                for (index, expected) in metrics.into_iter().enumerate() {
                    let close = match (reading.metrics[index], expected) {
                        (Some(value), Some(expected)) => (value - expected).abs() <= 1,
                        (value, expected) => value == expected,
                    };
                    assert!(close, "{}: {:?}, expected {metrics:?}", form.name, reading.metrics);
                }
                right += usize::from(is_counted);
            }
            (Err(reason), Expected::Refused(expected)) => {
                assert_eq!(reason.as_str(), expected, "{}", form.name);
                refused += usize::from(is_counted);
            }
            (result, _) => panic!("{}: {result:?}", form.name),
        }
        if let Some(expected) = form.hint {
            let hint = hint.unwrap_or_else(|| panic!("{}: no hint", form.name));
            assert!(hint.contains(&expected), "{}: {hint}", form.name);
        }
    }
    // As in the README: of 60 forms, these.
    assert_eq!((right, refused), (50, 10));
}

#[test]
fn a_metric_that_is_null_is_named_already() {
    let format = Format::default();
    let hint = explain(&format, br#"{"timestamp":1709633700000,"temperature":null}"#).hint();
    assert_eq!(hint.as_deref(), Some("No usable metric; the record also has temperature null"));
    let hint = explain(&format, br#"{"timestamp":1709633700000,"number":17}"#).hint().unwrap_or_default();
    assert!(hint.contains("number 17; none of these is a number that is named like a metric"), "{hint}");
}
