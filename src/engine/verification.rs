//! Whether what the tables say of a partition is what its log says.
//!
//! The log is read again by the same state machine, up to the offset of the stored state, and the two results are
//! compared: windows here ([`window`]) and counts ([`counts`]), [`stations`] and [`dead_letters`] by themselves. What can be
//! read again is decided in [`mod@reach`], by which clock in [`clock`].
//!
//! Where Kafka no longer has the beginning, the watermark at the first offset that is left is not known. It is known of
//! some windows that it had not closed them, though: those whose first reading, by the table, lies behind that offset. For
//! these, and for all that begin later, whatever the lost part was decides nothing: they are compared as if all were
//! there. The others cannot be checked.

pub mod clock;
pub mod dead_letters;
pub mod reach;
pub mod stations;

use crate::engine::state::{Position, Progress};
use crate::engine::watermark;
use crate::engine::window::{METRICS, Totals};
use crate::reading::{Cause, Metric, Reason};

pub use reach::Reach;

/// A value that both sides have. An absent one is None.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComparedValue {
    /// The column that holds it.
    pub name: &'static str,
    /// What the table says.
    pub table: Option<i64>,
    /// What the log says.
    pub log: Option<i64>,
}

/// What became of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// Both sides say the same.
    Equal,
    /// They do not, in these values; none if the row itself is on one side only.
    Differs(Vec<ComparedValue>),
    /// Readings of it are from before what can be read again.
    Unknown,
}

/// A column of `weather_partial`: its name and what it holds; None where a table that an earlier version has begun does
/// not know it.
type Column = (&'static str, fn(&Totals) -> Option<i64>);

const COLUMNS: [Column; 1 + 4 * METRICS + 3] = [
    ("reading_count", |t| Some(t.readings)),
    ("temp_count", |t| Some(t.counts[0])),
    ("humidity_count", |t| Some(t.counts[1])),
    ("wind_speed_count", |t| Some(t.counts[2])),
    ("temp_sum", |t| Some(t.sums[0])),
    ("humidity_sum", |t| Some(t.sums[1])),
    ("wind_speed_sum", |t| Some(t.sums[2])),
    ("min_temp", |t| t.least(0)),
    ("min_humidity", |t| t.least(1)),
    ("min_wind_speed", |t| t.least(2)),
    ("max_temp", |t| t.greatest(0)),
    ("max_humidity", |t| t.greatest(1)),
    ("max_wind_speed", |t| t.greatest(2)),
    ("digest", |t| t.is_traced().then_some(t.digest.cast_signed())),
    ("first_offset", |t| t.is_traced().then_some(t.first_offset)),
    ("last_offset", |t| t.is_traced().then_some(t.last_offset)),
];
/// Those that every version has kept.
const FIRST_COLUMNS: usize = 1 + 2 * METRICS;

/// The values in which two totals of a window differ. What an earlier version has not kept is not compared.
pub fn totals(table: &Totals, log: &Totals) -> Vec<ComparedValue> {
    let columns = if table.is_traced() { &COLUMNS[..] } else { &COLUMNS[..FIRST_COLUMNS] };
    let value = |(name, of): &Column| ComparedValue { name, table: of(table), log: of(log) };
    columns.iter().map(value).filter(|value| value.table != value.log).collect()
}

/// Compares one window of one partition.
pub fn window(reach: &Reach, start_ms: i64, table: Option<&Totals>, log: Option<&Totals>) -> Comparison {
    let is_before = |t: &Totals| {
        let first = Position { incarnation: t.incarnation, offset: t.first_offset };
        !t.is_traced() || first < reach.from
    };
    match (table, log) {
        (Some(table), _) if !reach.is_whole && is_before(table) => Comparison::Unknown,
        (Some(table), Some(log)) => match totals(table, log) {
            values if values.is_empty() => Comparison::Equal,
            values => Comparison::Differs(values),
        },
        // Its records may all have been late.
        (None, Some(_)) if !reach.is_whole && reach.sure_from_ms.is_none_or(|sure| start_ms < sure) => {
            Comparison::Unknown
        }
        (None, None) => Comparison::Equal,
        _ => Comparison::Differs(Vec::new()),
    }
}

/// The counts in which two states at one offset differ.
pub fn counts(table: &Progress, log: &Progress) -> Vec<ComparedValue> {
    let time = |ms: i64| Some(ms).filter(|ms| *ms > watermark::NONE);
    let mut values = vec![
        ComparedValue { name: "aggregated", table: Some(table.aggregated), log: Some(log.aggregated) },
        ComparedValue { name: "skipped", table: Some(table.skipped), log: Some(log.skipped) },
        ComparedValue { name: "lost", table: Some(table.lost), log: Some(log.lost) },
        ComparedValue {
            name: "max_event_time",
            table: time(table.max_event_time_ms),
            log: time(log.max_event_time_ms),
        },
        ComparedValue {
            name: "refused_in_lists",
            table: Some(table.refused_in_lists),
            log: Some(log.refused_in_lists),
        },
        ComparedValue { name: "watermark", table: time(table.watermark_ms), log: time(log.watermark_ms) },
    ];
    values.extend(Reason::ALL.map(|reason| ComparedValue {
        name: reason.as_str(),
        table: Some(table.rejected[reason.index()]),
        log: Some(log.rejected[reason.index()]),
    }));
    let left_out = |progress: &Progress| progress.left_out.as_flattened().iter().sum::<i64>();
    // Tables of the first version have none of these counts.
    if left_out(table) > 0 || table.left_out == log.left_out {
        let pairs = Metric::ALL.iter().flat_map(|m| Cause::ALL.iter().map(move |c| (m.index(), c.index())));
        values.extend(pairs.map(|(metric, cause)| ComparedValue {
            name: "left_out",
            table: Some(table.left_out[metric][cause]),
            log: Some(log.left_out[metric][cause]),
        }));
    }
    values.retain(|value| value.table != value.log);
    values
}

/// Why differences of a partition prove nothing, if so: the log is not the one that was counted any more.
pub fn excuse(reach: &Reach, table: &Progress, log: &Progress, futures_kept: i64) -> Option<String> {
    let (futures, found) = (table.rejected[Reason::Future.index()], log.rejected[Reason::Future.index()]);
    if table.duplicates > 0 {
        return Some(format!("version 0.1 dropped {} of its records as duplicates", table.duplicates));
    }
    if let Some(why) = compacted(reach, table, log) {
        return Some(why);
    }
    if futures_kept < futures && futures != found {
        let gone = futures - futures_kept;
        return Some(format!("which {gone} of its records were refused as future is no longer in the table"));
    }
    None
}

/// Whether records may have been removed since they were counted. Where the beginning is gone, it is not known how many of
/// the offsets without a record lay there.
fn compacted(reach: &Reach, table: &Progress, log: &Progress) -> Option<String> {
    if reach.is_whole {
        let gone = log.skipped - table.skipped;
        return (gone > 0 && log.lost == table.lost)
            .then(|| format!("Kafka has removed {gone} of its records since by compaction"));
    }
    let before = reach.from.offset - table.origin_offset;
    let gone = log.skipped - (table.skipped - before).max(0);
    (gone > 0).then(|| format!("Kafka may have removed up to {gone} of its records since by compaction"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Reading;

    fn totals_of(readings: &[(i64, i64)]) -> Totals {
        let mut totals = Totals::default();
        for (offset, temperature) in readings {
            let metrics = [Some(*temperature), None, Some(1)];
            totals.add(*offset, &Reading { event_time_ms: 0, metrics, left_out: [None; 3] });
        }
        totals
    }

    fn reach(from: i64, is_whole: bool, sure_from_ms: Option<i64>) -> Reach {
        Reach { from: Position { incarnation: 0, offset: from }, is_whole, sure_from_ms }
    }

    #[test]
    fn every_column_counts() {
        let table = totals_of(&[(3, 10), (7, 20)]);
        let log = totals_of(&[(3, 11), (7, 20)]);
        let names: Vec<_> = totals(&table, &log).iter().map(|value| value.name).collect();
        assert_eq!(names, ["temp_sum", "min_temp", "digest"]);
        assert_eq!(totals(&table, &table), []);
        for word in 0..crate::engine::window::TOTALS_WORDS {
            let mut words = table.to_words();
            words[word] ^= 1;
            let changed = Totals::from_words(&words);
            // Humidity has no extremes here; the rest of the words says of which log they are.
            let shown = [8, 11, 14, 15].contains(&word) || !totals(&changed, &table).is_empty();
            assert!(shown, "word {word}");
        }
    }

    #[test]
    fn an_earlier_version_is_compared_by_what_it_kept() {
        let log = totals_of(&[(3, 10), (7, 20)]);
        let first = |readings| Totals::from_first_words(&[readings, 2, 0, 2, 30, 0, 2]);
        assert_eq!(totals(&first(2), &log), []);
        assert_eq!(totals(&first(3), &log).len(), 1);
    }

    #[test]
    fn what_is_gone_cannot_be_told_and_the_rest_can() {
        let (old, new) = (totals_of(&[(3, 10), (70, 20)]), totals_of(&[(70, 20)]));
        let whole = reach(0, true, None);
        let cut = reach(50, false, Some(2_000));
        assert_eq!(window(&whole, 0, Some(&old), Some(&old)), Comparison::Equal);
        assert_eq!(window(&cut, 0, Some(&old), Some(&new)), Comparison::Unknown);
        assert_eq!(window(&cut, 0, Some(&new), Some(&new)), Comparison::Equal);
        assert!(matches!(window(&cut, 0, Some(&new), Some(&old)), Comparison::Differs(_)));
        assert_eq!(window(&cut, 0, Some(&new), None), Comparison::Differs(vec![]), "no reading of it");
        assert_eq!(window(&cut, 2_000, None, Some(&new)), Comparison::Differs(vec![]), "its row is missing");
        assert_eq!(window(&cut, 1_000, None, Some(&new)), Comparison::Unknown, "they may have been late");
        assert_eq!(window(&whole, 1_000, None, Some(&new)), Comparison::Differs(vec![]));
        let first = Totals::from_first_words(&[1, 1, 0, 1, 20, 0, 1]);
        assert_eq!(
            window(&cut, 0, Some(&first), Some(&new)),
            Comparison::Unknown,
            "it does not say since when"
        );
        assert_eq!(window(&whole, 0, Some(&first), Some(&new)), Comparison::Equal);
    }

    #[test]
    fn every_count_counts() {
        let words: [i64; crate::engine::state::WORDS] = std::array::from_fn(|i| i as i64);
        let log = Progress::from_words(&words);
        assert_eq!(counts(&log, &log), []);
        // Where reading stands is given; of the rest every word is compared, but what only one side can know.
        for word in (5..words.len()).filter(|word| ![7, 9, 12].contains(word)) {
            let mut words = words;
            words[word] += 1;
            assert_eq!(counts(&Progress::from_words(&words), &log).len(), 1, "word {word}");
        }
    }

    #[test]
    fn a_log_that_has_changed_proves_nothing() {
        let whole = reach(0, true, None);
        let excuse = |table: &Progress, log: &Progress, kept| excuse(&whole, table, log, kept);
        let mut table = Progress::starting_at(0);
        let log = Progress { skipped: 5, ..table };
        assert!(excuse(&table, &log, 0).is_some_and(|why| why.contains("compaction")));
        assert_eq!(excuse(&log, &log, 0), None);
        table.rejected[Reason::Future.index()] = 2;
        assert_eq!(excuse(&table, &table, 0), None, "they were found all the same");
        let log = Progress::starting_at(0);
        assert!(excuse(&table, &log, 1).is_some_and(|why| why.contains("future")));
        assert_eq!(excuse(&table, &log, 2), None, "the table names both");
        table.duplicates = 1;
        assert!(excuse(&table, &table, 2).is_some_and(|why| why.contains("0.1")));
    }

    #[test]
    fn where_the_beginning_is_gone_any_offset_without_a_record_may_have_had_one() {
        let cut = reach(50, false, None);
        let excused = |table_skipped, log_skipped| {
            let table = Progress { skipped: table_skipped, ..Progress::starting_at(0) };
            let log = Progress { skipped: log_skipped, ..Progress::starting_at(50) };
            excuse(&cut, &table, &log, 0).is_some_and(|why| why.contains("up to"))
        };
        assert!(!excused(7, 0), "there is none");
        assert!(excused(7, 3), "all 7 may have been in the part that is gone");
        assert!(excused(53, 4) && !excused(53, 3), "at least 3 were not");
    }
}
