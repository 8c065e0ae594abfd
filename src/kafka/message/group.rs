//! Offsets of a consumer group: its coordinator, and storing them without being a member.

use rskafka::protocol::api_key::ApiKey;

use super::{AnswerBody, Call};
use crate::kafka::wire::{MalformedAnswer, RequestWriter};

/// Asks which broker keeps the offsets of a group.
#[derive(Debug)]
pub struct FindCoordinatorCall<'a> {
    /// The group.
    pub group: &'a str,
}

/// The broker that keeps them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordinator {
    /// 0, or why there is none.
    pub error: i16,
    /// The broker's result for it.
    pub message: Option<String>,
    /// The broker's number.
    pub broker: i32,
}

impl Call for FindCoordinatorCall<'_> {
    type Answer = Coordinator;
    const KEY: ApiKey = ApiKey::FindCoordinator;
    const VERSIONS: (i16, i16) = (1, 2);
    const FLEXIBLE_FROM: i16 = 3;

    fn write(&self, to: &mut RequestWriter<'_>) {
        to.string(self.group);
        to.int8(0);
    }

    fn read(body: AnswerBody) -> Result<Coordinator, MalformedAnswer> {
        body.read(|from| {
            from.int32()?;
            let error = from.int16()?;
            let message = from.nullable_string()?.map(str::to_owned);
            let broker = from.int32()?;
            from.string()?;
            from.int32()?;
            Ok(Coordinator { error, message, broker })
        })
    }
}

/// Stores offsets under a group that has no members.
#[derive(Debug)]
pub struct OffsetCommitCall<'a> {
    /// The group.
    pub group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// Partition and the offset to read next.
    pub offsets: &'a [(i32, i64)],
}

impl Call for OffsetCommitCall<'_> {
    /// Partition and error code.
    type Answer = Vec<(i32, i16)>;
    const KEY: ApiKey = ApiKey::OffsetCommit;
    const VERSIONS: (i16, i16) = (2, 7);
    const FLEXIBLE_FROM: i16 = 8;

    fn write(&self, to: &mut RequestWriter<'_>) {
        to.string(self.group);
        // No generation and no member: no partitions are shared through this group.
        to.int32(-1);
        to.string("");
        if to.version <= 4 {
            // Kept as long as the broker keeps offsets by default.
            to.int64(-1);
        }
        if to.version >= 7 {
            to.null_string();
        }
        to.array(&[self.topic], |to, topic| {
            to.string(topic);
            to.array(self.offsets, |to, (partition, offset)| {
                to.int32(*partition);
                to.int64(*offset);
                if to.version >= 6 {
                    to.int32(-1);
                }
                to.string("");
            });
        });
    }

    fn read(body: AnswerBody) -> Result<Self::Answer, MalformedAnswer> {
        body.read(|from| {
            if from.version >= 3 {
                from.int32()?;
            }
            let topics = from.array(|from| {
                from.string()?;
                from.array(|from| Ok((from.int32()?, from.int16()?)))
            })?;
            Ok(topics.concat())
        })
    }
}
