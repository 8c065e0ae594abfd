//! The calls to brokers, each a request and its answer in the versions that are supported here.
//!
//! A [`Call`] says what it writes and reads by `wire`; `SentCall` and `Received` are the bridge to
//! rskafka's messenger, which frames, numbers and negotiates. An answer keeps its bytes: record batches are given as
//! ranges of them and never copied.

pub mod fetch;
pub mod group;
pub mod metadata;
pub mod offsets;
pub mod produce;
pub mod topics;

use std::io::Cursor;

use rskafka::protocol::api_key::ApiKey;
use rskafka::protocol::api_version::{ApiVersion, ApiVersionRange};
use rskafka::protocol::messages::{
    ReadVersionedError, ReadVersionedType, RequestBody, WriteVersionedError, WriteVersionedType,
};
use rskafka::protocol::primitives::Int16;
use rskafka::protocol::traits::ReadError;

use super::wire::{AnswerReader, MalformedAnswer, RequestWriter};

/// A topic's id where the broker gives none.
pub const NO_TOPIC_ID: [u8; 16] = [0; 16];

/// Records of open transactions are held back, those of aborted ones are named.
pub const READ_COMMITTED: i8 = 1;
/// Every record.
pub const READ_UNCOMMITTED: i8 = 0;

/// A request and what answers it.
pub trait Call {
    /// The answer.
    type Answer: Send;
    /// Which call it is.
    const KEY: ApiKey;
    /// Oldest and newest version that is spoken here.
    const VERSIONS: (i16, i16);
    /// The first version in the compact form with tagged fields.
    const FLEXIBLE_FROM: i16;

    /// Appends the request.
    fn write(&self, to: &mut RequestWriter<'_>);

    /// Reads the answer.
    fn read(body: AnswerBody) -> Result<Self::Answer, MalformedAnswer>;
}

/// The bytes of an answer, behind its header.
#[derive(Debug)]
pub struct AnswerBody {
    /// The whole frame.
    pub bytes: Vec<u8>,
    at: usize,
    version: i16,
    flexible: bool,
}

impl AnswerBody {
    /// Reads the whole answer with `read`.
    pub fn read<T>(
        &self,
        read: impl FnOnce(&mut AnswerReader<'_>) -> Result<T, MalformedAnswer>,
    ) -> Result<T, MalformedAnswer> {
        let mut reader = AnswerReader::new(&self.bytes, self.at, self.version, self.flexible);
        let value = read(&mut reader)?;
        reader.tags()?;
        reader.end()?;
        Ok(value)
    }
}

/// A call on its way to the messenger.
pub(super) struct SentCall<C>(pub(super) C);

/// Its answer on the way back.
pub(super) struct Received<C: Call>(pub(super) C::Answer);

impl<C: Call> RequestBody for SentCall<C> {
    type ResponseBody = Received<C>;
    const API_KEY: ApiKey = C::KEY;
    const API_VERSION_RANGE: ApiVersionRange =
        ApiVersionRange::new(ApiVersion(Int16(C::VERSIONS.0)), ApiVersion(Int16(C::VERSIONS.1)));
    const FIRST_TAGGED_FIELD_IN_REQUEST_VERSION: ApiVersion = ApiVersion(Int16(C::FLEXIBLE_FROM));
}

impl<C: Call> WriteVersionedType<Vec<u8>> for SentCall<C> {
    fn write_versioned(&self, to: &mut Vec<u8>, version: ApiVersion) -> Result<(), WriteVersionedError> {
        let version = version.0.0;
        self.0.write(&mut RequestWriter::new(to, version, version >= C::FLEXIBLE_FROM));
        Ok(())
    }
}

impl<C: Call> ReadVersionedType<Cursor<Vec<u8>>> for Received<C> {
    fn read_versioned(cursor: &mut Cursor<Vec<u8>>, version: ApiVersion) -> Result<Self, ReadVersionedError> {
        let version = version.0.0;
        let at = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        let bytes = std::mem::take(cursor.get_mut());
        // The messenger checks that all was read by comparing position and length: both are 0 now.
        cursor.set_position(0);
        let body = AnswerBody { bytes, at, version, flexible: version >= C::FLEXIBLE_FROM };
        let malformed = || ReadError::Malformed(format!("answer to {:?} version {version}", C::KEY).into());
        C::read(body).map(Self).map_err(|MalformedAnswer| ReadVersionedError::ReadError(malformed()))
    }
}
