//! The requests that this broker knows: exactly those that rskafka 0.6 makes, in the versions that it picks.
//!
//! A request borrows everything from its frame. Each kind has a file or a struct with `parse`, which takes the body
//! apart, and `answer`, which does the work and writes the answer; an [`Outcome`] that carries an error code makes
//! `answer` say that error for each partition or topic and do nothing.

mod fetch;
mod metadata;
mod offsets;
mod produce;
mod topics;

use std::ops::RangeInclusive;

use super::Shared;
use super::codes::ErrorCode;
use super::wire::{Answer, Malformed, Reader};

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
pub enum Api {
    /// Appends batches.
    Produce = 0,
    /// Reads batches.
    Fetch = 1,
    /// Finds offsets by time.
    ListOffsets = 2,
    /// Lists topics and brokers.
    Metadata = 3,
    /// Lists the requests that the broker knows; the first on each connection.
    ApiVersions = 18,
    /// Creates topics.
    CreateTopics = 19,
    /// Deletes topics.
    DeleteTopics = 20,
    /// Moves log start offsets.
    DeleteRecords = 21,
}

impl Api {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Produce,
        Self::Fetch,
        Self::ListOffsets,
        Self::Metadata,
        Self::ApiVersions,
        Self::CreateTopics,
        Self::DeleteTopics,
        Self::DeleteRecords,
    ];

    /// The number on the wire.
    pub(super) fn key(self) -> i16 {
        self as i16
    }

    fn versions(self) -> RangeInclusive<i16> {
        match self {
            Self::Produce => 7..=7,
            Self::Fetch | Self::Metadata => 4..=4,
            Self::ListOffsets => 3..=3,
            Self::ApiVersions => 0..=3,
            Self::CreateTopics | Self::DeleteTopics => 5..=5,
            Self::DeleteRecords => 2..=2,
        }
    }

    /// Whether this version uses compact lengths and tagged fields, in the headers too.
    fn is_flexible(self, version: i16) -> bool {
        match self {
            Self::CreateTopics | Self::DeleteTopics | Self::DeleteRecords => true,
            Self::ApiVersions => version >= 3,
            Self::Produce | Self::Fetch | Self::ListOffsets | Self::Metadata => false,
        }
    }
}

/// Correlation id of a request, and what its answer is to say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    pub(super) correlation_id: i32,
    /// Answer with this error and do nothing.
    pub(super) error: Option<ErrorCode>,
    pub(super) throttle_ms: i32,
}

impl Outcome {
    /// The error that is to be said, as a result to go on from.
    fn permit(&self) -> Result<(), ErrorCode> {
        self.error.map_or(Ok(()), Err)
    }
}

/// The code on the wire for a result.
fn code<T>(result: &Result<T, ErrorCode>) -> i16 {
    result.as_ref().err().map_or(0, |error| error.code())
}

/// A request, taken apart.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) correlation_id: i32,
    body: Body<'a>,
}

#[derive(Debug)]
enum Body<'a> {
    Produce(produce::Produce<'a>),
    Fetch(fetch::Fetch<'a>),
    ListOffsets(offsets::ListOffsets<'a>),
    Metadata(metadata::Metadata<'a>),
    ApiVersions { version: i16 },
    CreateTopics(topics::CreateTopics<'a>),
    DeleteTopics(topics::DeleteTopics<'a>),
    DeleteRecords(offsets::DeleteRecords<'a>),
}

impl<'a> Request<'a> {
    /// Reads a frame. Kafka closes a connection on a request that it does not know, and so does this broker.
    pub(super) fn parse(frame: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(frame);
        let key = reader.int16()?;
        let api = Api::ALL.into_iter().find(|api| api.key() == key).ok_or(Malformed)?;
        let version = reader.int16()?;
        let correlation_id = reader.int32()?;
        if !api.versions().contains(&version) {
            // Of this one api Kafka answers any version, so that the two sides can find one that both know.
            let body = Body::ApiVersions { version: -1 };
            return if api == Api::ApiVersions { Ok(Self { correlation_id, body }) } else { Err(Malformed) };
        }
        let _client_id = reader.nullable_string()?;
        if api.is_flexible(version) {
            reader.tagged_fields()?;
        }
        let body = Body::parse(api, version, &mut reader)?;
        reader.end()?;
        Ok(Self { correlation_id, body })
    }

    pub(super) fn api(&self) -> Api {
        match &self.body {
            Body::Produce(_) => Api::Produce,
            Body::Fetch(_) => Api::Fetch,
            Body::ListOffsets(_) => Api::ListOffsets,
            Body::Metadata(_) => Api::Metadata,
            Body::ApiVersions { .. } => Api::ApiVersions,
            Body::CreateTopics(_) => Api::CreateTopics,
            Body::DeleteTopics(_) => Api::DeleteTopics,
            Body::DeleteRecords(_) => Api::DeleteRecords,
        }
    }

    /// Whether the request names this partition of any topic.
    pub(super) fn touches(&self, partition: i32) -> bool {
        match &self.body {
            Body::Produce(produce) => produce.touches(partition),
            Body::Fetch(fetch) => fetch.touches(partition),
            Body::ListOffsets(list) => list.touches(partition),
            Body::DeleteRecords(delete) => delete.touches(partition),
            Body::Metadata(_) | Body::ApiVersions { .. } | Body::CreateTopics(_) | Body::DeleteTopics(_) => {
                false
            }
        }
    }

    /// Does what is asked and writes the answer. Only a fetch may take time.
    pub(super) async fn answer(&self, broker: &Shared, outcome: Outcome) -> Answer {
        match &self.body {
            Body::Produce(produce) => produce.answer(broker, outcome),
            Body::Fetch(fetch) => fetch.answer(broker, outcome).await,
            Body::ListOffsets(list) => list.answer(broker, outcome),
            Body::Metadata(metadata) => metadata.answer(broker, outcome),
            Body::ApiVersions { version } => api_versions(*version, outcome),
            Body::CreateTopics(create) => create.answer(broker, outcome),
            Body::DeleteTopics(delete) => delete.answer(broker, outcome),
            Body::DeleteRecords(delete) => delete.answer(broker, outcome),
        }
    }
}

impl<'a> Body<'a> {
    fn parse(api: Api, version: i16, reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(match api {
            Api::Produce => Self::Produce(produce::Produce::parse(reader)?),
            Api::Fetch => Self::Fetch(fetch::Fetch::parse(reader)?),
            Api::ListOffsets => Self::ListOffsets(offsets::ListOffsets::parse(reader)?),
            Api::Metadata => Self::Metadata(metadata::Metadata::parse(reader)?),
            Api::ApiVersions => {
                if version >= 3 {
                    let _client_name = reader.compact_string()?;
                    let _client_version = reader.compact_string()?;
                    reader.tagged_fields()?;
                }
                Self::ApiVersions { version }
            }
            Api::CreateTopics => Self::CreateTopics(topics::CreateTopics::parse(reader)?),
            Api::DeleteTopics => Self::DeleteTopics(topics::DeleteTopics::parse(reader)?),
            Api::DeleteRecords => Self::DeleteRecords(offsets::DeleteRecords::parse(reader)?),
        })
    }
}

/// Which requests there are. A version that is not known is answered in version 0, naming only this request.
fn api_versions(version: i16, outcome: Outcome) -> Answer {
    let known = version >= 0;
    let flexible = version >= 3;
    let error = outcome.error.or((!known).then_some(ErrorCode::UnsupportedVersion));
    let apis: &[Api] = if known { &Api::ALL } else { &[Api::ApiVersions] };

    let mut answer = Answer::new(outcome.correlation_id);
    answer.int16(error.map_or(0, ErrorCode::code));
    if flexible {
        answer.compact_length(apis.len())
    } else {
        answer.length(apis.len())
    }
    for api in apis {
        answer.int16(api.key());
        answer.int16(*api.versions().start());
        answer.int16(*api.versions().end());
        if flexible {
            answer.no_tagged_fields();
        }
    }
    if version >= 1 {
        answer.int32(outcome.throttle_ms);
    }
    if flexible {
        answer.no_tagged_fields();
    }
    answer
}
