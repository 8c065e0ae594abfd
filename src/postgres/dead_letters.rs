//! `weather_dead_letter`: what was rejected, as columns.

use tokio_postgres::types::ToSql;

use crate::engine::dead_letter::DeadLetter;
use crate::engine::flush_plan::PartitionFlush;

/// Stores dead letters; those that are there already, as after a replay, stay.
pub(super) const STORE: &str = "\
INSERT INTO weather_dead_letter (topic, partition, incarnation, \"offset\", reason, payload, payload_bytes)
SELECT $1, l.* FROM unnest($2::int[], $3::bigint[], $4::bigint[], $5::text[], $6::bytea[], $7::bigint[]) AS l
ON CONFLICT DO NOTHING";

/// `weather_dead_letter`'s columns, an array each.
pub(super) struct DeadLetterColumns<'a> {
    partition: Vec<i32>,
    incarnation: Vec<i64>,
    pub(super) offset: Vec<i64>,
    reason: Vec<&'static str>,
    payload: Vec<Option<&'a [u8]>>,
    payload_bytes: Vec<i64>,
}

impl<'a> DeadLetterColumns<'a> {
    pub(super) fn of(partitions: &'a [PartitionFlush]) -> Self {
        let rows: Vec<(i32, &DeadLetter)> =
            partitions.iter().flat_map(|p| p.dead_letters.iter().map(|l| (p.partition, l))).collect();
        Self {
            partition: rows.iter().map(|(p, _)| *p).collect(),
            incarnation: rows.iter().map(|(_, l)| l.incarnation).collect(),
            offset: rows.iter().map(|(_, l)| l.offset).collect(),
            reason: rows.iter().map(|(_, l)| l.reason.as_str()).collect(),
            payload: rows.iter().map(|(_, l)| l.payload.as_deref()).collect(),
            payload_bytes: rows.iter().map(|(_, l)| l.payload_bytes).collect(),
        }
    }

    pub(super) fn parameters<'b>(&'b self, topic: &'b String) -> Vec<&'b (dyn ToSql + Sync)> {
        vec![
            topic,
            &self.partition,
            &self.incarnation,
            &self.offset,
            &self.reason,
            &self.payload,
            &self.payload_bytes,
        ]
    }
}
