//! Produce, versions 3 to 8: one batch for each partition, appended or refused on its own. InitProducerId, versions 0
//! and 1.

use std::sync::Arc;

use super::super::SharedBroker;
use super::super::batch::check_produced;
use super::super::codes::ErrorCode;
use super::super::topic_store::Appended;
use super::super::wire::{AnswerWriter, MalformedRequest, RequestReader};
use super::{AnswerHead, code};

#[derive(Debug)]
pub(super) struct Produce<'a> {
    acks: i16,
    topics: Vec<(&'a str, Vec<PartitionRecords<'a>>)>,
}

#[derive(Debug)]
struct PartitionRecords<'a> {
    partition: i32,
    records: &'a [u8],
}

impl<'a> Produce<'a> {
    pub(super) fn parse(reader: &mut RequestReader<'a>) -> Result<Self, MalformedRequest> {
        let _transactional_id = reader.nullable_string()?;
        let acks = reader.int16()?;
        if acks == 0 {
            // acks=0: the producer expects no answer. rskafka always expects one.
            return Err(MalformedRequest);
        }
        let _timeout_ms = reader.int32()?;
        let topics = reader.topics(|reader| {
            let partition = reader.int32()?;
            Ok(PartitionRecords { partition, records: reader.nullable_bytes()?.unwrap_or_default() })
        })?;
        Ok(Self { acks, topics })
    }

    pub(super) fn touches(&self, partition: i32) -> bool {
        self.topics.iter().flat_map(|(_, parts)| parts).any(|part| part.partition == partition)
    }

    pub(super) fn answer(&self, broker: &SharedBroker, head: AnswerHead) -> AnswerWriter {
        let mut answer = head.answer();
        answer.topics(&self.topics, |answer, topic, part| {
            let result = head.permit().and_then(|()| self.append(broker, topic, part));
            answer.int32(part.partition);
            answer.int16(code(&result));
            answer.int64(result.map_or(-1, |appended| appended.base_offset));
            // No append time: topics keep the producers' timestamps.
            answer.int64(result.map_or(-1, |appended| appended.known_time_ms));
            if answer.version >= 5 {
                answer.int64(result.map_or(-1, |appended| appended.log_start_offset));
            }
            if answer.version >= 8 {
                // No record errors and no message: the code is enough.
                answer.length(0);
                answer.nullable_string(None);
            }
        });
        answer.int32(head.throttle_ms);
        answer
    }

    fn append(
        &self,
        broker: &SharedBroker,
        topic: &str,
        part: &PartitionRecords<'_>,
    ) -> Result<Appended, ErrorCode> {
        if !matches!(self.acks, -1 | 1) {
            return Err(ErrorCode::InvalidRequiredAcks);
        }
        broker.store.bounds(topic, part.partition)?;
        let (batch, header) = check_produced(part.records, broker.options.max_message_bytes)?;
        broker.store.append_once(topic, part.partition, Arc::from(batch), header)
    }
}

/// Requests a producer id, by which repeated batches are recognized.
#[derive(Debug)]
pub(super) struct InitProducerId {
    transactional: bool,
}

impl InitProducerId {
    pub(super) fn parse(reader: &mut RequestReader<'_>) -> Result<Self, MalformedRequest> {
        let transactional = reader.nullable_string()?.is_some();
        let _timeout_ms = reader.int32()?;
        Ok(Self { transactional })
    }

    pub(super) fn answer(&self, broker: &SharedBroker, head: AnswerHead) -> AnswerWriter {
        let result = head.permit().and_then(|()| match self.transactional {
            // No transactions here.
            true => Err(ErrorCode::TransactionalIdAuthorizationFailed),
            false => Ok(broker.next_producer_id()),
        });
        let mut answer = head.answer();
        answer.int32(head.throttle_ms);
        answer.int16(code(&result));
        answer.int64(result.unwrap_or(-1));
        answer.int16(if result.is_ok() { 0 } else { -1 });
        answer
    }
}
