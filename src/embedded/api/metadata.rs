//! Metadata, versions 4 to 12: the one broker, which leads every partition, and the topics.

use super::super::codes::ErrorCode;
use super::super::topic_store::{TopicInfo, is_valid_topic};
use super::super::wire::{AnswerWriter, MalformedRequest, RequestReader};
use super::super::{NODE_ID, SharedBroker};
use super::{AnswerHead, code};

/// Stands for the user's permissions, which were not requested.
const RIGHTS_NOT_ASKED: i32 = i32::MIN;

#[derive(Debug)]
pub(super) struct Metadata<'a> {
    /// The requested topics; `None` for all.
    topics: Option<Vec<&'a str>>,
    may_create: bool,
}

impl<'a> Metadata<'a> {
    pub(super) fn parse(reader: &mut RequestReader<'a>) -> Result<Self, MalformedRequest> {
        let topics = reader.nullable_array(|reader| {
            if reader.version >= 10 {
                let _topic_id = reader.uuid()?;
            }
            // Without a name the id counts, from version 12 on; here clients only send names.
            let name = reader.nullable_string()?.ok_or(MalformedRequest)?;
            reader.tagged_fields()?;
            Ok(name)
        })?;
        let may_create = reader.boolean()?;
        if (8..=10).contains(&reader.version) {
            let _with_cluster_rights = reader.boolean()?;
        }
        if reader.version >= 8 {
            let _with_topic_rights = reader.boolean()?;
        }
        reader.tagged_fields()?;
        Ok(Self { topics, may_create })
    }

    pub(super) fn answer(&self, broker: &SharedBroker, head: AnswerHead) -> AnswerWriter {
        let address = broker.advertised();
        let mut answer = head.answer();
        answer.int32(head.throttle_ms);
        answer.length(1);
        answer.int32(NODE_ID);
        answer.string(&address.ip().to_string());
        answer.int32(address.port().into());
        answer.nullable_string(None);
        answer.no_tagged_fields();
        answer.nullable_string(Some(&broker.cluster_id));
        answer.int32(NODE_ID);
        match &self.topics {
            Some(names) => {
                answer.length(names.len());
                for name in names {
                    write_topic(&mut answer, name, self.find(broker, name), head);
                }
            }
            None => {
                let all = broker.store.topics();
                answer.length(all.len());
                for (name, topic) in all {
                    write_topic(&mut answer, &name, Ok(topic), head);
                }
            }
        }
        if (8..=10).contains(&answer.version) {
            answer.int32(RIGHTS_NOT_ASKED);
        }
        answer.no_tagged_fields();
        answer
    }

    /// The topic. As with Kafka, one that this creates is known from the next request on.
    fn find(&self, broker: &SharedBroker, name: &str) -> Result<TopicInfo, ErrorCode> {
        if let Some(topic) = broker.store.topic(name) {
            return Ok(topic);
        }
        if !is_valid_topic(name) {
            return Err(ErrorCode::InvalidTopic);
        }
        if let Some(partitions) = broker.options.auto_create_partitions.filter(|_| self.may_create) {
            broker.store.create_topic(name, partitions, false)?;
        }
        Err(ErrorCode::UnknownTopicOrPartition)
    }
}

/// A forced error becomes the topic's; "no leader" becomes that of each partition.
fn write_topic(answer: &mut AnswerWriter, name: &str, found: Result<TopicInfo, ErrorCode>, head: AnswerHead) {
    let leaderless = head.error.filter(|error| *error == ErrorCode::LeaderNotAvailable && found.is_ok());
    let found = if leaderless.is_some() { found } else { head.permit().and(found) };
    answer.int16(code(&found));
    answer.string(name);
    let topic = found.unwrap_or_default();
    if answer.version >= 10 {
        answer.uuid(topic.id);
    }
    answer.boolean(false);
    answer.length(topic.leader_epochs.len());
    for (partition, epoch) in (0..).zip(topic.leader_epochs) {
        write_partition(answer, partition, epoch, leaderless);
    }
    if answer.version >= 8 {
        answer.int32(RIGHTS_NOT_ASKED);
    }
    answer.no_tagged_fields();
}

fn write_partition(
    answer: &mut AnswerWriter,
    partition: i32,
    leader_epoch: i32,
    leaderless: Option<ErrorCode>,
) {
    answer.int16(leaderless.map_or(0, ErrorCode::code));
    answer.int32(partition);
    answer.int32(if leaderless.is_some() { -1 } else { NODE_ID });
    if answer.version >= 7 {
        answer.int32(leader_epoch);
    }
    // Replicas, then in-sync replicas.
    for _ in 0..2 {
        answer.length(1);
        answer.int32(NODE_ID);
    }
    if answer.version >= 5 {
        // No offline replicas.
        answer.length(0);
    }
    answer.no_tagged_fields();
}
