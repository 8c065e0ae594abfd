//! Every form of records that producers of weather readings really send, through Kafka into PostgreSQL.
//!
//! The forms are those of `src/reading/forms.txt`, with what each is read as or why it is refused. Those that take the same
//! flags share a topic, each with a partition of its own.

use std::collections::BTreeMap;

use rskafka::chrono::{DateTime, Utc};
use rskafka::record::Record;

use crate::support::kafka::record;
use crate::support::pipeline::RUN_LIMIT;
use crate::support::{Pipeline, turn};

const FORMS: &str = include_str!("../../src/reading/forms.txt");
/// When the Kafka records were made, in seconds since 1970.
const RECORD_S: i64 = 1_709_700_000;

#[derive(Debug)]
struct Form {
    name: String,
    record: Vec<u8>,
    expected: Expected,
}

#[derive(Debug)]
enum Expected {
    Averages([Option<f64>; 3]),
    Refused(String),
}

/// The forms by the flags that they take.
fn forms() -> BTreeMap<Vec<String>, Vec<Form>> {
    let mut forms: BTreeMap<Vec<String>, Vec<Form>> = BTreeMap::new();
    for text in FORMS.split("\n## ").skip(1) {
        let (flags, form) = form(text);
        forms.entry(flags).or_default().push(form);
    }
    forms
}

fn form(text: &str) -> (Vec<String>, Form) {
    let mut lines = text.lines();
    let name = lines.next().expect("a name").to_owned();
    let (mut flags, mut record, mut expected) = (Vec::new(), Vec::new(), None);
    for line in lines.filter(|line| !line.is_empty()) {
        match line.split_once(' ') {
            Some(("zone", zone)) => flags.extend(["--time-zone".to_owned(), zone.to_owned()]),
            Some(("fields", fields)) => flags.extend(["--fields".to_owned(), fields.to_owned()]),
            Some(("missing", from)) => flags.extend(["--missing-timestamp".to_owned(), from.to_owned()]),
            Some(("=", reading)) => {
                let metrics: Vec<Option<f64>> =
                    reading.split(' ').skip(1).map(|number| number.parse().ok()).collect();
                expected = Some(Expected::Averages(metrics.try_into().expect("three metrics")));
            }
            Some(("!", refused)) => {
                let reason = refused.split(' ').next().expect("a reason");
                expected = Some(Expected::Refused(reason.to_owned()));
            }
            Some(("?", _)) => {}
            _ => record = line.replace("\\0", "\0").replace("\\7", "\u{7}").into_bytes(),
        }
    }
    let expected = expected.unwrap_or_else(|| panic!("{name}: nothing expected"));
    (flags, Form { name, record, expected })
}

/// The averages of each partition's first window.
async fn averages(pipeline: &Pipeline) -> BTreeMap<i32, [Option<f64>; 3]> {
    let query = "SELECT DISTINCT ON (partition) partition, (temp_sum / 1e6 / NULLIF(temp_count, 0))::float8, \
                 (humidity_sum / 1e6 / NULLIF(humidity_count, 0))::float8, \
                 (wind_speed_sum / 1e6 / NULLIF(wind_speed_count, 0))::float8 \
                 FROM weather_partial ORDER BY partition, window_start";
    let rows = pipeline.database.query(query, &[]).await;
    rows.iter().map(|row| (row.get(0), [1, 2, 3].map(|column| row.get(column)))).collect()
}

async fn check(flags: &[String], forms: &[Form]) {
    let count = i32::try_from(forms.len()).expect("few forms");
    let pipeline = Pipeline::with_topic("forms", count).await;
    for (partition, form) in (0..).zip(forms) {
        let timestamp: DateTime<Utc> = DateTime::from_timestamp(RECORD_S, 0).expect("a time");
        let record = Record { timestamp, ..record(form.record.clone()) };
        pipeline.kafka.produce(&pipeline.topic, partition, vec![record]).await;
    }
    let mut arguments = vec!["--until-latest"];
    arguments.extend(flags.iter().map(String::as_str));
    pipeline.process("forms", &arguments).succeed(RUN_LIMIT).await;

    let averages = averages(&pipeline).await;
    let rows = pipeline.database.query("SELECT partition, reason FROM weather_dead_letter", &[]).await;
    let refused: BTreeMap<i32, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    for (partition, form) in (0..).zip(forms) {
        match (&form.expected, averages.get(&partition), refused.get(&partition)) {
            (Expected::Averages(expected), Some(found), None) => {
                let is_close = expected.iter().zip(found).all(|pair| match pair {
                    (Some(expected), Some(found)) => (expected - found).abs() < 2e-6,
                    (expected, found) => expected == found,
                });
                assert!(is_close, "{}: {found:?}, expected {expected:?}", form.name);
            }
            (Expected::Refused(expected), None, Some(found)) => assert_eq!(expected, found, "{}", form.name),
            (_, found, refused) => panic!("{form:?}: {found:?} {refused:?}"),
        }
    }
}

#[tokio::test]
async fn every_form_is_averaged_as_it_is_meant_or_kept_with_the_reason() {
    let _turn = turn::light().await;
    for (flags, forms) in forms() {
        check(&flags, &forms).await;
    }
}
