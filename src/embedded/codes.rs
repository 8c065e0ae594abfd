//! The error codes of Kafka's protocol that this broker returns, by itself or because a test requested it.

/// An error code as it is in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
pub enum ErrorCode {
    /// The offset is not in the partition's log.
    OffsetOutOfRange = 1,
    /// A batch's checksum or its header is wrong.
    CorruptMessage = 2,
    /// No such topic or partition (or not yet known here).
    UnknownTopicOrPartition = 3,
    /// The partition has no leader now.
    LeaderNotAvailable = 5,
    /// The partition is led by another broker.
    NotLeaderOrFollower = 6,
    /// Not replicated in time; a produced batch may be stored all the same.
    RequestTimedOut = 7,
    /// A batch is larger than the topic takes.
    MessageTooLarge = 10,
    /// The metadata of a committed offset is too long.
    OffsetMetadataTooLarge = 12,
    /// No broker keeps the offsets of this group, or the transactions of this producer.
    CoordinatorNotAvailable = 15,
    /// The topic's name is not a valid one.
    InvalidTopic = 17,
    /// Fewer replicas are in sync than the topic demands: not stored.
    NotEnoughReplicas = 19,
    /// Stored, but fewer replicas are in sync than the topic demands.
    NotEnoughReplicasAfterAppend = 20,
    /// `acks` is not -1, 0 or 1.
    InvalidRequiredAcks = 21,
    /// The name of a consumer group is not a valid one.
    InvalidGroupId = 24,
    /// The group has no such member.
    UnknownMemberId = 25,
    /// The user may not use the topic.
    TopicAuthorizationFailed = 29,
    /// The user may not use the consumer group.
    GroupAuthorizationFailed = 30,
    /// The version of the request is not known here.
    UnsupportedVersion = 35,
    /// A topic of this name exists.
    TopicAlreadyExists = 36,
    /// The number of partitions is not positive.
    InvalidPartitions = 37,
    /// The number of replicas is not positive, or larger than the number of brokers.
    InvalidReplicationFactor = 38,
    /// A manual assignment of partitions, which this broker does not take.
    InvalidReplicaAssignment = 39,
    /// A topic configuration, which this broker does not take.
    InvalidConfig = 40,
    /// The controller is another broker.
    NotController = 41,
    /// The broker has reached its maximum number of partitions.
    PolicyViolation = 44,
    /// A batch is not the one that comes next from its producer.
    OutOfOrderSequence = 45,
    /// There is a newer producer with this id.
    InvalidProducerEpoch = 47,
    /// A transactional batch, but no transaction that the user may write in.
    TransactionalIdAuthorizationFailed = 53,
    /// The broker's disk failed.
    StorageError = 56,
    /// The client knows an older leader.
    FencedLeaderEpoch = 74,
    /// The client knows a leader that this broker does not know yet.
    UnknownLeaderEpoch = 75,
    /// A fetch of this version cannot carry the topic's codec.
    UnsupportedCompressionType = 76,
    /// The high watermark is not known yet after an election.
    OffsetNotAvailable = 78,
    /// A batch contradicts itself.
    InvalidRecord = 87,
    /// No topic has this id.
    UnknownTopicId = 100,
}

impl ErrorCode {
    /// The number on the wire.
    pub fn code(self) -> i16 {
        self as i16
    }
}
