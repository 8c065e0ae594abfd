//! Offsets of partitions: the earliest, the end of what can be read, or the first record of a time.

use rskafka::protocol::api_key::ApiKey;

use super::{AnswerBody, Call, READ_COMMITTED, READ_UNCOMMITTED};
use crate::kafka::wire::{MalformedAnswer, RequestWriter};

/// Which offset is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetAt {
    /// Of the oldest record that the log still has.
    Earliest,
    /// After the newest record that can be read: an open transaction holds it back.
    Latest,
    /// After the newest record that all replicas have, of an open transaction or not.
    End,
    /// Of the first record stamped at or after this time, ms since 1970; -1 where none is that new.
    Time(i64),
}

impl OffsetAt {
    fn number(self) -> i64 {
        match self {
            Self::Earliest => -2,
            Self::Latest | Self::End => -1,
            // Below zero are the special values.
            Self::Time(ms) => ms.max(0),
        }
    }
}

/// Asks for one offset of each of some partitions.
#[derive(Debug)]
pub struct OffsetsCall<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partitions, which the asked broker has to lead.
    pub partitions: &'a [i32],
    /// Which offset.
    pub at: OffsetAt,
}

/// The offset of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionOffset {
    /// Which partition.
    pub partition: i32,
    /// 0, or why there is none.
    pub error: i16,
    /// The offset.
    pub offset: i64,
}

impl Call for OffsetsCall<'_> {
    type Answer = Vec<PartitionOffset>;
    const KEY: ApiKey = ApiKey::ListOffsets;
    // 2 brought the level of isolation.
    const VERSIONS: (i16, i16) = (2, 6);
    const FLEXIBLE_FROM: i16 = 6;

    fn write(&self, to: &mut RequestWriter<'_>) {
        to.int32(-1);
        to.int8(if self.at == OffsetAt::End { READ_UNCOMMITTED } else { READ_COMMITTED });
        to.array(&[self.topic], |to, topic| {
            to.string(topic);
            to.array(self.partitions, |to, partition| {
                to.int32(*partition);
                if to.version >= 4 {
                    to.int32(-1);
                }
                to.int64(self.at.number());
                to.tags();
            });
            to.tags();
        });
        to.tags();
    }

    fn read(body: AnswerBody) -> Result<Self::Answer, MalformedAnswer> {
        body.read(|from| {
            from.int32()?;
            let topics = from.array(|from| {
                from.string()?;
                let partitions = from.array(|from| {
                    let (partition, error) = (from.int32()?, from.int16()?);
                    from.int64()?;
                    let offset = from.int64()?;
                    if from.version >= 4 {
                        from.int32()?;
                    }
                    from.tags()?;
                    Ok(PartitionOffset { partition, error, offset })
                })?;
                from.tags()?;
                Ok(partitions)
            })?;
            Ok(topics.concat())
        })
    }
}
