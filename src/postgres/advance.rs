//! The fence: `weather_partition` is moved on to partitions' states, or nothing of the transaction is.
//!
//! A row is moved where the epoch is ours and its position is neither ahead of ours nor behind what we know to be
//! confirmed, by the rule of [`Position`](crate::engine::state::Position). Fewer rows than partitions sent means that one of
//! them has another owner, or that the database was set back: the statement divides by zero, and everything behind it fails
//! with the transaction. [`PartitionFlush::refusal`] says of which partition, and why.

use std::time::SystemTime;

use tokio_postgres::types::ToSql;

use crate::engine::checkpoint::encode_log_memory;
use crate::engine::flush_plan::PartitionFlush;
use crate::engine::state::{Progress, REASONS};
use crate::postgres::optional_timestamp;

/// At one position a partition only ever falls idle: an older flush that arrives behind a newer one takes nothing back.
pub(super) const ADVANCE: &str = "\
WITH sent AS (
    SELECT * FROM unnest($3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
        $9::timestamp[], $10::timestamp[], $11::bool[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[],
        $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[], $22::bigint[],
        $23::bigint[], $24::text[], $25::bytea[], $26::bigint[], $27::bigint[])
    AS s(partition, epoch, incarnation, origin_offset, next_offset, high_watermark, max_event_time, watermark, idle,
        aggregated, duplicates, skipped, lost, sampled_out, malformed, missing_timestamp, no_metric, out_of_range,
        future, late, oversized, left_out, log_memory, known_incarnation, known_offset)
), advanced AS (
    UPDATE weather_partition p SET incarnation = s.incarnation, origin_offset = s.origin_offset,
        next_offset = s.next_offset, high_watermark = s.high_watermark, max_event_time = s.max_event_time,
        idle = s.idle OR p.idle AND (p.incarnation, p.next_offset) = (s.incarnation, s.next_offset),
        watermark = s.watermark, aggregated = s.aggregated, duplicates = s.duplicates,
        skipped = s.skipped, lost = s.lost, sampled_out = s.sampled_out, malformed = s.malformed,
        missing_timestamp = s.missing_timestamp, no_metric = s.no_metric, out_of_range = s.out_of_range,
        future = s.future, late = s.late, oversized = s.oversized, left_out = s.left_out::bigint[],
        log_memory = s.log_memory,
        lease_expires_at = clock_timestamp() + $2 * interval '1 millisecond', updated_at = clock_timestamp()
    FROM sent s
    WHERE p.topic = $1 AND p.partition = s.partition AND p.epoch = s.epoch
        AND CASE WHEN p.next_offset IS NULL THEN (s.known_incarnation, s.known_offset) = (0, s.origin_offset)
            ELSE (p.incarnation, p.next_offset) BETWEEN (s.known_incarnation, s.known_offset)
                AND (s.incarnation, s.next_offset) END
    RETURNING 1
)
SELECT 1 / (CASE WHEN (SELECT count(*) FROM advanced) = cardinality($3::int[]) THEN 1 ELSE 0 END)";

/// `weather_partition`'s columns, an array each.
pub(super) struct AdvanceColumns {
    partition: Vec<i32>,
    epoch: Vec<i64>,
    times: [Vec<Option<SystemTime>>; 2],
    idle: Vec<bool>,
    before: [Vec<i64>; 4],
    counts: [Vec<i64>; 5 + REASONS],
    /// An array each, as text: an array of arrays would lose where one ends.
    left_out: Vec<String>,
    log_memory: Vec<Vec<u8>>,
    known: [Vec<i64>; 2],
}

impl AdvanceColumns {
    pub(super) fn of(partitions: &[PartitionFlush]) -> Self {
        let number = |of: fn(&PartitionFlush) -> i64| partitions.iter().map(of).collect::<Vec<_>>();
        let counts: [fn(&PartitionFlush) -> i64; 5] = [
            |p| p.state.progress.aggregated,
            |p| p.state.progress.duplicates,
            |p| p.state.progress.skipped,
            |p| p.state.progress.lost,
            |p| p.state.progress.sampled_out,
        ];
        Self {
            partition: partitions.iter().map(|p| p.partition).collect(),
            epoch: number(|p| p.epoch),
            times: [
                partitions.iter().map(|p| optional_timestamp(p.state.progress.max_event_time_ms)).collect(),
                partitions.iter().map(|p| optional_timestamp(p.state.progress.watermark_ms)).collect(),
            ],
            idle: partitions.iter().map(|p| p.state.progress.idle != 0).collect(),
            before: [
                number(|p| p.state.progress.incarnation),
                number(|p| p.state.progress.origin_offset),
                number(|p| p.state.progress.next_offset),
                number(|p| p.high_watermark),
            ],
            counts: std::array::from_fn(|i| match counts.get(i) {
                Some(count) => number(*count),
                None => partitions.iter().map(|p| p.state.progress.rejected[i - counts.len()]).collect(),
            }),
            left_out: partitions.iter().map(|p| left_out(&p.state.progress)).collect(),
            log_memory: partitions.iter().map(|p| encode_log_memory(p.state.log)).collect(),
            known: [number(|p| p.known.incarnation), number(|p| p.known.offset)],
        }
    }

    pub(super) fn parameters<'a>(
        &'a self,
        topic: &'a String,
        lease_ms: &'a f64,
    ) -> Vec<&'a (dyn ToSql + Sync)> {
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![topic, lease_ms, &self.partition, &self.epoch];
        parameters.extend(self.before.iter().map(|column| column as &(dyn ToSql + Sync)));
        parameters.extend(self.times.iter().map(|column| column as &(dyn ToSql + Sync)));
        parameters.push(&self.idle);
        parameters.extend(self.counts.iter().map(|column| column as &(dyn ToSql + Sync)));
        parameters.push(&self.left_out);
        parameters.push(&self.log_memory);
        parameters.extend(self.known.iter().map(|column| column as &(dyn ToSql + Sync)));
        parameters
    }
}

/// What does not count of what is aggregated, as `{1,2,3}`: metrics by metric and cause, then readings of lists.
fn left_out(progress: &Progress) -> String {
    let numbers = progress.left_out.as_flattened().iter().chain([&progress.refused_in_lists]);
    let numbers: Vec<String> = numbers.map(ToString::to_string).collect();
    format!("{{{}}}", numbers.join(","))
}
