//! Fetch, versions 4 to 13: whole batches, waiting for the first bytes as long as the client allows.
//!
//! An answer waits until `min_bytes` are available or `max_wait` has passed, and is notified when a partition changes. An
//! error of any partition, or a client that accepts no bytes, is answered at once. There are no fetch sessions: a client
//! that requests one gets none.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::super::SharedBroker;
use super::super::codes::ErrorCode;
use super::super::partition_log::{ANY_EPOCH, PartitionFetch, Slice};
use super::super::topic_store::{FetchResults, TopicName};
use super::super::wire::{AnswerWriter, MalformedRequest, RequestReader};
use super::{AnswerHead, code};

/// Maximum bytes in one answer, even if the client allows more (the default of Kafka's `fetch.max.bytes`).
const MAX_ANSWER_BYTES: usize = 55 << 20;

#[derive(Debug)]
pub(super) struct Fetch<'a> {
    max_wait: Duration,
    min_bytes: usize,
    max_bytes: usize,
    topics: Vec<(TopicName<'a>, Vec<PartitionFetch>)>,
}

/// A size or a time that is not negative.
fn positive<T: TryFrom<i32> + Default>(value: i32) -> T {
    T::try_from(value).unwrap_or_default()
}

fn wanted(reader: &mut RequestReader<'_>) -> Result<PartitionFetch, MalformedRequest> {
    let partition = reader.int32()?;
    let leader_epoch = if reader.version >= 9 { reader.int32()? } else { ANY_EPOCH };
    let offset = reader.int64()?;
    let last_epoch = if reader.version >= 12 { reader.int32()? } else { ANY_EPOCH };
    if reader.version >= 5 {
        let _log_start_offset = reader.int64()?;
    }
    let max_bytes = positive(reader.int32()?);
    reader.tagged_fields()?;
    Ok(PartitionFetch { partition, offset, leader_epoch, last_epoch, max_bytes })
}

impl<'a> Fetch<'a> {
    pub(super) fn parse(reader: &mut RequestReader<'a>) -> Result<Self, MalformedRequest> {
        let _replica_id = reader.int32()?;
        let max_wait = Duration::from_millis(positive(reader.int32()?));
        let min_bytes = positive(reader.int32()?);
        let max_bytes = positive::<usize>(reader.int32()?).min(MAX_ANSWER_BYTES);
        // There are no transactions here, so both isolation levels see the same.
        let _isolation_level = reader.int8()?;
        if reader.version >= 7 {
            let _session = (reader.int32()?, reader.int32()?);
        }
        let topics = reader.array(|reader| {
            let name = match reader.version {
                ..13 => TopicName::Name(reader.string()?),
                _ => TopicName::Id(reader.uuid()?),
            };
            let partitions = reader.array(wanted)?;
            reader.tagged_fields()?;
            Ok((name, partitions))
        })?;
        if reader.version >= 7 {
            // Partitions to remove from a session.
            reader.array(|reader| {
                match reader.version {
                    ..13 => reader.string().map(drop)?,
                    _ => reader.uuid().map(drop)?,
                }
                reader.array(RequestReader::int32)?;
                reader.tagged_fields()
            })?;
        }
        if reader.version >= 11 {
            let _rack = reader.string()?;
        }
        reader.tagged_fields()?;
        Ok(Self { max_wait, min_bytes, max_bytes, topics })
    }

    pub(super) fn touches(&self, partition: i32) -> bool {
        self.topics.iter().flat_map(|(_, all)| all).any(|wanted| wanted.partition == partition)
    }

    pub(super) async fn answer(&self, broker: &SharedBroker, head: AnswerHead) -> AnswerWriter {
        let found = match head.error {
            None => self.wait(broker).await,
            Some(error) => {
                let partitions = self.topics.iter().map(|(_, all)| all.len()).sum();
                FetchResults {
                    slices: std::iter::repeat_with(|| Err(error)).take(partitions).collect(),
                    complete: true,
                }
            }
        };
        self.write(found, head)
    }

    async fn wait(&self, broker: &SharedBroker) -> FetchResults {
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

    fn write(&self, found: FetchResults, head: AnswerHead) -> AnswerWriter {
        let mut slices = found.slices.into_iter();
        let mut answer = head.answer();
        answer.int32(head.throttle_ms);
        if answer.version >= 7 {
            // No top-level error, and no session.
            answer.int16(0);
            answer.int32(0);
        }
        answer.length(self.topics.len());
        for (topic, all) in &self.topics {
            match topic {
                TopicName::Name(name) => answer.string(name),
                TopicName::Id(id) => answer.uuid(*id),
            }
            answer.length(all.len());
            for (wanted, slice) in all.iter().zip(&mut slices) {
                write_partition(&mut answer, wanted.partition, slice);
            }
            answer.no_tagged_fields();
        }
        answer.no_tagged_fields();
        answer
    }
}

fn write_partition(answer: &mut AnswerWriter, partition: i32, slice: Result<Slice, ErrorCode>) {
    answer.int32(partition);
    answer.int16(code(&slice));
    let (high_watermark, log_start_offset) =
        slice.as_ref().map_or((-1, -1), |slice| (slice.high_watermark, slice.log_start_offset));
    answer.int64(high_watermark);
    // The last stable offset.
    answer.int64(high_watermark);
    if answer.version >= 5 {
        answer.int64(log_start_offset);
    }
    // No aborted transactions.
    answer.length(0);
    if answer.version >= 11 {
        // No preferred replica.
        answer.int32(-1);
    }
    let slice = slice.unwrap_or_default();
    answer.record_set(slice.batches);
    match slice.diverged {
        // Happens only in versions that have tagged fields.
        Some((epoch, end_offset)) => answer.tagged_field(0, |field| {
            field.int32(epoch);
            field.int64(end_offset);
            field.no_tagged_fields();
        }),
        None => answer.no_tagged_fields(),
    }
}
