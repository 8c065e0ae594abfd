//! CreateTopics, versions 2 to 5, and DeleteTopics, version 5.

use super::super::SharedBroker;
use super::super::codes::ErrorCode;
use super::super::wire::{AnswerWriter, MalformedRequest, RequestReader};
use super::{AnswerHead, code};

/// Stands for the broker's default number of partitions or replicas.
const DEFAULT: i32 = -1;

#[derive(Debug)]
pub(super) struct CreateTopics<'a> {
    topics: Vec<NewTopic<'a>>,
    only_check: bool,
}

#[derive(Debug)]
struct NewTopic<'a> {
    name: &'a str,
    partitions: i32,
    replicas: i16,
    assigned: bool,
    configured: bool,
}

impl<'a> NewTopic<'a> {
    fn parse(reader: &mut RequestReader<'a>) -> Result<Self, MalformedRequest> {
        let name = reader.string()?;
        let partitions = reader.int32()?;
        let replicas = reader.int16()?;
        let assignments = reader.array(|reader| {
            let _partition = reader.int32()?;
            reader.array(RequestReader::int32)?;
            reader.tagged_fields()
        })?;
        let configs = reader.array(|reader| {
            let _name = reader.string()?;
            let _value = reader.nullable_string()?;
            reader.tagged_fields()
        })?;
        reader.tagged_fields()?;
        Ok(Self {
            name,
            partitions,
            replicas,
            assigned: !assignments.is_empty(),
            configured: !configs.is_empty(),
        })
    }

    /// Creates the topic; returns its number of partitions.
    fn create(&self, broker: &SharedBroker, only_check: bool) -> Result<i32, ErrorCode> {
        if broker.store.topic(self.name).is_some() {
            return Err(ErrorCode::TopicAlreadyExists);
        }
        if self.assigned {
            return Err(ErrorCode::InvalidReplicaAssignment);
        }
        if self.replicas != -1 && self.replicas < 1 {
            return Err(ErrorCode::InvalidReplicationFactor);
        }
        if self.partitions != DEFAULT && self.partitions < 1 {
            return Err(ErrorCode::InvalidPartitions);
        }
        // One broker, so one replica of each partition.
        if self.replicas > 1 {
            return Err(ErrorCode::InvalidReplicationFactor);
        }
        if self.configured {
            return Err(ErrorCode::InvalidConfig);
        }
        let partitions = if self.partitions == DEFAULT { 1 } else { self.partitions };
        broker.store.create_topic(self.name, partitions, only_check)?;
        Ok(partitions)
    }
}

/// A description of the error, for the client's log.
fn explain(error: ErrorCode) -> &'static str {
    match error {
        ErrorCode::TopicAlreadyExists => "The topic already exists.",
        ErrorCode::InvalidTopic => {
            "A topic's name is 1 to 249 of the characters a-z, A-Z, 0-9, '.', '_' and '-'."
        }
        ErrorCode::InvalidPartitions => "The number of partitions must be larger than 0.",
        ErrorCode::InvalidReplicationFactor => {
            "There is one broker: the number of replicas must be 1, or -1."
        }
        ErrorCode::InvalidReplicaAssignment => "This broker takes no manual assignment of partitions.",
        ErrorCode::InvalidConfig => "This broker takes no topic configuration.",
        ErrorCode::PolicyViolation => "This broker holds no more partitions.",
        ErrorCode::UnknownTopicOrPartition => "There is no such topic.",
        _ => "The request failed.",
    }
}

impl<'a> CreateTopics<'a> {
    pub(super) fn parse(reader: &mut RequestReader<'a>) -> Result<Self, MalformedRequest> {
        let topics = reader.array(NewTopic::parse)?;
        let _timeout_ms = reader.int32()?;
        let only_check = reader.boolean()?;
        reader.tagged_fields()?;
        Ok(Self { topics, only_check })
    }

    pub(super) fn answer(&self, broker: &SharedBroker, head: AnswerHead) -> AnswerWriter {
        let mut answer = head.answer();
        answer.int32(head.throttle_ms);
        answer.length(self.topics.len());
        for topic in &self.topics {
            let result = head.permit().and_then(|()| topic.create(broker, self.only_check));
            answer.string(topic.name);
            answer.int16(code(&result));
            answer.nullable_string(result.err().map(explain));
            if answer.version >= 5 {
                answer.int32(result.unwrap_or(-1));
                answer.int16(if result.is_ok() { 1 } else { -1 });
                // No configuration.
                answer.length(0);
            }
            answer.no_tagged_fields();
        }
        answer.no_tagged_fields();
        answer
    }
}

#[derive(Debug)]
pub(super) struct DeleteTopics<'a> {
    names: Vec<&'a str>,
}

impl<'a> DeleteTopics<'a> {
    pub(super) fn parse(reader: &mut RequestReader<'a>) -> Result<Self, MalformedRequest> {
        let names = reader.array(RequestReader::string)?;
        let _timeout_ms = reader.int32()?;
        reader.tagged_fields()?;
        Ok(Self { names })
    }

    pub(super) fn answer(&self, broker: &SharedBroker, head: AnswerHead) -> AnswerWriter {
        let mut answer = head.answer();
        answer.int32(head.throttle_ms);
        answer.length(self.names.len());
        for name in &self.names {
            let result = head.permit().and_then(|()| broker.store.delete_topic(name));
            answer.string(name);
            answer.int16(code(&result));
            answer.nullable_string(result.err().map(explain));
            answer.no_tagged_fields();
        }
        answer.no_tagged_fields();
        answer
    }
}
