//! The requests that this broker supports: those that this program sends, in the versions that it uses, and those that
//! rskafka's own client sends to manage topics.
//!
//! A request borrows everything from its frame. Each kind has a file or a struct with `parse`, which takes the body
//! apart, and `answer`, which does the work and writes the answer; with an [`AnswerHead`] that carries an error code,
//! `answer` only writes that error for each partition or topic.

mod fetch;
mod groups;
mod metadata;
mod offsets;
mod produce;
mod topics;

use std::ops::RangeInclusive;

use super::SharedBroker;
use super::codes::ErrorCode;
use super::wire::{AnswerWriter, MalformedRequest, RequestReader};

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
pub(super) struct AnswerHead {
    pub(super) correlation_id: i32,
    pub(super) version: i16,
    pub(super) flexible: bool,
    /// Answer with this error and do nothing.
    pub(super) error: Option<ErrorCode>,
    pub(super) throttle_ms: i32,
}

impl AnswerHead {
    /// The answer's header, which is the same for most kinds.
    fn answer(&self) -> AnswerWriter {
        let mut answer = AnswerWriter::new(self.correlation_id, self.version, self.flexible);
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
pub(super) struct ParsedRequest<'a> {
    correlation_id: i32,
    version: i16,
    api: Api,
    body: RequestContent<'a>,
}

#[derive(Debug)]
enum RequestContent<'a> {
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

impl<'a> ParsedRequest<'a> {
    /// Reads a frame. Like Kafka, this broker closes the connection on an unknown request.
    pub(super) fn parse(frame: &'a [u8]) -> Result<Self, MalformedRequest> {
        let mut reader = RequestReader::new(frame);
        let key = reader.int16()?;
        let api = Api::ALL.into_iter().find(|api| api.key() == key).ok_or(MalformedRequest)?;
        let version = reader.int16()?;
        let correlation_id = reader.int32()?;
        if !api.versions().contains(&version) {
            // Kafka answers any version of this api, so that both sides can agree on one.
            let request = Self { correlation_id, version: NOT_KNOWN, api, body: RequestContent::ApiVersions };
            return if api == Api::ApiVersions { Ok(request) } else { Err(MalformedRequest) };
        }
        let _client_id = reader.nullable_string()?;
        reader.speak(version, api.is_flexible(version));
        reader.tagged_fields()?;
        let body = RequestContent::parse(api, &mut reader)?;
        reader.end()?;
        Ok(Self { correlation_id, version, api, body })
    }

    pub(super) fn api(&self) -> Api {
        self.api
    }

    /// The answer if nothing goes wrong.
    pub(super) fn head(&self) -> AnswerHead {
        AnswerHead {
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
            RequestContent::Produce(produce) => produce.touches(partition),
            RequestContent::Fetch(fetch) => fetch.touches(partition),
            RequestContent::ListOffsets(list) => list.touches(partition),
            RequestContent::OffsetCommit(commit) => commit.touches(partition),
            RequestContent::DeleteRecords(delete) => delete.touches(partition),
            _ => false,
        }
    }

    /// Carries out the request and writes the answer. Only a fetch may wait.
    pub(super) async fn answer(&self, broker: &SharedBroker, head: AnswerHead) -> AnswerWriter {
        match &self.body {
            RequestContent::Produce(produce) => produce.answer(broker, head),
            RequestContent::Fetch(fetch) => fetch.answer(broker, head).await,
            RequestContent::ListOffsets(list) => list.answer(broker, head),
            RequestContent::Metadata(metadata) => metadata.answer(broker, head),
            RequestContent::OffsetCommit(commit) => commit.answer(broker, head),
            RequestContent::OffsetFetch(fetch) => fetch.answer(broker, head),
            RequestContent::FindCoordinator(find) => find.answer(broker, head),
            RequestContent::ApiVersions => api_versions(head),
            RequestContent::CreateTopics(create) => create.answer(broker, head),
            RequestContent::DeleteTopics(delete) => delete.answer(broker, head),
            RequestContent::DeleteRecords(delete) => delete.answer(broker, head),
            RequestContent::InitProducerId(init) => init.answer(broker, head),
        }
    }
}

impl<'a> RequestContent<'a> {
    fn parse(api: Api, reader: &mut RequestReader<'a>) -> Result<Self, MalformedRequest> {
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
fn api_versions(head: AnswerHead) -> AnswerWriter {
    let known = head.version != NOT_KNOWN;
    let error = head.error.or((!known).then_some(ErrorCode::UnsupportedVersion));
    let apis: &[Api] = if known { &Api::ALL } else { &[Api::ApiVersions] };

    // Its header has the old form in all versions, since the client may not support this one.
    let mut answer = AnswerWriter::new(head.correlation_id, head.version, head.flexible);
    answer.int16(error.map_or(0, ErrorCode::code));
    answer.length(apis.len());
    for api in apis {
        answer.int16(api.key());
        answer.int16(*api.versions().start());
        answer.int16(*api.versions().end());
        answer.no_tagged_fields();
    }
    if head.version >= 1 {
        answer.int32(head.throttle_ms);
    }
    answer.no_tagged_fields();
    answer
}
