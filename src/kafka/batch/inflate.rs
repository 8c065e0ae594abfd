//! gzip: deflate as in RFC 1951, in the frame of RFC 1952.
//!
//! rskafka's own reader expands a batch whole, a `Vec` for each key and value, and cannot be told when to stop: 1 MB may
//! become 1 GB. This one stops whenever the window is full, and continues where it was. gzip's CRC-32 is not compared: the
//! batch's checksum has already confirmed every byte that comes in.
//!
//! Codes up to 10 bits are one look-up; longer ones, which are rare by design, are decoded bit by bit.

use super::sliding_window::SlidingWindow;

/// Codes of up to this many bits are looked up.
const FAST_BITS: u32 = 10;
const LONGEST_CODE: usize = 15;
/// Room that a step needs: for a literal and the longest copy.
const ROOM: usize = 1 + 258;
const END_OF_BLOCK: usize = 256;

const ENDS_EARLY: &str = "it ends early";
const BAD_CODES: &str = "it has an invalid set of codes";
const BAD_SYMBOL: &str = "it has an unassigned code";

/// Base and extra bits of the lengths 257 to 285.
const LENGTHS: [(u16, u8); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];
/// Base and extra bits of the distances 0 to 29.
const DISTANCES: [(u16, u8); 30] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 1),
    (7, 1),
    (9, 2),
    (13, 2),
    (17, 3),
    (25, 3),
    (33, 4),
    (49, 4),
    (65, 5),
    (97, 5),
    (129, 6),
    (193, 6),
    (257, 7),
    (385, 7),
    (513, 8),
    (769, 8),
    (1_025, 9),
    (1_537, 9),
    (2_049, 10),
    (3_073, 10),
    (4_097, 11),
    (6_145, 11),
    (8_193, 12),
    (12_289, 12),
    (16_385, 13),
    (24_577, 13),
];
/// In which order the lengths of the code that the codes are written in come.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The bits of the input, the lowest of each byte first.
#[derive(Debug, Clone, Copy, Default)]
struct Bits {
    /// Bytes of the input that are in `buffer` or used.
    at: usize,
    buffer: u64,
    count: u32,
}

impl Bits {
    /// Takes at least 56 bits, or all that there are.
    #[inline]
    fn refill(&mut self, input: &[u8]) {
        if let Some(bytes) = input.get(self.at..).and_then(|rest| rest.first_chunk()) {
            self.buffer |= u64::from_le_bytes(*bytes) << self.count;
            self.at += ((63 - self.count) >> 3) as usize;
            self.count |= 56;
        } else {
            while self.count < 56
                && let Some(byte) = input.get(self.at)
            {
                self.buffer |= u64::from(*byte) << self.count;
                self.at += 1;
                self.count += 8;
            }
        }
    }

    /// Takes `count` bits that are there already.
    #[inline]
    fn take(&mut self, count: u32) -> Result<u64, &'static str> {
        if count > self.count {
            return Err(ENDS_EARLY);
        }
        let bits = self.buffer & ((1 << count) - 1);
        self.buffer >>= count;
        self.count -= count;
        Ok(bits)
    }

    /// Takes up to 32 bits.
    fn read(&mut self, input: &[u8], count: u32) -> Result<usize, &'static str> {
        self.refill(input);
        Ok(self.take(count)? as usize)
    }

    /// Goes to the next byte, and returns its position in the input.
    fn align(&mut self) -> usize {
        let at = self.at - (self.count >> 3) as usize;
        *self = Self { at, buffer: 0, count: 0 };
        at
    }
}

/// A set of prefix codes.
#[derive(Debug)]
struct Codes {
    /// By the next bits: symbol above, length of its code in the low four bits; 0 if it is longer than these bits.
    fast: [u16; 1 << FAST_BITS],
    /// How many codes there are of each length.
    counts: [u16; LONGEST_CODE + 1],
    /// The symbols in the order of their codes.
    symbols: [u16; 288],
}

impl Codes {
    const EMPTY: Self = Self { fast: [0; 1 << FAST_BITS], counts: [0; LONGEST_CODE + 1], symbols: [0; 288] };

    /// Takes a code of these lengths (0: the symbol does not occur).
    fn set(&mut self, lengths: &[u8]) -> Result<(), &'static str> {
        *self = Self::EMPTY;
        for length in lengths {
            self.counts[usize::from(*length)] += 1;
        }
        let used = lengths.len() - usize::from(self.counts[0]);
        self.counts[0] = 0;
        self.check(used)?;

        let mut next_index = [0_u16; LONGEST_CODE + 2];
        let mut next_code = [0_u32; LONGEST_CODE + 2];
        for length in 1..=LONGEST_CODE {
            next_index[length + 1] = next_index[length] + self.counts[length];
            next_code[length + 1] = (next_code[length] + u32::from(self.counts[length])) << 1;
        }
        for (symbol, length) in (0_u16..).zip(lengths).filter(|(_, length)| **length > 0) {
            let index = &mut next_index[usize::from(*length)];
            self.symbols[usize::from(*index)] = symbol;
            *index += 1;
            let code = &mut next_code[usize::from(*length)];
            self.set_fast(*code as u16, *length, symbol);
            *code += 1;
        }
        Ok(())
    }

    /// Refuses codes that overlap, and gaps between them unless there is one code only.
    fn check(&self, used: usize) -> Result<(), &'static str> {
        let mut left = 1_i32;
        for count in &self.counts[1..] {
            left = 2 * left - i32::from(*count);
            if left < 0 {
                return Err(BAD_CODES);
            }
        }
        let single = used <= 1 && used == usize::from(self.counts[1]);
        if left > 0 && !single { Err(BAD_CODES) } else { Ok(()) }
    }

    /// Enters a code wherever the next bits begin with it. Codes come highest bit first.
    fn set_fast(&mut self, code: u16, length: u8, symbol: u16) {
        if u32::from(length) <= FAST_BITS {
            let first = usize::from(code.reverse_bits() >> (16 - length));
            for entry in self.fast[first..].iter_mut().step_by(1 << length) {
                *entry = symbol << 4 | u16::from(length);
            }
        }
    }

    /// The next symbol.
    #[inline]
    fn next(&self, bits: &mut Bits) -> Result<usize, &'static str> {
        let entry = self.fast[(bits.buffer & ((1 << FAST_BITS) - 1)) as usize];
        let length = u32::from(entry & 0xF);
        if length == 0 {
            return self.next_long(bits);
        }
        bits.take(length)?;
        Ok(usize::from(entry >> 4))
    }

    #[cold]
    fn next_long(&self, bits: &mut Bits) -> Result<usize, &'static str> {
        let (mut code, mut first, mut index) = (0_i32, 0_i32, 0_i32);
        for count in &self.counts[1..] {
            code |= bits.take(1)? as i32;
            let count = i32::from(*count);
            if code - count < first {
                let symbol = usize::try_from(index + code - first).ok().and_then(|at| self.symbols.get(at));
                return symbol.map(|symbol| usize::from(*symbol)).ok_or(BAD_SYMBOL);
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        Err(BAD_SYMBOL)
    }
}

/// What comes next in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InflateStep {
    FileHeader,
    BlockHeader,
    /// This many bytes that are not compressed.
    Stored(usize),
    Symbols,
    End,
}

/// A gzip stream in the middle of being expanded.
#[derive(Debug)]
pub(super) struct Inflate {
    bits: Bits,
    step: InflateStep,
    last_block: bool,
    symbols: Codes,
    distances: Codes,
}

impl Inflate {
    pub(super) fn new() -> Self {
        Self {
            bits: Bits::default(),
            step: InflateStep::FileHeader,
            last_block: false,
            symbols: Codes::EMPTY,
            distances: Codes::EMPTY,
        }
    }

    /// Prepares for another stream.
    pub(super) fn restart(&mut self) {
        self.bits = Bits::default();
        self.step = InflateStep::FileHeader;
    }

    /// Writes more to the window, until it is full or the stream has ended. `input` is the same at every call.
    pub(super) fn fill(&mut self, input: &[u8], window: &mut SlidingWindow) -> Result<(), &'static str> {
        while window.room() >= ROOM {
            match self.step {
                InflateStep::FileHeader => self.file_header(input)?,
                InflateStep::BlockHeader => self.block_header(input)?,
                InflateStep::Stored(left) => self.stored(left, input, window)?,
                InflateStep::Symbols => self.compressed(input, window)?,
                InflateStep::End => return Ok(()),
            }
        }
        Ok(())
    }

    fn file_header(&mut self, input: &[u8]) -> Result<(), &'static str> {
        let [0x1F, 0x8B, 8, flags, ..] = input else { return Err("it does not start with a gzip header") };
        let mut at = 10;
        if flags & 4 != 0 {
            let length: [u8; 2] = *input.get(at..).and_then(|rest| rest.first_chunk()).ok_or(ENDS_EARLY)?;
            at += 2 + usize::from(u16::from_le_bytes(length));
        }
        // A name, and a comment, each up to a zero.
        for _ in 0..u32::from(flags & 8 != 0) + u32::from(flags & 16 != 0) {
            let rest = input.get(at..).ok_or(ENDS_EARLY)?;
            at += 1 + rest.iter().position(|byte| *byte == 0).ok_or(ENDS_EARLY)?;
        }
        self.bits.at = at + if flags & 2 != 0 { 2 } else { 0 };
        self.step = InflateStep::BlockHeader;
        Ok(())
    }

    fn block_header(&mut self, input: &[u8]) -> Result<(), &'static str> {
        self.last_block = self.bits.read(input, 1)? == 1;
        self.step = match self.bits.read(input, 2)? {
            0 => self.stored_header(input)?,
            1 => self.fixed_codes()?,
            2 => self.own_codes(input)?,
            _ => return Err("it has a block of an unknown type"),
        };
        Ok(())
    }

    fn stored_header(&mut self, input: &[u8]) -> Result<InflateStep, &'static str> {
        let at = self.bits.align();
        let [a, b, c, d] = *input.get(at..).and_then(|rest| rest.first_chunk()).ok_or(ENDS_EARLY)?;
        self.bits.at += 4;
        let length = u16::from_le_bytes([a, b]);
        if length != !u16::from_le_bytes([c, d]) {
            return Err("the two lengths of a block differ");
        }
        Ok(InflateStep::Stored(usize::from(length)))
    }

    fn stored(&mut self, left: usize, input: &[u8], window: &mut SlidingWindow) -> Result<(), &'static str> {
        let count = left.min(window.room());
        let bytes = input.get(self.bits.at..).and_then(|rest| rest.get(..count)).ok_or(ENDS_EARLY)?;
        window.extend(bytes);
        self.bits.at += count;
        self.step = if left > count { InflateStep::Stored(left - count) } else { self.after_block() };
        Ok(())
    }

    fn after_block(&self) -> InflateStep {
        if self.last_block { InflateStep::End } else { InflateStep::BlockHeader }
    }

    fn fixed_codes(&mut self) -> Result<InflateStep, &'static str> {
        let mut lengths = [8; 288];
        lengths[144..256].fill(9);
        lengths[256..280].fill(7);
        self.symbols.set(&lengths)?;
        // Two of the 32 are unassigned, as the length of DISTANCES shows.
        self.distances.set(&[5; 32])?;
        Ok(InflateStep::Symbols)
    }

    fn own_codes(&mut self, input: &[u8]) -> Result<InflateStep, &'static str> {
        let symbols = 257 + self.bits.read(input, 5)?;
        let distances = 1 + self.bits.read(input, 5)?;
        let count = 4 + self.bits.read(input, 4)?;
        if symbols > 286 || distances > DISTANCES.len() {
            return Err(BAD_CODES);
        }
        let mut lengths = [0_u8; 19];
        for place in &ORDER[..count] {
            lengths[*place] = self.bits.read(input, 3)? as u8;
        }
        self.symbols.set(&lengths)?;

        let mut lengths = [0_u8; 286 + 30];
        let mut at = 0;
        while at < symbols + distances {
            self.bits.refill(input);
            let (length, times) = match self.symbols.next(&mut self.bits)? {
                16 if at > 0 => (lengths[at - 1], 3 + self.bits.take(2)?),
                16 => return Err(BAD_CODES),
                17 => (0, 3 + self.bits.take(3)?),
                18 => (0, 11 + self.bits.take(7)?),
                length => (length as u8, 1),
            };
            let end = at + times as usize;
            lengths.get_mut(at..end).filter(|_| end <= symbols + distances).ok_or(BAD_CODES)?.fill(length);
            at = end;
        }
        let (symbol_lengths, distance_lengths) = lengths[..symbols + distances].split_at(symbols);
        if symbol_lengths[END_OF_BLOCK] == 0 {
            return Err(BAD_CODES);
        }
        self.symbols.set(symbol_lengths)?;
        self.distances.set(distance_lengths)?;
        Ok(InflateStep::Symbols)
    }

    /// Expands symbols until the block ends or the window is full.
    fn compressed(&mut self, input: &[u8], window: &mut SlidingWindow) -> Result<(), &'static str> {
        // In its own variable it stays in registers.
        let mut bits = self.bits;
        while window.room() >= ROOM {
            bits.refill(input);
            let mut symbol = self.symbols.next(&mut bits)?;
            if symbol < END_OF_BLOCK {
                window.push(symbol as u8);
                // There are bits enough for one more, and it is as likely to be a literal.
                symbol = self.symbols.next(&mut bits)?;
                if symbol < END_OF_BLOCK {
                    window.push(symbol as u8);
                    continue;
                }
                bits.refill(input);
            }
            if symbol == END_OF_BLOCK {
                self.step = self.after_block();
                break;
            }
            let (base, extra) = *LENGTHS.get(symbol - END_OF_BLOCK - 1).ok_or(BAD_SYMBOL)?;
            let length = usize::from(base) + bits.take(u32::from(extra))? as usize;
            let (base, extra) = *DISTANCES.get(self.distances.next(&mut bits)?).ok_or(BAD_SYMBOL)?;
            let distance = usize::from(base) + bits.take(u32::from(extra))? as usize;
            window.repeat(distance, length)?;
        }
        self.bits = bits;
        Ok(())
    }
}
