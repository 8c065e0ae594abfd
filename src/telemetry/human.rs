//! Numbers and tables as people read them.

use std::fmt;

/// A number with its digits in groups of three: `1,234,567`.
#[derive(Debug, Clone, Copy)]
pub struct Grouped(pub i64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.unsigned_abs().to_string();
        let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
        if self.0 < 0 {
            text.push('-');
        }
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

/// A length of time in its largest fitting unit: `0.3 s`, `12 s`, `5 min`, `3 h`, `2 d`. Takes seconds, below zero as 0.
#[derive(Debug, Clone, Copy)]
pub struct TimeSpan(pub f64);

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.max(0.0);
        f.pad(&match seconds {
            s if s < 9.95 => format!("{s:.1} s"),
            s if s < 120.0 => format!("{s:.0} s"),
            s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
            s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
            s => format!("{:.0} d", s / 86_400.0),
        })
    }
}

/// The side of its column on which a cell is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows as lines, each column as wide as its widest cell, with `gap` between two of them.
pub fn columns<const N: usize>(rows: &[[String; N]], side: Side, gap: &str) -> Vec<String> {
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let cell = |(cell, width): (&String, usize)| match side {
        Side::Left => format!("{cell:<width$}"),
        Side::Right => format!("{cell:>width$}"),
    };
    rows.iter().map(|row| row.iter().zip(widths).map(cell).collect::<Vec<_>>().join(gap)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), "°C".to_owned()], ["bcd".to_owned(), String::new()]];
        assert_eq!(columns(&rows, Side::Left, "  "), ["a    °C", "bcd    "]);
        assert_eq!(columns(&rows, Side::Right, "|"), ["  a|°C", "bcd|  "]);
    }

    #[test]
    fn groups_digits() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567")] {
            assert_eq!(Grouped(number).to_string(), text);
        }
        assert_eq!(format!("{:>6}|", Grouped(1_000)), " 1,000|");
    }

    #[test]
    fn spans_have_one_unit() {
        for (seconds, text) in [
            (-1.0, "0.0 s"),
            (0.34, "0.3 s"),
            (12.2, "12 s"),
            (150.0, "2 min"),
            (7_200.0, "2 h"),
            (2e6, "23 d"),
        ] {
            assert_eq!(TimeSpan(seconds).to_string(), text);
        }
    }
}
