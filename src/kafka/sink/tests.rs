//! The sink against a scripted partition: order, numbers, retries, splitting, bounds, failure.

use std::collections::VecDeque;
use std::io::Cursor;

use rskafka::protocol::record::{ControlBatchOrRecords, RecordBatch};
use rskafka::protocol::traits::ReadType;

use super::encode::Encoded;
use super::sender::Acknowledgement;
use super::*;
use crate::kafka::message::produce::ProducerId;

/// What a partition answers, call by call, then as a broker does that keeps producers' numbers; and what it has appended.
#[derive(Debug, Default)]
struct Script {
    answers: VecDeque<Scripted>,
    /// Requests of more records than this are too large.
    most_records: Option<usize>,
    /// Records with this value are too large.
    too_large: Option<Vec<u8>>,
    /// Whether the broker gives no producer ids.
    unnumbered: bool,
    ids: i64,
    /// The next sequence number of each producer.
    next: std::collections::HashMap<i64, i32>,
    /// The values, in order.
    log: Vec<Vec<u8>>,
    requests: usize,
}

/// An answer out of the order of things.
#[derive(Debug, Clone, Copy)]
enum Scripted {
    /// An error, and nothing was appended.
    Refused(ErrorKind),
    /// It was appended, and the answer was lost.
    Lost,
}

use Scripted::{Lost, Refused};

#[derive(Clone, Default)]
struct Part(Arc<Mutex<Script>>);

impl Part {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    fn values(&self) -> Vec<u32> {
        let number = |value: &Vec<u8>| u32::from_be_bytes(value[..].try_into().unwrap());
        self.script().log.iter().map(number).collect()
    }
}

impl Script {
    fn append(&mut self, bytes: &[u8]) -> Result<(), KafkaError> {
        self.requests += 1;
        let error = |kind| Err(KafkaError::new(kind, "scripted"));
        let answer = self.answers.pop_front();
        if let Some(Refused(kind)) = answer {
            return error(kind);
        }
        let batch = RecordBatch::read(&mut Cursor::new(bytes)).unwrap();
        let ControlBatchOrRecords::Records(records) = batch.records else { panic!("no records") };
        let values: Vec<Vec<u8>> = records.into_iter().map(|record| record.value.unwrap()).collect();
        if self.most_records.is_some_and(|most| values.len() > most)
            || values.iter().any(|value| Some(value) == self.too_large.as_ref())
        {
            return error(ErrorKind::TooLarge);
        }
        if !self.unnumbered {
            let next = self.next.entry(batch.producer_id).or_insert(batch.base_sequence);
            if batch.base_sequence < *next {
                return error(ErrorKind::Duplicate);
            }
            if batch.base_sequence > *next {
                return error(ErrorKind::Sequence);
            }
            *next += values.len() as i32;
        }
        self.log.extend(values);
        if let Some(Lost) = answer { error(ErrorKind::Connection) } else { Ok(()) }
    }
}

impl Destination for Part {
    async fn connect(&mut self) -> Result<(), KafkaError> {
        Ok(())
    }

    async fn producer_id(&mut self) -> Result<Option<ProducerId>, KafkaError> {
        let mut script = self.script();
        script.ids += 1;
        Ok((!script.unnumbered).then_some(ProducerId { error: 0, id: script.ids, epoch: 0 }))
    }

    fn append(&mut self, batch: Arc<Encoded>) -> Acknowledgement {
        let part = self.clone();
        Box::pin(async move {
            let answer = part.script().append(&batch.parts().concat());
            // Answers come later than requests are made.
            tokio::task::yield_now().await;
            answer
        })
    }

    fn lost(&mut self) {}

    fn is_away(&self) -> bool {
        false
    }
}

const LIMITS: BufferLimits =
    BufferLimits { batch_bytes: 1000, held_bytes: 6000, linger: Duration::from_secs(3600) };

fn sink(partitions: usize) -> (Sink, Vec<Part>) {
    let scripted: Vec<Part> = (0..partitions).map(|_| Part::default()).collect();
    let options = SinkSettings { linger: LIMITS.linger, compression: Compression::None, acknowledged: None };
    (Sink::with(scripted.clone(), "t", LIMITS, options).unwrap(), scripted)
}

async fn send_numbers(sink: &mut Sink, key: Option<&[u8]>, count: u32) {
    for i in 0..count {
        sink.send(key, &i.to_be_bytes(), Instant::now()).await.unwrap();
    }
}

#[tokio::test]
async fn all_arrive_once_in_order_through_refusals_and_lost_answers() {
    let moved = Refused(ErrorKind::Moved);
    let scripts = [
        vec![Refused(ErrorKind::Transient), Refused(ErrorKind::UnknownTopic)],
        vec![Lost],
        vec![moved, Lost, Lost, moved, Lost],
        vec![Lost, Lost, Lost, Lost, Lost, Lost],
        vec![Refused(ErrorKind::Sequence), Lost],
    ];
    for answers in scripts {
        let (mut sink, parts) = sink(1);
        parts[0].script().answers = answers.clone().into();
        send_numbers(&mut sink, Some(b"k"), 100).await;
        sink.flush().await.unwrap();
        let totals = sink.totals();
        assert_eq!((totals.accepted, totals.acknowledged, totals.dropped), (100, 100, 0));
        assert!(totals.retried > 0);
        assert_eq!(sink.monitor().latency_us().len(), 100);
        assert_eq!(parts[0].values(), (0..100).collect::<Vec<_>>(), "{answers:?}");
    }
}

#[tokio::test]
async fn a_broker_without_producer_ids_gets_everything_at_least_once() {
    let (mut sink, parts) = sink(1);
    parts[0].script().unnumbered = true;
    parts[0].script().answers = VecDeque::from([Lost]);
    send_numbers(&mut sink, Some(b"k"), 100).await;
    sink.flush().await.unwrap();
    let mut values = parts[0].values();
    assert!(values.len() > 100, "the answer that was lost made duplicates");
    values.sort_unstable();
    values.dedup();
    assert_eq!(values, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_batch_too_large_is_split_and_later_ones_are_smaller() {
    let (mut sink, parts) = sink(1);
    parts[0].script().most_records = Some(3);
    send_numbers(&mut sink, Some(b"k"), 50).await;
    sink.flush().await.unwrap();
    assert_eq!(parts[0].values(), (0..50).collect::<Vec<_>>());
    assert_eq!(sink.totals().acknowledged, 50);
}

#[tokio::test]
async fn one_record_that_is_refused_is_dropped_alone() {
    let (mut sink, parts) = sink(1);
    parts[0].script().too_large = Some(5u32.to_be_bytes().to_vec());
    parts[0].script().answers = VecDeque::from([Lost]);
    send_numbers(&mut sink, Some(b"k"), 10).await;
    sink.flush().await.unwrap();
    assert_eq!(parts[0].values(), [0, 1, 2, 3, 4, 6, 7, 8, 9]);
    let totals = sink.totals();
    assert_eq!((totals.acknowledged, totals.dropped, totals.unsent()), (9, 1, 0));
}

#[tokio::test]
async fn a_full_buffer_makes_send_wait_and_nothing_is_lost() {
    let (mut sink, parts) = sink(1);
    parts[0].script().answers = std::iter::repeat_n(Refused(ErrorKind::Transient), 1000).collect();
    let sending = send_numbers(&mut sink, Some(b"k"), 1000);
    let outcome = tokio::time::timeout(Duration::from_millis(1000), sending).await;
    assert!(outcome.is_err(), "must wait while Kafka is away");
    let accepted = sink.totals().accepted;
    assert!((100..200).contains(&accepted), "held is bounded: {accepted}");
    // 100, 200, 400 ms apart: attempts are few.
    assert!((3..=5).contains(&parts[0].script().requests));
    parts[0].script().answers.clear();
    sink.flush().await.unwrap();
    assert_eq!(parts[0].values(), (0..accepted as u32).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_partition_that_cannot_be_written_to_is_a_problem_until_it_can() {
    let (mut sink, parts) = sink(2);
    let monitor = sink.monitor();
    parts[0].script().answers = std::iter::repeat_n(Refused(ErrorKind::Moved), 1000).collect();
    for partition in [0, 1] {
        let key = (0_u8..).map(|byte| [byte]).find(|key| partition_of(key, 2) == partition).unwrap();
        sink.send(Some(&key), b"", Instant::now()).await.unwrap();
    }
    let flushing = async {
        while monitor.problem().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(monitor.acknowledged(), 1, "the other partition works");
        parts[0].script().answers.clear();
    };
    let (flushed, ()) = tokio::join!(sink.flush(), flushing);
    flushed.unwrap();
    assert_eq!((monitor.acknowledged(), monitor.problem()), (2, None));
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
    parts[0].script().answers = VecDeque::from([Refused(ErrorKind::Authorization)]);
    parts[1].script().answers = VecDeque::from([Refused(ErrorKind::Authorization)]);
    send_numbers(&mut refused, None, 1).await;
    assert_eq!(refused.flush().await.unwrap_err().kind, ErrorKind::Authorization);
    assert_eq!(refused.send(None, b"", Instant::now()).await.unwrap_err().kind, ErrorKind::Authorization);
    assert_eq!(refused.close().await.unsent(), 1);

    let (mut sink, parts) = sink(1);
    send_numbers(&mut sink, None, 1).await;
    sink.flush().await.unwrap();
    parts[0].script().answers =
        VecDeque::from([Refused(ErrorKind::Authorization), Refused(ErrorKind::Authentication)]);
    send_numbers(&mut sink, None, 1).await;
    sink.flush().await.unwrap();
    assert_eq!(parts[0].values(), [0, 0]);
}

#[tokio::test]
async fn whoever_asks_is_told_of_every_acknowledged_value() {
    let seen: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let told = Arc::clone(&seen);
    let acknowledged: Acknowledged =
        Arc::new(move |batch| told.lock().unwrap().extend(batch.values().map(<[u8]>::to_vec)));
    let options = SinkSettings {
        linger: LIMITS.linger,
        compression: Compression::None,
        acknowledged: Some(acknowledged),
    };
    let part = Part::default();
    part.script().most_records = Some(2);
    let mut sink = Sink::with(vec![part], "t", LIMITS, options).unwrap();
    send_numbers(&mut sink, None, 30).await;
    sink.flush().await.unwrap();
    assert_eq!(*seen.lock().unwrap(), (0u32..30).map(|i| i.to_be_bytes().to_vec()).collect::<Vec<_>>());
}

#[test]
fn what_partitions_hold_together_is_bounded_however_many_there_are() {
    for compression in [Compression::None, Compression::Gzip, Compression::Snappy] {
        let options = SinkSettings { linger: LIMITS.linger, compression, acknowledged: None };
        for partitions in [1, 4, 200, 700] {
            let limits = limits_for(partitions, &options);
            assert!(limits.held_bytes * partitions as usize <= HELD_BYTES, "{partitions}");
            assert!((4096..=limits.held_bytes / 2).contains(&limits.batch_bytes), "{partitions}");
        }
        assert_eq!(limits_for(i32::MAX, &options).held_bytes, LEAST_HELD_BYTES);
    }
}
