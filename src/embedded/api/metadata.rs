//! Metadata, version 4: the one broker, which leads every partition, and the topics.

use super::super::codes::ErrorCode;
use super::super::store::is_valid_topic;
use super::super::wire::{Answer, Malformed, Reader};
use super::super::{NODE_ID, Shared};
use super::{Outcome, code};

#[derive(Debug)]
pub(super) struct Metadata<'a> {
    /// The topics asked for; `None` for all.
    topics: Option<Vec<&'a str>>,
    may_create: bool,
}

impl<'a> Metadata<'a> {
    pub(super) fn parse(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self { topics: reader.nullable_array(Reader::string)?, may_create: reader.boolean()? })
    }

    pub(super) fn answer(&self, broker: &Shared, outcome: Outcome) -> Answer {
        let address = broker.advertised();
        let mut answer = Answer::new(outcome.correlation_id);
        answer.int32(outcome.throttle_ms);
        answer.length(1);
        answer.int32(NODE_ID);
        answer.string(&address.ip().to_string());
        answer.int32(address.port().into());
        answer.null_string();
        answer.string("embedded");
        answer.int32(NODE_ID);
        match &self.topics {
            Some(names) => {
                answer.length(names.len());
                for name in names {
                    write_topic(&mut answer, name, self.find(broker, name), outcome);
                }
            }
            None => {
                let all = broker.store.topics();
                answer.length(all.len());
                for (name, partitions) in all {
                    write_topic(&mut answer, &name, Ok(partitions), outcome);
                }
            }
        }
        answer
    }

    /// The topic's number of partitions. As with Kafka, a topic that this creates is known from the next request on.
    fn find(&self, broker: &Shared, name: &str) -> Result<usize, ErrorCode> {
        if let Some(partitions) = broker.store.partitions(name) {
            return Ok(partitions);
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

/// An error that is forced upon the answer is the topic's, except that it is partitions which have no leader.
fn write_topic(answer: &mut Answer, name: &str, found: Result<usize, ErrorCode>, outcome: Outcome) {
    let leaderless = outcome.error.filter(|error| *error == ErrorCode::LeaderNotAvailable && found.is_ok());
    let found = if leaderless.is_some() { found } else { outcome.permit().and(found) };
    answer.int16(code(&found));
    answer.string(name);
    answer.boolean(false);
    let partitions = found.unwrap_or(0);
    answer.length(partitions);
    for partition in 0..partitions {
        answer.int16(leaderless.map_or(0, ErrorCode::code));
        answer.length(partition);
        answer.int32(if leaderless.is_some() { -1 } else { NODE_ID });
        // Replicas, and those of them in sync.
        for _ in 0..2 {
            answer.length(1);
            answer.int32(NODE_ID);
        }
    }
}
