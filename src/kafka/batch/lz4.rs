//! lz4: blocks in the frame of its 1.6 specification, as all of Kafka's clients send it.
//!
//! Its checksums are not compared: the batch's own has already confirmed every byte that comes in.

use super::copies::{ENDS_EARLY, Pending, take};
use super::sliding_window::SlidingWindow;

const FRAME: u32 = 0x184D_2204;
/// Set in a block's length when its bytes are not compressed.
const STORED: u32 = 1 << 31;
/// Shortest copy.
const SHORTEST: usize = 4;
/// A length in a token that continues in the bytes that follow.
const GOES_ON: usize = 15;

/// An lz4 stream in the middle of being expanded.
#[derive(Debug, Default)]
pub(super) struct Lz4 {
    at: usize,
    /// Where the current block ends in the input.
    block_end: usize,
    /// A checksum follows each block.
    block_checksums: bool,
    in_block: bool,
    ended: bool,
    literal: Pending,
    /// Comes after the literal; its distance follows it.
    copy_length: Option<usize>,
    copy: Pending,
}

impl Lz4 {
    /// Writes more to the window, until it is full or the stream has ended. `input` is the same at every call.
    pub(super) fn fill(&mut self, input: &[u8], window: &mut SlidingWindow) -> Result<(), &'static str> {
        if self.at == 0 {
            self.begin(input)?;
        }
        while window.room() > 0 && !self.ended {
            if self.literal.is_some() {
                self.literal.write(&input[..self.block_end], &mut self.at, window)?;
            } else if self.copy.is_some() {
                self.copy.write(input, &mut self.at, window)?;
            } else if self.at < self.block_end {
                self.element(&input[..self.block_end])?;
            } else {
                self.next_block(input)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, input: &[u8]) -> Result<(), &'static str> {
        if u32::from_le_bytes(take(input, &mut self.at)?) != FRAME {
            return Err("it does not start with an lz4 header");
        }
        let [flags, _block_size] = take(input, &mut self.at)?;
        if flags >> 6 != 1 || flags & 1 != 0 {
            return Err("its frame is of an unknown version or needs a dictionary");
        }
        self.block_checksums = flags & 0x10 != 0;
        // The length of the content, if it is given, and the checksum of this header.
        self.at += if flags & 8 != 0 { 8 } else { 0 } + 1;
        self.block_end = self.at;
        Ok(())
    }

    fn next_block(&mut self, input: &[u8]) -> Result<(), &'static str> {
        if self.copy_length.is_some() {
            return Err(ENDS_EARLY);
        }
        if self.in_block && self.block_checksums {
            let _checksum: [u8; 4] = take(input, &mut self.at)?;
        }
        let length = u32::from_le_bytes(take(input, &mut self.at)?);
        self.in_block = true;
        if length == 0 {
            self.ended = true;
            return Ok(());
        }
        let bytes = (length & !STORED) as usize;
        self.block_end = self.at.checked_add(bytes).filter(|end| *end <= input.len()).ok_or(ENDS_EARLY)?;
        if length & STORED != 0 {
            self.literal = Pending::literal(bytes);
        }
        Ok(())
    }

    /// Reads what comes next: the head of a literal and a copy, or the distance of that copy.
    #[inline]
    fn element(&mut self, block: &[u8]) -> Result<(), &'static str> {
        if let Some(length) = self.copy_length.take() {
            let distance = usize::from(u16::from_le_bytes(take(block, &mut self.at)?));
            let length = self.length(block, length)?;
            self.copy = Pending::copy(distance, length + SHORTEST);
            return Ok(());
        }
        let [token] = take(block, &mut self.at)?;
        let literal = self.length(block, usize::from(token >> 4))?;
        if literal > block.len() - self.at {
            return Err(ENDS_EARLY);
        }
        self.literal = Pending::literal(literal);
        // The last literal of a block has no copy behind it.
        self.copy_length = (self.at + literal < block.len()).then_some(usize::from(token & 0xF));
        Ok(())
    }

    /// A length that continues, in bytes to be added up, of which the last is not 255.
    fn length(&mut self, block: &[u8], start: usize) -> Result<usize, &'static str> {
        let mut length = start;
        if start == GOES_ON {
            loop {
                let [byte] = take(block, &mut self.at)?;
                length += usize::from(byte);
                if byte != 255 {
                    break;
                }
            }
        }
        Ok(length)
    }
}
