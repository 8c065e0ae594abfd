//! ListOffsets, versions 2 to 6 (the earliest offset, the latest, the first since a time), and DeleteRecords, version 2.

use super::super::SharedBroker;
use super::super::codes::ErrorCode;
use super::super::partition_log::ANY_EPOCH;
use super::super::wire::{AnswerWriter, MalformedRequest, RequestReader};
use super::{AnswerHead, code};

/// Requests the end of the log.
const LATEST: i64 = -1;
/// Requests its start.
const EARLIEST: i64 = -2;

#[derive(Debug)]
pub(super) struct ListOffsets<'a> {
    /// Topics, each with partitions.
    topics: Vec<(&'a str, Vec<Asked>)>,
}

/// What is requested of a partition.
#[derive(Debug, Clone, Copy)]
struct Asked {
    partition: i32,
    leader_epoch: i32,
    time: i64,
}

impl<'a> ListOffsets<'a> {
    pub(super) fn parse(reader: &mut RequestReader<'a>) -> Result<Self, MalformedRequest> {
        let _replica_id = reader.int32()?;
        let _isolation_level = reader.int8()?;
        let topics = reader.topics(|reader| {
            let partition = reader.int32()?;
            let leader_epoch = if reader.version >= 4 { reader.int32()? } else { ANY_EPOCH };
            Ok(Asked { partition, leader_epoch, time: reader.int64()? })
        })?;
        reader.tagged_fields()?;
        Ok(Self { topics })
    }

    pub(super) fn touches(&self, partition: i32) -> bool {
        self.topics.iter().flat_map(|(_, all)| all).any(|asked| asked.partition == partition)
    }

    pub(super) fn answer(&self, broker: &SharedBroker, head: AnswerHead) -> AnswerWriter {
        let mut answer = head.answer();
        answer.int32(head.throttle_ms);
        answer.topics(&self.topics, |answer, topic, asked| {
            let result = head.permit().and_then(|()| find(broker, topic, asked));
            answer.int32(asked.partition);
            answer.int16(code(&result));
            let (offset, timestamp_ms) = result.unwrap_or((-1, -1));
            answer.int64(timestamp_ms);
            answer.int64(offset);
            if answer.version >= 4 {
                let found = Some(asked.partition).filter(|_| offset >= 0);
                let epoch = found.and_then(|found| broker.store.leader_epoch(topic, found).ok());
                answer.int32(epoch.unwrap_or(ANY_EPOCH));
            }
        });
        answer.no_tagged_fields();
        answer
    }
}

/// Offset and timestamp (ms); -1 stands for none.
fn find(broker: &SharedBroker, topic: &str, asked: &Asked) -> Result<(i64, i64), ErrorCode> {
    let Asked { partition, leader_epoch, time } = *asked;
    let (start, end) = broker.store.bounds(topic, partition)?;
    broker.store.check_epoch(topic, partition, leader_epoch)?;
    if time == LATEST {
        return Ok((end, -1));
    }
    if time == EARLIEST {
        return Ok((start, -1));
    }
    if time < 0 {
        // Other special times came with later versions.
        return Err(ErrorCode::UnsupportedVersion);
    }
    Ok(broker.store.first_since(topic, partition, time)?.unwrap_or((-1, -1)))
}

#[derive(Debug)]
pub(super) struct DeleteRecords<'a> {
    /// Topics, each with partitions and the offsets below which records go.
    topics: Vec<(&'a str, Vec<(i32, i64)>)>,
}

impl<'a> DeleteRecords<'a> {
    pub(super) fn parse(reader: &mut RequestReader<'a>) -> Result<Self, MalformedRequest> {
        let topics = reader.topics(|reader| Ok((reader.int32()?, reader.int64()?)))?;
        let _timeout_ms = reader.int32()?;
        reader.tagged_fields()?;
        Ok(Self { topics })
    }

    pub(super) fn touches(&self, partition: i32) -> bool {
        self.topics.iter().flat_map(|(_, all)| all).any(|(asked, _)| *asked == partition)
    }

    pub(super) fn answer(&self, broker: &SharedBroker, head: AnswerHead) -> AnswerWriter {
        let mut answer = head.answer();
        answer.int32(head.throttle_ms);
        answer.topics(&self.topics, |answer, topic, (partition, before)| {
            let delete = || broker.store.delete_before(topic, *partition, *before);
            let result = head.permit().and_then(|()| delete());
            answer.int32(*partition);
            answer.int64(*result.as_ref().unwrap_or(&-1));
            answer.int16(code(&result));
        });
        answer.no_tagged_fields();
        answer
    }
}
