//! The sink against a scripted partition: order, numbers, retries, splitting, bounds, failure.

use std::collections::VecDeque;

use rskafka::record::RecordAndOffset;

use super::*;
use crate::kafka::sequence::Sequences;

/// What a partition answers, call by call, then Ok; and what it has appended.
#[derive(Debug, Default)]
struct Script {
    answers: VecDeque<ErrorKind>,
    /// Requests of more records than this are too large.
    most_records: Option<usize>,
    /// Records with this value are too large.
    too_large: Option<Vec<u8>>,
    /// (run id, sequence number, value) of each record, in order.
    log: Vec<(u64, u64, Vec<u8>)>,
    requests: usize,
}

#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

impl Scripted {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    fn numbers(&self) -> Vec<u64> {
        self.script().log.iter().map(|(_, number, _)| *number).collect()
    }
}

impl Destination for Scripted {
    async fn append(&mut self, records: Vec<Record>) -> Result<(), KafkaError> {
        let mut script = self.script();
        script.requests += 1;
        let error = |kind| Err(KafkaError { kind, detail: "scripted".into() });
        if let Some(kind) = script.answers.pop_front() {
            return error(kind);
        }
        let single = |r: &Record| Some(&r.value) == Some(&script.too_large) && script.too_large.is_some();
        if script.most_records.is_some_and(|most| records.len() > most) || records.iter().any(single) {
            return error(ErrorKind::TooLarge);
        }
        let mut sequences = Sequences::default();
        for (offset, record) in (0..).zip(records) {
            let record = RecordAndOffset { record, offset };
            let sequence = sequences.of(&record).expect("every record has a number");
            script.log.push((sequence.run, sequence.number, record.record.value.unwrap()));
        }
        Ok(())
    }

    fn is_away(&self) -> bool {
        true
    }
}

const LIMITS: Limits = Limits { batch_bytes: 1000, held_bytes: 4000, linger: Duration::from_secs(3600) };

fn sink(partitions: usize) -> (Sink, Vec<Scripted>) {
    let scripted: Vec<Scripted> = (0..partitions).map(|_| Scripted::default()).collect();
    let options =
        SinkSettings { linger: LIMITS.linger, compression: Compression::NoCompression, acknowledged: None };
    (Sink::with(scripted.clone(), "t", LIMITS, options).unwrap(), scripted)
}

async fn send_numbers(sink: &mut Sink, key: Option<&[u8]>, count: u32) {
    for i in 0..count {
        sink.send(key, &i.to_be_bytes(), Instant::now()).await.unwrap();
    }
}

#[tokio::test]
async fn all_arrive_once_in_order_with_their_numbers_through_retries() {
    let (mut sink, parts) = sink(1);
    parts[0].script().answers = VecDeque::from([ErrorKind::Transient, ErrorKind::UnknownTopic]);
    send_numbers(&mut sink, Some(b"k"), 100).await;
    sink.flush().await.unwrap();
    let totals = sink.totals();
    assert_eq!((totals.accepted, totals.acknowledged, totals.dropped), (100, 100, 0));
    assert!(totals.retried > 0);
    assert_eq!(sink.monitor().latency_us().len(), 100);
    assert_eq!(parts[0].numbers(), (1..=100).collect::<Vec<_>>());
    let script = parts[0].script();
    assert!(script.log.iter().all(|(run, _, _)| *run == script.log[0].0), "one run id");
    assert!(script.log.iter().zip(0u32..).all(|((_, _, value), i)| *value == i.to_be_bytes()));
}

#[tokio::test]
async fn a_batch_too_large_is_split_and_later_ones_are_smaller() {
    let (mut sink, parts) = sink(1);
    parts[0].script().most_records = Some(3);
    send_numbers(&mut sink, Some(b"k"), 50).await;
    sink.flush().await.unwrap();
    assert_eq!(parts[0].numbers(), (1..=50).collect::<Vec<_>>());
    assert_eq!(sink.totals().acknowledged, 50);
}

#[tokio::test]
async fn one_record_too_large_is_dropped_alone() {
    let (mut sink, parts) = sink(1);
    parts[0].script().too_large = Some(5u32.to_be_bytes().to_vec());
    send_numbers(&mut sink, Some(b"k"), 10).await;
    sink.flush().await.unwrap();
    assert_eq!(parts[0].numbers(), [1, 2, 3, 4, 5, 7, 8, 9, 10], "numbers keep their gap");
    let totals = sink.totals();
    assert_eq!((totals.acknowledged, totals.dropped, totals.unsent()), (9, 1, 0));
}

#[tokio::test]
async fn a_full_buffer_makes_send_wait_and_nothing_is_lost() {
    let (mut sink, parts) = sink(1);
    parts[0].script().answers = std::iter::repeat_n(ErrorKind::Transient, 1000).collect();
    let sending = send_numbers(&mut sink, Some(b"k"), 1000);
    let outcome = tokio::time::timeout(Duration::from_millis(1000), sending).await;
    assert!(outcome.is_err(), "must wait while Kafka is away");
    let accepted = sink.totals().accepted;
    assert!((100..200).contains(&accepted), "held is bounded: {accepted}");
    // 100, 200, 400 ms apart: attempts are few.
    assert!((3..=5).contains(&parts[0].script().requests));
    parts[0].script().answers.clear();
    sink.flush().await.unwrap();
    assert_eq!(parts[0].numbers(), (1..=accepted).collect::<Vec<_>>());
}

#[tokio::test]
async fn keys_stay_in_their_partition_and_keyless_records_take_turns() {
    let (mut sink, parts) = sink(3);
    send_numbers(&mut sink, Some(b"21"), 5).await;
    send_numbers(&mut sink, None, 300).await;
    sink.flush().await.unwrap();
    let mut counts: Vec<usize> = parts.iter().map(|part| part.script().log.len()).collect();
    counts[partition_of(b"21", 3)] -= 5;
    assert_eq!(counts.iter().sum::<usize>(), 300);
    assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
}

#[tokio::test]
async fn a_refusal_ends_the_sink_only_before_the_first_acknowledgement() {
    let (mut refused, parts) = sink(2);
    parts[0].script().answers = VecDeque::from([ErrorKind::Authorization]);
    parts[1].script().answers = VecDeque::from([ErrorKind::Authorization]);
    send_numbers(&mut refused, None, 1).await;
    assert_eq!(refused.flush().await.unwrap_err().kind, ErrorKind::Authorization);
    assert_eq!(refused.send(None, b"", Instant::now()).await.unwrap_err().kind, ErrorKind::Authorization);
    assert_eq!(refused.close().await.unsent(), 1);

    let (mut sink, parts) = sink(1);
    send_numbers(&mut sink, None, 1).await;
    sink.flush().await.unwrap();
    parts[0].script().answers = VecDeque::from([ErrorKind::Authorization, ErrorKind::Authentication]);
    send_numbers(&mut sink, None, 1).await;
    sink.flush().await.unwrap();
    assert_eq!(parts[0].numbers(), [1, 2]);
}

#[tokio::test]
async fn whoever_asks_is_told_of_every_acknowledged_value() {
    let seen: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let told = Arc::clone(&seen);
    let acknowledged: Acknowledged =
        Arc::new(move |batch, range| told.lock().unwrap().extend(batch.values(range).map(<[u8]>::to_vec)));
    let options = SinkSettings {
        linger: LIMITS.linger,
        compression: Compression::NoCompression,
        acknowledged: Some(acknowledged),
    };
    let part = Scripted::default();
    part.script().most_records = Some(2);
    let mut sink = Sink::with(vec![part], "t", LIMITS, options).unwrap();
    send_numbers(&mut sink, None, 30).await;
    sink.flush().await.unwrap();
    assert_eq!(*seen.lock().unwrap(), (0u32..30).map(|i| i.to_be_bytes().to_vec()).collect::<Vec<_>>());
}
