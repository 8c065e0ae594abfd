//! The parser: one record's value → a reading.
//!
//! It tries the shapes that it knows; what they cannot read is copied (simd-json works in place) and parsed whole, into
//! buffers and a tape that live as long as the parser. What a huge value made them grow to is given back before the
//! call returns; while it is parsed it may take 36 bytes for each of its own.

use std::sync::Arc;

use simd_json::{Buffers, Node, StaticNode, Tape};

use super::format::{Envelope, Format};
use super::path::{ABSENT, Found, Slot};
use super::plan::{Plan, event_time, sent_number, time_of};
use super::shape::{Reader, Shapes};
use super::zone::Cursor;
use super::{Metric, Reading, Reason};

/// After a longer value the buffers are dropped and begin small again.
const KEPT_VALUE_BYTES: usize = 16 * 1024;
/// After a value with more brackets, commas, colons, strings and scalars than this, too.
const KEPT_STRUCTURALS: usize = 4 * 1024;
/// A zero and a schema's number in four bytes: how schema registries mark a value. No JSON begins so.
const REGISTRY_PREFIX: usize = 5;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads values one after the other, with buffers that it keeps. One for each task; it is not for sharing.
pub struct Parser {
    format: Arc<Format>,
    shapes: Shapes,
    cursor: Cursor,
    buffers: Buffers,
    /// The value that simd-json works on.
    scratch: Vec<u8>,
    /// Empty between calls: only its allocation is kept.
    tape: Tape<'static>,
    found: Found,
    /// The station that was found last, where it does not stand in the value as it is.
    station: String,
}

impl Default for Parser {
    fn default() -> Self {
        Self::new(Format::shared())
    }
}

/// Where the station's name is.
enum Station {
    None,
    /// From and to, in the value.
    Value(usize, usize),
    /// In [`Parser::station`].
    Kept,
}

impl Parser {
    /// A parser with small buffers, which grow to what the readings need.
    pub fn new(format: Arc<Format>) -> Self {
        Self {
            format,
            shapes: Shapes::default(),
            cursor: Cursor::default(),
            buffers: Buffers::default(),
            scratch: Vec::new(),
            tape: Tape(Vec::new()),
            found: Found::new(),
            station: String::new(),
        }
    }

    /// How this parser reads.
    pub fn format(&self) -> &Arc<Format> {
        &self.format
    }

    /// Reads one record's value. `record_ms` is when the Kafka record was made, ms since 1970, if that is known.
    ///
    /// # Errors
    /// The reason for refusing it: one of `Malformed`, `MissingTimestamp` and `NoMetric`.
    #[inline]
    pub fn parse(&mut self, value: &[u8], record_ms: Option<i64>) -> Result<Reading, Reason> {
        self.read(value, record_ms, false).0
    }

    /// As [`Parser::parse`], and the station, if the record says one: text, or a whole number as text.
    pub fn parse_with_station<'p>(
        &'p mut self,
        value: &'p [u8],
        record_ms: Option<i64>,
    ) -> (Result<Reading, Reason>, Option<&'p str>) {
        let (reading, station) = self.read(value, record_ms, true);
        let station = match station {
            Station::None => None,
            Station::Value(from, to) => {
                body(value).get(from..to).and_then(|name| std::str::from_utf8(name).ok())
            }
            Station::Kept => Some(self.station.as_str()),
        };
        (reading, station)
    }

    #[inline]
    fn read(
        &mut self,
        value: &[u8],
        record_ms: Option<i64>,
        wants_station: bool,
    ) -> (Result<Reading, Reason>, Station) {
        let body = body(value);
        let mut reader = Reader { format: &self.format, cursor: &mut self.cursor, record_ms, wants_station };
        if let Some((reading, station)) = self.shapes.read(body, &mut reader) {
            return (Ok(reading), station.map_or(Station::None, |(from, to)| Station::Value(from, to)));
        }
        let result = self.read_whole(body, record_ms, wants_station);
        if body.len() > KEPT_VALUE_BYTES || self.buffers.structural_indexes().len() > KEPT_STRUCTURALS {
            self.buffers = Buffers::default();
            self.tape = Tape(Vec::new());
            self.scratch = Vec::new();
        }
        result
    }

    /// As [`Parser::parse`], without the shapes.
    #[cfg(test)]
    pub(super) fn parse_whole(&mut self, value: &[u8], record_ms: Option<i64>) -> Result<Reading, Reason> {
        self.read_whole(body(value), record_ms, false).0
    }

    /// Reads a value by simd-json: what this says is what the value means.
    fn read_whole(
        &mut self,
        body: &[u8],
        record_ms: Option<i64>,
        wants_station: bool,
    ) -> (Result<Reading, Reason>, Station) {
        self.scratch.clear();
        self.scratch.extend_from_slice(body);
        // The tape borrows the value while it is filled, and is handed on empty: so its allocation outlives
        // the borrow.
        let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let mut is_json = simd_json::fill_tape(&mut self.scratch, &mut self.buffers, &mut tape).is_ok();
        let is_repaired = !is_json && may_have_python_words(body);
        if is_repaired {
            let mut emptied = tape.reset();
            self.scratch.clear();
            self.scratch.extend_from_slice(body);
            blank_python_words(&mut self.scratch);
            is_json = simd_json::fill_tape(&mut self.scratch, &mut self.buffers, &mut emptied).is_ok();
            tape = emptied;
        }
        let nodes = if is_json { tape.0.as_slice() } else { &[] };
        let result = match nodes.first() {
            Some(Node::Object { .. }) => {
                let (plan, _) = plan(&self.format, nodes, &mut self.found);
                let mut reader =
                    Reader { format: &self.format, cursor: &mut self.cursor, record_ms, wants_station };
                let result = evaluate(&plan, nodes, &mut reader);
                if result.is_ok() && !is_repaired {
                    self.shapes.learn(body, &plan);
                }
                let name = plan.station.filter(|_| wants_station).and_then(|at| nodes.get(at as usize));
                (result, keep_station(name, &mut self.station))
            }
            _ => (Err(Reason::Malformed), Station::None),
        };
        self.tape = tape.reset();
        result
    }
}

/// The JSON of a value: without a byte order mark or a schema registry's prefix.
#[inline]
pub(super) fn body(value: &[u8]) -> &[u8] {
    match value {
        [0, ..] => value.get(REGISTRY_PREFIX..).unwrap_or_default(),
        [0xef, ..] => value.strip_prefix(BYTE_ORDER_MARK).unwrap_or(value),
        _ => value,
    }
}

/// Looks for the format's fields, within an envelope if the record is one, and plans for them.
///
/// The plan, and the node of the object that has the fields.
pub(super) fn plan(format: &Format, nodes: &[Node<'_>], found: &mut Found) -> (Plan, usize) {
    let find = |root: usize, found: &mut Found| {
        found.resize(format.tree.slots(), ABSENT);
        found.fill(ABSENT);
        format.tree.find(nodes, root, found);
    };
    let mut root = 0;
    find(root, found);
    // Connect's around Debezium's at most.
    for _ in 0..2 {
        let Some(inner) = enveloped(&format.envelope, nodes, found) else { break };
        root = inner;
        find(root, found);
    }
    (Plan::new(format, nodes, found), root)
}

/// Where the record stands within its envelope, if it has one.
fn enveloped(envelope: &Envelope, nodes: &[Node<'_>], found: &Found) -> Option<usize> {
    let at = |slot: Slot| found.get(usize::from(slot)).copied().filter(|at| *at != ABSENT);
    let object = |slot| {
        let at = at(slot)? as usize;
        matches!(nodes.get(at), Some(Node::Object { .. })).then_some(at)
    };
    let connect = at(envelope.schema).and_then(|_| object(envelope.payload));
    connect.or_else(|| at(envelope.operation).and_then(|_| object(envelope.after)))
}

/// Judges in the order of [`Reason`].
fn evaluate(plan: &Plan, nodes: &[Node<'_>], reader: &mut Reader<'_>) -> Result<Reading, Reason> {
    const NULL: &Node<'static> = &Node::Static(StaticNode::Null);
    let node = |at: u32| nodes.get(at as usize).unwrap_or(NULL);
    let said = match plan.time {
        Some(time) => match time_of(node(time.at)) {
            Ok(said) => Some(event_time(said, time.clock, reader.format, reader.cursor)?),
            Err(Reason::MissingTimestamp) => None,
            Err(reason) => return Err(reason),
        },
        None => None,
    };
    let event_time_ms = said.or_else(|| reader.record_time()).ok_or(Reason::MissingTimestamp)?;
    let mut reading = Reading { event_time_ms, metrics: [None; 3], left_out: [None; 3] };
    for metric in Metric::ALL {
        match plan.metrics[metric.index()] {
            Ok(of) => reader.take(&mut reading, metric, of.conversion, sent_number(node(of.at))),
            Err(cause) => reading.left_out[metric.index()] = Some(cause),
        }
    }
    if reading.metrics == [None; 3] { Err(Reason::NoMetric) } else { Ok(reading) }
}

/// Keeps the station's name: the tape that it stands in is about to go.
fn keep_station(name: Option<&Node<'_>>, station: &mut String) -> Station {
    use std::fmt::Write as _;
    station.clear();
    match name {
        Some(Node::String(text)) => station.push_str(text),
        // Writing to a String cannot fail.
        Some(Node::Static(StaticNode::U64(number))) => drop(write!(station, "{number}")),
        Some(Node::Static(StaticNode::I64(number))) => drop(write!(station, "{number}")),
        _ => return Station::None,
    }
    Station::Kept
}

/// Whether a value that is no JSON may be one but for Python's `NaN` and `Infinity`.
fn may_have_python_words(body: &[u8]) -> bool {
    body.first() == Some(&b'{') && body.iter().any(|byte| matches!(byte, b'N' | b'I'))
}

/// Writes an empty text, which is a missing value, over each `NaN`, `Infinity` and `-Infinity` outside of texts.
pub(super) fn blank_python_words(value: &mut [u8]) {
    let mut at = 0;
    while let Some(byte) = value.get(at) {
        let rest = value.get(at..).unwrap_or_default();
        let length = match byte {
            b'"' => {
                let mut escaped = false;
                let is_end = |byte: &u8| {
                    let ends = *byte == b'"' && !escaped;
                    escaped = *byte == b'\\' && !escaped;
                    ends
                };
                at += 2 + rest.iter().skip(1).position(is_end).unwrap_or(rest.len());
                continue;
            }
            b'N' if rest.starts_with(b"NaN") => 3,
            b'I' if rest.starts_with(b"Infinity") => 8,
            b'-' if rest.starts_with(b"-Infinity") => 9,
            _ => {
                at += 1;
                continue;
            }
        };
        if let Some(word) = value.get_mut(at..at + length) {
            word.fill(b' ');
            word[..2].fill(b'"');
        }
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Reason::Malformed;

    #[test]
    fn memory_that_a_hostile_value_took_is_given_back() {
        let mut parser = Parser::default();
        let good = r#"{"timestamp":1,"temperature":1}"#;
        let mebibyte = 1 << 20;
        let hostile = [
            vec![b'['; mebibyte],
            vec![b'"'; mebibyte + 1],
            vec![b' '; mebibyte],
            [b"[".to_vec(), b"1,".repeat(mebibyte / 2), b"1]".to_vec()].concat(),
            vec![b'['; KEPT_VALUE_BYTES],
            vec![b'{'; KEPT_STRUCTURALS],
        ];
        for value in hostile {
            assert_eq!(parser.parse(&value, None), Err(Malformed));
            assert!(parser.tape.0.is_empty());
            assert!(parser.tape.0.capacity() <= 2 * KEPT_STRUCTURALS, "{}", parser.tape.0.capacity());
            assert!(parser.buffers.structural_indexes().len() <= KEPT_STRUCTURALS);
            assert!(parser.scratch.capacity() <= KEPT_VALUE_BYTES);
            assert!(parser.parse(good.as_bytes(), None).is_ok());
        }
    }
}
