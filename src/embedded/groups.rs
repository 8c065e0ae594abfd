//! The offsets that consumer groups have committed.
//!
//! Only what a group without members needs: one offset a partition. Their number and the length of group names are bounded;
//! the offsets of a deleted topic are removed when they are next requested.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::codes::ErrorCode;

/// Longest name of a group, in bytes.
const MAX_NAME: usize = 249;
/// Maximum number of offsets, of all groups together.
const MAX_OFFSETS: usize = 20_000;

/// Group, topic, partition.
type CommittedPartition = (String, String, i32);

/// A topic's id and the offset that a group reads next in a partition of it.
type Committed = ([u8; 16], i64);

/// The groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    offsets: Mutex<BTreeMap<CommittedPartition, Committed>>,
}

impl Groups {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<CommittedPartition, Committed>> {
        self.offsets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores an offset.
    pub(super) fn commit(
        &self,
        group: &str,
        topic: (&str, [u8; 16]),
        partition: i32,
        offset: i64,
    ) -> Result<(), ErrorCode> {
        check_name(group)?;
        let mut offsets = self.lock();
        let place = (group.to_owned(), topic.0.to_owned(), partition);
        if offsets.len() >= MAX_OFFSETS && !offsets.contains_key(&place) {
            return Err(ErrorCode::PolicyViolation);
        }
        offsets.insert(place, (topic.1, offset));
        Ok(())
    }

    /// The offset that was committed last, if it was for the topic of this id.
    pub(super) fn committed(&self, group: &str, topic: (&str, [u8; 16]), partition: i32) -> Option<i64> {
        let offsets = self.lock();
        let (id, offset) = offsets.get(&(group.to_owned(), topic.0.to_owned(), partition))?;
        (*id == topic.1).then_some(*offset)
    }

    /// All partitions that a group has committed offsets for, by topic.
    pub(super) fn partitions(&self, group: &str) -> BTreeMap<String, Vec<i32>> {
        let mut found: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for (_, topic, partition) in self.lock().keys().filter(|(name, ..)| name == group) {
            found.entry(topic.clone()).or_default().push(*partition);
        }
        found
    }
}

/// Whether a group may have this name.
pub(super) fn check_name(group: &str) -> Result<(), ErrorCode> {
    if (1..=MAX_NAME).contains(&group.len()) { Ok(()) } else { Err(ErrorCode::InvalidGroupId) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_belong_to_a_group_and_a_topic() {
        let groups = Groups::default();
        groups.commit("g", ("t", [1; 16]), 3, 77).unwrap();
        groups.commit("g", ("t", [1; 16]), 3, 78).unwrap();
        assert_eq!(groups.committed("g", ("t", [1; 16]), 3), Some(78));
        for (group, topic, partition) in [
            ("h", ("t", [1; 16]), 3),
            ("g", ("u", [1; 16]), 3),
            ("g", ("t", [2; 16]), 3),
            ("g", ("t", [1; 16]), 2),
        ] {
            assert_eq!(groups.committed(group, topic, partition), None);
        }
        assert_eq!(groups.partitions("g"), BTreeMap::from([("t".to_owned(), vec![3])]));
        assert_eq!(groups.commit("", ("t", [1; 16]), 3, 1), Err(ErrorCode::InvalidGroupId));
    }

    #[test]
    fn offsets_do_not_pile_up() {
        let groups = Groups::default();
        let commit = |partition| groups.commit("g", ("t", [1; 16]), partition, 1);
        let kept = (0..30_000).filter(|partition| commit(*partition).is_ok()).count();
        assert_eq!((kept, commit(0), commit(29_999)), (MAX_OFFSETS, Ok(()), Err(ErrorCode::PolicyViolation)));
    }
}
