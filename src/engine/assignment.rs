//! Which partitions a process should take and give up, from what the lease table shows. Pure.
//!
//! Every process decides for itself by the same rule on nearly the same view. A wrong decision is harmless: taking a
//! partition that is no longer free fails, and giving one up that no process wants only costs a hand-over. What matters
//! is that the decisions settle: with P partitions and N live processes each has ⌊P/N⌋ or ⌈P/N⌉, those that hold more
//! already keep the extra ones, and no process gives up a partition while none is missing elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How often the leases are read.
pub const TICK: Duration = Duration::from_millis(500);
/// The same, while a bounded run waits for its end.
pub const BOUNDED_TICK: Duration = Duration::from_millis(50);
/// How often windows are marked final that time alone has closed.
pub const FINISH_EVERY: Duration = Duration::from_secs(1);

/// Longest wait for the flush before a partition is handed over, or half a lease if that is shorter, because nothing
/// extends the leases meanwhile.
pub fn hand_over_limit(lease: Duration) -> Duration {
    Duration::from_secs(10).min(lease / 2)
}

/// What the leases show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leases {
    /// Live processes that share the partitions, ascending.
    pub processes: Vec<String>,
    /// Every partition's owner whose lease has not expired, by partition.
    pub owners: BTreeMap<i32, Option<String>>,
    /// Every partition's epoch: a process that holds it under another has lost it, even if it has no owner now.
    pub epochs: BTreeMap<i32, i64>,
}

impl Leases {
    /// Whether more than one process shares the partitions or owns some.
    pub fn are_of_several(&self) -> bool {
        let mut names = self.processes.iter().chain(self.owners.values().flatten());
        let first = names.next();
        names.any(|name| Some(name) != first)
    }
}

/// Which partitions a process wants.
#[derive(Debug, Clone, Copy)]
pub enum Wish<'a> {
    /// A fair share of all.
    Share,
    /// These, whichever other processes live.
    Given(&'a [i32]),
}

/// What a process holds: partition and epoch of each.
#[derive(Debug, Clone, Default)]
pub struct Holdings {
    /// Running.
    pub running: Vec<(i32, i64)>,
    /// Claimed, but not running yet.
    pub coming_up: Vec<(i32, i64)>,
}

impl Holdings {
    /// All of it, what is running first.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = (i32, i64)> + '_ {
        self.running.iter().chain(&self.coming_up).copied()
    }
}

/// A partition that this process has lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Which partition.
    pub partition: i32,
    /// The epoch it was held under.
    pub epoch: i64,
    /// The epoch in PostgreSQL now; None if the partition has no row.
    pub epoch_now: Option<i64>,
    /// Why, for the log.
    pub why: &'static str,
}

/// What to do after reading the leases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruling {
    /// No longer owned: to be dropped at once.
    pub lost: Vec<Lost>,
    /// Free partitions to claim.
    pub claim: Vec<i32>,
    /// Running partitions to hand over: no more records, a last flush, then free for others.
    pub hand_over: Vec<(i32, i64)>,
    /// Partitions that are not running yet: free for others at once.
    pub give_back: Vec<(i32, i64)>,
    /// Whether every partition has an owner and none is left for this process.
    pub waits: bool,
    /// Whether rows of partitions are missing because they were deleted: to be created again.
    pub rows_missing: bool,
}

/// Decides for the process `me`. `existing` are the partitions that the topic has now: shares are of them alone. Rows may be
/// left of a topic that had more, and its owner releases such a partition; `leases` keeps no owner of it.
pub fn rule(
    me: &str,
    wish: Wish<'_>,
    held: &Holdings,
    existing: &BTreeSet<i32>,
    leases: &mut Leases,
) -> Ruling {
    leases.owners.retain(|partition, _| existing.contains(partition));
    let lost: Vec<Lost> = held.all().filter_map(|held| lost(held, leases)).collect();
    let is_lost = |held: &(i32, i64)| lost.iter().any(|lost| (lost.partition, lost.epoch) == *held);
    let kept: Vec<(i32, i64)> = held.all().filter(|held| !is_lost(held)).collect();
    let (there, gone): (Vec<_>, Vec<_>) =
        kept.iter().partition(|(partition, _)| existing.contains(partition));
    let owned: Vec<i32> = there.iter().map(|(partition, _)| *partition).collect();
    let decision = match wish {
        Wish::Share => fair_share(me, &owned, leases),
        Wish::Given(wanted) => given_share(me, wanted, &owned, leases),
    };
    let surplus = there.iter().filter(|(partition, _)| decision.release.contains(partition));
    let (give_back, hand_over) =
        gone.iter().chain(surplus).copied().partition(|partition| held.coming_up.contains(partition));
    Ruling {
        waits: kept.is_empty() && decision.claim.is_empty() && !leases.owners.is_empty(),
        rows_missing: leases.owners.len() < existing.len(),
        lost,
        claim: decision.claim,
        hand_over,
        give_back,
    }
}

/// Whether a partition was taken away since, whichever process has it now.
fn lost((partition, epoch): (i32, i64), leases: &Leases) -> Option<Lost> {
    let epoch_now = leases.epochs.get(&partition).copied();
    let why = match epoch_now {
        Some(now) if now == epoch => return None,
        Some(now) if now > epoch => "another process has taken the partition",
        Some(_) => "the database was set back to an older state",
        None => "its row is gone from weather_partition",
    };
    Some(Lost { partition, epoch, epoch_now, why })
}

/// What to take and what to give up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Decision {
    claim: Vec<i32>,
    release: Vec<i32>,
}

/// For the process `me` that owns these partitions.
fn fair_share(me: &str, owned: &[i32], leases: &Leases) -> Decision {
    let shares = shares(me, owned, leases);
    let target = shares.iter().find(|share| share.process == me).map_or(0, |share| share.target);
    let free: Vec<i32> = leases
        .owners
        .iter()
        .filter(|(partition, owner)| owner.as_deref().is_none_or(|o| o == me) && !owned.contains(partition))
        .map(|(partition, _)| *partition)
        .collect();
    if owned.len() < target {
        // Each process starts at another place, so that processes that start together collide less.
        let start = leases.processes.iter().position(|p| p == me).unwrap_or(0) * target;
        let claim =
            (0..free.len()).map(|i| free[(start + i) % free.len()]).take(target - owned.len()).collect();
        return Decision { claim, ..Decision::default() };
    }
    let somebody_lacks = shares.iter().any(|share| share.count < share.target);
    let surplus = if free.is_empty() && somebody_lacks { owned.len() - target } else { 0 };
    Decision { release: owned.iter().rev().take(surplus).copied().collect(), ..Decision::default() }
}

/// For the process `me` that owns these partitions and should have the `wanted` ones, whichever other processes live. What
/// another process holds is left to it until its lease expires.
fn given_share(me: &str, wanted: &[i32], owned: &[i32], leases: &Leases) -> Decision {
    let free = |partition: &&i32| {
        let owner = leases.owners.get(partition).map(Option::as_deref);
        owner.is_some_and(|o| o.is_none_or(|o| o == me)) && !owned.contains(partition)
    };
    Decision { claim: wanted.iter().filter(free).copied().collect(), release: Vec::new() }
}

/// What a process has and what it should have.
struct Share<'a> {
    process: &'a str,
    count: usize,
    target: usize,
}

fn shares<'a>(me: &'a str, owned: &[i32], leases: &'a Leases) -> Vec<Share<'a>> {
    let mut counts: BTreeMap<&str, usize> = leases.processes.iter().map(|p| (p.as_str(), 0)).collect();
    for owner in leases.owners.values().flatten() {
        if let Some(count) = counts.get_mut(owner.as_str()) {
            *count += 1;
        }
    }
    // A process knows its own count better than the table.
    counts.insert(me, owned.len());
    // Processes that hold most come first and keep the extra ones; equals by name.
    let mut order: Vec<_> = counts.into_iter().collect();
    order.sort_by_key(|(process, count)| (std::cmp::Reverse(*count), *process));
    // Partitions of a process that does not take part in the sharing are not shared.
    let shared =
        leases.owners.values().filter(|o| o.as_ref().is_none_or(|o| leases.processes.contains(o))).count();
    let (each, extra) = (shared / order.len(), shared % order.len());
    let share = |(rank, (process, count))| Share { process, count, target: each + usize::from(rank < extra) };
    order.into_iter().enumerate().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `leases("ab", "aa-b")`: processes a and b; partitions 0 and 1 of a, 2 free, 3 of b.
    fn leases(processes: &str, owners: &str) -> Leases {
        Leases {
            processes: processes.chars().map(String::from).collect(),
            owners: (0..).zip(owners.chars().map(|c| (c != '-').then(|| c.to_string()))).collect(),
            ..Leases::default()
        }
    }

    fn decide(me: &str, leases: &Leases) -> Decision {
        let owned: Vec<i32> =
            leases.owners.iter().filter(|(_, o)| o.as_deref() == Some(me)).map(|(p, _)| *p).collect();
        fair_share(me, &owned, leases)
    }

    #[test]
    fn several_are_those_that_live_and_those_that_own() {
        let several = [("a", "aa-"), ("", "aaa"), ("", "---"), ("ab", "aaa"), ("a", "-b-"), ("", "ab-")]
            .map(|(processes, owners)| leases(processes, owners).are_of_several());
        assert_eq!(several, [false, false, false, true, true, true]);
    }

    #[test]
    fn takes_what_is_free_up_to_its_share() {
        assert_eq!(decide("a", &leases("a", "----")).claim, [0, 1, 2, 3]);
        assert_eq!(decide("a", &leases("ab", "----")).claim, [0, 1]);
        assert_eq!(decide("b", &leases("ab", "----")).claim, [2, 3]);
        assert_eq!(decide("b", &leases("ab", "aa--")).claim, [2, 3]);
        assert_eq!(decide("a", &leases("abc", "a-bbcc")).claim, [1]);
    }

    #[test]
    fn gives_up_surplus_only_while_somebody_lacks() {
        assert_eq!(decide("a", &leases("ab", "aaaa")).release, [3, 2]);
        assert_eq!(
            decide("a", &leases("ab", "aaa-")).release,
            Vec::<i32>::new(),
            "b can take the free one first"
        );
        assert_eq!(
            decide("a", &leases("ab", "aab")).release,
            Vec::<i32>::new(),
            "nobody is below the lower share"
        );
        assert_eq!(decide("a", &leases("abc", "aaabbc")).release, [2]);
    }

    #[test]
    fn what_a_process_holds_that_does_not_share_is_left_to_it() {
        assert_eq!(decide("a", &leases("a", "x-----")).claim, [1, 2, 3, 4, 5]);
        assert_eq!(decide("a", &leases("ab", "xaaaa-")).claim, Vec::<i32>::new());
        assert_eq!(decide("b", &leases("ab", "xaaaa-")).claim, [5]);
    }

    #[test]
    fn what_is_given_by_hand_is_taken_when_it_is_free() {
        let leases = leases("b", "b-a--");
        assert_eq!(given_share("a", &[0, 1, 2, 7], &[], &leases).claim, [1, 2]);
        assert_eq!(given_share("a", &[0, 1, 2, 7], &[2], &leases).claim, [1]);
    }

    #[test]
    fn its_own_lease_without_the_partition_is_taken_again() {
        assert_eq!(fair_share("a", &[], &leases("a", "aa")).claim, [0, 1]);
    }

    fn held(running: &[i32], coming_up: &[i32]) -> Holdings {
        let with_epoch = |partitions: &[i32]| partitions.iter().map(|p| (*p, 7)).collect();
        Holdings { running: with_epoch(running), coming_up: with_epoch(coming_up) }
    }

    fn look(processes: &str, owners: &str) -> Leases {
        let leases = leases(processes, owners);
        Leases { epochs: leases.owners.keys().map(|p| (*p, 7)).collect(), ..leases }
    }

    #[test]
    fn shares_are_of_partitions_that_exist() {
        // Six partitions, three each; then the topic has two. An owner of what is gone releases it, and counts it
        // nowhere.
        let existing = BTreeSet::from([0, 1]);
        let (a, b) = (held(&[0, 1, 2], &[]), held(&[3, 4], &[5]));
        let ruling = rule("a", Wish::Share, &a, &existing, &mut look("ab", "aaabbb"));
        assert_eq!((ruling.hand_over, ruling.give_back), (vec![(2, 7), (1, 7)], vec![]));
        let ruling = rule("b", Wish::Share, &b, &existing, &mut look("ab", "aa-bbb"));
        assert_eq!((ruling.hand_over, ruling.give_back), (vec![(3, 7), (4, 7)], vec![(5, 7)]));
        let ruling = rule("b", Wish::Share, &b, &existing, &mut look("ab", "a--bbb"));
        assert_eq!(ruling.claim, [1], "what is gone is no share");
        let given = rule("b", Wish::Given(&[4]), &b, &existing, &mut look("b", "a--bbb"));
        assert_eq!((given.claim, given.hand_over.len()), (vec![], 2));
    }

    #[test]
    fn what_does_not_come_up_is_given_back_without_a_flush() {
        let existing = BTreeSet::from([0, 1, 2, 3]);
        let ruling = rule("a", Wish::Share, &held(&[0, 1], &[3, 2]), &existing, &mut look("ab", "aaaa"));
        assert_eq!((ruling.hand_over, ruling.give_back), (vec![], vec![(3, 7), (2, 7)]));
    }

    #[test]
    fn what_was_taken_away_is_lost_and_does_not_count() {
        let existing = BTreeSet::from([0, 1, 2, 3]);
        let mut leases = look("ab", "ab--");
        leases.epochs = BTreeMap::from([(0, 7), (1, 8), (2, 6)]);
        let ruling = rule("a", Wish::Share, &held(&[0, 1, 2], &[3]), &existing, &mut leases);
        let lost: Vec<(i32, Option<i64>)> = ruling.lost.iter().map(|l| (l.partition, l.epoch_now)).collect();
        assert_eq!(lost, [(1, Some(8)), (2, Some(6)), (3, None)]);
        assert_eq!((ruling.claim.len(), ruling.waits, ruling.rows_missing), (1, false, false));
        let ruling = rule("a", Wish::Share, &Holdings::default(), &existing, &mut look("ab", "bbb"));
        assert_eq!((ruling.waits, ruling.rows_missing), (true, true));
    }

    #[test]
    fn settles_from_any_start_to_sizes_that_differ_by_one() {
        for (processes, partitions) in [(1, 6), (2, 6), (3, 6), (4, 6), (5, 3), (3, 10), (7, 50)] {
            let names: Vec<String> = (0..processes).map(|i| format!("p{i}")).collect();
            let mut owners: BTreeMap<i32, Option<String>> =
                (0..partitions).map(|p| (p, (p % 3 != 0).then(|| names[0].clone()))).collect();
            let mut quiet = 0;
            for round in 0..200 {
                let me = &names[round % names.len()];
                let view = Leases { processes: names.clone(), owners: owners.clone(), ..Leases::default() };
                let decision = decide(me, &view);
                quiet = if decision == Decision::default() { quiet + 1 } else { 0 };
                decision.claim.iter().for_each(|p| drop(owners.insert(*p, Some(me.clone()))));
                decision.release.iter().for_each(|p| drop(owners.insert(*p, None)));
            }
            assert!(quiet >= names.len(), "still moving with {processes} processes");
            let counts: Vec<usize> =
                names.iter().map(|n| owners.values().filter(|o| o.as_ref() == Some(n)).count()).collect();
            assert_eq!(counts.iter().sum::<usize>(), partitions as usize);
            assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
        }
    }
}
