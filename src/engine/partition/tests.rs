//! The rules of `partition`, one by one.

use super::*;

const HOUR: i64 = 3_600_000;
const MINUTE: i64 = 60_000;
/// 2025-06-01T00:00:00Z.
const BASE: i64 = 1_748_736_000_000;

const SETTINGS: WindowSettings =
    WindowSettings { window_ms: HOUR, out_of_orderness_ms: 10 * MINUTE, max_future_ms: 10 * MINUTE };

fn partition() -> Partition {
    Partition::new(SETTINGS, PartitionState::starting_at(0))
}

fn reading(time_ms: i64, temperature: f64) -> Vec<u8> {
    format!(r#"{{"station":"s","timestamp":{time_ms},"temperature":{temperature}}}"#).into_bytes()
}

fn feed_at(p: &mut Partition, values: Vec<(i64, Option<Vec<u8>>)>, now: i64) {
    p.apply(
        values.iter().map(|(offset, value)| Incoming {
            offset: *offset,
            timestamp_ms: -1,
            append_time_ms: None,
            bytes: value.as_ref().map_or(0, Vec::len),
            value: value.as_deref(),
        }),
        now,
    );
}

/// Applies values at consecutive offsets from `next_offset` on.
fn feed(p: &mut Partition, values: &[Vec<u8>]) {
    let from = p.state().progress.next_offset;
    let values = values.iter().zip(from..).map(|(v, offset)| (offset, Some(v.clone()))).collect();
    feed_at(p, values, BASE + 48 * HOUR);
}

/// What was rejected since the last call.
fn reasons(p: &mut Partition) -> Vec<(i64, Reason)> {
    p.take_rejected().map(|d| (d.offset, d.reason)).collect()
}

#[test]
fn aggregates_by_window() {
    let mut p = partition();
    feed(&mut p, &[reading(BASE, 10.0), reading(BASE + 30 * MINUTE, 20.0), reading(BASE + HOUR, -5.5)]);
    let windows = &p.state().windows;
    assert_eq!(windows.len(), 2);
    assert_eq!(
        (windows[0].start_ms, windows[0].totals.readings, windows[0].totals.average(0)),
        (BASE, 2, Some(15.0))
    );
    assert_eq!((windows[1].start_ms, windows[1].totals.average(0)), (BASE + HOUR, Some(-5.5)));
    assert_eq!(p.state().progress.next_offset, 3);
    assert_eq!(p.state().progress.aggregated, 3);
}

#[test]
fn late_is_judged_at_the_record_by_its_window() {
    let mut p = partition();
    // 70 minutes after BASE the window at BASE closes, not before.
    feed(
        &mut p,
        &[
            reading(BASE + 70 * MINUTE - 1, 0.0),
            reading(BASE, 1.0),
            reading(BASE + 70 * MINUTE, 0.0),
            reading(BASE + 59 * MINUTE, 1.0),
        ],
    );
    assert_eq!(reasons(&mut p), [(3, Reason::Late)]);
    assert_eq!(p.state().windows[0].totals.readings, 1);
}

#[test]
fn future_never_moves_the_watermark() {
    let mut p = partition();
    let now = BASE;
    let values = vec![
        (0, Some(reading(BASE + 10 * MINUTE, 1.0))),
        (1, Some(reading(BASE + 10 * MINUTE + 1, 1.0))),
        (2, Some(reading(BASE + 9_000 * HOUR, 1.0))),
    ];
    feed_at(&mut p, values, now);
    assert_eq!(reasons(&mut p), [(1, Reason::Future), (2, Reason::Future)]);
    assert_eq!(p.state().progress.max_event_time_ms, BASE + 10 * MINUTE);
}

#[test]
fn a_broker_whose_clock_is_ahead_of_ours_is_believed() {
    let mut p = partition();
    let value = reading(BASE + HOUR, 1.0);
    let take = |p: &mut Partition, offset, append_time_ms| {
        let (value, bytes) = (Some(value.as_slice()), value.len());
        p.apply(std::iter::once(Incoming { offset, timestamp_ms: -1, append_time_ms, value, bytes }), BASE);
    };
    take(&mut p, 0, None);
    take(&mut p, 1, Some(BASE - HOUR));
    take(&mut p, 2, Some(BASE + HOUR));
    assert_eq!(reasons(&mut p), [(0, Reason::Future), (1, Reason::Future)]);
    assert_eq!(p.state().progress.aggregated, 1);
}

#[test]
fn every_refusal_is_kept_with_its_payload() {
    let mut p = partition();
    let big = vec![b' '; MAX_READING_BYTES + 1];
    let values = vec![
        (0, None),
        (1, Some(Vec::new())),
        (2, Some(b"{\"temperature\":1".to_vec())),
        (3, Some(b"{\"temperature\":1}".to_vec())),
        (4, Some(format!("{{\"timestamp\":{BASE}}}").into_bytes())),
        (5, Some(reading(BASE, 999.0))),
        (6, Some(big)),
    ];
    feed_at(&mut p, values, BASE);
    use Reason::{Malformed, MissingTimestamp, NoMetric, Oversized};
    let expected = [Malformed, Malformed, Malformed, MissingTimestamp, NoMetric, NoMetric, Oversized];
    let pending: Vec<_> = p.take_rejected().collect();
    let reasons: Vec<_> = pending.iter().map(|d| (d.offset, d.reason)).collect();
    assert_eq!(reasons, (0..).zip(expected).collect::<Vec<_>>());
    assert_eq!(pending[0].payload, None);
    assert_eq!(
        pending[2].payload.as_deref(),
        Some(&b"{\"temperature\":1"[..]),
        "as it came, not as parsing left it"
    );
    assert_eq!(pending[6].payload.as_deref().map(<[u8]>::len), Some(MAX_PAYLOAD_BYTES));
    assert_eq!(pending[6].payload_bytes, MAX_READING_BYTES as i64 + 1);
}

#[test]
fn a_flood_is_sampled_and_counted_in_full() {
    let mut p = partition();
    let flood: Vec<_> = (0..5_000).map(|_| b"x".to_vec()).collect();
    feed(&mut p, &flood);
    assert_eq!(p.take_rejected().len(), 1_000);
    assert_eq!(p.state().progress.rejected[Reason::Malformed.index()], 5_000);
    assert_eq!(p.state().progress.sampled_out, 4_000);
}

#[test]
fn gaps_are_skipped_and_old_offsets_ignored() {
    let mut p = partition();
    let v = || Some(reading(BASE, 1.0));
    feed_at(&mut p, vec![(0, v()), (5, v())], BASE);
    feed_at(&mut p, vec![(4, v()), (5, v()), (6, v())], BASE);
    p.skip_to(9);
    p.lose_to(20);
    let progress = p.state().progress;
    assert_eq!((progress.aggregated, progress.skipped, progress.lost, progress.next_offset), (3, 6, 11, 20));
    assert!(progress.accounts_for_every_offset());
}

#[test]
fn a_window_leaves_when_its_last_totals_are_confirmed() {
    let mut p = partition();
    feed(&mut p, &[reading(BASE, 1.0), reading(BASE + HOUR, 1.0)]);
    let flushed = p.state().progress;
    feed(&mut p, &[reading(BASE + 30 * MINUTE, 1.0), reading(BASE + 2 * HOUR, 1.0)]);
    // The confirmed state is from before the first window closed: its totals there are not its last.
    p.confirm(Confirmation { position: flushed.position(), watermark_ms: flushed.watermark_ms });
    assert_eq!((p.state().windows.len(), p.closed_windows()), (3, 1));
    let now = p.state().progress;
    p.confirm(Confirmation { position: now.position(), watermark_ms: now.watermark_ms });
    let starts: Vec<_> = p.state().windows.iter().map(|w| w.start_ms).collect();
    assert_eq!(starts, [BASE + HOUR, BASE + 2 * HOUR]);
    assert_eq!(p.closed_windows(), 0);
    assert_eq!(p.state().progress.flushed_offset, 4);
}

#[test]
fn an_older_confirmation_changes_nothing() {
    let mut p = partition();
    feed(&mut p, &[reading(BASE, 1.0), reading(BASE + HOUR, 1.0)]);
    let now = p.state().progress;
    p.confirm(Confirmation { position: now.position(), watermark_ms: now.watermark_ms });
    let before = p.state().clone();
    p.confirm(Confirmation { position: Position { incarnation: 0, offset: 1 }, watermark_ms: i64::MAX });
    assert_eq!(p.state(), &before);
}

#[test]
fn another_log_goes_on_with_what_was_aggregated() {
    let mut p = partition();
    feed(&mut p, &[reading(BASE, 1.0), reading(BASE, 3.0)]);
    p.remember(LogIdentity { topic_id: [1; 16], leader_epoch: 4 });
    p.start_over(0);
    feed(&mut p, &[reading(BASE, 5.0)]);
    assert_eq!(p.state().windows[0].totals.readings, 3);
    assert_eq!(p.state().progress.position(), Position { incarnation: 1, offset: 1 });
    assert!(p.state().progress.accounts_for_every_offset());
    assert_eq!(p.state().log, LogIdentity::UNKNOWN);
}

#[test]
fn a_restored_partition_decides_as_one_that_never_stopped() {
    let values: Vec<_> =
        (0..400i64).map(|i| reading(BASE + (i * 7_919 % 200) * MINUTE, (i % 40) as f64)).collect();
    let mut whole = partition();
    feed(&mut whole, &values);
    let late = reasons(&mut whole);
    assert!(late.len() > 10);
    for cut in [1, 57, 200, 399] {
        let mut first = partition();
        feed(&mut first, &values[..cut]);
        let mut second = Partition::new(SETTINGS, first.state().clone());
        feed(&mut second, &values[cut..]);
        assert_eq!(second.state(), whole.state(), "cut at {cut}");
        assert_eq!([reasons(&mut first), reasons(&mut second)].concat(), late, "cut at {cut}");
    }
}

#[test]
fn changed_windows_are_told_from_the_first_on() {
    let mut p = partition();
    feed(&mut p, &[reading(BASE + HOUR, 1.0)]);
    assert_eq!(p.take_changed(), Ok(0));
    feed(&mut p, &[reading(BASE + 100 * MINUTE, 1.0)]);
    assert_eq!(p.take_changed(), Ok(0));
    feed(&mut p, &[reading(BASE + 2 * HOUR, 1.0)]);
    assert_eq!(p.take_changed(), Ok(1));
    assert_eq!(p.take_changed(), Ok(2), "nothing changed");
}

#[test]
fn what_a_reading_lacks_is_counted_by_metric_and_cause() {
    let mut p = partition();
    let value = |fields: &str| format!(r#"{{"timestamp":{BASE},{fields}}}"#).into_bytes();
    feed(
        &mut p,
        &[
            value(r#""temperature":1,"humidity":null"#),
            value(r#""temperature":"warm","humidity":50,"wind_speed":-3"#),
            value(r#""temperature":1,"humidity":50,"wind_speed":3"#),
            value(r#""temperature":999"#),
        ],
    );
    let progress = &p.state().progress;
    assert_eq!(progress.aggregated, 3);
    // Absent, null, no number, out of range.
    assert_eq!(progress.left_out, [[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 1]]);
    assert_eq!(progress.rejected[Reason::NoMetric.index()], 1, "of which nothing is counted here");
}

#[test]
fn a_reading_without_a_time_takes_its_records_if_that_is_wanted() {
    use crate::reading::{FormatSettings, MissingTimestamp};
    let settings = FormatSettings { missing_timestamp: MissingTimestamp::Kafka, ..FormatSettings::default() };
    let mut p = partition().reading(std::sync::Arc::new(Format::new(settings)));
    for (offset, timestamp_ms) in [(0, BASE), (1, -1)] {
        let value = b"{\"temperature\":1}";
        let (value, bytes) = (Some(value.as_slice()), value.len());
        p.apply(std::iter::once(Incoming { offset, timestamp_ms, append_time_ms: None, value, bytes }), BASE);
    }
    assert_eq!(p.state().progress.aggregated, 1);
    assert_eq!(p.state().progress.max_event_time_ms, BASE);
    assert_eq!(reasons(&mut p), [(1, Reason::MissingTimestamp)]);
}

#[test]
fn a_list_is_one_record_and_its_readings_are_judged_by_the_watermark_before_it() {
    use crate::reading::{FormatSettings, fields};
    let rules = fields("timestamp=list[].t,temperature=list[].c:C").unwrap();
    let format = Format::new(FormatSettings { fields: rules, ..FormatSettings::default() });
    let mut p = partition().reading(std::sync::Arc::new(format));
    let reading = |time_ms: i64| format!(r#"{{"t":{time_ms},"c":1}}"#);
    let list = |readings: &[String]| format!(r#"{{"list":[{}]}}"#, readings.join(",")).into_bytes();
    let later = reading(BASE + 100 * HOUR);
    feed(
        &mut p,
        &[
            // The newest first: it does not make the others late.
            list(&[reading(BASE + 5 * HOUR), reading(BASE), reading(BASE + 5 * HOUR), later.clone()]),
            // Of two windows that have ended, and one without a metric.
            list(&[reading(BASE), reading(BASE + HOUR), format!(r#"{{"t":{BASE}}}"#)]),
            list(&[reading(BASE), reading(BASE + 5 * HOUR), r#"{"t":5}"#.to_owned(), "7".to_owned()]),
            list(&[later]),
            list(&[]),
            // A record without the list is one reading.
            format!(r#"{{"timestamp":{},"temperature":5,"humidity":5}}"#, BASE + 5 * HOUR).into_bytes(),
        ],
    );
    let windows: Vec<_> = p.state().windows.iter().map(|w| (w.start_ms, w.totals.readings)).collect();
    assert_eq!(windows, [(BASE, 1), (BASE + 5 * HOUR, 4)]);
    let progress = &p.state().progress;
    assert_eq!((progress.aggregated, progress.refused_in_lists), (3, 4));
    // Humidity and wind of the lists' four readings, and the wind of the last.
    assert_eq!(progress.left_out.map(|causes| causes[0]), [0, 4, 5]);
    assert!(progress.accounts_for_every_offset());
    assert_eq!(p.state().progress.max_event_time_ms, BASE + 5 * HOUR);
    assert_eq!(reasons(&mut p), [(1, Reason::Late), (3, Reason::Future), (4, Reason::Malformed)]);
}
