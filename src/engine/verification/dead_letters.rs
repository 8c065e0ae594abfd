//! Whether the dead letters of a partition that should be in the table are there, and no others.
//!
//! Two kinds need not be there: those of a flood that were only counted, and those that were deleted since. Of neither is
//! it known which they were, but it is known which they cannot have been. A flood begins behind the first
//! [`BURST`] dead letters of a reason, and as many are left out as `sampled_out` says. What is
//! deleted is the oldest: so not what lies behind a dead letter that is still there, and not what is younger than everything
//! that is deleted.

use crate::engine::dead_letter::{BURST, DeadLetter};
use crate::engine::state::{Progress, REASONS};
use crate::engine::verification::Reach;
use crate::reading::Reason;

/// A dead letter as the table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// Its offset in the log of the partition's incarnation.
    pub offset: i64,
    /// Why it was refused; None if there is no such reason.
    pub reason: Option<Reason>,
    /// The beginning of its value.
    pub payload: Option<Vec<u8>>,
    /// Length of the whole value.
    pub payload_bytes: i64,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The first offset that it is about.
    pub first_offset: i64,
    /// The last one.
    pub last_offset: i64,
    /// What it is.
    pub what: String,
}

/// Dead letters that are not in the table.
#[derive(Debug, Clone, Copy, Default)]
struct Missing {
    count: i64,
    first_offset: i64,
    last_offset: i64,
}

impl Missing {
    fn add(&mut self, offset: i64) {
        if self.count == 0 {
            self.first_offset = offset;
        }
        self.count += 1;
        self.last_offset = offset;
    }

    fn finding(&self, what: String) -> Finding {
        Finding { first_offset: self.first_offset, last_offset: self.last_offset, what }
    }
}

/// What all dead letters of a partition came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeadLetterComparison {
    /// Dead letters that both sides have.
    pub equal: i64,
    /// Dead letters that are not in the table, as they were only counted or were deleted since.
    pub not_kept: i64,
    /// Of these, dead letters that may have been deleted.
    pub deleted: i64,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
}

/// The comparison of one partition's dead letters, in the order of their offsets.
#[derive(Debug)]
pub struct DeadLetters {
    reach: Reach,
    counted: [i64; REASONS],
    sampled_out: i64,
    /// Dead letters of records from before this may have been deleted, ms since 1970.
    kept_since_ms: i64,
    /// Whether a dead letter was there already: none behind it was deleted.
    is_behind_kept: bool,
    missing: [Missing; REASONS],
    deleted: Missing,
    outcome: DeadLetterComparison,
}

impl DeadLetters {
    /// Of the partition that the table says this of.
    pub fn new(reach: Reach, table: &Progress, kept_since_ms: i64) -> Self {
        Self {
            reach,
            counted: table.rejected,
            sampled_out: table.sampled_out,
            kept_since_ms,
            is_behind_kept: false,
            missing: Default::default(),
            deleted: Missing::default(),
            outcome: DeadLetterComparison::default(),
        }
    }

    /// Compares the dead letters of some offsets, both in their order: those of the table, and those that the log gives. The
    /// first record of them is from `record_ms`.
    pub fn compare(&mut self, stored: &[StoredDeadLetter], refused: &[DeadLetter], record_ms: i64) {
        let mut stored = stored.iter().peekable();
        for dead_letter in refused {
            while let Some(other) = stored.next_if(|stored| stored.offset < dead_letter.offset) {
                self.only_stored(other);
            }
            match stored.next_if(|stored| stored.offset == dead_letter.offset) {
                Some(found) => self.both(found, dead_letter),
                None => self.only_refused(dead_letter, record_ms),
            }
        }
        stored.for_each(|other| self.only_stored(other));
    }

    fn both(&mut self, stored: &StoredDeadLetter, dead_letter: &DeadLetter) {
        self.is_behind_kept = true;
        let same_payload = stored.payload.as_deref() == dead_letter.payload.as_deref();
        if stored.reason != Some(dead_letter.reason) {
            let (found, expected) = (name(stored.reason), dead_letter.reason.as_str());
            self.find(
                dead_letter.offset,
                format!("the dead letter is {found} in the table, {expected} by the topic"),
            );
        } else if !same_payload || stored.payload_bytes != dead_letter.payload_bytes {
            self.find(dead_letter.offset, "the payload of the dead letter is not the record's".to_owned());
        } else {
            self.outcome.equal += 1;
        }
    }

    fn only_stored(&mut self, stored: &StoredDeadLetter) {
        // The watermark that it was late for may have come before what can be read again.
        if self.reach.is_whole || stored.reason != Some(Reason::Late) {
            let reason = name(stored.reason);
            self.find(stored.offset, format!("the table has a dead letter ({reason}), the topic gives none"));
        }
        self.is_behind_kept = true;
    }

    fn only_refused(&mut self, dead_letter: &DeadLetter, record_ms: i64) {
        if self.is_behind_kept || record_ms >= self.kept_since_ms {
            self.missing[dead_letter.reason.index()].add(dead_letter.offset);
        } else {
            self.deleted.add(dead_letter.offset);
        }
    }

    fn find(&mut self, offset: i64, what: String) {
        self.outcome.findings.push(Finding { first_offset: offset, last_offset: offset, what });
    }

    /// When all are compared.
    pub fn finish(mut self) -> DeadLetterComparison {
        let mut sampled = Missing::default();
        for reason in Reason::ALL {
            let missing = self.missing[reason.index()];
            if missing.count == 0 {
                continue;
            }
            if self.counted[reason.index()] <= BURST {
                let (count, name) = (missing.count, reason.as_str());
                let what = format!("{count} dead letter(s) ({name}) are missing in the table");
                self.outcome.findings.push(missing.finding(what));
                continue;
            }
            sampled = match sampled.count {
                0 => missing,
                count => Missing {
                    count: count + missing.count,
                    first_offset: sampled.first_offset.min(missing.first_offset),
                    last_offset: sampled.last_offset.max(missing.last_offset),
                },
            };
        }
        let surplus = sampled.count - self.sampled_out;
        if surplus > 0 {
            let what = format!(
                "{surplus} dead letter(s) are missing in the table beside the {} that were only counted",
                self.sampled_out
            );
            self.outcome.findings.push(sampled.finding(what));
        }
        self.outcome.deleted = self.deleted.count;
        self.outcome.not_kept = self.deleted.count + sampled.count.min(self.sampled_out);
        self.outcome
    }
}

fn name(reason: Option<Reason>) -> &'static str {
    reason.map_or("of an unknown reason", Reason::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::state::Position;

    const LATE: Reason = Reason::Late;

    fn stored(offset: i64, reason: Reason) -> StoredDeadLetter {
        StoredDeadLetter { offset, reason: Some(reason), payload: Some(vec![1]), payload_bytes: 1 }
    }

    fn refused(offset: i64, reason: Reason) -> DeadLetter {
        DeadLetter { incarnation: 0, offset, reason, payload: Some([1].into()), payload_bytes: 1 }
    }

    /// Compares, where as many late ones were counted and sampled out; records are from the ms of their offset.
    fn outcome(
        is_whole: bool,
        late: i64,
        sampled_out: i64,
        stored: &[StoredDeadLetter],
        refused: &[DeadLetter],
    ) -> DeadLetterComparison {
        let reach = Reach { from: Position { incarnation: 0, offset: 0 }, is_whole, sure_from_ms: None };
        let mut table = Progress::starting_at(0);
        table.rejected[LATE.index()] = late;
        table.sampled_out = sampled_out;
        let mut dead_letters = DeadLetters::new(reach, &table, 100);
        let at = |dead_letters: &mut DeadLetters, offset: i64| {
            let stored: Vec<_> = stored.iter().filter(|s| s.offset == offset).cloned().collect();
            let refused: Vec<_> = refused.iter().filter(|r| r.offset == offset).cloned().collect();
            dead_letters.compare(&stored, &refused, offset);
        };
        (0..10_000).for_each(|offset| at(&mut dead_letters, offset));
        dead_letters.finish()
    }

    fn offsets(outcome: &DeadLetterComparison) -> Vec<(i64, i64)> {
        outcome.findings.iter().map(|f| (f.first_offset, f.last_offset)).collect()
    }

    #[test]
    fn each_difference_is_found_at_its_offset() {
        let log = [refused(3, LATE), refused(5, Reason::Future), refused(200, LATE)];
        let table = [stored(3, LATE), stored(5, Reason::Future), stored(200, LATE)];
        let equal = outcome(true, 2, 0, &table, &log);
        assert_eq!((equal.equal, equal.not_kept, equal.findings.len()), (3, 0, 0));
        for missing in [1, 2] {
            let mut table = table.to_vec();
            let dead_letter = table.remove(missing);
            assert_eq!(
                offsets(&outcome(true, 2, 0, &table, &log)),
                [(dead_letter.offset, dead_letter.offset)]
            );
        }
        assert_eq!(offsets(&outcome(true, 2, 0, &table, &log[..2])), [(200, 200)]);
        let mut other = table.to_vec();
        other[0].reason = Some(Reason::Future);
        other[1].payload = None;
        other[2].payload_bytes = 2;
        assert_eq!(offsets(&outcome(true, 2, 0, &other, &log)), [(3, 3), (5, 5), (200, 200)]);
        other[0].reason = None;
        assert!(outcome(true, 2, 0, &other, &log).findings[0].what.contains("unknown reason"));
    }

    #[test]
    fn only_the_oldest_may_have_been_deleted() {
        let log = [refused(3, LATE), refused(50, LATE), refused(200, LATE)];
        let young = outcome(true, 3, 0, &[], &log);
        assert_eq!((offsets(&young), young.not_kept), (vec![(200, 200)], 2));
        let behind = outcome(true, 3, 0, &[stored(3, LATE), stored(200, LATE)], &log);
        assert_eq!((offsets(&behind), behind.not_kept), (vec![(50, 50)], 0));
    }

    #[test]
    fn a_flood_may_lack_as_many_as_were_only_counted() {
        let log: Vec<_> = (200..1_300).map(|offset| refused(offset, LATE)).collect();
        let table: Vec<_> = (200..1_200).map(|offset| stored(offset, LATE)).collect();
        let exact = outcome(true, 1_100, 100, &table, &log);
        assert_eq!((exact.equal, exact.not_kept, exact.findings.len()), (1_000, 100, 0));
        let less = outcome(true, 1_100, 100, &table[..999], &log);
        assert_eq!(offsets(&less), [(1_199, 1_299)]);
        assert!(less.findings[0].what.starts_with("1 dead letter"), "{less:?}");
    }

    #[test]
    fn what_was_late_for_a_lost_part_of_the_log_is_believed() {
        let table = [stored(3, LATE), stored(5, Reason::Malformed)];
        assert_eq!(offsets(&outcome(false, 1, 0, &table, &[])), [(5, 5)]);
    }
}
