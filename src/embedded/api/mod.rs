//! The requests that this broker supports: those that this program sends, in the versions that it uses, and those that
//! rskafka's own client sends to manage topics.
//!
//! A request borrows everything from its frame. Each kind has a file or a struct with `parse`, which takes the body
//! apart, and `answer`, which does the work and writes the answer; with an [`Outcome`] that carries an error code,
//! `answer` only writes that error for each partition or topic.

mod fetch;
mod groups;
mod metadata;
mod offsets;
mod produce;
mod topics;

use std::ops::RangeInclusive;

use super::Shared;
use super::codes::ErrorCode;
use super::wire::{Answer, Malformed, Reader};

/// Stands for a version of [`Api::ApiVersions`] that is not known here.
const NOT_KNOWN: i16 = -1;

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
    /// Keeps offsets for a consumer group.
    OffsetCommit = 8,
    /// Returns them.
    OffsetFetch = 9,
    /// Finds the broker that keeps them.
    FindCoordinator = 10,
    /// Lists the requests that the broker knows; the first on each connection.
    ApiVersions = 18,
    /// Creates topics.
    CreateTopics = 19,
    /// Deletes topics.
    DeleteTopics = 20,
    /// Raises log start offsets.
    DeleteRecords = 21,
    /// Assigns an id to an idempotent producer.
    InitProducerId = 22,
}

impl Api {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Produce,
        Self::Fetch,
        Self::ListOffsets,
        Self::Metadata,
        Self::OffsetCommit,
        Self::OffsetFetch,
        Self::FindCoordinator,
        Self::ApiVersions,
        Self::CreateTopics,
        Self::DeleteTopics,
        Self::DeleteRecords,
        Self::InitProducerId,
    ];

    /// The number on the wire.
    pub(super) fn key(self) -> i16 {
        self as i16
    }

    fn versions(self) -> RangeInclusive<i16> {
        match self {
            Self::Produce => 3..=8,
            Self::Fetch => 4..=13,
            Self::ListOffsets => 2..=6,
            Self::Metadata => 4..=12,
            Self::OffsetCommit => 2..=7,
            Self::OffsetFetch => 1..=5,
            Self::FindCoordinator => 0..=2,
            Self::ApiVersions => 0..=3,
            Self::CreateTopics => 2..=5,
            Self::DeleteTopics => 5..=5,
            Self::DeleteRecords => 2..=2,
            Self::InitProducerId => 0..=1,
        }
    }

    /// Whether this version uses compact lengths and tagged fields, in the headers too.
    fn is_flexible(self, version: i16) -> bool {
        let first = match self {
            Self::DeleteRecords | Self::InitProducerId => 2,
            Self::ApiVersions | Self::FindCoordinator => 3,
            Self::DeleteTopics => 4,
            Self::CreateTopics => 5,
            Self::ListOffsets | Self::OffsetFetch => 6,
            Self::OffsetCommit => 8,
            Self::Produce | Self::Metadata => 9,
            Self::Fetch => 12,
        };
        version >= first
    }
}

/// Correlation id of a request, and what to answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    pub(super) correlation_id: i32,
    pub(super) version: i16,
    pub(super) flexible: bool,
    /// Answer with this error and do nothing.
    pub(super) error: Option<ErrorCode>,
    pub(super) throttle_ms: i32,
}

impl Outcome {
    /// The answer's header, which is the same for most kinds.
    fn answer(&self) -> Answer {
        let mut answer = Answer::new(self.correlation_id, self.version, self.flexible);
        answer.no_tagged_fields();
        answer
    }

    /// The error to answer with, as a result to continue from.
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
    correlation_id: i32,
    version: i16,
    api: Api,
    body: Body<'a>,
}

#[derive(Debug)]
enum Body<'a> {
    Produce(produce::Produce<'a>),
    Fetch(fetch::Fetch<'a>),
    ListOffsets(offsets::ListOffsets<'a>),
    Metadata(metadata::Metadata<'a>),
    OffsetCommit(groups::OffsetCommit<'a>),
    OffsetFetch(groups::OffsetFetch<'a>),
    FindCoordinator(groups::FindCoordinator),
    ApiVersions,
    CreateTopics(topics::CreateTopics<'a>),
    DeleteTopics(topics::DeleteTopics<'a>),
    DeleteRecords(offsets::DeleteRecords<'a>),
    InitProducerId(produce::InitProducerId),
}

impl<'a> Request<'a> {
    /// Reads a frame. Like Kafka, this broker closes the connection on an unknown request.
    pub(super) fn parse(frame: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(frame);
        let key = reader.int16()?;
        let api = Api::ALL.into_iter().find(|api| api.key() == key).ok_or(Malformed)?;
        let version = reader.int16()?;
        let correlation_id = reader.int32()?;
        if !api.versions().contains(&version) {
            // Kafka answers any version of this api, so that both sides can agree on one.
            let request = Self { correlation_id, version: NOT_KNOWN, api, body: Body::ApiVersions };
            return if api == Api::ApiVersions { Ok(request) } else { Err(Malformed) };
        }
        let _client_id = reader.nullable_string()?;
        reader.speak(version, api.is_flexible(version));
        reader.tagged_fields()?;
        let body = Body::parse(api, &mut reader)?;
        reader.end()?;
        Ok(Self { correlation_id, version, api, body })
    }

    pub(super) fn api(&self) -> Api {
        self.api
    }

    /// The answer if nothing goes wrong.
    pub(super) fn outcome(&self) -> Outcome {
        Outcome {
            correlation_id: self.correlation_id,
            version: self.version,
            flexible: self.api.is_flexible(self.version),
            error: None,
            throttle_ms: 0,
        }
    }

    /// Whether the request names this partition of any topic.
    pub(super) fn touches(&self, partition: i32) -> bool {
        match &self.body {
            Body::Produce(produce) => produce.touches(partition),
            Body::Fetch(fetch) => fetch.touches(partition),
            Body::ListOffsets(list) => list.touches(partition),
            Body::OffsetCommit(commit) => commit.touches(partition),
            Body::DeleteRecords(delete) => delete.touches(partition),
            _ => false,
        }
    }

    /// Carries out the request and writes the answer. Only a fetch may wait.
    pub(super) async fn answer(&self, broker: &Shared, outcome: Outcome) -> Answer {
        match &self.body {
            Body::Produce(produce) => produce.answer(broker, outcome),
            Body::Fetch(fetch) => fetch.answer(broker, outcome).await,
            Body::ListOffsets(list) => list.answer(broker, outcome),
            Body::Metadata(metadata) => metadata.answer(broker, outcome),
            Body::OffsetCommit(commit) => commit.answer(broker, outcome),
            Body::OffsetFetch(fetch) => fetch.answer(broker, outcome),
            Body::FindCoordinator(find) => find.answer(broker, outcome),
            Body::ApiVersions => api_versions(outcome),
            Body::CreateTopics(create) => create.answer(broker, outcome),
            Body::DeleteTopics(delete) => delete.answer(broker, outcome),
            Body::DeleteRecords(delete) => delete.answer(broker, outcome),
            Body::InitProducerId(init) => init.answer(broker, outcome),
        }
    }
}

impl<'a> Body<'a> {
    fn parse(api: Api, reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(match api {
            Api::Produce => Self::Produce(produce::Produce::parse(reader)?),
            Api::Fetch => Self::Fetch(fetch::Fetch::parse(reader)?),
            Api::ListOffsets => Self::ListOffsets(offsets::ListOffsets::parse(reader)?),
            Api::Metadata => Self::Metadata(metadata::Metadata::parse(reader)?),
            Api::OffsetCommit => Self::OffsetCommit(groups::OffsetCommit::parse(reader)?),
            Api::OffsetFetch => Self::OffsetFetch(groups::OffsetFetch::parse(reader)?),
            Api::FindCoordinator => Self::FindCoordinator(groups::FindCoordinator::parse(reader)?),
            Api::ApiVersions => {
                if reader.version >= 3 {
                    let _client = (reader.string()?, reader.string()?);
                }
                reader.tagged_fields()?;
                Self::ApiVersions
            }
            Api::CreateTopics => Self::CreateTopics(topics::CreateTopics::parse(reader)?),
            Api::DeleteTopics => Self::DeleteTopics(topics::DeleteTopics::parse(reader)?),
            Api::DeleteRecords => Self::DeleteRecords(offsets::DeleteRecords::parse(reader)?),
            Api::InitProducerId => Self::InitProducerId(produce::InitProducerId::parse(reader)?),
        })
    }
}

/// The supported requests. An unknown version is answered in version 0, which lists only this request.
fn api_versions(outcome: Outcome) -> Answer {
    let known = outcome.version != NOT_KNOWN;
    let error = outcome.error.or((!known).then_some(ErrorCode::UnsupportedVersion));
    let apis: &[Api] = if known { &Api::ALL } else { &[Api::ApiVersions] };

    // Its header has the old form in all versions, since the client may not support this one.
    let mut answer = Answer::new(outcome.correlation_id, outcome.version, outcome.flexible);
    answer.int16(error.map_or(0, ErrorCode::code));
    answer.length(apis.len());
    for api in apis {
        answer.int16(api.key());
        answer.int16(*api.versions().start());
        answer.int16(*api.versions().end());
        answer.no_tagged_fields();
    }
    if outcome.version >= 1 {
        answer.int32(outcome.throttle_ms);
    }
    answer.no_tagged_fields();
    answer
}
