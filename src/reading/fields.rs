//! What users specify about their records on the command line: `--fields`, `--missing-values`, `--output-units`.
//!
//! Every error states what is expected, for the one line that the command line prints.

use super::Metric;
use super::number::{fixed_from_float, float_from_text};
use super::path::{Path, Spot};
use super::units::{BASE_UNITS, Unit};

/// One `field=path` of `--fields`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRule {
    pub(super) spot: Spot,
    pub(super) rule: FieldTarget,
}

/// Which field a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FieldTarget {
    Station,
    Timestamp,
    Metric {
        metric: Metric,
        unit: Option<Unit>,
        /// Where the record states the unit.
        stated: Option<Spot>,
    },
}

impl FieldRule {
    /// The array whose elements the path is relative to, if any.
    pub(super) fn lists(&self) -> impl Iterator<Item = &Path> {
        let stated = match &self.rule {
            FieldTarget::Metric { stated: Some(spot), .. } => spot.list.as_ref(),
            _ => None,
        };
        self.spot.list.iter().chain(stated)
    }
}

/// Reads `station=name,timestamp=dt,temperature=main.temp:K,wind_speed=wind.speed:km/h`.
///
/// # Errors
/// What is expected instead.
pub fn fields(text: &str) -> Result<Vec<FieldRule>, String> {
    let rules: Vec<FieldRule> = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(field)
        .collect::<Result<_, String>>()?;
    one_list(&rules)?;
    Ok(rules)
}

fn one_list(rules: &[FieldRule]) -> Result<(), String> {
    let mut lists = rules.iter().flat_map(FieldRule::lists);
    let Some(first) = lists.next() else { return Ok(()) };
    match lists.find(|list| *list != first) {
        None => Ok(()),
        Some(other) => Err(format!(
            "one array of readings, the same in all paths with []; {first}[] and {other}[] differ"
        )),
    }
}

fn field(text: &str) -> Result<FieldRule, String> {
    let expected = || {
        format!(
            "field=path pairs separated by commas, such as \
             station=name,timestamp=dt,temperature=main.temp:K,wind_speed=wind.speed:km/h; {text:?} is not one"
        )
    };
    let (name, path) = text.split_once('=').ok_or_else(expected)?;
    let (name, path) = (name.trim(), path.trim());
    let path_of = |path: &str| {
        Spot::from_text(path.trim()).ok_or_else(|| {
            format!("a path such as main.temp, obs[0][7] or list[].dt after {name}=; {path:?} is not one")
        })
    };
    let metric = match name {
        "station" => return Ok(FieldRule { spot: path_of(path)?, rule: FieldTarget::Station }),
        "timestamp" => return Ok(FieldRule { spot: path_of(path)?, rule: FieldTarget::Timestamp }),
        _ => Metric::ALL.into_iter().find(|metric| metric.as_str() == name).ok_or_else(|| {
            format!("station, timestamp, temperature, humidity or wind_speed before the =; {name:?} is none of them")
        })?,
    };
    let Some((path, unit)) = path.rsplit_once(':') else {
        return Ok(FieldRule {
            spot: path_of(path)?,
            rule: FieldTarget::Metric { metric, unit: None, stated: None },
        });
    };
    if let Some(by) = unit.strip_prefix('@') {
        let rule = FieldTarget::Metric { metric, unit: None, stated: Some(path_of(by)?) };
        return Ok(FieldRule { spot: path_of(path)?, rule });
    }
    let unit = unit_of(metric, unit)?;
    Ok(FieldRule {
        spot: path_of(path)?,
        rule: FieldTarget::Metric { metric, unit: Some(unit), stated: None },
    })
}

fn unit_of(metric: Metric, text: &str) -> Result<Unit, String> {
    Unit::from_text(text).filter(|unit| unit.metric() == metric).ok_or_else(|| {
        let units: Vec<&str> = Unit::of(metric).map(Unit::as_str).collect();
        format!("one of {} as the unit of {}; {text:?} is none of them", units.join(", "), metric.as_str())
    })
}

/// Reads `-99,-9999`: fixed point numbers (`SCALE`).
///
/// # Errors
/// What is expected instead.
pub fn missing_values(text: &str) -> Result<Vec<i64>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let all: Option<Vec<f64>> = parts.map(float_from_text).collect();
    // What is too large for a number here is out of range anyway.
    let fixed = all.map(|all| all.into_iter().filter_map(fixed_from_float).collect());
    fixed.ok_or_else(|| String::from("numbers separated by commas, such as -99,-9999"))
}

/// Reads `wind_speed=km/h,temperature=F`: the unit of every metric.
///
/// # Errors
/// What is expected instead.
pub fn output_units(text: &str) -> Result<[Unit; 3], String> {
    let mut units = BASE_UNITS;
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let named = part.split_once('=').and_then(|(name, unit)| {
            let metric = Metric::ALL.into_iter().find(|metric| metric.as_str() == name.trim())?;
            Some((metric, unit.trim()))
        });
        let (metric, unit) = named.ok_or_else(|| {
            format!("metric=unit, such as wind_speed=km/h or temperature=°F,wind_speed=mph; {part:?} is none")
        })?;
        units[metric.index()] = unit_of(metric, unit)?;
    }
    Ok(units)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::SCALE;

    #[test]
    fn fields_as_users_write_them() {
        let rules =
            fields("station=name, timestamp=dt,temperature=main.temp:K,humidity=obs[0][8],wind_speed=w:@u,");
        let metric = |metric, unit, stated: Option<&str>| FieldTarget::Metric {
            metric,
            unit,
            stated: stated.and_then(Spot::from_text),
        };
        let expected = [
            ("name", FieldTarget::Station),
            ("dt", FieldTarget::Timestamp),
            ("main.temp", metric(Metric::Temperature, Some(Unit::Kelvin), None)),
            ("obs[0][8]", metric(Metric::Humidity, None, None)),
            ("w", metric(Metric::WindSpeed, None, Some("u"))),
        ];
        let expected = expected.map(|(path, rule)| FieldRule { spot: Spot::from_text(path).unwrap(), rule });
        assert_eq!(rules, Ok(expected.to_vec()));
        assert_eq!(fields(""), Ok(Vec::new()));
        for (text, part) in [
            ("temperature", "field=path"),
            ("temp=x", "\"temp\" is none of them"),
            ("temperature=", "a path"),
            ("temperature=a:m/s", "°C, °F, K"),
            ("wind_speed=a:bft", "km/h"),
            ("timestamp=a..b", "a path"),
            ("wind_speed=a:@", "a path"),
            ("timestamp=a[].dt,temperature=b[].t", "a[] and b[] differ"),
            ("temperature=a[].t:@[].u", "a[] and [] differ"),
        ] {
            let refused = fields(text).unwrap_err();
            assert!(refused.contains(part), "{text}: {refused}");
        }
    }

    #[test]
    fn sentinels_and_output_units() {
        assert_eq!(missing_values("-99, -9999,99.9"), Ok(vec![-99 * SCALE, -9_999 * SCALE, 99_900_000]));
        assert_eq!(missing_values(""), Ok(Vec::new()));
        assert!(missing_values("x").is_err() && missing_values("1e9") == Ok(Vec::new()));
        let kmh = output_units("wind_speed=km/h, temperature=F");
        assert_eq!(kmh, Ok([Unit::Fahrenheit, Unit::Percent, Unit::KilometresPerHour]));
        assert_eq!(output_units(""), Ok(BASE_UNITS));
        for bad in ["wind_speed", "wind_speed=C", "wind=km/h"] {
            assert!(output_units(bad).is_err(), "{bad}");
        }
    }
}
