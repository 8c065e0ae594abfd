//! What a window has taken in: totals that merge exactly, and a digest of the readings in them.
//!
//! Metrics are whole numbers of 1e-6 units, so sums have no order and merging partials loses nothing. An `i64` holds the
//! sum of 6e10 readings of the largest value a metric can have, in one window of one partition.
//!
//! The digest is the wrapping sum of a hash of every reading with its offset. It depends on which readings are in the
//! window and on nothing else: not on their order, on batches, or on how many processes read them. Two deployments that
//! have read the same topic have equal digests; one reading more, less or different makes them unequal.

use crate::reading::{Reading, SCALE};

/// How many metrics a reading has.
pub const METRICS: usize = 3;
/// How many words [`Totals`] has.
pub const TOTALS_WORDS: usize = FIRST_TOTALS_WORDS + 2 * METRICS + 5;
/// How many of them the first version of this program had: readings, counts and sums.
pub const FIRST_TOTALS_WORDS: usize = 1 + 2 * METRICS;

/// What one window of one partition has taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Readings aggregated into the window.
    pub readings: i64,
    /// Readings that had the metric, in the order of `reading::Metric`.
    pub counts: [i64; METRICS],
    /// Sums of the metric in 1e-6 units, same order.
    pub sums: [i64; METRICS],
    /// Least values in 1e-6 units; `i64::MAX` while there is none.
    pub minima: [i64; METRICS],
    /// Greatest values in 1e-6 units; `i64::MIN` while there is none.
    pub maxima: [i64; METRICS],
    /// The sum of the readings' [`fingerprint`]s.
    pub digest: u64,
    /// Readings of these that the first version of this program counted, which kept neither extremes nor a digest. While
    /// there are any, neither is known of the window as a whole, nor are the offsets.
    pub untraced: i64,
    /// The incarnation of the log that the first reading came from.
    pub incarnation: i64,
    /// The offset of the first reading.
    pub first_offset: i64,
    /// The offset of the last reading.
    pub last_offset: i64,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            readings: 0,
            counts: [0; METRICS],
            sums: [0; METRICS],
            minima: [i64::MAX; METRICS],
            maxima: [i64::MIN; METRICS],
            digest: 0,
            untraced: 0,
            incarnation: 0,
            first_offset: 0,
            last_offset: 0,
        }
    }
}

impl Totals {
    /// Adds the reading at an offset behind all others; a metric that is absent is skipped for that metric alone.
    #[inline]
    pub fn add(&mut self, offset: i64, reading: &Reading) {
        if self.readings == 0 {
            self.first_offset = offset;
        }
        self.last_offset = offset;
        self.readings += 1;
        self.digest = self.digest.wrapping_add(fingerprint(offset, reading));
        for i in 0..METRICS {
            let metric = reading.metrics[i];
            // Without a branch: an absent metric adds zero to both, and is neither less nor greater than any value.
            self.counts[i] += i64::from(metric.is_some());
            self.sums[i] += metric.unwrap_or(0);
            self.minima[i] = self.minima[i].min(metric.unwrap_or(i64::MAX));
            self.maxima[i] = self.maxima[i].max(metric.unwrap_or(i64::MIN));
        }
    }

    /// Adds what the same window has taken in later, or in another partition; offsets then mean nothing.
    pub fn merge(&mut self, later: &Totals) {
        if self.readings == 0 {
            (self.incarnation, self.first_offset) = (later.incarnation, later.first_offset);
        }
        if later.readings > 0 {
            self.last_offset = later.last_offset;
        }
        self.readings += later.readings;
        self.untraced += later.untraced;
        self.digest = self.digest.wrapping_add(later.digest);
        for i in 0..METRICS {
            self.counts[i] += later.counts[i];
            self.sums[i] += later.sums[i];
            self.minima[i] = self.minima[i].min(later.minima[i]);
            self.maxima[i] = self.maxima[i].max(later.maxima[i]);
        }
    }

    /// Whether extremes, digest and offsets are those of all readings of the window.
    pub fn is_traced(&self) -> bool {
        self.untraced == 0
    }

    /// The average of a metric in its physical unit, if any reading had it.
    pub fn average(&self, metric: usize) -> Option<f64> {
        (self.counts[metric] > 0)
            .then(|| self.sums[metric] as f64 / SCALE as f64 / self.counts[metric] as f64)
    }

    /// The least value of a metric in 1e-6 units, if it is known and any reading had it.
    pub fn least(&self, metric: usize) -> Option<i64> {
        (self.is_traced() && self.counts[metric] > 0).then_some(self.minima[metric])
    }

    /// The greatest value of a metric in 1e-6 units, if it is known and any reading had it.
    pub fn greatest(&self, metric: usize) -> Option<i64> {
        (self.is_traced() && self.counts[metric] > 0).then_some(self.maxima[metric])
    }

    /// As an array: those of the first version come first.
    pub fn to_words(&self) -> [i64; TOTALS_WORDS] {
        let mut words = [0; TOTALS_WORDS];
        let [minima, maxima, rest] = [FIRST_TOTALS_WORDS, FIRST_TOTALS_WORDS + METRICS, TOTALS_WORDS - 5];
        words[0] = self.readings;
        words[1..1 + METRICS].copy_from_slice(&self.counts);
        words[1 + METRICS..minima].copy_from_slice(&self.sums);
        words[minima..maxima].copy_from_slice(&self.minima);
        words[maxima..rest].copy_from_slice(&self.maxima);
        words[rest..].copy_from_slice(&[
            self.digest.cast_signed(),
            self.untraced,
            self.incarnation,
            self.first_offset,
            self.last_offset,
        ]);
        words
    }

    /// From an array.
    pub fn from_words(words: &[i64; TOTALS_WORDS]) -> Self {
        let three = |from: usize| std::array::from_fn(|i| words[from + i]);
        let rest = TOTALS_WORDS - 5;
        Self {
            readings: words[0],
            counts: three(1),
            sums: three(1 + METRICS),
            minima: three(FIRST_TOTALS_WORDS),
            maxima: three(FIRST_TOTALS_WORDS + METRICS),
            digest: words[rest].cast_unsigned(),
            untraced: words[rest + 1],
            incarnation: words[rest + 2],
            first_offset: words[rest + 3],
            last_offset: words[rest + 4],
        }
    }

    /// What the first version of this program stored.
    pub fn from_first_words(words: &[i64; FIRST_TOTALS_WORDS]) -> Self {
        let three = |from: usize| std::array::from_fn(|i| words[from + i]);
        Self {
            readings: words[0],
            counts: three(1),
            sums: three(1 + METRICS),
            untraced: words[0],
            ..Self::default()
        }
    }
}

/// A hash of a reading and its offset, in five multiplications: what `wyhash` (Wang Yi, final version 3, public domain)
/// does to a short key, with its constants.
///
/// No value comes near a constant, so no factor is ever zero and every bit of every field counts.
#[inline]
pub fn fingerprint(offset: i64, reading: &Reading) -> u64 {
    const SECRET: [u64; 5] = [
        0xa076_1d64_78bd_642f,
        0xe703_7ed1_a0b4_28db,
        0x8ebc_6af0_9c88_c6e3,
        0x5899_65cc_7537_4cc3,
        0x1d8e_4e27_c47d_124f,
    ];
    // No metric can be so.
    const ABSENT: i64 = i64::MIN;
    let metric = |i: usize| reading.metrics[i].unwrap_or(ABSENT).cast_unsigned();
    let place = fold(offset.cast_unsigned() ^ SECRET[0], reading.event_time_ms.cast_unsigned() ^ SECRET[1]);
    let values = fold(metric(0) ^ SECRET[2], metric(1) ^ SECRET[3]);
    fold(place ^ SECRET[4], values ^ metric(2))
}

/// The two halves of a product of 128 bits.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn reading(event_time_ms: i64, metrics: [Option<i64>; 3]) -> Reading {
        Reading { event_time_ms, metrics, left_out: [None; 3] }
    }

    #[test]
    fn an_absent_metric_is_skipped_for_that_metric_alone() {
        let mut totals = Totals::default();
        totals.add(5, &reading(0, [Some(10_000_000), None, Some(2_500_000)]));
        totals.add(9, &reading(0, [Some(-20_000_000), None, None]));
        assert_eq!((totals.readings, totals.first_offset, totals.last_offset), (2, 5, 9));
        assert_eq!([0, 1, 2].map(|i| totals.average(i)), [Some(-5.0), None, Some(2.5)]);
        assert_eq!([0, 1, 2].map(|i| totals.least(i)), [Some(-20_000_000), None, Some(2_500_000)]);
        assert_eq!([0, 1, 2].map(|i| totals.greatest(i)), [Some(10_000_000), None, Some(2_500_000)]);
    }

    #[test]
    fn merging_is_adding() {
        let readings: Vec<Reading> = (0..50)
            .map(|i| reading(i, [Some(i * 7 % 13), (i % 3 > 0).then_some(-i), (i == 20).then_some(i)]))
            .collect();
        let total = |from: usize, to: usize| {
            let mut totals = Totals::default();
            (from..to).for_each(|i| totals.add(i as i64, &readings[i]));
            totals
        };
        for cut in 0..=50 {
            let mut first = total(0, cut);
            first.merge(&total(cut, 50));
            assert_eq!(first, total(0, 50), "{cut}");
        }
    }

    #[test]
    fn words_keep_every_field() {
        let words: [i64; TOTALS_WORDS] = std::array::from_fn(|i| 1 - i as i64);
        assert_eq!(Totals::from_words(&words).to_words(), words);
        let mut first = Totals::from_first_words(&[4, 4, 0, 4, 8, 0, 12]);
        assert_eq!((first.average(2), first.least(2), first.untraced), (Some(3e-6), None, 4));
        first.add(1, &reading(0, [Some(1); 3]));
        assert!(!first.is_traced() && first.greatest(0).is_none(), "a part of it stays unknown");
    }

    #[test]
    fn every_field_of_a_reading_changes_its_fingerprint() {
        let mut seen = HashSet::new();
        let values = [None, Some(0), Some(1), Some(-1), Some(1 << 20), Some(60_000_000)];
        for offset in [0, 1, 2, 1 << 40] {
            for time in [0, 1, 3_600_000, 1_700_000_000_000] {
                for combination in 0..values.len().pow(3) {
                    let metric = |i: u32| values[combination / values.len().pow(i) % values.len()];
                    let reading = reading(time, [metric(0), metric(1), metric(2)]);
                    assert!(seen.insert(fingerprint(offset, &reading)), "{offset} {reading:?}");
                }
            }
        }
        // Stored in tables: it must never change.
        let reading = reading(1_700_000_000_000, [Some(21_500_000), None, Some(3)]);
        assert_eq!(fingerprint(7, &reading), 0xc07b_20c9_adb8_e0ae);
    }
}
