//! Reads the bytes of a record eight at a time, as one `u64`: compares, scans and counts digits without a branch for each
//! byte. Branches are expensive here because numbers have different lengths, so the end of a loop cannot be predicted.
//!
//! The first byte is the lowest of the word. The lowest match is exact; a carry can only cause false matches in the bytes
//! after it.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;
/// By how many zeros they have.
pub(super) const POWERS_OF_TEN: [u64; 13] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
    10_000_000_000,
    100_000_000_000,
    1_000_000_000_000,
];

/// The eight bytes from `at` on, with zeros behind the last; `None` if there is not one, or all are fewer than eight.
#[inline(always)]
pub(super) fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    if let Some(word) = bytes.get(at..)?.first_chunk() {
        return Some(u64::from_le_bytes(*word));
    }
    let missing = at + 8 - bytes.len();
    let last = u64::from_le_bytes(*bytes.last_chunk()?);
    (missing < 8).then(|| last >> (8 * missing))
}

/// The index of the lowest byte that is marked; 8 if none is.
#[inline(always)]
fn lowest(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

/// Bytes that a text is compared with, 16 at a time: the first and the last of them, and what may be between.
#[derive(Debug, Clone, Copy)]
pub(super) struct Literal {
    first: u128,
    /// Which bits of 16 bytes `first` is made of.
    mask: u128,
    /// The last 16 bytes of a longer one.
    last: u128,
    /// Where all of the bytes are, in what holds the literals of a shape.
    from: u16,
    to: u16,
}

impl Literal {
    const WORD: usize = size_of::<u128>();

    /// The bytes `from..to` of `literals`; `None` if they are not there, or too far behind.
    pub(super) fn new(literals: &[u8], from: usize, to: usize) -> Option<Self> {
        let bytes = literals.get(from..to)?;
        let first = bytes.iter().take(Self::WORD).rev().fold(0, |word, byte| word << 8 | u128::from(*byte));
        let beyond = 8 * Self::WORD.saturating_sub(bytes.len()) as u32;
        let mask = u128::MAX.checked_shr(beyond).unwrap_or(0);
        let last = bytes.last_chunk().map_or(0, |last| u128::from_le_bytes(*last));
        Some(Self { first, mask, last, from: u16::try_from(from).ok()?, to: u16::try_from(to).ok()? })
    }

    /// The bytes, among those of its shape.
    pub(super) fn bytes<'l>(&self, literals: &'l [u8]) -> Option<&'l [u8]> {
        literals.get(usize::from(self.from)..self.to())
    }

    /// Where they end there.
    pub(super) fn to(&self) -> usize {
        usize::from(self.to)
    }

    /// Where it ends in `text`, if it stands at `at`; `literals` are those of its shape.
    #[inline(always)]
    pub(super) fn after(&self, text: &[u8], at: usize, literals: &[u8]) -> Option<usize> {
        let length = usize::from(self.to - self.from);
        let rest = text.get(at..)?;
        let Some(head) = rest.first_chunk() else {
            return self.after_slowly(rest, at, literals);
        };
        if (u128::from_le_bytes(*head) ^ self.first) & self.mask != 0 {
            return None;
        }
        if length > Self::WORD {
            let is_there = match rest.get(length - Self::WORD..length).and_then(|last| last.first_chunk()) {
                Some(last) if length <= 2 * Self::WORD => u128::from_le_bytes(*last) == self.last,
                _ => return self.after_slowly(rest, at, literals),
            };
            return is_there.then_some(at + length);
        }
        Some(at + length)
    }

    #[inline(never)]
    fn after_slowly(&self, rest: &[u8], at: usize, literals: &[u8]) -> Option<usize> {
        let literal = self.bytes(literals)?;
        rest.starts_with(literal).then_some(at + literal.len())
    }
}

/// `YYYY-MM-DD?hh:mm:ss` at the front of a text, where every digit is one: year, month, day, hours, minutes, seconds; and
/// the byte between date and time.
#[inline(always)]
pub(super) fn date_and_time(text: &[u8]) -> Option<([u8; 7], u8)> {
    // Digits may be up to 9, what is between them has to be what it is; the eleventh is up to the caller.
    const DATE: u64 = u64::from_le_bytes(*b"0000-00-");
    const DATE_LIMITS: u64 = u64::from_le_bytes([0x76, 0x76, 0x76, 0x76, 0x7F, 0x76, 0x76, 0x7F]);
    const TIME: u64 = u64::from_le_bytes([b'0', b'0', 0, b'0', b'0', b':', b'0', b'0']);
    const TIME_LIMITS: u64 = u64::from_le_bytes([0x76, 0x76, 0, 0x76, 0x76, 0x7F, 0x76, 0x76]);
    let text: &[u8; 19] = text.first_chunk()?;
    let [date @ .., _, _, _, _, _, _, _, _, _, _, _] = *text;
    let [_, _, _, _, _, _, _, _, time @ .., colon, s0, s1] = *text;
    let (date, time) = (u64::from_le_bytes(date) ^ DATE, u64::from_le_bytes(time) ^ TIME);
    let between = (time >> 16) as u8;
    let time = time & !0xFF_0000;
    let beyond = |values: u64, limits: u64| (((values & !HIGHS) + limits) | values) & HIGHS;
    let (s0, s1) = (s0 ^ b'0', s1 ^ b'0');
    if beyond(date, DATE_LIMITS) | beyond(time, TIME_LIMITS) != 0 || colon != b':' || s0 > 9 || s1 > 9 {
        return None;
    }
    // Each byte and the next as a number.
    let pairs = |values: u64| (values * 10 + (values >> 8)).to_le_bytes();
    let ([y0, _, y2, _, _, month, _, _], [day, _, _, hours, _, _, minutes, _]) = (pairs(date), pairs(time));
    Some(([y0, y2, month, day, hours, minutes, s0 * 10 + s1], between))
}

/// Whether they are the same; for few bytes.
#[inline]
pub(super) fn is(text: &[u8], literal: &[u8]) -> bool {
    text.len() == literal.len() && text.iter().zip(literal).all(|(a, b)| a == b)
}

/// Goes on with a number whose digits so far are `digits` at the digits from `at` on; the number, and where they end. More
/// than 18 digits make a number that means nothing.
#[inline]
pub(super) fn digits(text: &[u8], mut at: usize, mut digits: u64) -> (u64, usize) {
    while let Some(word) = word_at(text, at) {
        let count = lowest(not_digits(word));
        digits = digits.wrapping_mul(POWERS_OF_TEN[count]).wrapping_add(number_of(word, count));
        at += count;
        if count < 8 {
            return (digits, at);
        }
    }
    while let Some(digit) = text.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        digits = digits.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    (digits, at)
}

/// A number with a point or without one, short enough for one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Short {
    /// All digits, those behind the point included, and zeros behind them until there are eight.
    pub(super) digits: u64,
    /// How many digits stand before the point.
    pub(super) whole: usize,
    /// How many bytes it takes.
    pub(super) length: usize,
}

/// The number without a sign that a word begins with; `None` if there is none or it goes on to the end of the word.
///
/// All masks come from the lowest marks themselves: counting the digits first, to shift by that, would take longer.
#[inline(always)]
pub(super) fn short_number(word: u64) -> Option<Short> {
    let others = not_digits(word);
    let first = others & others.wrapping_neg();
    let before = (first >> 7).wrapping_sub(1);
    let whole = lowest(others);
    let values = word ^ (ONES * 0x30);
    if first <= 0x80 {
        return None;
    }
    let its_byte = (first << 1).wrapping_sub(first >> 7);
    if (word ^ (ONES * u64::from(b'.'))) & its_byte != 0 {
        return Some(Short { digits: eight_digits(values & before), whole, length: whole });
    }
    let others = others ^ first;
    let second = others & others.wrapping_neg();
    if others == 0 || second == first << 8 {
        return None;
    }
    let behind = ((second >> 7) - 1) & values & !before;
    let digits = (values & before) | (behind >> 8 & !before);
    Some(Short { digits: eight_digits(digits), whole, length: lowest(others) })
}

/// The number of 13 digits at `at`, not zero the first of them; what stands behind them is none.
#[inline(always)]
pub(super) fn thirteen_digits(text: &[u8], at: usize) -> Option<u64> {
    const BEHIND_FIVE: u64 = 0x80 << 40;
    let (first, second) = (word_at(text, at)?, word_at(text, at + 8)?);
    let others = not_digits(second);
    if not_digits(first) != 0 || others & others.wrapping_neg() != BEHIND_FIVE || first as u8 == b'0' {
        return None;
    }
    let five = (second ^ (ONES * 0x30)) & ((BEHIND_FIVE >> 7) - 1);
    Some(eight_digits(first ^ (ONES * 0x30)) * 100_000 + eight_digits(five) / 1_000)
}

/// Marks the bytes that are not digits.
#[inline(always)]
fn not_digits(word: u64) -> u64 {
    // A digit is 0 to 9 now, and no byte reaches the next one when 0x76 is added to its lower seven bits.
    let values = word ^ (ONES * 0x30);
    (((values & !HIGHS) + ONES * 0x76) | values) & HIGHS
}

/// The number that the first `count` bytes, all digits, stand for.
#[inline]
fn number_of(word: u64, count: usize) -> u64 {
    // To the end of the word, with zeros before them; twice, as a shift by 64 is none.
    let bits = 64 - 8 * count as u32;
    let digits = (word & (ONES * 0x0F)) << (bits / 2) << (bits - bits / 2);
    eight_digits(digits)
}

/// The number that eight digits, as values, stand for.
#[inline(always)]
fn eight_digits(digits: u64) -> u64 {
    // Pairs, then fours, then all.
    let pairs = (digits * 10 + (digits >> 8)) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_FFFF_0000_FFFF;
    (fours * 10_000 + (fours >> 32)) & 0xFFFF_FFFF
}

/// The first byte from `at` on that is special in a JSON string: a quote, a backslash, a control character, or one beyond
/// ASCII. If there are fewer than eight bytes in all, none is examined.
#[inline]
pub(super) fn plain_until(text: &[u8], mut at: usize) -> usize {
    while let Some(word) = word_at(text, at) {
        let below = |limit: u64, word: u64| word.wrapping_sub(ONES * limit) & !word;
        let same = |byte: u8| below(1, word ^ (ONES * u64::from(byte)));
        let found = (same(b'"') | same(b'\\') | below(0x20, word) | word) & HIGHS;
        at += lowest(found);
        if found != 0 {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of bytes that are close to the bytes that are searched for.
    fn words() -> impl Iterator<Item = [u8; 11]> {
        const BYTES: &[u8] = b"0123456789/:.-,\"\\!#[]\x00\x1f\x20\x7f\x80\xb0\xb5\xdc\xff";
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        std::iter::repeat_with(move || {
            std::array::from_fn(|_| {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // Mostly digits, so that some are long.
                let choices = if random >> 61 == 0 { BYTES.len() } else { 10 };
                BYTES[(random >> 33) as usize % choices]
            })
        })
        .take(200_000)
    }

    #[test]
    fn digits_are_what_a_loop_says() {
        for word in words() {
            for from in 0..=word.len() {
                let count = word[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let expected = word[from..from + count]
                    .iter()
                    .fold(7, |number: u64, byte| number * 10 + u64::from(byte - b'0'));
                assert_eq!(digits(&word, from, 7), (expected, from + count), "{word:?} {from}");
            }
        }
    }

    #[test]
    fn a_short_number_is_what_two_loops_say() {
        for word in words() {
            let (whole_digits, whole) = digits(&word, 0, 0);
            let (all, length, decimals) = match word.get(whole) {
                Some(b'.') => {
                    let (all, end) = digits(&word, whole + 1, whole_digits);
                    (all, end, end - whole - 1)
                }
                _ => (whole_digits, whole, 0),
            };
            let found = short_number(word_at(&word, 0).expect("eight bytes"));
            let is_number = whole > 0 && (decimals > 0 || word.get(whole) != Some(&b'.'));
            let expected = (is_number && length < 8).then(|| Short {
                digits: all * POWERS_OF_TEN[8 - whole - decimals],
                whole,
                length,
            });
            assert_eq!(found, expected, "{word:?}");
        }
        for word in [*b"1234567,", *b"123456.7", *b"123456.,", *b"1......,", *b"12345678", *b",2345678"] {
            let is_number = word == *b"1234567,";
            assert_eq!(short_number(u64::from_le_bytes(word)).is_some(), is_number, "{word:?}");
        }
    }

    #[test]
    fn thirteen_digits_are_what_a_loop_says() {
        for text in ["1795643302138,", "1795643302138}", "9999999999999 ", "1000000000000."] {
            assert_eq!(thirteen_digits(text.as_bytes(), 0), text[..13].parse().ok(), "{text}");
            let behind = format!("{{\"t\":{text}");
            assert_eq!(thirteen_digits(behind.as_bytes(), 5), text[..13].parse().ok(), "{behind}");
        }
        for text in
            ["179564330213,  ", "17956433021385,", "0795643302138,", "-795643302138,", "17956,3302138,"]
        {
            assert_eq!(thirteen_digits(text.as_bytes(), 0), None, "{text}");
        }
    }

    #[test]
    fn a_date_and_time_is_taken_apart_only_if_each_byte_fits() {
        let text = *b"2026-11-25 03:59:60 and more";
        assert_eq!(date_and_time(&text), Some(([20, 26, 11, 25, 3, 59, 60], b' ')));
        assert_eq!(date_and_time(&text[..18]), None);
        for at in (0..19).filter(|at| *at != 10) {
            for byte in (0..=u8::MAX).filter(|byte| *byte != text[at]) {
                let mut other = text;
                other[at] = byte;
                let fits = byte.is_ascii_digit() && text[at].is_ascii_digit();
                assert_eq!(date_and_time(&other).is_some(), fits, "{at} {byte}");
            }
        }
    }

    #[test]
    fn plain_text_ends_where_a_loop_says() {
        for word in words() {
            let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20 | 0x80..);
            let end = word.iter().position(is_special).unwrap_or(word.len());
            assert_eq!(plain_until(&word, 0), end, "{word:?}");
        }
        assert_eq!(plain_until(b"abc", 0), 0);
    }

    #[test]
    fn a_literal_is_found_at_any_length() {
        let text: Vec<u8> = (0..60).collect();
        for (from, length) in (0..3).flat_map(|from| (0..=50).map(move |length| (from, length))) {
            let literal = Literal::new(&text, from, from + length).expect("a short one");
            for end in from..=text.len() {
                let found = literal.after(&text[..end], from, &text);
                assert_eq!(found, (end >= from + length).then_some(from + length), "{from} {length} {end}");
            }
            for wrong in from..from + length {
                let mut other = text.clone();
                other[wrong] ^= 0x80;
                assert_eq!(literal.after(&other, from, &text), None, "{from} {length} {wrong}");
            }
        }
        assert!(Literal::new(&text, 50, 61).is_none());
    }
}
