//! The producers: readings of every kind, in batches. What a retry sends again the broker knows by its number, so that no
//! copy comes into the log.

use std::rc::Rc;

use weather::engine::partition::MAX_READING_BYTES;
use weather::reading::Reason;

use crate::env::NEVER;
use crate::kafka::{Kafka, Record, Slot, Truth};
use crate::plan::Plan;
use crate::prng::Prng;

#[derive(Debug)]
struct Producer {
    partition: i32,
    next_ms: i64,
}

#[derive(Debug)]
pub struct Producers {
    producers: Vec<Producer>,
    left: u32,
    /// When the flood comes.
    flood_ms: i64,
    oversized: Rc<[u8]>,
}

impl Producers {
    pub fn new(plan: &Plan, rng: &mut Prng, now_ms: i64) -> Self {
        let producer = |_| Producer { partition: 0, next_ms: now_ms };
        Self {
            producers: (0..plan.workload.producers).map(producer).collect(),
            left: plan.workload.readings,
            flood_ms: if plan.workload.flood > 0 { now_ms + rng.between(0, plan.duration_ms) } else { NEVER },
            oversized: vec![b' '; MAX_READING_BYTES + 1].into(),
        }
    }

    /// When there is something to append.
    pub fn due_ms(&self) -> i64 {
        let next = self.producers.iter().map(|p| if self.left > 0 { p.next_ms } else { NEVER });
        next.min().unwrap_or(NEVER).min(self.flood_ms)
    }

    /// Sends no new readings any more.
    pub fn stop(&mut self) {
        (self.left, self.flood_ms) = (0, NEVER);
    }

    /// Sends this many more.
    pub fn more(&mut self, readings: u32) {
        self.left += readings;
    }

    /// Appends what is due first: partition, and how many.
    pub fn step(&mut self, plan: &Plan, kafka: &mut Kafka, rng: &mut Prng, now_ms: i64) -> (i32, i64) {
        if kafka.away {
            let wait = now_ms + rng.between(50, 500);
            self.producers.iter_mut().for_each(|p| p.next_ms = p.next_ms.max(wait));
            self.flood_ms = if self.flood_ms == NEVER { NEVER } else { self.flood_ms.max(wait) };
            return (-1, 0);
        }
        if self.flood_ms <= now_ms {
            self.flood_ms = NEVER;
            return flood(plan, kafka, now_ms);
        }
        let due = (0..self.producers.len()).min_by_key(|i| self.producers[*i].next_ms).unwrap_or(0);
        let producer = &mut self.producers[due];
        producer.next_ms = now_ms + 1 + rng.between(0, 2 * plan.workload.pace_ms);
        let partitions = kafka.logs.len();
        if !rng.chance(plan.workload.sticky) {
            let lopsided = rng.chance(plan.workload.lopsided);
            producer.partition = if lopsided { 0 } else { rng.below(partitions) as i32 };
        }
        let partition = producer.partition;
        let count = (1 + rng.below(plan.workload.batch_most) as u32).min(self.left);
        self.left -= count;
        let log = kafka.log_mut(partition);
        for _ in 0..count {
            let (truth, value) = message(plan, rng, now_ms, &self.oversized);
            log.append(Slot::Record(Rc::new(Record { truth, value, appended_ms: now_ms })));
        }
        if rng.chance(plan.workload.markers) {
            log.append(Slot::Marker);
        }
        if rng.chance(plan.workload.corrupt) {
            log.append(Slot::Corrupt);
        }
        (partition, i64::from(count))
    }
}

fn flood(plan: &Plan, kafka: &mut Kafka, now_ms: i64) -> (i32, i64) {
    let log = kafka.log_mut(0);
    let value: Rc<[u8]> = b"flood".as_slice().into();
    for _ in 0..plan.workload.flood {
        let value = Some(Rc::clone(&value));
        let truth = Truth::Bad(Reason::Malformed);
        log.append(Slot::Record(Rc::new(Record { truth, value, appended_ms: now_ms })));
    }
    (0, i64::from(plan.workload.flood))
}

type Value = Option<Rc<[u8]>>;

fn message(plan: &Plan, rng: &mut Prng, now_ms: i64, oversized: &Rc<[u8]>) -> (Truth, Value) {
    if rng.chance(plan.workload.bad) {
        return bad(rng, now_ms, oversized);
    }
    let settings = &plan.settings;
    let event_time_ms = if rng.chance(plan.workload.late) {
        now_ms - rng.between(0, 3 * (settings.window_ms + settings.out_of_orderness_ms))
    } else if rng.chance(plan.workload.future) {
        now_ms + settings.max_future_ms + rng.between(-plan.skew_ms - 500, plan.skew_ms + 2_000)
    } else {
        now_ms - rng.between(0, settings.out_of_orderness_ms)
    };
    // Hundredths, so that the text is the number exactly.
    let hundredths: [Option<i64>; 3] =
        std::array::from_fn(|_| (!rng.chance(100)).then(|| rng.between(0, 5_999)));
    if hundredths == [None; 3] {
        let value = format!("{{\"timestamp\":{event_time_ms},\"humidity\":null}}");
        return (Truth::Bad(Reason::NoMetric), Some(value.into_bytes().into()));
    }
    let text = |metric: Option<i64>| {
        metric.map_or("null".to_owned(), |value| format!("{}.{:02}", value / 100, value % 100))
    };
    let [temperature, humidity, wind_speed] = hundredths.map(text);
    let station = Some(rng.below(6) as u8).filter(|number| *number > 0);
    let name = station.map_or_else(String::new, |number| format!("\"station\":\"s{number}\","));
    let value = format!(
        "{{{name}\"timestamp\":{event_time_ms},\"temperature\":{temperature},\"humidity\":{humidity},\
         \"wind_speed\":{wind_speed}}}"
    );
    let metrics = hundredths.map(|metric| metric.map(|value| value * 10_000));
    (Truth::Reading { event_time_ms, metrics, station }, Some(value.into_bytes().into()))
}

fn bad(rng: &mut Prng, now_ms: i64, oversized: &Rc<[u8]>) -> (Truth, Value) {
    let value = |text: String| Some(text.into_bytes().into());
    let (reason, value) = match rng.below(8) {
        0 => (Reason::Malformed, value(format!("{{\"timestamp\":{now_ms},\"temperature\":"))),
        1 => (Reason::Malformed, Some([0xff, 0xfe].as_slice().into())),
        2 => (Reason::Malformed, value(String::new())),
        3 => (Reason::Malformed, None),
        4 => (Reason::MissingTimestamp, value("{\"temperature\":1}".to_owned())),
        5 => (Reason::NoMetric, value(format!("{{\"timestamp\":{now_ms}}}"))),
        6 => (Reason::NoMetric, value(format!("{{\"timestamp\":{now_ms},\"temperature\":70.5}}"))),
        _ if rng.chance(30) => (Reason::Oversized, Some(Rc::clone(oversized))),
        _ => (Reason::Malformed, value("{\"timestamp\":-5,\"temperature\":7}".to_owned())),
    };
    (Truth::Bad(reason), value)
}
