//! How to read a record: which of its fields is the time, which are the metrics, and in which units they are.
//!
//! A plan depends on a record's names, on where it has null, objects and arrays, and on the fields that state a unit or an
//! offset; never on other values. So the plan of one record is valid for every record of the same
//! [shape](super::shape).

use simd_json::{Node, StaticNode};

use super::format::{Format, MetricNames, NameZone};
use super::path::{ABSENT, FieldNodes, Slot};
use super::timestamp::{self, Time};
use super::units::{Conversion, Unit};
use super::zone::Cursor;
use super::{Cause, Metric, Reason, number};

/// Which nodes of a parsed record count, and as what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) time: Option<TimePlan>,
    pub(super) metrics: [Result<MetricPlan, Cause>; 3],
    pub(super) station: Option<u32>,
    /// Fields whose values the plan depends on: stated units and offsets. [`ABSENT`] where there are fewer.
    pub(super) pinned: [u32; 4],
}

/// The time's node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimePlan {
    pub(super) at: u32,
    pub(super) clock: LocalOffset,
}

/// What a local time counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LocalOffset {
    /// The format's zone.
    Zone,
    /// Ahead of UTC by this many ms.
    Ahead(i64),
}

/// A metric's node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MetricPlan {
    pub(super) at: u32,
    pub(super) conversion: Conversion,
}

impl Plan {
    /// Plans for a parsed record, whose fields have been found.
    pub(super) fn new(format: &Format, tape: &[Node<'_>], found: &FieldNodes) -> Self {
        let record = PlannedRecord { tape, found };
        let mut pinned = [ABSENT; 4];
        let metrics = Metric::ALL
            .map(|metric| record.metric(&format.metrics[metric.index()], &mut pinned[metric.index()]));
        let time = record.time(format, &mut pinned[3]);
        Self { time, metrics, station: record.station(&format.stations), pinned }
    }
}

/// A parsed record whose fields have been found.
struct PlannedRecord<'r, 'v> {
    tape: &'r [Node<'v>],
    found: &'r FieldNodes,
}

impl<'r, 'v> PlannedRecord<'r, 'v> {
    fn get(&self, slot: Slot) -> Option<(u32, &'r Node<'v>)> {
        let at = *self.found.get(usize::from(slot)).filter(|at| **at != ABSENT)?;
        Some((at, self.tape.get(at as usize)?))
    }

    fn metric(&self, names: &MetricNames, pinned: &mut u32) -> Result<MetricPlan, Cause> {
        let mut cause = Cause::Absent;
        for name in &names.names {
            match self.get(name.slot) {
                None => {}
                Some((_, Node::Static(StaticNode::Null))) => cause = cause.max(Cause::Null),
                Some((_, Node::Object { .. } | Node::Array { .. })) => cause = cause.max(Cause::NotANumber),
                Some((at, _)) => {
                    let conversion = match name.stated.and_then(|slot| self.get(slot)) {
                        Some((unit_at, Node::String(unit))) => {
                            *pinned = unit_at;
                            let unit = Unit::from_text(unit);
                            // In an unknown unit, the number cannot be used.
                            unit.and_then(|unit| names.limits.conversion(unit)).ok_or(Cause::NotANumber)?
                        }
                        _ => match name.conversion {
                            Some(conversion) => conversion,
                            None => continue,
                        },
                    };
                    return Ok(MetricPlan { at, conversion });
                }
            }
        }
        Err(cause)
    }

    fn time(&self, format: &Format, pinned: &mut u32) -> Option<TimePlan> {
        let is_scalar = |node: &Node<'_>| {
            matches!(node, Node::String(_) | Node::Static(_)) && *node != Node::Static(StaticNode::Null)
        };
        let mut times = format.times.iter().filter_map(|name| Some((name, self.get(name.slot)?)));
        let (name, (at, _)) = times.find(|(_, (_, node))| is_scalar(node))?;
        let clock = match name.zone {
            NameZone::Given => LocalOffset::Zone,
            NameZone::Utc => LocalOffset::Ahead(0),
            NameZone::Offset(slot) => match self.get(slot).map(|(at, node)| (at, float_of(node))) {
                Some((offset_at, Some(seconds))) => {
                    *pinned = offset_at;
                    LocalOffset::Ahead((seconds * 1_000.0) as i64)
                }
                _ => LocalOffset::Zone,
            },
        };
        Some(TimePlan { at, clock })
    }

    fn station(&self, slots: &[Slot]) -> Option<u32> {
        let is_name = |node: &Node<'_>| {
            matches!(
                node,
                Node::String(_) | Node::Static(StaticNode::U64(_) | StaticNode::I64(_) | StaticNode::F64(_))
            )
        };
        slots.iter().filter_map(|slot| self.get(*slot)).find(|(_, node)| is_name(node)).map(|(at, _)| at)
    }
}

fn float_of(node: &Node<'_>) -> Option<f64> {
    match *node {
        Node::Static(StaticNode::F64(value)) => Some(value),
        // Beyond 2^53 digits are lost; that is far outside of every range.
        Node::Static(StaticNode::U64(value)) => Some(value as f64),
        Node::Static(StaticNode::I64(value)) => Some(value as f64),
        _ => None,
    }
}

/// A metric's number as it was sent, in fixed point; `Ok(None)`: far too large.
pub(super) fn sent_number(node: &Node<'_>) -> Result<Option<i64>, Cause> {
    match node {
        Node::String(text) => sent_text(text),
        node => float_of(node).map(number::fixed_from_float).ok_or(Cause::NotANumber),
    }
}

/// A number in quotes. What people write for "no value" counts as none.
pub(super) fn sent_text(text: &str) -> Result<Option<i64>, Cause> {
    let text = text.trim_ascii();
    if let Some(decimal) =
        number::Decimal::read(text.as_bytes()).filter(|decimal| decimal.length == text.len())
    {
        return Ok(decimal.fixed(text.as_bytes()));
    }
    if let Some(value) = number::float_from_text(text) {
        return Ok(number::fixed_from_float(value));
    }
    let words = ["", "nan", "null", "none", "infinity", "-infinity", "inf", "-inf"];
    Err(if words.iter().any(|word| word.eq_ignore_ascii_case(text)) {
        Cause::Null
    } else {
        Cause::NotANumber
    })
}

/// The time in a node.
pub(super) fn time_of(node: &Node<'_>) -> Result<Time, Reason> {
    match *node {
        Node::Static(StaticNode::U64(epoch)) => Ok(Time::Instant(timestamp::from_unsigned(epoch))),
        Node::Static(StaticNode::I64(epoch)) => Ok(Time::Instant(timestamp::from_integer(epoch))),
        Node::Static(StaticNode::F64(epoch)) => Ok(Time::Instant(timestamp::from_float(epoch))),
        Node::String(text) => time_of_text(text),
        _ => Err(Reason::Malformed),
    }
}

/// The time in a text; blank text has none.
pub(super) fn time_of_text(text: &str) -> Result<Time, Reason> {
    match timestamp::read(text) {
        Some(time) => Ok(time),
        None if text.trim_ascii().is_empty() => Err(Reason::MissingTimestamp),
        None => Err(Reason::Malformed),
    }
}

/// ms since 1970 in UTC; refused before 1970 and after the year 9999.
#[inline]
pub(super) fn event_time(
    time: Time,
    clock: LocalOffset,
    format: &Format,
    cursor: &mut Cursor,
) -> Result<i64, Reason> {
    let ms = match (time, clock) {
        (Time::Instant(ms), _) => ms,
        (Time::Local(ms), LocalOffset::Ahead(ahead_ms)) => ms.saturating_sub(ahead_ms),
        (Time::Local(ms), LocalOffset::Zone) => format.zone().to_utc(ms, cursor),
    };
    if (0..=timestamp::MAX_MS).contains(&ms) { Ok(ms) } else { Err(Reason::Malformed) }
}
