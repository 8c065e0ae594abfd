//! Bytes of a record looked at eight at a time, as one `u64`: comparing, scanning and counting digits without a branch for
//! each byte. What the branches of a loop cost is that their end cannot be guessed, and numbers are of all lengths.
//!
//! The first byte is the lowest of the word. What is said of the lowest byte that is found is exact; a carry can only make
//! bytes behind it look like more of the kind.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;
const POWERS_OF_TEN: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// The eight bytes from `at` on, with zeros behind the last; `None` if there is not one, or all are fewer than eight.
#[inline]
fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    if let Some(word) = bytes.get(at..)?.first_chunk() {
        return Some(u64::from_le_bytes(*word));
    }
    let missing = at + 8 - bytes.len();
    let last = u64::from_le_bytes(*bytes.last_chunk()?);
    (missing < 8).then(|| last >> (8 * missing))
}

/// The index of the lowest byte that is marked; 8 if none is.
#[inline]
fn lowest(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

/// Whether `text` begins with `literal`.
#[inline]
pub(super) fn begins_with(text: &[u8], literal: &[u8]) -> bool {
    let Some(head) = text.get(..literal.len()) else { return false };
    let differ = |a: &[u8; 8], b: &[u8; 8]| u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b);
    // The last eight bytes overlap those before them.
    let (Some(a), Some(b)) = (head.last_chunk(), literal.last_chunk()) else {
        return head.iter().zip(literal).all(|(a, b)| a == b);
    };
    let (heads, literals) = (head.as_chunks().0.iter(), literal.as_chunks().0);
    heads.zip(literals).fold(differ(a, b), |so_far, (a, b)| so_far | differ(a, b)) == 0
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
    /// All digits, those behind the point included.
    pub(super) digits: u64,
    /// How many digits stand before the point.
    pub(super) whole: usize,
    /// How many digits stand behind it, if there is one.
    pub(super) decimals: Option<usize>,
    /// Where it ends.
    pub(super) end: usize,
}

/// The number at `at`, if it ends within eight bytes.
#[inline]
pub(super) fn short_number(text: &[u8], at: usize) -> Option<Short> {
    let word = word_at(text, at)?;
    let others = not_digits(word);
    let whole = lowest(others);
    let after_whole = others & others.wrapping_sub(1);
    if whole < 8 && word >> (8 * whole) & 0xFF != u64::from(b'.') {
        return Some(Short { digits: number_of(word, whole), whole, decimals: None, end: at + whole });
    }
    let end = lowest(after_whole);
    if end == 8 {
        return None;
    }
    // Without the point.
    let before = (1 << (8 * whole)) - 1;
    let digits = number_of((word & before) | (word >> 8 & !before), end - 1);
    Some(Short { digits, whole, decimals: Some(end - whole - 1), end: at + end })
}

/// Marks the bytes that are no digits.
#[inline]
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
    // Pairs, then fours, then all.
    let pairs = (digits * 10 + (digits >> 8)) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_FFFF_0000_FFFF;
    (fours * 10_000 + (fours >> 32)) & 0xFFFF_FFFF
}

/// The first byte from `at` on that a text in JSON is not made of alone: a quote, a backslash, a control character, or one
/// beyond ASCII. Where all bytes are fewer than eight, none is looked at.
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

    /// Words of bytes that are near to what is looked for.
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
            for at in 0..=word.len() {
                let (whole_digits, whole_end) = digits(&word, at, 0);
                let (all, end, decimals) = match word.get(whole_end) {
                    Some(b'.') => {
                        let (all, end) = digits(&word, whole_end + 1, whole_digits);
                        (all, end, Some(end - whole_end - 1))
                    }
                    _ => (whole_digits, whole_end, None),
                };
                let found = short_number(&word, at);
                let expected = Short { digits: all, whole: whole_end - at, decimals, end };
                match end - at {
                    0..8 if at < word.len() => assert_eq!(found, Some(expected), "{word:?} {at}"),
                    _ => assert_eq!(found, None, "{word:?} {at}"),
                }
            }
        }
        assert_eq!(short_number(b"12.5", 0), None, "too few bytes to look at eight");
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
        let text: Vec<u8> = (0..40).collect();
        for length in 0..=40 {
            assert!(begins_with(&text, &text[..length]));
            assert!(!begins_with(&text[..length], &text) || length == 40);
            for wrong in 0..length {
                let mut literal = text[..length].to_vec();
                literal[wrong] ^= 0x80;
                assert!(!begins_with(&text, &literal), "{length} {wrong}");
            }
        }
    }
}
