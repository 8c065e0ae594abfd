//! Snappy: one raw block, as librdkafka and rskafka send it, or many in the frame of Java's library.
//!
//! A copy may reach back to the start of its block. All encoders work in pieces of 64 KiB, so they never reach further than
//! that, and the window holds it; a block that does is refused.

use super::copies::{ENDS_EARLY, Pending, take};
use super::sliding_window::{SlidingWindow, TOO_FAR_BACK};

/// How Java's frame begins; its version and the oldest version that can read it follow, both 1.
const FRAME: [u8; 8] = *b"\x82SNAPPY\0";

/// A snappy stream in the middle of being expanded.
#[derive(Debug, Default)]
pub(super) struct Snappy {
    at: usize,
    framed: bool,
    /// Where the current block ends in the input.
    block_end: usize,
    /// Bytes that the current block still has to give, and has given.
    left: usize,
    given: usize,
    pending: Pending,
}

impl Snappy {
    /// Writes more to the window, until it is full or the stream has ended. `input` is the same at every call.
    pub(super) fn fill(&mut self, input: &[u8], window: &mut SlidingWindow) -> Result<(), &'static str> {
        if self.at == 0 {
            self.begin(input)?;
        }
        while window.room() > 0 {
            if self.pending.is_some() {
                let count = self.pending.write(input, &mut self.at, window)?;
                self.left = self.left.checked_sub(count).ok_or("a block is longer than it says")?;
                self.given += count;
            } else if self.at < self.block_end {
                self.element(input)?;
            } else if self.left > 0 {
                return Err(ENDS_EARLY);
            } else if self.framed && self.at < input.len() {
                let length = u32::from_be_bytes(take(input, &mut self.at)?);
                self.block(input, length as usize)?;
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    fn begin(&mut self, input: &[u8]) -> Result<(), &'static str> {
        let Some(rest) = input.strip_prefix(&FRAME) else { return self.block(input, input.len()) };
        if !rest.starts_with(&[0, 0, 0, 1, 0, 0, 0, 1]) {
            return Err("its frame is of an unknown version");
        }
        self.at = FRAME.len() + 8;
        self.block_end = self.at;
        self.framed = true;
        Ok(())
    }

    /// Begins a block of `length` bytes. Its first bytes say how many it becomes, seven bits in each.
    fn block(&mut self, input: &[u8], length: usize) -> Result<(), &'static str> {
        self.block_end = self.at.checked_add(length).filter(|end| *end <= input.len()).ok_or(ENDS_EARLY)?;
        (self.left, self.given) = (0, 0);
        for index in 0..5 {
            let [byte] = take(&input[..self.block_end], &mut self.at)?;
            self.left |= usize::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(());
            }
        }
        Err("the length of a block is impossible")
    }

    /// Reads the next literal's or copy's head.
    #[inline]
    fn element(&mut self, input: &[u8]) -> Result<(), &'static str> {
        let input = &input[..self.block_end];
        let [tag] = take(input, &mut self.at)?;
        let length = usize::from(tag >> 2) + 1;
        let (distance, length) = match tag & 3 {
            0 => return self.literal(input, length),
            1 => {
                let [low] = take(input, &mut self.at)?;
                (usize::from(tag >> 5) << 8 | usize::from(low), usize::from(tag >> 2 & 7) + 4)
            }
            2 => (usize::from(u16::from_le_bytes(take(input, &mut self.at)?)), length),
            _ => (u32::from_le_bytes(take(input, &mut self.at)?) as usize, length),
        };
        if distance > self.given {
            return Err(TOO_FAR_BACK);
        }
        self.pending = Pending::copy(distance, length);
        Ok(())
    }

    /// A literal; lengths above 60 follow in one to four bytes.
    fn literal(&mut self, input: &[u8], length: usize) -> Result<(), &'static str> {
        let length = match length {
            61 => usize::from(take::<1>(input, &mut self.at)?[0]) + 1,
            62 => usize::from(u16::from_le_bytes(take(input, &mut self.at)?)) + 1,
            63 => {
                let [a, b, c] = take(input, &mut self.at)?;
                u32::from_le_bytes([a, b, c, 0]) as usize + 1
            }
            64 => (u32::from_le_bytes(take(input, &mut self.at)?) as usize).saturating_add(1),
            length => length,
        };
        if length > input.len() - self.at {
            return Err(ENDS_EARLY);
        }
        self.pending = Pending::literal(length);
        Ok(())
    }
}
