//! Numbers → fixed point: the one place where a number of a reading becomes a value.
//!
//! The meaning of a JSON number is defined by simd-json's result, an `f64` or an integer; its fixed point is that times 1e6,
//! rounded half away from zero. [`Decimal`] computes the same from the digits themselves, without a float where none is
//! needed: a number with at most six decimals is an integer of millionths already. (The float next to it is
//! off by less than 1e-8 of a millionth within [`MAX_FIXED`], so rounding gives the same.) A test compares both.

use super::SCALE;
use super::units::MAX_FIXED;
use super::words::{self, POWERS_OF_TEN, Short};

/// Every power of ten that a float holds exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];
/// Numbers with more digits are left to the general parser.
const MAX_DIGITS: usize = 18;

/// A finite number as fixed point; `None` beyond [`MAX_FIXED`].
pub(super) fn fixed_from_float(value: f64) -> Option<i64> {
    let scaled = value * SCALE as f64;
    (scaled.abs() <= MAX_FIXED as f64).then(|| round_half_away(scaled))
}

/// `value.round() as i64` for |value| < 2^62, written out: on the baseline CPU `round` is a call into the C library.
pub(super) fn round_half_away(value: f64) -> i64 {
    let whole = value as i64;
    let fraction = value - whole as f64;
    whole + i64::from(fraction >= 0.5) - i64::from(fraction <= -0.5)
}

/// A JSON number as text, exponent allowed, and nothing else: no `inf`, no `nan`, no `+5`, no hexadecimal.
pub(super) fn float_from_text(text: &str) -> Option<f64> {
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
    // Rust's parser takes `1.e5`.
    let has_bare_point = digits.windows(2).any(|pair| pair[0] == b'.' && !pair[1].is_ascii_digit());
    if !is_digit(digits.first()) || !is_digit(digits.last()) || has_bare_point {
        return None;
    }
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// The number that stands at `at`, in JSON's grammar, as fixed point, `None` beyond [`MAX_FIXED`]; and how many bytes it
/// takes. `None`: none there, or one that only the general parser reads.
///
/// Does not look for an exponent: whatever stands behind the number, the caller has to compare.
#[inline(always)]
pub(super) fn fixed_at(text: &[u8], at: usize) -> Option<(Option<i64>, usize)> {
    let Some((short, word, sign)) = short_at(text, at) else {
        let rest = text.get(at..)?;
        let decimal = Decimal::read(rest)?;
        return Some((decimal.fixed(rest), decimal.length));
    };
    if short.whole > 1 && word as u8 == b'0' {
        return None;
    }
    // With its point behind eight digits, the number would be ten to the power of `8 - whole` times as large. At most five
    // digits are behind the real point, so nothing is cut off.
    let fixed = (short.digits * POWERS_OF_TEN[short.whole & 7] / 100).cast_signed();
    Some((Some((fixed ^ -sign) + sign), short.length + sign as usize))
}

/// A number short enough for one word, the word without its sign, and 1 for a minus, else 0.
#[inline(always)]
fn short_at(text: &[u8], at: usize) -> Option<(Short, u64, i64)> {
    let word = words::word_at(text, at)?;
    let sign = u8::from(word as u8 == b'-');
    let word = word >> (8 * sign);
    Some((words::short_number(word)?, word, i64::from(sign)))
}

/// The digits of a JSON number without an exponent, of at most [`MAX_DIGITS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    is_negative: bool,
    digits: u64,
    /// How many of the digits are after the point.
    decimals: usize,
    /// Bytes of the text.
    pub(super) length: usize,
    is_integer: bool,
}

impl Decimal {
    /// Reads the number at the start of `text`, in JSON's grammar. `None`: there is none, it has an exponent, or it is too
    /// long.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let first = usize::from(text.first() == Some(&b'-'));
        let (mut digits, mut at) = words::digits(text, first, 0);
        let whole = at - first;
        if whole == 0 || (whole > 1 && text.get(first) == Some(&b'0')) {
            return None;
        }
        let mut decimals = 0;
        let is_integer = text.get(at) != Some(&b'.');
        if !is_integer {
            let point = at + 1;
            (digits, at) = words::digits(text, point, digits);
            decimals = at - point;
            if decimals == 0 {
                return None;
            }
        }
        if whole + decimals > MAX_DIGITS || matches!(text.get(at), Some(b'e' | b'E')) {
            return None;
        }
        Some(Self { is_negative: first == 1, digits, decimals, length: at, is_integer })
    }

    /// The number as fixed point, as [`fixed_from_float`] of what simd-json makes of `text`, where it was read.
    #[inline]
    pub(super) fn fixed(self, text: &[u8]) -> Option<i64> {
        if self.decimals <= 6 {
            let millionths = self.digits.checked_mul(POWERS_OF_TEN[6 - self.decimals])?;
            let fixed = i64::try_from(millionths).ok().filter(|fixed| *fixed <= MAX_FIXED)?;
            return Some(if self.is_negative { -fixed } else { fixed });
        }
        match self.rounded() {
            Some(fixed) => Some(fixed).filter(|fixed| fixed.abs() <= MAX_FIXED),
            None => fixed_from_float(self.float(text)?),
        }
    }

    /// The digits, more than six of them behind the point, cut down to millionths and rounded: what [`fixed_from_float`]
    /// gives, unless they are so near to a half that only the float says how it rounds.
    ///
    /// The float is the nearest to the number, and times 1e6 again the nearest: within 2^-52 of the exact product, that
    /// is 2^-20 below 2^32. So where the rest is farther than 2^-19 from a half, both are on the same side of it.
    #[inline]
    fn rounded(self) -> Option<i64> {
        // A millionth in units of the last digit.
        let &unit = POWERS_OF_TEN.get(self.decimals - 6)?;
        let (whole, rest) = (self.digits / unit, self.digits % unit);
        let from_half = (2 * rest).abs_diff(unit);
        if whole >= 1 << 32 || from_half <= unit >> 18 {
            return None;
        }
        let fixed = (whole + u64::from(2 * rest > unit)).cast_signed();
        Some(if self.is_negative { -fixed } else { fixed })
    }

    /// The float nearest to the number at the start of `text`, where it was read.
    #[inline]
    pub(super) fn float(self, text: &[u8]) -> Option<f64> {
        // Both are exact, so their quotient is the nearest float there is.
        if let (true, Some(power)) = (self.digits < 1 << 53, EXACT_POWERS.get(self.decimals)) {
            let value = self.digits as f64 / power;
            return Some(if self.is_negative { -value } else { value });
        }
        std::str::from_utf8(text.get(..self.length)?).ok()?.parse().ok()
    }

    /// The number, if it was written without a point.
    pub(super) fn integer(self) -> Option<i64> {
        let integer = i64::try_from(self.digits).ok().filter(|_| self.is_integer)?;
        Some(if self.is_negative { -integer } else { integer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_what_the_general_parser_says() {
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..200_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let whole = (random >> 20) % [10, 1_000, 20_000, 1_000_000_000_000][(random >> 60) as usize % 4];
            let decimals = (random >> 56) as usize % 16;
            let fraction = format!("{:016}", (random >> 11) % 10_000_000_000_000_000);
            let sign = if random & 1 == 0 { "" } else { "-" };
            let point = if decimals == 0 { "" } else { "." };
            let text = format!("{sign}{whole}{point}{}", &fraction[..decimals]);
            let value: f64 = text.parse().unwrap();
            let Some(decimal) = Decimal::read(text.as_bytes()) else {
                assert!(text.len() > MAX_DIGITS, "{text}");
                continue;
            };
            assert_eq!(decimal.length, text.len());
            assert_eq!(decimal.float(text.as_bytes()), Some(value), "{text}");
            assert_eq!(decimal.fixed(text.as_bytes()), fixed_from_float(value), "{text}");
            assert_eq!(decimal.integer(), text.parse().ok(), "{text}");
        }
    }

    #[test]
    fn only_numbers_as_json_writes_them() {
        for (text, length) in [
            ("0", Some(1)),
            ("-0", Some(2)),
            ("0.5,", Some(3)),
            ("12]", Some(2)),
            ("-1.25}", Some(5)),
            ("", None),
            ("-", None),
            ("01", None),
            (".5", None),
            ("1.", None),
            ("1.x", None),
            ("+1", None),
            ("1e5", None),
            ("1.5E5", None),
            ("1234567890123456789", None),
            ("NaN", None),
        ] {
            assert_eq!(Decimal::read(text.as_bytes()).map(|decimal| decimal.length), length, "{text}");
        }
        for (text, value) in
            [("21.50", Some(21.5)), ("-1e2", Some(-100.0)), ("1e999", None), ("inf", None), ("1.e5", None)]
        {
            assert_eq!(float_from_text(text), value, "{text}");
        }
    }

    #[test]
    fn fixed_point_rounds_half_away_from_zero() {
        for (value, fixed) in [
            (0.0, Some(0)),
            (-0.0, Some(0)),
            (0.000_000_5, Some(1)),
            (-0.000_000_5, Some(-1)),
            (0.000_000_4, Some(0)),
            (21.123_456_4, Some(21_123_456)),
            (-21.123_456_6, Some(-21_123_457)),
            (10_000.0, Some(MAX_FIXED)),
            (10_000.1, None),
            (1e300, None),
        ] {
            assert_eq!(fixed_from_float(value), fixed, "{value}");
        }
        for value in [0.5, -0.5, 0.499_999_999_999_999_94, 1.5, 2.5, -2.5, 4_503_599_627_370_497.5, 1e17] {
            assert_eq!(round_half_away(value), value.round() as i64, "{value}");
        }
    }
}
