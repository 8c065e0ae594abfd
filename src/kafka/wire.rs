//! Kafka's primitive types: written to a request, read from an answer without trust.
//!
//! A call has a version, and from some version on its strings, arrays and byte strings take the compact form and its
//! structures end with tagged fields. Reader and writer know which form applies, so that the code of a message says which
//! fields there are and not how they are encoded. Reading never panics and allocates no more than the answer has bytes.

/// The answer does not follow the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MalformedAnswer;

/// Takes values off the front of an answer.
#[derive(Debug)]
pub struct AnswerReader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The version of the call.
    pub version: i16,
    flexible: bool,
}

impl<'a> AnswerReader<'a> {
    /// Reads `bytes` from `at` on.
    pub fn new(bytes: &'a [u8], at: usize, version: i16, flexible: bool) -> Self {
        Self { bytes, at, version, flexible }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], MalformedAnswer> {
        let end = self.at.checked_add(count).ok_or(MalformedAnswer)?;
        let taken = self.bytes.get(self.at..end).ok_or(MalformedAnswer)?;
        self.at = end;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], MalformedAnswer> {
        self.take(N)?.first_chunk().copied().ok_or(MalformedAnswer)
    }

    /// One byte with a sign.
    pub fn int8(&mut self) -> Result<i8, MalformedAnswer> {
        self.fixed().map(i8::from_be_bytes)
    }

    /// Two bytes.
    pub fn int16(&mut self) -> Result<i16, MalformedAnswer> {
        self.fixed().map(i16::from_be_bytes)
    }

    /// Four bytes.
    pub fn int32(&mut self) -> Result<i32, MalformedAnswer> {
        self.fixed().map(i32::from_be_bytes)
    }

    /// Eight bytes.
    pub fn int64(&mut self) -> Result<i64, MalformedAnswer> {
        self.fixed().map(i64::from_be_bytes)
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self) -> Result<[u8; 16], MalformedAnswer> {
        self.fixed()
    }

    fn unsigned_varint(&mut self) -> Result<usize, MalformedAnswer> {
        let mut value = 0_u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.fixed()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(value).map_err(|_| MalformedAnswer);
            }
        }
        Err(MalformedAnswer)
    }

    /// A length; None is null.
    fn length(&mut self, short: bool) -> Result<Option<usize>, MalformedAnswer> {
        if self.flexible {
            return Ok(self.unsigned_varint()?.checked_sub(1));
        }
        let length = if short { i32::from(self.int16()?) } else { self.int32()? };
        if length == -1 { Ok(None) } else { usize::try_from(length).map(Some).map_err(|_| MalformedAnswer) }
    }

    /// A string that may be null.
    pub fn nullable_string(&mut self) -> Result<Option<&'a str>, MalformedAnswer> {
        let Some(length) = self.length(true)? else { return Ok(None) };
        std::str::from_utf8(self.take(length)?).map(Some).map_err(|_| MalformedAnswer)
    }

    /// A string.
    pub fn string(&mut self) -> Result<&'a str, MalformedAnswer> {
        self.nullable_string()?.ok_or(MalformedAnswer)
    }

    /// A byte string, as its place in the answer; null is empty.
    pub fn bytes(&mut self) -> Result<std::ops::Range<usize>, MalformedAnswer> {
        let length = self.length(false)?.unwrap_or(0);
        let start = self.at;
        self.take(length)?;
        Ok(start..start + length)
    }

    /// Reads an array with `item`; null is an empty one.
    pub fn array<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, MalformedAnswer>,
    ) -> Result<Vec<T>, MalformedAnswer> {
        let length = self.length(false)?.unwrap_or(0);
        // Every item takes a byte at least: a claim beyond that is false, and nothing is allocated for it.
        if length > self.bytes.len() - self.at {
            return Err(MalformedAnswer);
        }
        (0..length).map(|_| item(self)).collect()
    }

    /// Leaves out the optional fields at the end of a structure.
    pub fn tags(&mut self) -> Result<(), MalformedAnswer> {
        self.each_tag(|_, _| Ok(()))
    }

    /// Reads the optional fields at the end of a structure: each by its number and in a reader of its own.
    pub fn each_tag(
        &mut self,
        mut tag: impl FnMut(usize, &mut AnswerReader<'_>) -> Result<(), MalformedAnswer>,
    ) -> Result<(), MalformedAnswer> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.unsigned_varint()? {
            let number = self.unsigned_varint()?;
            let length = self.unsigned_varint()?;
            let bytes = self.take(length)?;
            tag(number, &mut AnswerReader::new(bytes, 0, self.version, true))?;
        }
        Ok(())
    }

    /// Everything must have been read.
    pub fn end(&self) -> Result<(), MalformedAnswer> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(MalformedAnswer) }
    }
}

/// Appends values to a request.
#[derive(Debug)]
pub struct RequestWriter<'a> {
    bytes: &'a mut Vec<u8>,
    /// The version of the call.
    pub version: i16,
    flexible: bool,
}

impl<'a> RequestWriter<'a> {
    /// Writes behind what `bytes` holds.
    pub fn new(bytes: &'a mut Vec<u8>, version: i16, flexible: bool) -> Self {
        Self { bytes, version, flexible }
    }

    /// One byte with a sign.
    pub fn int8(&mut self, value: i8) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Two bytes.
    pub fn int16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Four bytes.
    pub fn int32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Eight bytes.
    pub fn int64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// One byte, 0 or 1.
    pub fn boolean(&mut self, value: bool) {
        self.int8(value.into());
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self, value: [u8; 16]) {
        self.bytes.extend_from_slice(&value);
    }

    fn unsigned_varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.bytes.push((value & 0x7F) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// Names are far shorter than a length can express, and a request is far below 2 GiB.
    fn length(&mut self, length: usize, short: bool) {
        if self.flexible {
            self.unsigned_varint(length + 1);
        } else if short {
            self.int16(i16::try_from(length).unwrap_or(i16::MAX));
        } else {
            self.int32(i32::try_from(length).unwrap_or(i32::MAX));
        }
    }

    /// A string.
    pub fn string(&mut self, text: &str) {
        self.length(text.len(), true);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// A string that is null.
    pub fn null_string(&mut self) {
        if self.flexible { self.unsigned_varint(0) } else { self.int16(-1) }
    }

    /// A byte string, given in parts.
    pub fn byte_string(&mut self, parts: &[&[u8]]) {
        self.length(parts.iter().map(|part| part.len()).sum(), false);
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
    }

    /// Writes an array with `item`.
    pub fn array<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) {
        self.length(items.len(), false);
        items.iter().for_each(|it| item(self, it));
    }

    /// No optional fields at the end of a structure.
    pub fn tags(&mut self) {
        if self.flexible {
            self.unsigned_varint(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(flexible: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = RequestWriter::new(&mut bytes, 3, flexible);
        writer.string("weather");
        writer.null_string();
        writer.array(&[1, -2], |writer, number| writer.int32(*number));
        writer.byte_string(&[&[9; 150], &[9; 50]]);
        writer.tags();
        bytes
    }

    #[test]
    fn both_forms_come_back() {
        for flexible in [false, true] {
            let bytes = written(flexible);
            let mut reader = AnswerReader::new(&bytes, 0, 3, flexible);
            assert_eq!(reader.string(), Ok("weather"));
            assert_eq!(reader.nullable_string(), Ok(None));
            assert_eq!(reader.array(|reader| reader.int32()), Ok(vec![1, -2]));
            let range = reader.bytes().unwrap();
            assert_eq!(bytes[range], [9; 200]);
            reader.tags().unwrap();
            assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn what_is_cut_off_or_claims_too_much_is_malformed() {
        for flexible in [false, true] {
            let bytes = written(flexible);
            for end in 0..bytes.len() {
                let mut reader = AnswerReader::new(&bytes[..end], 0, 3, flexible);
                let read = (|| {
                    reader.string()?;
                    reader.nullable_string()?;
                    reader.array(|reader| reader.int32())?;
                    reader.bytes()?;
                    reader.tags()?;
                    reader.end()
                })();
                // Cut before its tagged fields a message of the older form is whole.
                assert_eq!(read, Err(MalformedAnswer), "{end}");
            }
        }
        let huge = [0x7F, 0xFF, 0xFF, 0xFF, 1];
        assert_eq!(AnswerReader::new(&huge, 0, 0, false).array(|reader| reader.int8()), Err(MalformedAnswer));
    }
}
