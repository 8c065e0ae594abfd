//! Creating the topic.

use rskafka::protocol::api_key::ApiKey;

use super::{AnswerBody, Call};
use crate::kafka::wire::{AnswerReader, MalformedAnswer, RequestWriter};

/// The broker's own default, from version 4 on.
const DEFAULT_REPLICATION: i16 = -1;

/// Creates one topic.
#[derive(Debug)]
pub struct CreateTopicCall<'a> {
    /// Its name.
    pub topic: &'a str,
    /// How many partitions it gets.
    pub partitions: i32,
    /// How long the broker may take, ms.
    pub timeout_ms: i32,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTopicAnswer {
    /// 0, or why it was not created.
    pub error: i16,
    /// The broker's result for it.
    pub message: Option<String>,
}

impl Call for CreateTopicCall<'_> {
    type Answer = CreateTopicAnswer;
    const KEY: ApiKey = ApiKey::CreateTopics;
    const VERSIONS: (i16, i16) = (2, 5);
    const FLEXIBLE_FROM: i16 = 5;

    fn write(&self, to: &mut RequestWriter<'_>) {
        to.array(&[self.topic], |to, topic| {
            to.string(topic);
            to.int32(self.partitions);
            // Brokers before 2.4 have no default to ask for.
            to.int16(if to.version >= 4 { DEFAULT_REPLICATION } else { 1 });
            to.array(&[], |_, (): &()| {});
            to.array(&[], |_, (): &()| {});
            to.tags();
        });
        to.int32(self.timeout_ms);
        to.boolean(false);
        to.tags();
    }

    fn read(body: AnswerBody) -> Result<CreateTopicAnswer, MalformedAnswer> {
        body.read(|from| {
            from.int32()?;
            let topics = from.array(|from| {
                from.string()?;
                let error = from.int16()?;
                let message = from.nullable_string()?.map(str::to_owned);
                if from.version >= 5 {
                    read_made(from)?;
                }
                from.tags()?;
                Ok(CreateTopicAnswer { error, message })
            })?;
            topics.into_iter().next().ok_or(MalformedAnswer)
        })
    }
}

/// Steps over what the topic was made with: partitions, replicas, settings.
fn read_made(from: &mut AnswerReader<'_>) -> Result<(), MalformedAnswer> {
    from.int32()?;
    from.int16()?;
    from.array(|from| {
        from.string()?;
        from.nullable_string()?;
        from.int8()?;
        from.int8()?;
        from.int8()?;
        from.tags()
    })
    .map(drop)
}
