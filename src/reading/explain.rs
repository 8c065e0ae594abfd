//! Explains a record to people: how it was read, what else it contains, and what to do.
//!
//! Not for the hot path: this allocates freely. It explains single records, as samples. It uses the same `Plan` as the
//! parser, so it never states anything that the parser does not do.

use std::fmt::Write as _;

use simd_json::{Node, StaticNode};

use super::format::Format;
use super::json;
use super::number::float_from_text;
use super::parser::{self, Parser};
use super::plan::Plan;
use super::search::{FoundReading, Search};
use super::units::BASE_UNITS;
use super::{Cause, Metric, Unit, timestamp};

/// More fields than these are not listed.
const MAX_FIELDS: usize = 40;
/// A longer example is cut.
const MAX_EXAMPLE: usize = 32;

/// A field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordField {
    /// Its path, in the notation of `--fields`.
    pub path: String,
    /// Its value as JSON, cut when it is long.
    pub example: String,
    node: u32,
    number: Option<i64>,
}

/// A field that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Understood {
    /// `station`, `timestamp` or the name of a metric.
    pub name: &'static str,
    /// Its path.
    pub path: String,
    /// The unit that it was in; `None` for the station and the time.
    pub unit: Option<Unit>,
    /// Its value as it was sent.
    pub example: String,
    /// Why it does not count.
    pub cause: Option<Cause>,
}

/// What to report about a record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Explanation {
    /// What counts, in the order station, timestamp, temperature, humidity, wind_speed.
    pub understood: Vec<Understood>,
    /// Fields that are probably what is missing.
    pub candidates: Vec<(&'static str, RecordField)>,
    /// All other fields of the record.
    pub others: Vec<RecordField>,
    /// What is wrong with a value that is not a record, as a sentence.
    pub problem: Option<&'static str>,
    /// The `--fields` to try.
    pub fields: Option<String>,
    has_time: bool,
    has_metric: bool,
}

impl Explanation {
    /// The time, if it is text without an offset.
    pub fn local_time(&self) -> Option<&str> {
        let time = self.understood.iter().find(|field| field.name == "timestamp")?;
        let is_local = |text: &&str| matches!(timestamp::read(text), Some(timestamp::Time::Local(_)));
        Some(time.example.trim_matches('"')).filter(is_local)
    }

    /// One line: what is missing, what there is, what to do. `None` if nothing is missing that the record may have.
    pub fn hint(&self) -> Option<String> {
        if let Some(problem) = self.problem {
            return Some(problem.to_owned());
        }
        let odd: Vec<&Understood> = self
            .understood
            .iter()
            .filter(|field| matches!(field.cause, Some(Cause::OutOfRange | Cause::NotANumber)))
            .collect();
        if self.has_time && self.has_metric && self.fields.is_none() && odd.is_empty() {
            return None;
        }
        let mut hint = match (self.has_time, self.has_metric) {
            (false, _) => String::from("No known time field"),
            (true, false) => String::from("No usable metric"),
            (true, true) => String::from("Not every metric is usable"),
        };
        for field in odd {
            let unit = field.unit.map_or("", Unit::as_str);
            let why =
                if field.cause == Some(Cause::OutOfRange) { "is out of range" } else { "is not a number" };
            let _ = write!(hint, "; {} {} in {unit} {why}", field.path, field.example);
        }
        let carried = self.candidates.iter().map(|(_, field)| field).chain(&self.others);
        let carried: Vec<String> =
            carried.take(12).map(|field| format!("{} {}", field.path, field.example)).collect();
        if !carried.is_empty() {
            let _ = write!(hint, "; the record also has {}", carried.join(", "));
        }
        match &self.fields {
            _ if self.has_no_metric_at_all() => hint.push_str(&self.without_a_suggestion()),
            Some(fields) => {
                let _ = write!(
                    hint,
                    "; if that is what these fields are, set --fields '{fields}' (check the units)"
                );
            }
            None => {}
        }
        if !self.has_time && !self.candidates.iter().any(|(name, _)| *name == "timestamp") {
            hint.push_str("; --missing-timestamp kafka uses the time of the Kafka record");
        }
        Some(hint)
    }
}

impl Explanation {
    /// Whether no field is a metric, or looks like one, be it null.
    fn has_no_metric_at_all(&self) -> bool {
        let is_metric = |name: &str| Metric::ALL.iter().any(|metric| metric.as_str() == name);
        !self.understood.iter().any(|field| is_metric(field.name))
            && !self.candidates.iter().any(|(name, _)| is_metric(name))
            && !self.others.iter().any(|field| is_metric(&field.path))
    }

    /// Why no `--fields` can be suggested, and how it is written.
    fn without_a_suggestion(&self) -> String {
        let time = self.fields.as_ref().map_or_else(String::new, |fields| format!("{fields},"));
        let listed = self.others.iter().find(|field| field.path.contains('[') && field.number.is_some());
        let (path, list) = match listed {
            Some(field) => (field.path.as_str(), " by its place in the list"),
            None => ("NAME", ""),
        };
        format!(
            "; none of these is a number that is named like a metric: if one is a metric, name it{list}, such as \
             --fields '{time}temperature={path}:C'"
        )
    }
}

/// Explains one value.
pub fn explain(format: &Format, value: &[u8]) -> Explanation {
    let body = parser::body(value);
    let mut json = body.to_vec();
    if simd_json::to_tape(&mut json.clone()).is_err() {
        json::blank_python_words(&mut json);
    }
    let Ok(tape) = simd_json::to_tape(&mut json) else {
        return Explanation { problem: Some(no_json(value)), ..Explanation::default() };
    };
    // Of a list, its first element.
    let mut first = None;
    Search::default().each(format, &tape.0, |candidate| first = first.or(Some(candidate)));
    let Some(FoundReading { plan, at, is_element }) = first else {
        return Explanation { problem: Some(no_object(&tape.0)), ..Explanation::default() };
    };
    let path = format.list_path().filter(|_| is_element).map_or_else(String::new, |path| format!("{path}[]"));
    let mut fields = Vec::new();
    collect(&tape.0, at, path, &mut fields);
    let mut explanation = Explanation::default();
    explanation.understand(format, &plan, &fields, value);
    explanation.guess(&plan, fields);
    explanation
}

impl Explanation {
    fn understand(&mut self, format: &Format, plan: &Plan, fields: &[RecordField], value: &[u8]) {
        let field = |at: u32| fields.iter().find(|field| field.node == at);
        let mut parser = Parser::new(std::sync::Arc::new(format.clone()));
        let read = parser.parse(value, Some(0));
        self.has_time = plan.time.is_some();
        let mut push = |name, at: Option<u32>, unit, cause| {
            if let Some(field) = at.and_then(field) {
                let (path, example) = (field.path.clone(), field.example.clone());
                self.understood.push(Understood { name, path, unit, example, cause });
            }
        };
        push("station", plan.station, None, None);
        push("timestamp", plan.time.map(|time| time.at), None, None);
        for metric in Metric::ALL {
            if let Ok(of) = plan.metrics[metric.index()] {
                // A record without any metric has no reading that states why, so each field is judged separately.
                let cause = match &read {
                    Ok(reading) => reading.left_out[metric.index()],
                    Err(_) => {
                        field(of.at).and_then(|field| self::cause(format, metric, of.conversion, field))
                    }
                };
                push(metric.as_str(), Some(of.at), Some(of.conversion.from), cause);
            }
        }
        let metrics = Metric::ALL.map(Metric::as_str);
        self.has_metric =
            self.understood.iter().any(|field| metrics.contains(&field.name) && field.cause.is_none());
    }

    /// Searches the unknown fields for what is missing.
    fn guess(&mut self, plan: &Plan, fields: Vec<RecordField>) {
        let used: Vec<String> = self.understood.iter().map(|field| field.path.clone()).collect();
        let missing = |metric: Metric| plan.metrics[metric.index()].is_err();
        let mut parts = Vec::new();
        for field in fields.into_iter().filter(|field| !used.contains(&field.path)) {
            let guessed = if plan.time.is_none() && looks_like_time(&field) {
                Some(("timestamp", String::new()))
            } else {
                Metric::ALL.into_iter().filter(|metric| missing(*metric)).find_map(|metric| {
                    let unit = looks_like(metric, &field)?;
                    Some((metric.as_str(), format!(":{}", unit.as_str())))
                })
            };
            match guessed {
                Some((name, unit)) if !self.candidates.iter().any(|(known, _)| *known == name) => {
                    parts.push(format!("{name}={}{unit}", field.path));
                    self.candidates.push((name, field));
                }
                _ => self.others.push(field),
            }
        }
        // A temperature of 290 "°C" is one in Kelvin.
        for field in &self.understood {
            let number = float_from_text(field.example.trim_matches('"'));
            if field.cause == Some(Cause::OutOfRange)
                && field.unit == Some(Unit::Celsius)
                && let Some(number) = number.filter(|number| (61.0..340.0).contains(number))
            {
                let unit = if number > 180.0 { Unit::Kelvin } else { Unit::Fahrenheit };
                parts.push(format!("{}={}:{}", field.name, field.path, unit.as_str()));
            }
        }
        self.fields = (!parts.is_empty()).then(|| parts.join(","));
    }
}

fn cause(
    format: &Format,
    metric: Metric,
    conversion: super::units::Conversion,
    field: &RecordField,
) -> Option<Cause> {
    let sent = float_from_text(field.example.trim_matches('"').trim());
    let Some(sent) = sent else { return Some(Cause::NotANumber) };
    let fixed = super::number::fixed_from_float(sent);
    format.metrics[metric.index()].limits.judge(fixed, conversion, &format.settings.missing_values).err()
}

/// All scalars of a record with their paths; of an array the first element.
fn collect(tape: &[Node<'_>], at: usize, path: String, fields: &mut Vec<RecordField>) {
    if fields.len() >= MAX_FIELDS || path.len() > 200 {
        return;
    }
    match tape.get(at) {
        Some(Node::Object { len, .. }) => {
            let mut next = at + 1;
            for _ in 0..*len {
                let Some(Node::String(key)) = tape.get(next) else { return };
                let dot = if path.is_empty() { "" } else { "." };
                let key = key.replace('\\', "\\\\").replace('.', "\\.").replace('[', "\\[");
                collect(tape, next + 1, format!("{path}{dot}{key}"), fields);
                next += 2 + tape.get(next + 1).map_or(0, super::path::parts);
            }
        }
        Some(Node::Array { len, .. }) if *len > 0 => collect(tape, at + 1, format!("{path}[0]"), fields),
        Some(node @ (Node::String(_) | Node::Static(_))) => {
            let (example, number) = match node {
                Node::String(text) => (format!("{text:?}"), float_from_text(text.trim()).map(|n| n as i64)),
                Node::Static(StaticNode::U64(n)) => (n.to_string(), i64::try_from(*n).ok()),
                Node::Static(StaticNode::I64(n)) => (n.to_string(), Some(*n)),
                Node::Static(StaticNode::F64(n)) => (n.to_string(), Some(*n as i64)),
                Node::Static(StaticNode::Bool(truth)) => (truth.to_string(), None),
                _ => (String::from("null"), None),
            };
            let mut cut: String = example.chars().take(MAX_EXAMPLE).collect();
            if cut.len() < example.len() {
                cut.push('…');
            }
            let node = u32::try_from(at).unwrap_or(u32::MAX);
            fields.push(RecordField { path, example: cut, node, number });
        }
        _ => {}
    }
}

/// Names of what is not a current measurement: forecasts, extremes, and similar names.
const OTHER_THINGS: [&str; 21] = [
    "feels", "dew", "min", "max", "gust", "deg", "dir", "chill", "zone", "interval", "hourly", "daily",
    "forecast", "start", "list[", "periods", "unit", "sunrise", "sunset", "offset", "indoor",
];

fn is_another_thing(path: &str) -> bool {
    // What users named as a list of readings is one.
    let path = path.rsplit_once("[]").map_or(path, |(_, within)| within);
    OTHER_THINGS.iter().any(|word| path.contains(word))
}

fn looks_like_time(field: &RecordField) -> bool {
    let path = name_of(field);
    // A number needs the name itself: a text that reads as a time hardly is anything else.
    let leaf = if field.number.is_some() { path.rsplit('.').next().unwrap_or_default() } else { &path };
    let named = ["time", "date", "epoch", "created", "updated", "changed", "observed", "stamp", "when"];
    let is_named = matches!(leaf, "dt" | "ts" | "t") || named.iter().any(|word| leaf.contains(word));
    let ms = match field.number {
        Some(number) => timestamp::from_integer(number),
        None => timestamp::from_text(field.example.trim_matches('"')).unwrap_or(-1),
    };
    // Between 2000 and 2100: what else is a number of seconds since 1970?
    is_named && !is_another_thing(&path) && (946_684_800_000..4_102_444_800_000).contains(&ms)
}

/// The path in small letters, where a dot within a name is as good as one between names.
fn name_of(field: &RecordField) -> String {
    field.path.replace('\\', "").to_ascii_lowercase()
}

/// The unit that a field of this name and value would be in, if it looks like the metric.
fn looks_like(metric: Metric, field: &RecordField) -> Option<Unit> {
    let (path, number) = (name_of(field), field.number?);
    let (before, leaf) = path.rsplit_once('.').unwrap_or(("", &path));
    let is_named = match metric {
        Metric::Temperature => leaf.contains("temp") || leaf == "tmp",
        Metric::Humidity => {
            leaf.contains("humid") || leaf == "rh" || leaf.starts_with("rh_") || leaf == "hum"
        }
        Metric::WindSpeed => {
            let is_speed =
                ["speed", "spd", "avg", "kph", "kmh", "mph"].iter().any(|word| leaf.contains(word));
            (leaf.contains("wind") && is_speed) || (before.ends_with("wind") && leaf.contains("speed"))
        }
    };
    if !is_named || is_another_thing(&path) {
        return None;
    }
    let ends_in = |words: &[&str]| words.iter().any(|word| leaf.ends_with(word));
    Some(match metric {
        Metric::Temperature if number > 180 => Unit::Kelvin,
        Metric::Temperature if number > 60 || ends_in(&["_f", "tempf", "fahrenheit"]) => Unit::Fahrenheit,
        Metric::WindSpeed if ends_in(&["kmh", "kph", "km_h"]) => Unit::KilometresPerHour,
        Metric::WindSpeed if ends_in(&["mph", "mi_h"]) => Unit::MilesPerHour,
        _ => BASE_UNITS[metric.index()],
    })
}

/// What a value is that is no JSON.
fn no_json(value: &[u8]) -> &'static str {
    let text = value.trim_ascii_start();
    match text {
        [] => "The value is empty",
        [0, ..] => {
            "What follows the five bytes of a schema registry is not JSON: Avro and Protobuf are not \
             supported; use the JSON serializer in the producer"
        }
        [b'{', rest @ ..] if rest.trim_ascii_start().starts_with(b"'") => {
            "This is Python's repr of a dict, not JSON: send json.dumps(record) in the producer"
        }
        [b'{', rest @ ..] if rest.trim_ascii_start().first().is_some_and(u8::is_ascii_alphabetic) => {
            "The field names have no quotes, so this is not JSON"
        }
        [b'{', ..] => {
            "This starts like JSON but is not valid: it is truncated, or a comma or quote is missing or extra"
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "This is UTF-16; JSON must be UTF-8",
        _ if text.contains(&b',') && !text.contains(&b'{') => {
            "This looks like CSV, not JSON: send one JSON object for each row"
        }
        _ => "This is not JSON: check what sends it",
    }
}

/// What JSON is that is no object.
fn no_object(tape: &[Node<'_>]) -> &'static str {
    match tape.first() {
        Some(Node::Array { .. }) => {
            "This is an array, not one reading: if its elements are readings, name them with [], such as --fields \
             timestamp=[].time,temperature=[].temp:C"
        }
        Some(Node::String(text)) if text.trim_start().starts_with('{') => {
            "This is JSON within a JSON string: it was serialized twice"
        }
        _ => "This is JSON, but not an object",
    }
}
