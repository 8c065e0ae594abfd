//! Fetch, version 4: whole batches, waiting for the first bytes as long as the client allows.
//!
//! An answer waits until `min_bytes` are there or `max_wait` is over; an error of any partition, or a client that
//! accepts no bytes, does not wait. The wait is one notification that the partitions give at their next change.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::super::Shared;
use super::super::store::{Found, Wanted};
use super::super::wire::{Answer, Malformed, Reader};
use super::{Outcome, code};

/// Most bytes in one answer, whatever the client allows (the default of Kafka's `fetch.max.bytes`).
const MAX_ANSWER_BYTES: usize = 55 << 20;

#[derive(Debug)]
pub(super) struct Fetch<'a> {
    max_wait: Duration,
    min_bytes: usize,
    max_bytes: usize,
    topics: Vec<(&'a str, Vec<Wanted>)>,
}

/// A size or a time that is not negative.
fn positive<T: TryFrom<i32> + Default>(value: i32) -> T {
    T::try_from(value).unwrap_or_default()
}

impl<'a> Fetch<'a> {
    pub(super) fn parse(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let _replica_id = reader.int32()?;
        let max_wait = Duration::from_millis(positive(reader.int32()?));
        let min_bytes = positive(reader.int32()?);
        let max_bytes = positive::<usize>(reader.int32()?).min(MAX_ANSWER_BYTES);
        // There are no transactions here, so what is committed and what is not is the same.
        let _isolation_level = reader.int8()?;
        let topics = reader.array(|reader| {
            let name = reader.string()?;
            let partitions = reader.array(|reader| {
                let partition = reader.int32()?;
                let offset = reader.int64()?;
                Ok(Wanted { partition, offset, max_bytes: positive(reader.int32()?) })
            })?;
            Ok((name, partitions))
        })?;
        Ok(Self { max_wait, min_bytes, max_bytes, topics })
    }

    pub(super) fn touches(&self, partition: i32) -> bool {
        self.topics.iter().flat_map(|(_, all)| all).any(|wanted| wanted.partition == partition)
    }

    pub(super) async fn answer(&self, broker: &Shared, outcome: Outcome) -> Answer {
        let found = match outcome.error {
            None => self.wait(broker).await,
            Some(error) => {
                let partitions = self.topics.iter().map(|(_, all)| all.len()).sum();
                Found {
                    slices: std::iter::repeat_with(|| Err(error)).take(partitions).collect(),
                    complete: true,
                }
            }
        };
        self.write(found, outcome)
    }

    async fn wait(&self, broker: &Shared) -> Found {
        let deadline = Instant::now() + self.max_wait;
        let waiter = Arc::new(Notify::new());
        let min_bytes = self.min_bytes.min(self.max_bytes);
        let mut over = self.max_wait.is_zero();
        loop {
            let found = broker.store.read(&self.topics, min_bytes, self.max_bytes, &waiter);
            if found.complete || over {
                return found;
            }
            over = timeout_at(deadline, waiter.notified()).await.is_err();
        }
    }

    fn write(&self, found: Found, outcome: Outcome) -> Answer {
        let mut slices = found.slices.into_iter();
        let mut answer = Answer::new(outcome.correlation_id);
        answer.int32(outcome.throttle_ms);
        answer.length(self.topics.len());
        for (topic, all) in &self.topics {
            answer.string(topic);
            answer.length(all.len());
            for (wanted, slice) in all.iter().zip(&mut slices) {
                answer.int32(wanted.partition);
                answer.int16(code(&slice));
                let high_watermark = slice.as_ref().map_or(-1, |slice| slice.high_watermark);
                answer.int64(high_watermark);
                // The last stable offset, and no aborted transactions.
                answer.int64(high_watermark);
                answer.length(0);
                answer.record_set(slice.map(|slice| slice.batches).unwrap_or_default());
            }
        }
        answer
    }
}
