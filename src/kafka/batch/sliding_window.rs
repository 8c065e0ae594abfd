//! The bytes that a codec has produced: those that are still to be read, and before them those that it may refer back to.
//!
//! The three codecs that write here refer back 64 KiB at most (deflate half of that). So a buffer of fixed size is enough
//! for a batch of any length: when it is full and read, its last 64 KiB move to the front.

/// How far a codec may refer back, bytes.
const HISTORY: usize = 64 << 10;
/// Bytes of the buffer. The more, the less is moved.
const SIZE: usize = HISTORY + (128 << 10);
/// Copies up to this length are made in one step, of this length.
const STEP: usize = 16;

/// The error when a codec refers to bytes that were never there.
pub(super) const TOO_FAR_BACK: &str = "it refers back further than there are bytes";

/// A window over what a codec produces.
#[derive(Debug)]
pub(super) struct SlidingWindow {
    buffer: Box<[u8]>,
    /// Bytes before this have been read.
    read: usize,
    /// Where the next byte goes.
    end: usize,
}

impl SlidingWindow {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; SIZE].into_boxed_slice(), read: 0, end: 0 }
    }

    /// Bytes that it takes.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.buffer.len()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        (self.read, self.end) = (0, 0);
    }

    /// Bytes produced and not read yet.
    pub(super) fn unread(&self) -> &[u8] {
        &self.buffer[self.read..self.end]
    }

    /// Counts `count` bytes as read.
    pub(super) fn consume(&mut self, count: usize) {
        self.read = (self.read + count).min(self.end);
    }

    /// Makes room for more. Everything must have been read.
    pub(super) fn make_room(&mut self) {
        debug_assert_eq!(self.read, self.end, "unread bytes would be lost");
        if self.room() < SIZE - HISTORY {
            let start = self.end.saturating_sub(HISTORY);
            self.buffer.copy_within(start..self.end, 0);
            self.end -= start;
            self.read = self.end;
        }
    }

    /// Bytes that may be written before the next `make_room`.
    pub(super) fn room(&self) -> usize {
        self.buffer.len() - self.end
    }

    /// Writes one byte. There must be room.
    #[inline]
    pub(super) fn push(&mut self, byte: u8) {
        self.buffer[self.end] = byte;
        self.end += 1;
    }

    /// Writes `bytes`. There must be room.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.buffer[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Writes again the `length` bytes that begin `distance` before the end; they may overlap. There must be room.
    ///
    /// # Errors
    /// A distance of 0, or to before the first byte or further than the codecs may.
    #[inline]
    pub(super) fn repeat(&mut self, distance: usize, length: usize) -> Result<(), &'static str> {
        if distance == 0 || distance > self.end.min(HISTORY) {
            return Err(TOO_FAR_BACK);
        }
        let (from, to) = (self.end - distance, self.end);
        self.end = to + length;
        if length <= STEP && distance >= STEP && to + STEP <= self.buffer.len() {
            // What it writes too much is written over next.
            self.buffer.copy_within(from..from + STEP, to);
        } else if distance >= length {
            self.buffer.copy_within(from..from + length, to);
        } else {
            self.repeat_overlapping(from, to, length);
        }
        Ok(())
    }

    /// A run: what has been written so far is copied, twice as much each time.
    fn repeat_overlapping(&mut self, from: usize, mut to: usize, mut length: usize) {
        while length > 0 {
            let count = length.min(to - from);
            self.buffer.copy_within(from..from + count, to);
            to += count;
            length -= count;
        }
    }
}
