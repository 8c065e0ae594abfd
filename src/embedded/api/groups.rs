//! The offsets of consumer groups: FindCoordinator, versions 0 to 2, OffsetCommit, 2 to 7, and OffsetFetch, 1 to 5.
//!
//! Groups here have no members, so offsets are committed from outside, as administration tools do. A client that names a
//! generation of members is refused.

use super::super::codes::ErrorCode;
use super::super::groups::check_name;
use super::super::wire::{AnswerWriter, MalformedRequest, RequestReader};
use super::super::{NODE_ID, SharedBroker};
use super::{AnswerHead, code};

/// Longest metadata that may be sent with an offset, as Kafka's `offset.metadata.max.bytes`. It is not stored here.
const MAX_NOTE: usize = 4_096;
/// Asks for the coordinator of a group, not of transactions.
const GROUP: i8 = 0;

#[derive(Debug)]
pub(super) struct FindCoordinator {
    for_group: bool,
}

impl FindCoordinator {
    pub(super) fn parse(reader: &mut RequestReader<'_>) -> Result<Self, MalformedRequest> {
        let _name = reader.string()?;
        Ok(Self { for_group: reader.version == 0 || reader.int8()? == GROUP })
    }

    pub(super) fn answer(&self, broker: &SharedBroker, head: AnswerHead) -> AnswerWriter {
        let missing = if self.for_group { Ok(()) } else { Err(ErrorCode::CoordinatorNotAvailable) };
        let found = head.permit().and(missing);
        let mut answer = head.answer();
        if answer.version >= 1 {
            answer.int32(head.throttle_ms);
        }
        answer.int16(code(&found));
        if answer.version >= 1 {
            answer.nullable_string(None);
        }
        let address = broker.advertised();
        answer.int32(if found.is_ok() { NODE_ID } else { -1 });
        answer.string(&if found.is_ok() { address.ip().to_string() } else { String::new() });
        answer.int32(if found.is_ok() { address.port().into() } else { -1 });
        answer
    }
}

#[derive(Debug)]
pub(super) struct OffsetCommit<'a> {
    group: &'a str,
    from_member: bool,
    topics: Vec<(&'a str, Vec<Commit>)>,
}

#[derive(Debug)]
struct Commit {
    partition: i32,
    offset: i64,
    note_too_long: bool,
}

impl<'a> OffsetCommit<'a> {
    pub(super) fn parse(reader: &mut RequestReader<'a>) -> Result<Self, MalformedRequest> {
        let group = reader.string()?;
        let generation = reader.int32()?;
        let _member = reader.string()?;
        if reader.version <= 4 {
            let _retention_ms = reader.int64()?;
        }
        if reader.version >= 7 {
            let _instance = reader.nullable_string()?;
        }
        let topics = reader.topics(Commit::parse)?;
        Ok(Self { group, from_member: generation >= 0, topics })
    }

    pub(super) fn touches(&self, partition: i32) -> bool {
        self.topics.iter().flat_map(|(_, all)| all).any(|commit| commit.partition == partition)
    }

    pub(super) fn answer(&self, broker: &SharedBroker, head: AnswerHead) -> AnswerWriter {
        let mut answer = head.answer();
        if answer.version >= 3 {
            answer.int32(head.throttle_ms);
        }
        answer.topics(&self.topics, |answer, topic, commit| {
            let result = head.permit().and_then(|()| self.commit(broker, topic, commit));
            answer.int32(commit.partition);
            answer.int16(code(&result));
        });
        answer
    }

    fn commit(&self, broker: &SharedBroker, topic: &str, commit: &Commit) -> Result<(), ErrorCode> {
        check_name(self.group)?;
        if self.from_member {
            return Err(ErrorCode::UnknownMemberId);
        }
        if commit.note_too_long {
            return Err(ErrorCode::OffsetMetadataTooLarge);
        }
        broker.store.bounds(topic, commit.partition)?;
        let id = broker.store.topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?.id;
        broker.groups.commit(self.group, (topic, id), commit.partition, commit.offset)
    }
}

impl Commit {
    fn parse(reader: &mut RequestReader<'_>) -> Result<Self, MalformedRequest> {
        let partition = reader.int32()?;
        let offset = reader.int64()?;
        if reader.version >= 6 {
            let _leader_epoch = reader.int32()?;
        }
        let note = reader.nullable_string()?.unwrap_or_default();
        Ok(Self { partition, offset, note_too_long: note.len() > MAX_NOTE })
    }
}

#[derive(Debug)]
pub(super) struct OffsetFetch<'a> {
    group: &'a str,
    /// What is requested; `None` for all.
    topics: Option<Vec<(&'a str, Vec<i32>)>>,
}

impl<'a> OffsetFetch<'a> {
    pub(super) fn parse(reader: &mut RequestReader<'a>) -> Result<Self, MalformedRequest> {
        let group = reader.string()?;
        let topics =
            reader.nullable_array(|reader| Ok((reader.string()?, reader.array(RequestReader::int32)?)))?;
        Ok(Self { group, topics })
    }

    pub(super) fn answer(&self, broker: &SharedBroker, head: AnswerHead) -> AnswerWriter {
        let mut answer = head.answer();
        if answer.version >= 3 {
            answer.int32(head.throttle_ms);
        }
        match &self.topics {
            Some(topics) => self.write_topics(&mut answer, broker, head, topics),
            None => {
                let all = broker.groups.partitions(self.group);
                let all: Vec<_> = all.iter().map(|(topic, all)| (topic.as_str(), all.clone())).collect();
                self.write_topics(&mut answer, broker, head, &all);
            }
        }
        if answer.version >= 2 {
            answer.int16(code(&head.permit()));
        }
        answer
    }

    fn write_topics(
        &self,
        answer: &mut AnswerWriter,
        broker: &SharedBroker,
        head: AnswerHead,
        topics: &[(&str, Vec<i32>)],
    ) {
        answer.topics(topics, |answer, topic, partition| {
            let id = broker.store.topic(topic).unwrap_or_default().id;
            let offset = broker.groups.committed(self.group, (topic, id), *partition);
            answer.int32(*partition);
            answer.int64(offset.unwrap_or(-1));
            if answer.version >= 5 {
                answer.int32(-1);
            }
            answer.nullable_string(Some(""));
            answer.int16(code(&head.permit()));
        });
    }
}
