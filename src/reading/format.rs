//! A format: the paths at which the fields of a reading may be, their units and time zone, and the units of the averages.
//!
//! It consists of the fields that the user gave (`--fields`), followed by the names that are known by default
//! (`super::names`). Of several paths of a field, the first whose field is in the record and is not null, an object or an
//! array is used, whatever its value: the choice depends on the record's names, not on values.
//!
//! A record is one reading, unless the user said that it has an array of them (`[]` in `--fields`): then every element of
//! the array is read as a record, and paths without `[]` are looked for beside the array, for all of them.
//!
//! Parsers share a format; it never changes.

use std::sync::Arc;

use super::fields::{FieldRule, FieldTarget};
use super::names::{self, KnownUnit, KnownZone};
use super::path::{Path, Slot, Spot, Tree};
use super::units::{BASE_UNITS, Conversion, MAX_FIXED, Unit};
use super::zone::Zone;
use super::{Cause, Metric, SCALE};

/// What to do with a reading without a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingTimestamp {
    /// It is a dead letter.
    #[default]
    Reject,
    /// It was taken when its Kafka record was made.
    Kafka,
}

/// The user's choices; the default is used without any flag.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FormatSettings {
    /// Paths and units, in the order in which they were given.
    pub fields: Vec<FieldRule>,
    /// Zone of times without an offset; `None` = not given, UTC.
    pub zone: Option<Zone>,
    /// What to do with a reading without a time.
    pub missing_timestamp: MissingTimestamp,
    /// Numbers that stand for a missing value, in fixed point ([`SCALE`]), as they are sent.
    pub missing_values: Vec<i64>,
    /// The unit in which each metric is averaged; `None` = not given, [`BASE_UNITS`].
    pub output: Option<[Unit; 3]>,
}

/// How to read records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    pub(super) settings: FormatSettings,
    pub(super) tree: Tree,
    pub(super) list: Option<List>,
    pub(super) envelope: Envelope,
    pub(super) stations: Vec<Slot>,
    pub(super) times: Vec<TimeName>,
    pub(super) metrics: [MetricNames; 3],
}

/// Where a record has an array of readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct List {
    /// Finds the array and the fields beside it; its slots are those of the format's tree.
    pub(super) outer: Tree,
    /// The array's slot; `None`: it is the record itself.
    pub(super) array: Option<Slot>,
}

/// One path of the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TimeName {
    pub(super) slot: Slot,
    pub(super) zone: NameZone,
}

/// How the zone of a time without an offset is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameZone {
    /// The format's.
    Given,
    /// It is UTC.
    Utc,
    /// This field has the offset ahead of UTC, in seconds.
    Offset(Slot),
}

/// The paths of a metric, and what its values must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MetricNames {
    pub(super) names: Vec<MetricName>,
    pub(super) limits: MetricRange,
}

/// One path of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MetricName {
    pub(super) slot: Slot,
    /// From the unit that it is in, unless a field states it.
    pub(super) conversion: Option<Conversion>,
    /// The field that states the unit.
    pub(super) stated: Option<Slot>,
}

/// What a metric can be, in fixed point of its output unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MetricRange {
    least: i64,
    most: i64,
    /// Values between this and `most` count as this: a wet hygrometer shows up to 105 %.
    ceiling: i64,
    output: Unit,
}

impl MetricRange {
    fn new(metric: Metric, output: Unit) -> Self {
        let base = Conversion::between(BASE_UNITS[metric.index()], output);
        let (least, most) = metric.range();
        let ceiling = if metric == Metric::Humidity { 100 * SCALE } else { i64::MAX };
        Self { least: base.apply(least), most: base.apply(most), ceiling, output }
    }

    /// The conversion into the output unit.
    pub(super) fn conversion(&self, from: Unit) -> Option<Conversion> {
        (from.metric() == self.output.metric()).then(|| Conversion::between(from, self.output))
    }

    /// A number as it was sent, in fixed point → a value in the output unit.
    #[inline(always)]
    pub(super) fn judge(
        &self,
        sent: Option<i64>,
        conversion: Conversion,
        missing: &[i64],
    ) -> Result<i64, Cause> {
        let sent = sent.filter(|sent| sent.abs() <= MAX_FIXED);
        // A sentinel may lie far outside of what can be measured, but not outside of what can be written here.
        let Some(sent) = sent else { return Err(Cause::OutOfRange) };
        if !missing.is_empty() && missing.contains(&sent) {
            return Err(Cause::Null);
        }
        let value = conversion.apply(sent);
        if value < self.least || value > self.most {
            return Err(Cause::OutOfRange);
        }
        Ok(value.min(self.ceiling))
    }
}

/// Fields that distinguish a wrapped record from a plain one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Envelope {
    /// Kafka Connect's JSON converter: `{"schema": …, "payload": …}`.
    pub(super) schema: Slot,
    pub(super) payload: Slot,
    /// Debezium: `{"before": …, "after": …, "op": …}`.
    pub(super) after: Slot,
    pub(super) operation: Slot,
}

impl Default for Format {
    fn default() -> Self {
        Self::new(FormatSettings::default())
    }
}

impl Format {
    /// The names of `settings`, followed by those that are known by default.
    pub fn new(settings: FormatSettings) -> Self {
        let mut builder = Builder { tree: Tree::new(), outer: None };
        let list = settings.fields.iter().flat_map(FieldRule::lists).next();
        let array = list.map(|path| builder.list(path));
        let envelope = Envelope {
            schema: builder.known("schema"),
            payload: builder.known("payload"),
            after: builder.known("after"),
            operation: builder.known("op"),
        };
        let metrics = Metric::ALL.map(|metric| {
            let limits = MetricRange::new(metric, settings.output.unwrap_or(BASE_UNITS)[metric.index()]);
            MetricNames { names: builder.metric_names(metric, &limits, &settings.fields), limits }
        });
        let times = builder.times(&settings);
        let stations = builder.stations(&settings.fields);
        let Builder { mut tree, outer } = builder;
        tree.index();
        let list = outer.zip(array).map(|(mut outer, array)| {
            outer.index();
            List { outer, array }
        });
        Self { settings, tree, list, envelope, stations, times, metrics }
    }

    /// The default format, to be shared.
    pub fn shared() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// The unit in which a metric is averaged.
    pub fn output_unit(&self, metric: Metric) -> Unit {
        self.settings.output.unwrap_or(BASE_UNITS)[metric.index()]
    }

    /// The units of all metrics, as `--output-units` takes them.
    pub fn output_units(&self) -> String {
        Metric::ALL.map(|metric| format!("{}={}", metric.as_str(), self.output_unit(metric))).join(",")
    }

    /// Whether the user chose the units of the averages.
    pub fn has_chosen_units(&self) -> bool {
        self.settings.output.is_some()
    }

    /// What was chosen.
    pub fn settings(&self) -> &FormatSettings {
        &self.settings
    }

    /// Whether a record may have an array of readings.
    pub fn has_list(&self) -> bool {
        self.list.is_some()
    }

    /// The path of that array; an empty path is the record itself.
    pub(super) fn list_path(&self) -> Option<&Path> {
        self.settings.fields.iter().flat_map(FieldRule::lists).next()
    }

    /// The zone of times that name none.
    pub fn zone(&self) -> &Zone {
        const UTC: &Zone = &Zone::UTC;
        self.settings.zone.as_ref().unwrap_or(UTC)
    }
}

struct Builder {
    tree: Tree,
    /// The tree of the fields beside an array of readings.
    outer: Option<Tree>,
}

impl Builder {
    /// The slot of the array at this path, which is looked for beside others that are not in it.
    fn list(&mut self, path: &Path) -> Option<Slot> {
        self.outer = Some(Tree::new());
        (!path.is_empty()).then(|| self.beside(path))
    }

    /// A path that is looked for in the whole record, though readings are elements of an array in it.
    fn beside(&mut self, path: &Path) -> Slot {
        let slot = self.tree.add_slot();
        self.outer.as_mut().map_or(slot, |outer| outer.add_as(path, slot))
    }

    /// A path that a user gave: also as one key with dots.
    fn given(&mut self, Spot { list, path }: &Spot) -> Slot {
        if list.is_none() && self.outer.is_some() {
            return self.beside(path);
        }
        let slot = self.tree.add(path);
        if let Some(flat) = path.flattened() {
            self.tree.add_as(&flat, slot);
        }
        slot
    }

    fn known(&mut self, text: &str) -> Slot {
        let path = Path::from_text(text)
            .unwrap_or_else(|| unreachable!("{text} is a path: see the test of all names"));
        self.tree.add(&path)
    }

    fn metric_names(&mut self, metric: Metric, limits: &MetricRange, rules: &[FieldRule]) -> Vec<MetricName> {
        let mut names = Vec::new();
        for rule in rules {
            let FieldTarget::Metric { metric: of, unit, stated } = &rule.rule else { continue };
            if *of == metric {
                let slot = self.given(&rule.spot);
                let stated = stated.as_ref().map(|spot| self.given(spot));
                let unit = unit.or_else(|| stated.is_none().then(|| BASE_UNITS[metric.index()]));
                names.push(MetricName {
                    slot,
                    conversion: unit.and_then(|unit| limits.conversion(unit)),
                    stated,
                });
            }
        }
        let known = match metric {
            Metric::Temperature => names::TEMPERATURES,
            Metric::Humidity => names::HUMIDITIES,
            Metric::WindSpeed => names::WIND_SPEEDS,
        };
        for (path, unit) in known {
            let (unit, stated) = match unit {
                KnownUnit::Is(unit) => (Some(*unit), None),
                KnownUnit::Stated(by) => (None, Some(self.known(by))),
                KnownUnit::StatedOr(by, unit) => (Some(*unit), Some(self.known(by))),
            };
            let conversion = unit.and_then(|unit| limits.conversion(unit));
            names.push(MetricName { slot: self.known(path), conversion, stated });
        }
        names
    }

    fn times(&mut self, settings: &FormatSettings) -> Vec<TimeName> {
        let given = settings.fields.iter().filter(|rule| rule.rule == FieldTarget::Timestamp);
        let given = given.map(|rule| TimeName { slot: self.given(&rule.spot), zone: NameZone::Given });
        let mut times: Vec<TimeName> = given.collect();
        for (path, zone) in names::TIMES {
            let zone = match zone {
                KnownZone::Local if settings.zone.is_none() => continue,
                KnownZone::Given | KnownZone::Local => NameZone::Given,
                KnownZone::Utc => NameZone::Utc,
                KnownZone::Offset(by) => NameZone::Offset(self.known(by)),
            };
            times.push(TimeName { slot: self.known(path), zone });
        }
        times
    }

    fn stations(&mut self, rules: &[FieldRule]) -> Vec<Slot> {
        let given = rules.iter().filter(|rule| rule.rule == FieldTarget::Station);
        let mut stations: Vec<Slot> = given.map(|rule| self.given(&rule.spot)).collect();
        stations.extend(names::STATIONS.iter().map(|path| self.known(path)));
        stations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_known_names_are_paths_with_units_of_their_metric() {
        let format = Format::default();
        for names in &format.metrics {
            assert!(names.names.iter().all(|name| name.conversion.is_some() || name.stated.is_some()));
        }
        let time_zone = FormatSettings { zone: Some(Zone::UTC), ..FormatSettings::default() };
        assert_eq!(Format::new(time_zone).times.len(), names::TIMES.len());
        assert!(format.times.len() < names::TIMES.len(), "local names count only where a zone is given");
    }

    #[test]
    fn limits_are_those_of_the_base_unit_in_any_other() {
        let judge = |metric: Metric, output: Unit, sent: f64| {
            let limits = MetricRange::new(metric, output);
            let base = limits.conversion(BASE_UNITS[metric.index()]).unwrap();
            limits
                .judge(Some((sent * 1e6).round() as i64), base, &[-99 * SCALE])
                .map(|value| value as f64 / 1e6)
        };
        use Metric::{Humidity, Temperature, WindSpeed};
        for (metric, output, sent, expected) in [
            (Temperature, Unit::Celsius, -90.0, Ok(-90.0)),
            (Temperature, Unit::Celsius, 60.0, Ok(60.0)),
            (Temperature, Unit::Celsius, 60.000_001, Err(Cause::OutOfRange)),
            (Temperature, Unit::Celsius, -90.1, Err(Cause::OutOfRange)),
            (Temperature, Unit::Celsius, -99.0, Err(Cause::Null)),
            (Temperature, Unit::Celsius, -99.9, Err(Cause::OutOfRange)),
            (Temperature, Unit::Fahrenheit, -90.0, Ok(-130.0)),
            (Temperature, Unit::Fahrenheit, 60.5, Err(Cause::OutOfRange)),
            (Humidity, Unit::Percent, 100.4, Ok(100.0)),
            (Humidity, Unit::Percent, 105.0, Ok(100.0)),
            (Humidity, Unit::Percent, 105.1, Err(Cause::OutOfRange)),
            (Humidity, Unit::Percent, -0.1, Err(Cause::OutOfRange)),
            (WindSpeed, Unit::KilometresPerHour, 150.0, Ok(540.0)),
            (WindSpeed, Unit::KilometresPerHour, 150.1, Err(Cause::OutOfRange)),
            (WindSpeed, Unit::MetresPerSecond, 9_999.0, Err(Cause::OutOfRange)),
        ] {
            assert_eq!(judge(metric, output, sent), expected, "{metric:?} {sent} in {output}");
        }
    }
}
