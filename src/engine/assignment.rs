//! Which partitions a process should take and give up, from what the lease table shows. Pure.
//!
//! Every process decides for itself by the same rule on nearly the same view. A wrong decision is harmless: taking a
//! partition that is no longer free fails, and giving one up that nobody wants only costs a hand-over. What matters is
//! that the decisions settle: with P partitions and N live processes everybody has ⌊P/N⌋ or ⌈P/N⌉, those who hold more
//! already keep the extra ones, and nobody gives up a partition while none is missing elsewhere.

use std::collections::BTreeMap;

/// What a look at the leases shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leases {
    /// Live processes that share the partitions, ascending.
    pub processes: Vec<String>,
    /// Every partition's owner whose lease has not run out, by partition.
    pub owners: BTreeMap<i32, Option<String>>,
    /// Every partition's epoch: whoever holds it under another has lost it, also if nobody has it now.
    pub epochs: BTreeMap<i32, i64>,
}

/// What to do now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Free partitions to take.
    pub claim: Vec<i32>,
    /// Partitions to hand over.
    pub release: Vec<i32>,
}

/// Decides for the process `me` that owns these partitions.
pub fn fair_share(me: &str, owned: &[i32], leases: &Leases) -> Decision {
    let shares = shares(me, owned, leases);
    let target = shares.iter().find(|share| share.process == me).map_or(0, |share| share.target);
    let free: Vec<i32> = leases
        .owners
        .iter()
        .filter(|(partition, owner)| owner.as_deref().is_none_or(|o| o == me) && !owned.contains(partition))
        .map(|(partition, _)| *partition)
        .collect();
    if owned.len() < target {
        // Starting at a place of one's own makes processes that start together collide less.
        let start = leases.processes.iter().position(|p| p == me).unwrap_or(0) * target;
        let claim =
            (0..free.len()).map(|i| free[(start + i) % free.len()]).take(target - owned.len()).collect();
        return Decision { claim, ..Decision::default() };
    }
    let somebody_lacks = shares.iter().any(|share| share.count < share.target);
    let surplus = if free.is_empty() && somebody_lacks { owned.len() - target } else { 0 };
    Decision { release: owned.iter().rev().take(surplus).copied().collect(), ..Decision::default() }
}

/// Decides for the process `me` that owns these partitions and is to have the `wanted` ones, whoever else lives. What
/// another process holds is left to it: its lease decides, as for everybody.
pub fn given_share(me: &str, wanted: &[i32], owned: &[i32], leases: &Leases) -> Decision {
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
    // One's own count is known better than the table's.
    counts.insert(me, owned.len());
    // Those who hold most come first and keep the extra ones; equals by name.
    let mut order: Vec<_> = counts.into_iter().collect();
    order.sort_by_key(|(process, count)| (std::cmp::Reverse(*count), *process));
    // What a process holds that takes no part in the sharing is not there to be shared.
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
