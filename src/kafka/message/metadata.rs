//! Which brokers there are and who leads the partitions of one topic. Never creates the topic.

use rskafka::protocol::api_key::ApiKey;

use super::{AnswerBody, Call, NO_TOPIC_ID};
use crate::kafka::wire::{AnswerReader, MalformedAnswer, RequestWriter};

/// Asks about one topic.
#[derive(Debug)]
pub struct MetadataCall<'a> {
    /// Its name.
    pub topic: &'a str,
}

/// The cluster as the asked broker knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataAnswer {
    /// The brokers that are there.
    pub brokers: Vec<BrokerNode>,
    /// The cluster's id, if the broker has one.
    pub cluster_id: Option<String>,
    /// The broker that creates topics, or passes that on.
    pub controller: i32,
    /// The topics that were requested.
    pub topics: Vec<TopicMetadata>,
}

/// A broker as it advertises itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerNode {
    /// Its number.
    pub id: i32,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: i32,
}

/// What is known of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMetadata {
    /// 0, or why there is no data.
    pub error: i16,
    /// Its name.
    pub name: String,
    /// Its id; [`NO_TOPIC_ID`] where the broker gives none.
    pub id: [u8; 16],
    /// Its partitions.
    pub partitions: Vec<PartitionMetadata>,
}

/// The leader of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// 0, or why there is no leader.
    pub error: i16,
    /// Which partition.
    pub partition: i32,
    /// The leader's number, -1 if there is none.
    pub leader: i32,
    /// The leader's epoch, -1 if the broker does not send it.
    pub leader_epoch: i32,
}

impl Call for MetadataCall<'_> {
    type Answer = MetadataAnswer;
    const KEY: ApiKey = ApiKey::Metadata;
    // From 4 on a request can say that the topic must not be created; 10 added topic ids.
    const VERSIONS: (i16, i16) = (4, 12);
    const FLEXIBLE_FROM: i16 = 9;

    fn write(&self, to: &mut RequestWriter<'_>) {
        to.array(&[self.topic], |to, topic| {
            if to.version >= 10 {
                to.uuid(NO_TOPIC_ID);
            }
            to.string(topic);
            to.tags();
        });
        to.boolean(false);
        if (8..=10).contains(&to.version) {
            to.boolean(false);
        }
        if to.version >= 8 {
            to.boolean(false);
        }
        to.tags();
    }

    fn read(body: AnswerBody) -> Result<MetadataAnswer, MalformedAnswer> {
        body.read(|from| {
            from.int32()?;
            let brokers = from.array(read_broker)?;
            let cluster_id = from.nullable_string()?.map(str::to_owned);
            let controller = from.int32()?;
            let topics = from.array(read_topic)?;
            if (8..=10).contains(&from.version) {
                from.int32()?;
            }
            Ok(MetadataAnswer { brokers, cluster_id, controller, topics })
        })
    }
}

fn read_broker(from: &mut AnswerReader<'_>) -> Result<BrokerNode, MalformedAnswer> {
    let (id, host, port) = (from.int32()?, from.string()?.to_owned(), from.int32()?);
    from.nullable_string()?;
    from.tags()?;
    Ok(BrokerNode { id, host, port })
}

fn read_topic(from: &mut AnswerReader<'_>) -> Result<TopicMetadata, MalformedAnswer> {
    let error = from.int16()?;
    let name = from.nullable_string()?.unwrap_or_default().to_owned();
    let id = if from.version >= 10 { from.uuid()? } else { NO_TOPIC_ID };
    from.int8()?;
    let partitions = from.array(read_partition)?;
    if from.version >= 8 {
        from.int32()?;
    }
    from.tags()?;
    Ok(TopicMetadata { error, name, id, partitions })
}

fn read_partition(from: &mut AnswerReader<'_>) -> Result<PartitionMetadata, MalformedAnswer> {
    let (error, partition, leader) = (from.int16()?, from.int32()?, from.int32()?);
    let leader_epoch = if from.version >= 7 { from.int32()? } else { -1 };
    from.array(AnswerReader::int32)?;
    from.array(AnswerReader::int32)?;
    if from.version >= 5 {
        from.array(AnswerReader::int32)?;
    }
    from.tags()?;
    Ok(PartitionMetadata { error, partition, leader, leader_epoch })
}
