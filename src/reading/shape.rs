//! Records of one shape: the bytes between the values are the same as in a record that was parsed before.
//!
//! Most records of a topic differ only in numbers and text. A [`Shape`] keeps the bytes of such a record between
//! its values, and what each value is for. Another record of the shape is compared with these bytes, its values are
//! checked against JSON's grammar, and those that count are read in place: no tape, no walk, no copy. If the fields of
//! the record are in another order, each is compared separately ([`fields`]).
//!
//! Invariant: a shape never gives another result than simd-json and the plan. What it cannot read with certainty
//! (another literal, an exponent, more than 18 digits, an escape in a text that counts, a record that is no reading)
//! it leaves to them. A differential fuzz compares both.

use super::number::{Decimal, fixed_at};
use super::plan::{LocalOffset, MetricPlan, Plan, event_time, sent_text, time_of_text};
use super::record_reader::RecordReader;
use super::timestamp::{self, Time};
use super::units::Conversion;
use super::words::{self, Literal};
use super::{Cause, Metric, Reading};
use fields::ShapeFields;

mod fields;

/// Records that are longer or have more values are not remembered.
const MAX_BYTES: usize = 4 * 1024;
const MAX_STEPS: usize = 128;
/// How many shapes are remembered.
const MAX_SHAPES: usize = 4;
/// Shapes that matched less often than this were not worth learning.
const WORTH_HITS: u32 = 8;
/// Beyond this wait only the current shape is tried.
const RARE_WAIT: u32 = 16;
/// At most this many records pass before another shape is tried.
const MAX_WAIT: u32 = 1024;

/// The shapes that matched lately.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    known: Vec<Shape>,
    /// The last that matched; it is tried first.
    current: usize,
    /// Records to skip before the next is learnt, and how many were skipped the last time: if every record has its own
    /// shape, learning them only costs time.
    wait: u32,
    waited: u32,
}

impl Shapes {
    /// Reads a record of a known shape; whether it was one.
    #[inline]
    pub(super) fn read<'v>(
        &mut self,
        body: &'v [u8],
        reader: &mut RecordReader<'_, 'v>,
        into: &mut Reading,
    ) -> bool {
        let current = self.known.get_mut(self.current);
        current.is_some_and(|shape| shape.read(body, reader, into).is_some())
            || self.read_another(body, reader, into)
    }

    #[inline(never)]
    fn read_another<'v>(
        &mut self,
        body: &'v [u8],
        reader: &mut RecordReader<'_, 'v>,
        into: &mut Reading,
    ) -> bool {
        // If hardly two records have the same shape, trying all of them only costs time.
        let is_worth_it = self.waited <= RARE_WAIT;
        let (current, tried) = (self.current, if is_worth_it { self.known.len() } else { 0 });
        let others = || (0..tried).filter(|index| *index != current);
        for index in others() {
            if self.known[index].read(body, reader, into).is_some() {
                self.current = index;
                return true;
            }
        }
        let current = Some(current).filter(|current| *current < self.known.len());
        for index in current.into_iter().chain(others()) {
            if self.known[index].read_fields(body, reader, into).is_some() {
                self.current = index;
                return true;
            }
        }
        false
    }

    /// Remembers the shape of a record that was parsed in full.
    pub(super) fn learn(&mut self, body: &[u8], plan: &Plan) {
        if self.wait > 0 {
            self.wait -= 1;
            return;
        }

        let Some(shape) = Shape::new(body, plan) else { return };
        if self.known.len() < MAX_SHAPES {
            self.known.push(shape);
            return;
        }
        // The one that matched least is dropped; the counts of the others start again.
        let least = (0..self.known.len()).min_by_key(|index| self.known[*index].hits).unwrap_or(0);
        let was_worth_it = self.known[least].hits >= WORTH_HITS;
        self.waited = if was_worth_it { 0 } else { (self.waited * 2).clamp(1, MAX_WAIT) };
        self.wait = self.waited;
        self.known.iter_mut().for_each(|shape| shape.hits /= 2);
        self.known[least] = shape;
    }
}

#[derive(Debug)]
struct Shape {
    /// All literals, one after the other.
    literals: Vec<u8>,
    steps: Vec<ShapeStep>,
    /// What became of the metrics that have no step.
    absent: [Option<Cause>; 3],
    has_time: bool,
    hits: u32,
    /// The parts that may come in another order.
    fields: Option<ShapeFields>,
}

/// A literal, and the value behind it.
#[derive(Debug, Clone, Copy)]
struct ShapeStep {
    literal: Literal,
    value: ShapeValue,
    is_station: bool,
}

#[derive(Debug, Clone, Copy)]
enum ShapeValue {
    Number,
    Text,
    TimeNumber,
    TimeText(LocalOffset),
    MetricNumber(Metric, Conversion),
    MetricText(Metric, Conversion),
}

impl Shape {
    /// The shape of a record, valid JSON, for which `plan` was made. `None`: it is too large.
    fn new(body: &[u8], plan: &Plan) -> Option<Self> {
        if body.len() > MAX_BYTES {
            return None;
        }
        // A metric that is `true` or `false` has no step: these are literals.
        let absent = plan.metrics.map(|metric| Some(metric.err().unwrap_or(Cause::NotANumber)));
        let mut shape = Self {
            literals: Vec::new(),
            steps: Vec::new(),
            absent,
            has_time: plan.time.is_some(),
            hits: 0,
            fields: None,
        };
        let (mut at, mut literal_from) = (0, 0);
        // Tokens come in the order of the tape's nodes, one for one; colons, commas and closing brackets have none.
        let mut node = 0u32;
        while let Some(byte) = body.get(at) {
            let is_text = *byte == b'"';
            let (start, end) = match byte {
                b'"' => (at + 1, at + 1 + text_length(body.get(at + 1..)?)?),
                b'-' | b'0'..=b'9' => (at, at + number_length(body.get(at..)?)),
                b'{' | b'[' => (at + 1, at + 1),
                b't' | b'f' | b'n' => (at + 4, at + 4 + usize::from(*byte == b'f')),
                _ => {
                    at += 1;
                    continue;
                }
            };
            at = end + usize::from(is_text);
            let is_value = matches!(byte, b'-' | b'0'..=b'9') || (is_text && !is_key(body.get(at..)?));
            if is_value && !plan.pinned.contains(&node) {
                shape.push(body.get(literal_from..start)?, node, is_text, plan)?;
                literal_from = end;
            }
            node += 1;
        }
        shape.literals.extend_from_slice(body.get(literal_from..)?);
        shape.fields = ShapeFields::of(&shape.literals, &shape.steps);
        Some(shape)
    }

    fn push(&mut self, literal: &[u8], node: u32, is_text: bool, plan: &Plan) -> Option<()> {
        let metric = Metric::ALL.into_iter().find_map(|metric| match plan.metrics[metric.index()] {
            Ok(MetricPlan { at, conversion }) if at == node => Some((metric, conversion)),
            _ => None,
        });
        let value = match (plan.time.filter(|time| time.at == node), metric) {
            (Some(time), _) if is_text => ShapeValue::TimeText(time.clock),
            (Some(_), _) => ShapeValue::TimeNumber,
            (None, Some((metric, conversion))) => {
                self.absent[metric.index()] = None;
                if is_text {
                    ShapeValue::MetricText(metric, conversion)
                } else {
                    ShapeValue::MetricNumber(metric, conversion)
                }
            }
            (None, None) if is_text => ShapeValue::Text,
            (None, None) => ShapeValue::Number,
        };
        let from = self.literals.len();
        self.literals.extend_from_slice(literal);
        let literal = Literal::new(&self.literals, from, self.literals.len())?;
        self.steps.push(ShapeStep { literal, value, is_station: plan.station == Some(node) });
        (self.steps.len() <= MAX_STEPS).then_some(())
    }

    /// Reads a record of this shape; `into` is valid only if the record matches.
    #[inline]
    fn read<'v>(
        &mut self,
        body: &'v [u8],
        reader: &mut RecordReader<'_, 'v>,
        into: &mut Reading,
    ) -> Option<()> {
        let mut draft = self.draft(into);
        let mut at = 0;
        for step in &self.steps {
            at = step.literal.after(body, at, &self.literals)?;
            at = step.value(body, at, &mut draft, reader)?;
        }
        let tail_from = self.steps.last().map_or(0, |step| step.literal.to());
        if !words::is(body.get(at..)?, self.literals.get(tail_from..)?) {
            return None;
        }
        self.finish(draft, reader)
    }

    /// As [`Shape::read`], whatever the order of the fields is.
    fn read_fields<'v>(
        &mut self,
        body: &'v [u8],
        reader: &mut RecordReader<'_, 'v>,
        into: &mut Reading,
    ) -> Option<()> {
        let fields = self.fields.as_ref()?;
        let mut draft = self.draft(into);
        let mut at = fields.open(&self.literals, body)?;
        let mut unseen = fields.all();
        loop {
            let field;
            (field, at) = fields.next(&mut unseen, &self.literals, body, at)?;
            let mut steps = self.steps.get(field.steps.clone())?.iter();
            if let Some(first) = steps.next() {
                at = first.value(body, at, &mut draft, reader)?;
            }
            for step in steps {
                at = step.literal.after(body, at, &self.literals)?;
                at = step.value(body, at, &mut draft, reader)?;
            }
            at = field.tail.after(body, at, &self.literals)?;
            if unseen == 0 {
                break;
            }
            at = fields.separate(&self.literals, body, at)?;
        }
        fields.is_closed(&self.literals, body, at).then_some(())?;
        self.finish(draft, reader)
    }

    fn draft<'r, 'v>(&self, into: &'r mut Reading) -> Draft<'r, 'v> {
        (into.metrics, into.left_out) = ([None; 3], self.absent);
        Draft { reading: into, event_time_ms: None, station: None }
    }

    #[inline]
    fn finish<'v>(&mut self, draft: Draft<'_, 'v>, reader: &mut RecordReader<'_, 'v>) -> Option<()> {
        let Draft { reading, event_time_ms, station } = draft;
        if reading.metrics == [None; 3] {
            return None;
        }
        reading.event_time_ms = if self.has_time { event_time_ms? } else { reader.record_time()? };
        self.hits = self.hits.saturating_add(1);
        reader.station = station;
        Some(())
    }
}

impl ShapeStep {
    /// Reads the value that stands at `at`; where it ends.
    #[inline(always)]
    fn value<'v>(
        &self,
        body: &'v [u8],
        at: usize,
        draft: &mut Draft<'_, 'v>,
        reader: &mut RecordReader<'_, 'v>,
    ) -> Option<usize> {
        let rest = body.get(at..)?;
        let is_station = self.is_station && reader.wants_station;
        let length = match self.value {
            ShapeValue::Number => fixed_at(body, at)?.1,
            ShapeValue::Text if is_station => {
                let name = plain_text(rest)?;
                draft.station = Some(name);
                name.len()
            }
            ShapeValue::Text => text_length(rest)?,
            ShapeValue::TimeNumber => {
                let (ms, length) = match words::thirteen_digits(body, at) {
                    // Milliseconds of 2001 to 2286: what most send.
                    Some(ms) => (ms.cast_signed(), 13),
                    None => {
                        let decimal = Decimal::read(rest)?;
                        let time = Time::Instant(epoch(decimal, rest)?);
                        (
                            event_time(time, LocalOffset::Zone, reader.format, reader.cursor).ok()?,
                            decimal.length,
                        )
                    }
                };
                draft.event_time_ms = Some(ms);
                length
            }
            ShapeValue::TimeText(clock) => {
                let (time, length) = match timestamp::quoted(rest) {
                    Some(found) => found,
                    None => {
                        let text = plain_text(rest)?;
                        (time_of_text(text).ok()?, text.len())
                    }
                };
                draft.event_time_ms = Some(event_time(time, clock, reader.format, reader.cursor).ok()?);
                length
            }
            ShapeValue::MetricNumber(metric, conversion) => {
                let (fixed, length) = fixed_at(body, at)?;
                reader.take(draft.reading, metric, conversion, Ok(fixed));
                length
            }
            ShapeValue::MetricText(metric, conversion) => {
                let text = plain_text(rest)?;
                reader.take(draft.reading, metric, conversion, sent_text(text));
                text.len()
            }
        };
        if is_station && draft.station.is_none() {
            draft.station = Some(name(self.value, rest)?);
        }
        Some(at + length)
    }
}

/// What was read of a record so far. The reading is written where it stays: its copies would wait for the stores before.
struct Draft<'r, 'v> {
    reading: &'r mut Reading,
    event_time_ms: Option<i64>,
    station: Option<&'v str>,
}

/// Epoch time, as simd-json's integer or float would give it.
#[inline]
fn epoch(decimal: Decimal, text: &[u8]) -> Option<i64> {
    match decimal.integer() {
        Some(epoch) => Some(timestamp::from_integer(epoch)),
        None => Some(timestamp::from_float(decimal.float(text)?)),
    }
}

/// The station's name, if it is text without escapes or a whole number.
#[inline]
fn name(value: ShapeValue, rest: &[u8]) -> Option<&str> {
    match value {
        ShapeValue::Text | ShapeValue::TimeText(_) | ShapeValue::MetricText(..) => plain_text(rest),
        ShapeValue::Number | ShapeValue::TimeNumber | ShapeValue::MetricNumber(..) => {
            let decimal = Decimal::read(rest)?;
            decimal.integer().filter(|number| *number > 0)?;
            std::str::from_utf8(rest.get(..decimal.length)?).ok()
        }
    }
}

/// Text up to its closing quote, without escapes.
#[inline]
fn plain_text(rest: &[u8]) -> Option<&str> {
    let plain = words::plain_until(rest, 0);
    let end = plain + rest.get(plain..)?.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
    let (text, after) = rest.split_at_checked(end)?;
    if after.first() == Some(&b'"') { std::str::from_utf8(text).ok() } else { None }
}

/// The bytes of a string up to its closing quote; `None` if it is not JSON, or uncertain.
#[inline]
fn text_length(rest: &[u8]) -> Option<usize> {
    let (mut at, mut is_ascii) = (words::plain_until(rest, 0), true);
    loop {
        match *rest.get(at)? {
            b'"' => break,
            b'\\' => at += escape_length(rest.get(at + 1..)?)?,
            0..0x20 => return None,
            byte => is_ascii &= byte < 0x80,
        }
        at += 1;
    }
    (is_ascii || std::str::from_utf8(rest.get(..at)?).is_ok()).then_some(at)
}

/// What follows a backslash. Pairs of surrogates are left to simd-json.
fn escape_length(rest: &[u8]) -> Option<usize> {
    match *rest {
        [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Some(1),
        [b'u', a, b, c, d, ..] => {
            let is_hex = [a, b, c, d].iter().all(u8::is_ascii_hexdigit);
            let is_surrogate = matches!(a, b'd' | b'D') && !matches!(b, b'0'..=b'7');
            (is_hex && !is_surrogate).then_some(5)
        }
        _ => None,
    }
}

/// The bytes of a number, exponent included, in valid JSON.
fn number_length(rest: &[u8]) -> usize {
    let is_part = |byte: &&u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    rest.iter().take_while(is_part).count()
}

/// Whether the next token makes the string before it a key.
fn is_key(rest: &[u8]) -> bool {
    rest.trim_ascii_start().first() == Some(&b':')
}
