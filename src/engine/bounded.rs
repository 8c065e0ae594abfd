//! When a bounded run is done: every partition is in the table up to its end at the start, whichever process read it.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::state::Position;

/// The position of each partition's state in the table; None while it has none.
pub type Positions = BTreeMap<i32, Option<Position>>;

/// A bounded run.
#[derive(Debug, Clone)]
pub struct BoundedRun {
    ends: BTreeMap<i32, i64>,
    /// The table's positions when the run began.
    begun: Option<Positions>,
}

/// How far a partition of this process is.
#[derive(Debug, Clone, Copy)]
pub struct Own {
    /// Which partition.
    pub partition: i32,
    /// Where it reached its end, once it has.
    pub reached: Option<Position>,
    /// What PostgreSQL has confirmed.
    pub flushed: Position,
}

impl BoundedRun {
    /// A run that ends at these offsets.
    pub fn new(ends: BTreeMap<i32, i64>) -> Self {
        Self { ends, begun: None }
    }

    /// The end of a partition.
    pub fn end_of(&self, partition: i32) -> Option<i64> {
        self.ends.get(&partition).copied()
    }

    /// Whether to flush now: everything is read, so no more records will come that the next flush could wait for.
    pub fn wants_flush(own: &[Own]) -> bool {
        let unwritten = |own: &Own| own.reached.is_some_and(|at| own.flushed < at);
        own.iter().all(|own| own.reached.is_some()) && own.iter().any(unwritten)
    }

    /// Whether all that this process was to do is done, so that only others can end the run.
    pub fn waits_for_others(own: &[Own]) -> bool {
        own.iter().all(|own| own.reached.is_some_and(|at| own.flushed >= at))
    }

    /// Offsets that are not in the table yet; 0: the run is done. What the topic no longer has cannot be
    /// read and is not waited for.
    pub fn left(&mut self, table: &Positions, own: &[Own], existing: &BTreeSet<i32>) -> i64 {
        let begun = &*self.begun.get_or_insert_with(|| table.clone());
        let left = |(partition, end): (&i32, &i64)| {
            let at = table.get(partition).copied().flatten();
            let done = match own.iter().find(|own| own.partition == *partition) {
                // The partition's own task knows whether the offsets are still those of this log.
                Some(own) => own.reached.is_some_and(|reached| at >= Some(reached)),
                None => at.is_some_and(|at| at.is_past(*end, begun.get(partition).copied().flatten())),
            };
            if done { 0 } else { at.map_or(*end, |at| end - at.offset).max(1) }
        };
        self.ends.iter().filter(|(partition, _)| existing.contains(partition)).map(left).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(incarnation: i64, offset: i64) -> Position {
        Position { incarnation, offset }
    }

    fn table(rows: &[Option<Position>]) -> Positions {
        (0..).zip(rows.iter().copied()).collect()
    }

    #[test]
    fn is_done_when_everything_is_in_the_table_whoever_read_it() {
        let mut run = BoundedRun::new(BTreeMap::from([(0, 10), (1, 20)]));
        let existing = BTreeSet::from([0, 1]);
        let own = |reached| [Own { partition: 0, reached, flushed: at(0, 4) }];
        assert_eq!(run.left(&table(&[None, Some(at(0, 5))]), &own(None), &existing), 25);
        assert_eq!(run.left(&table(&[Some(at(0, 10)), Some(at(0, 20))]), &own(None), &existing), 1);
        let reached = own(Some(at(0, 10)));
        assert!(BoundedRun::wants_flush(&reached) && !BoundedRun::wants_flush(&own(None)));
        assert!(!BoundedRun::waits_for_others(&reached) && BoundedRun::waits_for_others(&[]));
        assert_eq!(run.left(&table(&[Some(at(0, 9)), Some(at(0, 20))]), &reached, &existing), 1);
        assert_eq!(run.left(&table(&[Some(at(0, 10)), Some(at(0, 20))]), &reached, &existing), 0);
    }

    #[test]
    fn a_partition_that_is_gone_is_not_waited_for() {
        let mut run = BoundedRun::new(BTreeMap::from([(0, 10), (1, 20)]));
        let left = run.left(&table(&[Some(at(0, 10)), None]), &[], &BTreeSet::from([0]));
        assert_eq!(left, 0);
    }
}
