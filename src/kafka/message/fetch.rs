//! Record batches of several partitions from one broker.

use std::ops::Range;

use rskafka::protocol::api_key::ApiKey;

use super::{AnswerBody, Call, READ_COMMITTED};
use crate::kafka::batch::AbortedTransaction;
use crate::kafka::wire::{AnswerReader, MalformedAnswer, RequestWriter};

/// The newest version that names the topic, for brokers that give it no id.
pub const BY_NAME: i16 = 12;
/// The version that names the topic by its id, so that another one of the same name is never read for it.
pub const BY_ID: i16 = 13;

/// Requests records, in [`BY_NAME`] or [`BY_ID`] at most.
#[derive(Debug)]
pub struct FetchCall<'a, const NEWEST: i16> {
    /// The topic.
    pub topic: &'a str,
    /// Its id.
    pub topic_id: [u8; 16],
    /// How long the broker may hold the answer back while there is nothing, ms.
    pub max_wait_ms: i32,
    /// Most bytes of the whole answer; a first batch that is larger comes anyway.
    pub max_bytes: i32,
    /// Most bytes of one partition, in the same way.
    pub partition_max_bytes: i32,
    /// What to read, the most wanted first: an answer is filled in this order.
    pub partitions: &'a [FetchFrom],
}

/// Where to read a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchFrom {
    /// Which partition.
    pub partition: i32,
    /// The first offset that is wanted.
    pub offset: i64,
    /// The leader's epoch by the metadata; -1 if unknown. Another one is refused by the broker.
    pub leader_epoch: i32,
    /// The epoch of the last batch that was read; -1 if unknown. A log that was cut since is so noticed.
    pub last_epoch: i32,
}

/// The bytes of an answer and what of them belongs to which partition.
#[derive(Debug)]
pub struct FetchAnswer {
    /// The whole frame.
    pub bytes: Vec<u8>,
    /// 0, or why nothing was fetched at all.
    pub error: i16,
    /// One for each partition that was requested.
    pub partitions: Vec<FetchedPartition>,
}

/// What was fetched of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedPartition {
    /// Which partition.
    pub partition: i32,
    /// 0, or why nothing was fetched.
    pub error: i16,
    /// After the newest record that can be read.
    pub last_stable_offset: i64,
    /// The aborted transactions that the records touch.
    pub aborted: Vec<AbortedTransaction>,
    /// Where the log diverges from what was read, if it does: reading continues there.
    pub diverged_at: Option<i64>,
    /// The record batches, as their place in the frame.
    pub records: Range<usize>,
}

impl<const NEWEST: i16> Call for FetchCall<'_, NEWEST> {
    type Answer = FetchAnswer;
    const KEY: ApiKey = ApiKey::Fetch;
    // 4 brought the level of isolation, 10 lets the broker send zstd, 12 says where a log was truncated.
    const VERSIONS: (i16, i16) = (4, NEWEST);
    const FLEXIBLE_FROM: i16 = 12;

    fn write(&self, to: &mut RequestWriter<'_>) {
        to.int32(-1);
        to.int32(self.max_wait_ms);
        to.int32(1);
        to.int32(self.max_bytes);
        to.int8(READ_COMMITTED);
        if to.version >= 7 {
            // Outside of any fetch session: every request is complete.
            to.int32(0);
            to.int32(-1);
        }
        to.array(&[self.topic], |to, topic| {
            if to.version >= BY_ID {
                to.uuid(self.topic_id);
            } else {
                to.string(topic);
            }
            to.array(self.partitions, |to, from| self.write_partition(to, from));
            to.tags();
        });
        if to.version >= 7 {
            to.array(&[], |_, (): &()| {});
        }
        if to.version >= 11 {
            to.string("");
        }
        to.tags();
    }

    fn read(body: AnswerBody) -> Result<FetchAnswer, MalformedAnswer> {
        let (error, partitions) = body.read(|from| {
            from.int32()?;
            let mut error = 0;
            if from.version >= 7 {
                error = from.int16()?;
                from.int32()?;
            }
            let topics = from.array(|from| {
                if from.version >= BY_ID {
                    from.uuid()?;
                } else {
                    from.string()?;
                }
                let partitions = from.array(read_partition)?;
                from.tags()?;
                Ok(partitions)
            })?;
            Ok((error, topics.concat()))
        })?;
        Ok(FetchAnswer { bytes: body.bytes, error, partitions })
    }
}

impl<const NEWEST: i16> FetchCall<'_, NEWEST> {
    fn write_partition(&self, to: &mut RequestWriter<'_>, from: &FetchFrom) {
        to.int32(from.partition);
        if to.version >= 9 {
            to.int32(from.leader_epoch);
        }
        to.int64(from.offset);
        if to.version >= 12 {
            to.int32(from.last_epoch);
        }
        if to.version >= 5 {
            to.int64(-1);
        }
        to.int32(self.partition_max_bytes);
        to.tags();
    }
}

fn read_partition(from: &mut AnswerReader<'_>) -> Result<FetchedPartition, MalformedAnswer> {
    let (partition, error) = (from.int32()?, from.int16()?);
    from.int64()?;
    let last_stable_offset = from.int64()?;
    if from.version >= 5 {
        from.int64()?;
    }
    let aborted = from.array(|from| {
        let aborted = AbortedTransaction { producer_id: from.int64()?, first_offset: from.int64()? };
        from.tags()?;
        Ok(aborted)
    })?;
    if from.version >= 11 {
        from.int32()?;
    }
    let records = from.bytes()?;
    let mut diverged_at = None;
    from.each_tag(|number, from| {
        if number == 0 {
            from.int32()?;
            diverged_at = Some(from.int64()?).filter(|offset| *offset >= 0);
        }
        Ok(())
    })?;
    Ok(FetchedPartition { partition, error, last_stable_offset, aborted, diverged_at, records })
}
