//! Whether a log is the one that was read before, and whether the next offset is still in it.

use super::SharedFetcher;
use super::lanes::{LogCheck, Unchecked};
use crate::kafka::connection::{Connection, REQUEST_TIMEOUT};
use crate::kafka::error::KafkaError;
use crate::kafka::message::NO_TOPIC_ID;
use crate::kafka::message::offsets::{OffsetAt, OffsetsCall, PartitionOffset};

/// Checks the lanes of a broker that are new there, or were there when a connection failed.
pub(super) async fn check(
    shared: &SharedFetcher,
    broker: i32,
    connection: &Connection,
) -> Result<(), KafkaError> {
    let unchecked = shared.lanes().unchecked(broker);
    if unchecked.is_empty() {
        return Ok(());
    }
    // What was handed out comes first: a log that starts over does so behind it.
    let Ok(_settled) = shared.parsing.acquire().await else { return Ok(()) };
    let partitions: Vec<i32> = unchecked.iter().map(|lane| lane.partition).collect();
    let topic = shared.cluster.topic();
    let ask =
        async |at| connection.call(OffsetsCall { topic, partitions: &partitions, at }, REQUEST_TIMEOUT).await;
    let (earliest, end) = tokio::try_join!(ask(OffsetAt::Earliest), ask(OffsetAt::End))?;
    let mut lanes = shared.lanes();
    for lane in &unchecked {
        let offset = |answer| offset_of(answer, lane.partition, topic);
        match offset(&earliest).and_then(|earliest| Ok((earliest, offset(&end)?))) {
            Ok((earliest, end)) => lanes.checked(lane, judge(lane, earliest, end)),
            Err(error) => lanes.strand(lane.partition, &error),
        }
    }
    Ok(())
}

fn offset_of(answer: &[PartitionOffset], partition: i32, topic: &str) -> Result<i64, KafkaError> {
    let what = format_args!("partition {partition} of topic {topic}");
    // UNKNOWN_TOPIC_OR_PARTITION where the broker says nothing about it.
    let found = answer.iter().find(|found| found.partition == partition);
    KafkaError::check(found.map_or(3, |found| found.error), None, what)?;
    Ok(found.map_or(-1, |found| found.offset))
}

/// The rule. Without topic ids only an end below what was read shows another log: one that was cut still begins where it
/// began, a recreated one begins at 0.
fn judge(lane: &Unchecked, earliest: i64, end: i64) -> LogCheck {
    let known = lane.known_id != NO_TOPIC_ID && lane.topic_id != NO_TOPIC_ID;
    if known && lane.known_id != lane.topic_id {
        return LogCheck::Another { at: earliest, end, why: "the topic was recreated" };
    }
    if lane.next_offset > end {
        return match known || earliest > 0 {
            true => LogCheck::Another { at: end, end, why: "the log was truncated below what was read" },
            false => LogCheck::Another { at: earliest, end, why: "the topic was recreated" },
        };
    }
    if lane.next_offset < earliest { LogCheck::Lost(earliest) } else { LogCheck::TheSame }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_known_by_its_id_and_its_ends() {
        let (none, a, b) = (NO_TOPIC_ID, [1; 16], [2; 16]);
        let another = |at, end, why| LogCheck::Another { at, end, why };
        let (recreated, cut) = ("the topic was recreated", "the log was truncated below what was read");
        let cases = [
            // Known id, id now, next offset, earliest, end.
            ((a, a, 50, 0, 100), LogCheck::TheSame),
            ((a, a, 100, 0, 100), LogCheck::TheSame),
            ((none, a, 50, 0, 100), LogCheck::TheSame),
            ((a, none, 50, 0, 100), LogCheck::TheSame),
            ((a, a, 50, 60, 100), LogCheck::Lost(60)),
            ((a, b, 50, 0, 100), another(0, 100, recreated)),
            ((a, b, 50, 60, 100), another(60, 100, recreated)),
            ((a, a, 50, 0, 40), another(40, 40, cut)),
            ((none, none, 50, 0, 40), another(0, 40, recreated)),
            ((none, none, 50, 10, 40), another(40, 40, cut)),
        ];
        for ((known_id, topic_id, next_offset, earliest, end), found) in cases {
            let lane = Unchecked::new(0, next_offset, known_id, topic_id);
            assert_eq!(judge(&lane, earliest, end), found, "{lane:?} {earliest} {end}");
        }
    }
}
