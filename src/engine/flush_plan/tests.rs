//! What is sent in which portion, what a refusal leads to, and what counts as written.

use super::*;
use crate::engine::stations::StationTotals;
use crate::reading::Reason;

#[test]
fn under_an_old_snapshot_flushes_stay_few() {
    let interval = Duration::from_millis(250);
    assert_eq!(pause(interval, Duration::ZERO), interval);
    assert_eq!(pause(interval, Duration::from_secs(30)), interval);
    let (mut age, mut flushes) = (Duration::ZERO, 0);
    while age < Duration::from_secs(60 * 60) {
        age += pause(interval, age);
        flushes += 1;
    }
    assert!((500..1_000).contains(&flushes), "{flushes} in an hour, of 14,400");
    assert_eq!(pause(interval, Duration::from_secs(24 * 60 * 60)), LONGEST_PAUSE);
}

fn offer(partition: i32, next_offset: i64, dead_letters: usize) -> Offer {
    let mut state = PartitionState::starting_at(0);
    state.progress.next_offset = next_offset;
    let totals = Totals { readings: next_offset, ..Totals::default() };
    state.windows = vec![Window { start_ms: 0, totals }, Window { start_ms: 10, totals: Totals::default() }];
    let dead_letter = |offset| DeadLetter {
        incarnation: 0,
        offset,
        reason: Reason::Malformed,
        payload: None,
        payload_bytes: 0,
    };
    let dead_letters = (0..dead_letters as i64).map(dead_letter).collect();
    Offer { partition, epoch: 5, state, dead_letters, stations: Vec::new(), high_watermark: 0 }
}

fn sent(plan: &FlushPlan) -> Vec<i32> {
    plan.portion().iter().map(|part| part.partition).collect()
}

#[test]
fn only_what_changed_is_written() {
    let mut plan = FlushPlan::default();
    plan.begin(&[(0, 5), (1, 5)], 1);
    assert!(plan.add(offer(0, 3, 0)) && plan.add(offer(1, 3, 0)));
    assert_eq!(sent(&plan), [0, 1]);
    assert_eq!(plan.confirm().len(), 2);
    assert!(plan.portion().is_empty());
    plan.begin(&[(0, 5), (1, 5)], 1);
    assert!(!plan.add(offer(0, 3, 0)) && plan.add(offer(1, 4, 0)));
    let part = &plan.portion()[0];
    assert_eq!((part.known.offset, part.windows.len(), part.windows[0].start_ms), (3, 1, 0));
}

#[test]
fn a_backlog_goes_in_portions() {
    let mut plan = FlushPlan::default();
    let held: Vec<(i32, i64)> = (0..5).map(|partition| (partition, 5)).collect();
    plan.begin(&held, 1);
    let half = MAX_PORTION_BYTES / size_of::<DeadLetter>() / 2;
    for (partition, dead_letters) in [(0, 0), (1, half), (2, 3 * half), (3, half), (4, half / 2)] {
        plan.add(offer(partition, 3, dead_letters));
    }
    let mut portions = Vec::new();
    while !plan.portion().is_empty() {
        portions.push(sent(&plan));
        plan.confirm();
    }
    assert_eq!(portions, [vec![0, 1], vec![2], vec![3, 4]]);
}

#[test]
fn only_one_portion_waits_to_be_sent() {
    let mut plan = FlushPlan::default();
    let held: Vec<(i32, i64)> = (0..40).map(|partition| (partition, 5)).collect();
    let third = MAX_PORTION_BYTES / 3;
    let large = |partition| {
        let name = "x".repeat(third);
        let row = StationRow { start_ms: 0, station: name.into(), totals: StationTotals::default() };
        Offer { stations: vec![row], ..offer(partition, 3, 0) }
    };
    plan.begin(&held, 1);
    let (mut sent, mut most) = (0, 0);
    for partition in 0..40 {
        plan.add(large(partition));
        let waiting: usize = plan.portions.iter().flatten().map(PartitionFlush::cost).sum();
        most = most.max(waiting);
        while plan.is_full() {
            sent += plan.confirm().len();
        }
    }
    assert!(most <= MAX_PORTION_BYTES + 2 * third, "{most} bytes wait");
    while !plan.portion().is_empty() {
        sent += plan.confirm().len();
    }
    assert_eq!((sent, plan.is_full()), (40, false));
}

#[test]
fn nothing_counts_as_written_before_it_is_confirmed() {
    let mut plan = FlushPlan::default();
    plan.begin(&[(0, 5)], 1);
    plan.add(offer(0, 3, 0));
    assert_eq!(plan.refused(Refusal::NotNow), Remedy::TryAgain);
    plan.begin(&[(0, 5)], 1);
    assert!(plan.add(offer(0, 3, 0)));
}

#[test]
fn a_new_connection_or_a_new_epoch_puts_what_was_written_in_doubt() {
    let mut plan = FlushPlan::default();
    plan.begin(&[(0, 5)], 1);
    plan.add(offer(0, 3, 0));
    plan.confirm();
    plan.begin(&[(0, 5)], 2);
    assert!(plan.add(offer(0, 3, 0)));
    assert_eq!((plan.portion()[0].windows.len(), plan.portion()[0].known.offset), (2, 3));
    plan.confirm();
    plan.begin(&[(0, 6)], 2);
    assert!(plan.add(Offer { epoch: 6, ..offer(0, 3, 0) }));
    assert_eq!(plan.portion()[0].known.offset, 0, "as its own state says");
}

#[test]
fn a_bad_value_is_found_partition_by_partition_and_costs_only_dead_letters() {
    let mut plan = FlushPlan::default();
    plan.begin(&[(0, 5), (1, 5)], 1);
    plan.add(offer(0, 3, 0));
    plan.add(offer(1, 3, 3));
    assert_eq!(plan.refused(Refusal::BadValue), Remedy::SendApart);
    assert_eq!(sent(&plan), [0]);
    plan.confirm();
    assert_eq!(plan.refused(Refusal::BadValue), Remedy::SendWithout { partition: 1, left_out: 2 });
    assert_eq!(plan.refused(Refusal::BadValue), Remedy::SendWithout { partition: 1, left_out: 1 });
    assert_eq!(plan.portion()[0].windows.len(), 2, "windows are never left out");
    assert_eq!(plan.refused(Refusal::BadValue), Remedy::TryAgain);
    assert_eq!(plan.confirm().len(), 1);
}

#[test]
fn who_is_fenced_is_told_from_the_rest() {
    let mut plan = FlushPlan::default();
    plan.begin(&[(0, 5), (1, 5), (2, 5), (3, 5), (4, 5)], 1);
    (0..5).for_each(|partition| assert!(plan.add(offer(partition, 3, 0))));
    assert_eq!(plan.refused(Refusal::Fenced), Remedy::AskStanding);
    let at = |offset| Some(Position { incarnation: 0, offset });
    let row = |partition, epoch, position| Standing { partition, epoch, position };
    let rows = [row(0, 5, None), row(1, 6, None), row(2, 5, at(4)), row(3, 5, at(3))];
    let lost: Vec<(i32, Option<i64>)> =
        plan.fenced(&rows).iter().map(|lost| (lost.partition, lost.epoch_now)).collect();
    assert_eq!(lost, [(1, Some(6)), (2, Some(5)), (4, None)]);
}
