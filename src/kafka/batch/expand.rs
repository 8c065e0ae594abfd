//! The records of a compressed batch, expanded piece by piece.
//!
//! A codec fills a window; records, which may lie across its end, are taken out of it into a buffer of their own. So
//! expanding takes the window, and the longest record that is wanted in whole, however much a batch expands to; of a
//! longer one the beginning is kept and the rest is passed.

use super::header::HEADER_BYTES;
use super::inflate::Inflate;
use super::lz4::Lz4;
use super::record::{self, LONGEST_VARINT, RawRecord, RecordHead};
use super::sliding_window::SlidingWindow;
use super::snappy::Snappy;
#[cfg(feature = "zstd")]
use super::zstd::Whole;
use super::{BatchErrorKind, BatchHeader, Codec};

/// Memory for expanding compressed batches, kept from batch to batch: 200 KiB and the longest record. It takes none
/// until the first one comes.
#[derive(Debug, Default)]
pub struct Expander {
    memory: Option<Box<Memory>>,
}

#[derive(Debug)]
struct Memory {
    window: SlidingWindow,
    inflate: Inflate,
    /// The record that was expanded last, or its beginning.
    record: Vec<u8>,
    is_cut: bool,
}

/// A codec in the middle of a batch.
#[derive(Debug)]
enum CodecStream {
    Gzip,
    Snappy(Snappy),
    Lz4(Lz4),
}

/// A compressed batch in the middle of being read.
#[derive(Debug)]
pub(super) enum Expansion<'a> {
    Streamed(Streamed<'a>),
    #[cfg(feature = "zstd")]
    Whole(Whole),
}

impl Expander {
    /// Bytes that it takes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.memory
            .as_ref()
            .map_or(0, |memory| size_of::<Memory>() + memory.window.size() + memory.record.capacity())
    }

    /// Begins with the records of a batch.
    pub(super) fn begin<'a>(
        &'a mut self,
        header: &BatchHeader,
        batch: &'a [u8],
    ) -> Result<Expansion<'a>, BatchErrorKind> {
        let stream = match header.codec {
            Codec::Gzip => CodecStream::Gzip,
            Codec::Snappy => CodecStream::Snappy(Snappy::default()),
            Codec::Lz4 => CodecStream::Lz4(Lz4::default()),
            #[cfg(feature = "zstd")]
            Codec::Zstd => return Whole::expand(header, batch).map(Expansion::Whole),
            codec => return Err(BatchErrorKind::CodecNotBuiltIn(codec)),
        };
        let memory = self.memory.get_or_insert_with(|| {
            Box::new(Memory {
                window: SlidingWindow::new(),
                inflate: Inflate::new(),
                record: Vec::new(),
                is_cut: false,
            })
        });
        memory.window.clear();
        memory.inflate.restart();
        let input = batch.get(HEADER_BYTES..).unwrap_or_default();
        Ok(Expansion::Streamed(Streamed { input, codec: header.codec, stream, memory }))
    }
}

impl Expansion<'_> {
    /// Moves to the next record, up to `max_bytes` of it. Nothing may come after the last one.
    pub(super) fn advance(&mut self, max_bytes: usize, is_last: bool) -> Result<RecordHead, BatchErrorKind> {
        match self {
            Self::Streamed(streamed) => streamed.advance(max_bytes, is_last),
            #[cfg(feature = "zstd")]
            Self::Whole(whole) => whole.advance(),
        }
    }

    /// The record that it moved to.
    pub(super) fn record(&self) -> Option<RawRecord<'_>> {
        match self {
            Self::Streamed(streamed) => streamed.record(),
            #[cfg(feature = "zstd")]
            Self::Whole(whole) => whole.record(),
        }
    }
}

/// A batch that is expanded while it is read.
#[derive(Debug)]
pub(super) struct Streamed<'a> {
    input: &'a [u8],
    codec: Codec,
    stream: CodecStream,
    memory: &'a mut Memory,
}

impl Streamed<'_> {
    fn advance(&mut self, max_bytes: usize, is_last: bool) -> Result<RecordHead, BatchErrorKind> {
        let bytes = self.expand_record(max_bytes)?;
        if is_last && !self.is_at_end()? {
            return Err(BatchErrorKind::Malformed(record::TRAILING));
        }
        let offset_delta =
            record::offset_delta(&self.memory.record).ok_or(BatchErrorKind::Malformed(record::MALFORMED))?;
        Ok(RecordHead { offset_delta, bytes })
    }

    fn record(&self) -> Option<RawRecord<'_>> {
        let Memory { record, is_cut, .. } = &*self.memory;
        if *is_cut { record::read_cut(record) } else { record::read(record) }
    }

    /// Expands the next record, up to `max_bytes` of it; gives the length of the whole.
    fn expand_record(&mut self, max_bytes: usize) -> Result<usize, BatchErrorKind> {
        let length = self.length()?;
        self.memory.record.clear();
        self.memory.is_cut = length > max_bytes;
        let mut left = length;
        while left > 0 {
            let count = self.unread()?.min(left);
            let Memory { window, record, .. } = &mut *self.memory;
            let wanted = count.min(max_bytes - record.len());
            record.extend_from_slice(&window.unread()[..wanted]);
            window.consume(count);
            left -= count;
        }
        Ok(length)
    }

    /// Whether everything has been read.
    fn is_at_end(&mut self) -> Result<bool, BatchErrorKind> {
        self.fill()?;
        Ok(self.memory.window.unread().is_empty())
    }

    /// A record's length, which may lie across the end of what has been expanded.
    fn length(&mut self) -> Result<usize, BatchErrorKind> {
        let mut bytes = [0; LONGEST_VARINT];
        let mut number = record::varint(self.memory.window.unread());
        let mut count = 0;
        while number.is_none() && count < LONGEST_VARINT {
            self.unread()?;
            bytes[count] = self.memory.window.unread()[0];
            self.memory.window.consume(1);
            count += 1;
            number = record::varint(&bytes[..count]).map(|(number, _)| (number, 0));
        }
        let (length, taken) = number.ok_or(BatchErrorKind::Malformed(record::MALFORMED))?;
        self.memory.window.consume(taken);
        usize::try_from(length).map_err(|_| BatchErrorKind::Malformed(record::MALFORMED))
    }

    /// How many bytes there are to read, at least one.
    fn unread(&mut self) -> Result<usize, BatchErrorKind> {
        self.fill()?;
        match self.memory.window.unread().len() {
            0 => Err(BatchErrorKind::Compression(self.codec, "it ends before its last record")),
            unread => Ok(unread),
        }
    }

    /// Expands more, if there is nothing to read and more to come.
    fn fill(&mut self) -> Result<(), BatchErrorKind> {
        let memory = &mut *self.memory;
        if !memory.window.unread().is_empty() {
            return Ok(());
        }
        memory.window.make_room();
        let filled = match &mut self.stream {
            CodecStream::Gzip => memory.inflate.fill(self.input, &mut memory.window),
            CodecStream::Snappy(snappy) => snappy.fill(self.input, &mut memory.window),
            CodecStream::Lz4(lz4) => lz4.fill(self.input, &mut memory.window),
        };
        filled.map_err(|what| BatchErrorKind::Compression(self.codec, what))
    }
}
