//! What can go wrong with Kafka, as types: an error code, a connection, a login, bytes that are not Kafka.
//!
//! The kind is what the caller decides by, never the text: it comes from the broker's code or from where a call
//! failed. The detail is one line for the user, with the address and the likely cause.

use std::fmt;

use rskafka::protocol::error::Error as Code;

/// What a failed call requires of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The broker cannot be reached, or the connection ended.
    Connection,
    /// A state of the cluster that passes: too few replicas, an election, a quota, a time-out.
    Transient,
    /// This broker does not lead the partition (any more): ask for the metadata.
    Moved,
    /// The topic or the partition does not exist (now), or is another one of the same name.
    UnknownTopic,
    /// The offset is below the earliest or above the latest record.
    OffsetOutOfRange,
    /// The broker would have to send a compressed form that this request's version does not allow.
    CodecNotAllowed,
    /// What was sent or stored is corrupt.
    Corrupt,
    /// A record or batch is larger than the broker accepts.
    TooLarge,
    /// The broker refuses these records for what they are; others may pass.
    Rejected,
    /// Name or password is wrong, or the listener wants another mechanism.
    Authentication,
    /// The user may not do this.
    Authorization,
    /// The topic exists already.
    TopicExists,
    /// The producer's sequence numbers do not fit what the broker remembers.
    Sequence,
    /// The broker has this batch already.
    Duplicate,
    /// The broker does not know the call, or no version of it that is supported here.
    Unsupported,
    /// Wrong in a way that trying again does not change.
    Fatal,
}

impl ErrorKind {
    /// What an error code requires; None is success.
    pub fn of(code: i16) -> Option<Self> {
        use Code as C;
        Some(match Code::new(code)? {
            C::OffsetOutOfRange => Self::OffsetOutOfRange,
            C::CorruptMessage => Self::Corrupt,
            C::UnknownTopicOrPartition | C::UnknownTopicId | C::InconsistentTopicId => Self::UnknownTopic,
            C::NotLeaderOrFollower
            | C::LeaderNotAvailable
            | C::ReplicaNotAvailable
            | C::FencedLeaderEpoch
            | C::UnknownLeaderEpoch
            | C::NotController
            | C::NotCoordinator
            | C::CoordinatorNotAvailable => Self::Moved,
            C::UnsupportedCompressionType => Self::CodecNotAllowed,
            C::MessageTooLarge | C::RecordListTooLarge => Self::TooLarge,
            C::InvalidRecord => Self::Rejected,
            C::SaslAuthenticationFailed | C::UnsupportedSaslMechanism | C::IllegalSaslState => {
                Self::Authentication
            }
            C::TopicAuthorizationFailed
            | C::GroupAuthorizationFailed
            | C::ClusterAuthorizationFailed
            | C::TransactionalIdAuthorizationFailed => Self::Authorization,
            C::TopicAlreadyExists => Self::TopicExists,
            C::OutOfOrderSequenceNumber
            | C::UnknownProducerId
            | C::InvalidProducerEpoch
            | C::InvalidProducerIdMapping => Self::Sequence,
            C::DuplicateSequenceNumber => Self::Duplicate,
            C::UnsupportedVersion | C::UnsupportedForMessageFormat => Self::Unsupported,
            C::InvalidTopicException
            | C::InvalidPartitions
            | C::InvalidReplicationFactor
            | C::InvalidConfig
            | C::InvalidRequest
            | C::InvalidGroupId
            | C::InvalidRequiredAcks
            | C::PolicyViolation => Self::Fatal,
            _ => Self::Transient,
        })
    }

    /// Whether the broker may lead no more, or the connection is of no more use: metadata first, then again.
    pub fn asks_for_metadata(self) -> bool {
        matches!(self, Self::Connection | Self::Moved | Self::UnknownTopic)
    }
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaError {
    /// What the caller has to do.
    pub kind: ErrorKind,
    /// One line for the user.
    pub detail: String,
}

impl KafkaError {
    /// An error of this kind.
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// Ok for the code 0, otherwise the broker's error about `what`.
    pub fn check(code: i16, message: Option<&str>, what: impl fmt::Display) -> Result<(), Self> {
        let Some(kind) = ErrorKind::of(code) else { return Ok(()) };
        let name = Code::new(code).map_or_else(String::new, |code| format!("{code:?}"));
        let message = message.map_or_else(String::new, |message| format!(" ({message})"));
        let cause = match Code::new(code) {
            Some(Code::InvalidTimestamp) => {
                "; record timestamps come from this machine's clock: compare it with the broker's"
            }
            _ => "",
        };
        Err(Self::new(kind, format!("{what}: {name}, error {code}{message}{cause}")))
    }
}

impl fmt::Display for KafkaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for KafkaError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_decides_the_kind() {
        let cases = [
            (0, None),
            (-1, Some(ErrorKind::Transient)),
            (1, Some(ErrorKind::OffsetOutOfRange)),
            (3, Some(ErrorKind::UnknownTopic)),
            (6, Some(ErrorKind::Moved)),
            (10, Some(ErrorKind::TooLarge)),
            (19, Some(ErrorKind::Transient)),
            // The clock may be set right, or time may pass; nothing is dropped for it.
            (32, Some(ErrorKind::Transient)),
            (29, Some(ErrorKind::Authorization)),
            (45, Some(ErrorKind::Sequence)),
            (46, Some(ErrorKind::Duplicate)),
            (76, Some(ErrorKind::CodecNotAllowed)),
            (87, Some(ErrorKind::Rejected)),
            (9999, Some(ErrorKind::Transient)),
        ];
        for (code, kind) in cases {
            assert_eq!(ErrorKind::of(code), kind, "{code}");
        }
    }

    #[test]
    fn the_detail_says_what_the_broker_said() {
        let error = KafkaError::check(29, Some("no way"), "reading topic t").unwrap_err();
        assert_eq!(error.to_string(), "reading topic t: TopicAuthorizationFailed, error 29 (no way)");
    }
}
