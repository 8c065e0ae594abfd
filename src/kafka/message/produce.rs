//! Record batches to partitions, and the id by which a broker recognizes a batch.

use rskafka::protocol::api_key::ApiKey;

use super::{AnswerBody, Call};
use crate::kafka::wire::{MalformedAnswer, RequestWriter};

/// Appends one batch; acknowledged by all in-sync replicas.
#[derive(Debug)]
pub struct ProduceCall<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition, which the broker has to lead.
    pub partition: i32,
    /// How long the broker may wait for the replicas, ms.
    pub timeout_ms: i32,
    /// The batch as it goes into the log, its header and its records.
    pub batch: [&'a [u8]; 2],
}

/// What became of the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceAnswer {
    /// 0, or why it was not appended.
    pub error: i16,
    /// The broker's result for it.
    pub message: Option<String>,
    /// The offset of its first record; -1 where the broker does not remember.
    pub base_offset: i64,
}

impl Call for ProduceCall<'_> {
    type Answer = ProduceAnswer;
    const KEY: ApiKey = ApiKey::Produce;
    // 3 brought the batches of today, 7 zstd, 8 words to an error.
    const VERSIONS: (i16, i16) = (3, 8);
    const FLEXIBLE_FROM: i16 = 9;

    fn write(&self, to: &mut RequestWriter<'_>) {
        to.null_string();
        to.int16(-1);
        to.int32(self.timeout_ms);
        to.array(&[self.topic], |to, topic| {
            to.string(topic);
            to.array(&[self.partition], |to, partition| {
                to.int32(*partition);
                to.byte_string(&self.batch);
            });
        });
    }

    fn read(body: AnswerBody) -> Result<ProduceAnswer, MalformedAnswer> {
        body.read(|from| {
            let topics = from.array(|from| {
                from.string()?;
                from.array(|from| {
                    from.int32()?;
                    let (error, base_offset) = (from.int16()?, from.int64()?);
                    from.int64()?;
                    if from.version >= 5 {
                        from.int64()?;
                    }
                    let mut message = None;
                    if from.version >= 8 {
                        from.array(|from| {
                            from.int32()?;
                            from.nullable_string().map(drop)
                        })?;
                        message = from.nullable_string()?.map(str::to_owned);
                    }
                    Ok(ProduceAnswer { error, message, base_offset })
                })
            })?;
            from.int32()?;
            topics.into_iter().flatten().next().ok_or(MalformedAnswer)
        })
    }
}

/// Asks for a producer's id.
#[derive(Debug)]
pub struct InitProducerIdCall;

/// A producer's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerId {
    /// 0, or why there is none.
    pub error: i16,
    /// The id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
}

impl Call for InitProducerIdCall {
    type Answer = ProducerId;
    const KEY: ApiKey = ApiKey::InitProducerId;
    const VERSIONS: (i16, i16) = (0, 1);
    const FLEXIBLE_FROM: i16 = 2;

    fn write(&self, to: &mut RequestWriter<'_>) {
        to.null_string();
        // Only transactions have a time-out.
        to.int32(i32::MAX);
    }

    fn read(body: AnswerBody) -> Result<ProducerId, MalformedAnswer> {
        body.read(|from| {
            from.int32()?;
            Ok(ProducerId { error: from.int16()?, id: from.int64()?, epoch: from.int16()? })
        })
    }
}
