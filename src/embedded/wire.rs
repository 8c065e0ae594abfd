//! Kafka's primitive types: read from an untrusted request, written to an answer.
//!
//! A request and its answer have one version. From some version on, which each kind of request defines, lengths are compact
//! and structures end with tagged fields ("flexible"). [`RequestReader`] and [`AnswerWriter`] handle both forms, so the code of each kind
//! makes the same calls for both.
//!
//! The client has a reader and a writer of its own (`kafka::wire`). That there are two is meant: most tests let the client
//! talk to this broker. With one code for both sides, what the client wrote wrongly would be read back as it was meant.
//!
//! Reading never panics and never trusts a length field when it allocates: strings and batches are borrowed from the
//! request, and all arrays of a request together hold a limited number of items. In an answer, record batches are not
//! copied but *spliced*: the frame keeps a reference to the stored bytes and where they go.

use std::sync::Arc;

use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Maximum number of items in all arrays of one request: more than the partitions that this broker holds.
const MAX_ITEMS: usize = 20_000;

/// The bytes are not a request of the protocol; the connection they came from is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MalformedRequest;

/// Takes values off the front of a request.
#[derive(Debug, Clone)]
pub(super) struct RequestReader<'a> {
    rest: &'a [u8],
    items_left: usize,
    /// Version of the request.
    pub(super) version: i16,
    flexible: bool,
}

impl<'a> RequestReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, items_left: MAX_ITEMS, version: 0, flexible: false }
    }

    /// From here on the bytes are of this version.
    pub(super) fn speak(&mut self, version: i16, flexible: bool) {
        (self.version, self.flexible) = (version, flexible);
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], MalformedRequest> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(MalformedRequest)?;
        self.rest = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], MalformedRequest> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(MalformedRequest)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn int8(&mut self) -> Result<i8, MalformedRequest> {
        self.fixed().map(i8::from_be_bytes)
    }

    pub(super) fn int16(&mut self) -> Result<i16, MalformedRequest> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub(super) fn int32(&mut self) -> Result<i32, MalformedRequest> {
        self.fixed().map(i32::from_be_bytes)
    }

    pub(super) fn int64(&mut self) -> Result<i64, MalformedRequest> {
        self.fixed().map(i64::from_be_bytes)
    }

    pub(super) fn boolean(&mut self) -> Result<bool, MalformedRequest> {
        Ok(self.int8()? != 0)
    }

    fn unsigned_varlong(&mut self) -> Result<u64, MalformedRequest> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.fixed()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(MalformedRequest)
    }

    /// A signed number in zigzag form, as records use it.
    pub(super) fn varlong(&mut self) -> Result<i64, MalformedRequest> {
        let zigzag = self.unsigned_varlong()?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    /// Skips the next `count` bytes.
    pub(super) fn skip(&mut self, count: i64) -> Result<(), MalformedRequest> {
        self.take(usize::try_from(count).map_err(|_| MalformedRequest)?).map(drop)
    }

    pub(super) fn string(&mut self) -> Result<&'a str, MalformedRequest> {
        self.nullable_string()?.ok_or(MalformedRequest)
    }

    pub(super) fn nullable_string(&mut self) -> Result<Option<&'a str>, MalformedRequest> {
        let Some(length) = self.string_length()? else { return Ok(None) };
        std::str::from_utf8(self.take(length)?).map(Some).map_err(|_| MalformedRequest)
    }

    fn string_length(&mut self) -> Result<Option<usize>, MalformedRequest> {
        if self.flexible {
            return self.compact_length();
        }
        match self.int16()? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| MalformedRequest),
        }
    }

    /// The length of an array or of bytes; `None` is null.
    fn length(&mut self) -> Result<Option<usize>, MalformedRequest> {
        if self.flexible {
            return self.compact_length();
        }
        match self.int32()? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| MalformedRequest),
        }
    }

    fn compact_length(&mut self) -> Result<Option<usize>, MalformedRequest> {
        let length = self.unsigned_varlong()?.checked_sub(1).map(usize::try_from);
        length.transpose().map_err(|_| MalformedRequest)
    }

    pub(super) fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, MalformedRequest> {
        let Some(length) = self.length()? else { return Ok(None) };
        self.take(length).map(Some)
    }

    pub(super) fn uuid(&mut self) -> Result<[u8; 16], MalformedRequest> {
        self.fixed()
    }

    /// Reads an array with `item`; null is an empty one.
    pub(super) fn array<T>(
        &mut self,
        item: impl FnMut(&mut Self) -> Result<T, MalformedRequest>,
    ) -> Result<Vec<T>, MalformedRequest> {
        Ok(self.nullable_array(item)?.unwrap_or_default())
    }

    /// Reads an array with `item`; `None` if it is null.
    pub(super) fn nullable_array<T>(
        &mut self,
        item: impl FnMut(&mut Self) -> Result<T, MalformedRequest>,
    ) -> Result<Option<Vec<T>>, MalformedRequest> {
        let Some(length) = self.length()? else { return Ok(None) };
        self.items(length, item).map(Some)
    }

    fn items<T>(
        &mut self,
        length: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, MalformedRequest>,
    ) -> Result<Vec<T>, MalformedRequest> {
        self.items_left = self.items_left.checked_sub(length).ok_or(MalformedRequest)?;
        (0..length).map(|_| item(self)).collect()
    }

    /// Reads what most requests have: topics, each with its partitions, which `partition` reads up to their tagged fields.
    pub(super) fn topics<P>(
        &mut self,
        mut partition: impl FnMut(&mut Self) -> Result<P, MalformedRequest>,
    ) -> Result<Vec<(&'a str, Vec<P>)>, MalformedRequest> {
        self.array(|reader| {
            let topic = reader.string()?;
            let all = reader.array(|reader| {
                let asked = partition(reader)?;
                reader.tagged_fields()?;
                Ok(asked)
            })?;
            reader.tagged_fields()?;
            Ok((topic, all))
        })
    }

    /// Skips the tagged fields at the end of a structure, if this version has them; none is used here.
    pub(super) fn tagged_fields(&mut self) -> Result<(), MalformedRequest> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.unsigned_varlong()? {
            self.unsigned_varlong()?;
            let length = self.unsigned_varlong()?;
            self.take(usize::try_from(length).map_err(|_| MalformedRequest)?)?;
        }
        Ok(())
    }

    /// Everything must have been read.
    pub(super) fn end(&self) -> Result<(), MalformedRequest> {
        if self.rest.is_empty() { Ok(()) } else { Err(MalformedRequest) }
    }
}

/// An answer while it is written.
#[derive(Debug)]
pub(super) struct AnswerWriter {
    bytes: Vec<u8>,
    /// Stored batches, each with the place in `bytes` before which it goes, in order.
    splices: Vec<(usize, Arc<[u8]>)>,
    /// Version of the request that it answers.
    pub(super) version: i16,
    flexible: bool,
}

impl AnswerWriter {
    /// An empty answer to the request of this correlation id, with the old form of a header, which has no tagged fields.
    pub(super) fn new(correlation_id: i32, version: i16, flexible: bool) -> Self {
        let mut answer = Self { bytes: Vec::with_capacity(128), splices: Vec::new(), version, flexible };
        answer.int32(correlation_id);
        answer
    }

    pub(super) fn int8(&mut self, value: i8) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn int16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn int32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn int64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn boolean(&mut self, value: bool) {
        self.int8(value.into());
    }

    /// The length of an array, or of bytes. All are far below the limit: topics, partitions, names, a bounded fetch.
    pub(super) fn length(&mut self, length: usize) {
        if self.flexible {
            self.unsigned_varint(length + 1);
        } else {
            self.int32(i32::try_from(length).unwrap_or(i32::MAX));
        }
    }

    fn unsigned_varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.bytes.push((value & 0x7F) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    pub(super) fn string(&mut self, text: &str) {
        if self.flexible {
            self.unsigned_varint(text.len() + 1);
        } else {
            self.int16(i16::try_from(text.len()).unwrap_or(i16::MAX));
        }
        self.bytes.extend_from_slice(text.as_bytes());
    }

    pub(super) fn nullable_string(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.string(text),
            None if self.flexible => self.unsigned_varint(0),
            None => self.int16(-1),
        }
    }

    pub(super) fn uuid(&mut self, id: [u8; 16]) {
        self.bytes.extend_from_slice(&id);
    }

    /// Writes what most answers have: topics, each with its partitions, which `partition` writes up to their tagged fields.
    pub(super) fn topics<P>(
        &mut self,
        topics: &[(&str, Vec<P>)],
        mut partition: impl FnMut(&mut Self, &str, &P),
    ) {
        self.length(topics.len());
        for (topic, all) in topics {
            self.string(topic);
            self.length(all.len());
            for asked in all {
                partition(self, topic, asked);
                self.no_tagged_fields();
            }
            self.no_tagged_fields();
        }
    }

    /// The end of a structure: no tagged fields, if this version has any.
    pub(super) fn no_tagged_fields(&mut self) {
        if self.flexible {
            self.bytes.push(0);
        }
    }

    /// The end of a structure with one tagged field, which `write` writes; only in a version that has them.
    pub(super) fn tagged_field(&mut self, tag: u8, write: impl FnOnce(&mut Self)) {
        let mut field = Self { bytes: Vec::new(), splices: Vec::new(), ..*self };
        write(&mut field);
        self.bytes.extend([1, tag]);
        self.unsigned_varint(field.bytes.len());
        self.bytes.append(&mut field.bytes);
    }

    /// A record set: the length of the batches together, then the batches as they are stored.
    pub(super) fn record_set(&mut self, batches: Vec<Arc<[u8]>>) {
        self.length(batches.iter().map(|batch| batch.len()).sum());
        let position = self.bytes.len();
        self.splices.extend(batches.into_iter().map(|batch| (position, batch)));
    }

    /// Writes the answer as a frame. The writer is flushed by the caller.
    pub(super) async fn write(self, writer: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
        let size = self.bytes.len() + self.splices.iter().map(|(_, batch)| batch.len()).sum::<usize>();
        writer.write_i32(i32::try_from(size).map_err(std::io::Error::other)?).await?;
        let mut rest = self.bytes.as_slice();
        let mut written = 0;
        for (position, batch) in self.splices {
            if let Some((before, after)) = rest.split_at_checked(position - written) {
                writer.write_all(before).await?;
                rest = after;
                written = position;
            }
            writer.write_all(&batch).await?;
        }
        writer.write_all(rest).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flexible(bytes: &[u8]) -> RequestReader<'_> {
        let mut reader = RequestReader::new(bytes);
        reader.speak(1, true);
        reader
    }

    #[test]
    fn lengths_are_not_trusted() {
        let huge = i32::MAX.to_be_bytes();
        assert_eq!(RequestReader::new(&huge).nullable_bytes(), Err(MalformedRequest));
        assert_eq!(RequestReader::new(&huge).array(|_| Ok(())), Err(MalformedRequest));
        assert_eq!(RequestReader::new(&(-2_i32).to_be_bytes()).array(|_| Ok(())), Err(MalformedRequest));
        assert_eq!(RequestReader::new(&(-2_i16).to_be_bytes()).nullable_string(), Err(MalformedRequest));
        assert_eq!(flexible(&[0xFF; 9]).string(), Err(MalformedRequest));
        assert_eq!(RequestReader::new(&[0xFF; 11]).varlong(), Err(MalformedRequest));
        assert_eq!(flexible(&[3, b'a']).string(), Err(MalformedRequest));
        assert_eq!(flexible(&[2, 0xFF]).string(), Err(MalformedRequest));
        assert_eq!(flexible(&[0xFF, 0xFF, 0x7F, 1]).tagged_fields(), Err(MalformedRequest));
        assert_eq!(RequestReader::new(&[0]).end(), Err(MalformedRequest));
    }

    #[test]
    fn nested_arrays_share_one_allowance() {
        // A hundred arrays of a thousand items that take no bytes.
        let mut bytes = 100_i32.to_be_bytes().to_vec();
        bytes.extend(1_000_i32.to_be_bytes().repeat(100));
        let mut items = 0;
        let mut reader = RequestReader::new(&bytes);
        let mut inner = |_: &mut RequestReader<'_>| {
            items += 1;
            Ok(())
        };
        assert_eq!(reader.array(|reader| reader.array(&mut inner).map(drop)), Err(MalformedRequest));
        assert!(items < MAX_ITEMS);
    }

    #[test]
    fn varlong_is_zigzag() {
        for (bytes, value) in [
            (&[0][..], 0),
            (&[1], -1),
            (&[2], 1),
            (&[0xFE, 0x01], 127),
            (&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F], i64::from(i32::MIN)),
            (&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], i64::MIN),
        ] {
            assert_eq!(RequestReader::new(bytes).varlong(), Ok(value));
        }
    }

    #[tokio::test]
    async fn batches_are_spliced_where_they_belong() {
        let mut answer = AnswerWriter::new(7, 1, false);
        answer.record_set(vec![Arc::from(*b"ab"), Arc::from(*b"c")]);
        answer.int8(1);
        answer.record_set(Vec::new());
        answer.record_set(vec![Arc::from(*b"d")]);
        let mut frame = Vec::new();
        answer.write(&mut frame).await.unwrap();
        let expected = [
            &[0, 0, 0, 21][..],
            &[0, 0, 0, 7],
            &[0, 0, 0, 3],
            b"abc",
            &[1],
            &[0, 0, 0, 0],
            &[0, 0, 0, 1],
            b"d",
        ]
        .concat();
        assert_eq!(frame, expected);
    }
}
