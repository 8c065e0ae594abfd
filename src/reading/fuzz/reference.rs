//! What a value means, said once more: plainly, on simd-json's owned value, without anything of the parser but the names.

use simd_json::{OwnedValue, StaticNode};

use crate::reading::names::{HUMIDITIES, KnownUnit, KnownZone, STATIONS, TEMPERATURES, TIMES, WIND_SPEEDS};
use crate::reading::*;

/// The value at a path: names with dots between. Of a key that comes twice the last counts.
fn get<'v>(value: &'v OwnedValue, path: &str) -> Option<&'v OwnedValue> {
    path.split('.').try_fold(value, |value, name| match value {
        OwnedValue::Object(fields) => {
            fields.iter().filter(|(key, _)| *key == name).last().map(|(_, value)| value)
        }
        _ => None,
    })
}

fn float(value: &OwnedValue) -> Option<f64> {
    match value {
        OwnedValue::Static(StaticNode::F64(number)) => Some(*number),
        OwnedValue::Static(StaticNode::U64(number)) => Some(*number as f64),
        OwnedValue::Static(StaticNode::I64(number)) => Some(*number as f64),
        _ => None,
    }
}

pub(super) type Read = Result<(Reading, Option<String>), Reason>;

pub(super) fn reference(value: &[u8], format: &Format) -> Read {
    let value = value.strip_prefix("\u{feff}".as_bytes()).unwrap_or(value);
    let value = if value.first() == Some(&0) { value.get(5..).unwrap_or_default() } else { value };
    let parsed = simd_json::to_owned_value(&mut value.to_vec()).or_else(|error| {
        let mut value = value.to_vec();
        if value.first() != Some(&b'{') {
            return Err(error);
        }
        json::blank_python_words(&mut value);
        simd_json::to_owned_value(&mut value)
    });
    let Ok(whole @ OwnedValue::Object(_)) = parsed else { return Err(Reason::Malformed) };
    let mut root = &whole;
    for _ in 0..2 {
        let inner = |mark, inner| {
            get(root, mark).and_then(|_| get(root, inner)).filter(|v| matches!(v, OwnedValue::Object(_)))
        };
        root = inner("schema", "payload").or_else(|| inner("op", "after")).unwrap_or(root);
    }
    let is_scalar = |value: &&OwnedValue| {
        !matches!(value, OwnedValue::Static(StaticNode::Null) | OwnedValue::Object(_) | OwnedValue::Array(_))
    };
    let zone = format.settings().zone.clone();
    let mut times = TIMES.iter().filter(|(_, known)| zone.is_some() || !matches!(known, KnownZone::Local));
    let time = times.find_map(|(name, known)| Some((get(root, name).filter(is_scalar)?, known)));
    let event_time_ms = match time {
        None => return Err(Reason::MissingTimestamp),
        Some((OwnedValue::Static(StaticNode::U64(epoch)), _)) => reference_epoch(i128::from(*epoch)),
        Some((OwnedValue::Static(StaticNode::I64(epoch)), _)) => reference_epoch(i128::from(*epoch)),
        Some((OwnedValue::Static(StaticNode::F64(epoch)), _)) => reference_float(*epoch),
        Some((OwnedValue::String(text), known)) => {
            let text = text.trim_matches([' ', '\t', '\n', '\r', '\u{c}']);
            if text.is_empty() {
                return Err(Reason::MissingTimestamp);
            }
            let ahead_ms = match known {
                KnownZone::Offset(by) => {
                    get(root, by).and_then(float).map(|seconds| (seconds * 1000.0) as i64)
                }
                KnownZone::Utc => Some(0),
                KnownZone::Given | KnownZone::Local => None,
            };
            let (ms, is_local) = reference_text(text).ok_or(Reason::Malformed)?;
            match (is_local, ahead_ms, &zone) {
                (true, Some(ahead_ms), _) => ms - i128::from(ahead_ms),
                (true, None, Some(_)) => i128::from(berlin(i64::try_from(ms).unwrap_or(i64::MAX))),
                _ => ms,
            }
        }
        Some(_) => return Err(Reason::Malformed),
    };
    if !(0..253_402_300_800_000).contains(&event_time_ms) {
        return Err(Reason::Malformed);
    }
    let mut reading =
        Reading { event_time_ms: event_time_ms as i64, metrics: [None; 3], left_out: [None; 3] };
    for (index, names) in [TEMPERATURES, HUMIDITIES, WIND_SPEEDS].into_iter().enumerate() {
        match reference_metric(root, Metric::ALL[index], names) {
            Ok(value) => reading.metrics[index] = Some(value),
            Err(cause) => reading.left_out[index] = Some(cause),
        }
    }
    let station = STATIONS.iter().filter_map(|name| get(root, name)).find_map(|value| match value {
        OwnedValue::String(name) => Some(Some(name.to_string())),
        OwnedValue::Static(StaticNode::U64(number)) => Some(Some(number.to_string())),
        OwnedValue::Static(StaticNode::I64(number)) => Some(Some(number.to_string())),
        OwnedValue::Static(StaticNode::F64(_)) => Some(None),
        _ => None,
    });
    if reading.metrics == [None; 3] { Err(Reason::NoMetric) } else { Ok((reading, station.flatten())) }
}

fn reference_metric(root: &OwnedValue, metric: Metric, names: &[(&str, KnownUnit)]) -> Result<i64, Cause> {
    let mut cause = Cause::Absent;
    for (name, known) in names {
        let Some(value) = get(root, name) else { continue };
        let number = match value {
            OwnedValue::Static(StaticNode::Null) => {
                cause = cause.max(Cause::Null);
                continue;
            }
            OwnedValue::Object(_) | OwnedValue::Array(_) => {
                cause = cause.max(Cause::NotANumber);
                continue;
            }
            OwnedValue::String(text) => {
                let text = text.trim_matches([' ', '\t', '\n', '\r', '\u{c}']);
                let words = ["", "nan", "null", "none", "inf", "-inf", "infinity", "-infinity"];
                if words.contains(&text.to_ascii_lowercase().as_str()) {
                    Err(Cause::Null)
                } else if is_number(text) {
                    text.parse().map_err(|_| Cause::NotANumber).and_then(|number: f64| {
                        if number.is_finite() { Ok(number) } else { Err(Cause::NotANumber) }
                    })
                } else {
                    Err(Cause::NotANumber)
                }
            }
            value => float(value).ok_or(Cause::NotANumber),
        };
        let unit = match known {
            KnownUnit::Is(unit) => Some(*unit),
            KnownUnit::Stated(by) | KnownUnit::StatedOr(by, _) => match (get(root, by), known) {
                (Some(OwnedValue::String(unit)), _) => {
                    let unit = Unit::from_text(unit).filter(|unit| unit.metric() == metric);
                    Some(unit.ok_or(Cause::NotANumber)?)
                }
                (_, KnownUnit::StatedOr(_, unit)) => Some(*unit),
                _ => None,
            },
        };
        let Some(unit) = unit else { continue };
        return reference_value((number? * 1e6).round(), unit);
    }
    Err(cause)
}

/// Rounded twice, as the format does: to millionths as it was sent, then in the other unit.
fn reference_value(millionths: f64, unit: Unit) -> Result<i64, Cause> {
    if millionths.abs() > 1e10 {
        return Err(Cause::OutOfRange);
    }
    let sent = millionths as i128;
    let (exact, by) = match unit {
        Unit::Fahrenheit => ((sent - 32_000_000) * 5, 9),
        Unit::Kelvin => (sent - 273_150_000, 1),
        Unit::KilometresPerHour => (sent * 10, 36),
        Unit::MilesPerHour => (sent * 44_704, 100_000),
        Unit::Knots => (sent * 1_852, 3_600),
        Unit::Celsius | Unit::Percent | Unit::MetresPerSecond => (sent, 1),
    };
    let rounded = exact.signum() * ((exact.abs() * 2 + by) / (by * 2));
    let (least, most) = [(-90, 60), (0, 105), (0, 150)][unit.metric().index()];
    if !(least * 1_000_000..=most * 1_000_000).contains(&rounded) {
        return Err(Cause::OutOfRange);
    }
    Ok(if unit == Unit::Percent { rounded.min(100_000_000) } else { rounded } as i64)
}

/// Berlin's clocks as they are: from 1996 on summer time is between the last Sundays of March and October. Before, the
/// table of the zone is believed.
fn berlin(local_ms: i64) -> i64 {
    let zone = Zone::from_text("Europe/Berlin", None).unwrap();
    let year = 1970 + local_ms.div_euclid(31_556_952_000);
    if year < 1998 {
        return zone.to_utc(local_ms, &mut zone::Cursor::default());
    }
    let change = |month| {
        let mut days = (25..=31).filter_map(|day| timestamp::days_since_1970(year, month, day));
        days.rfind(|days| (days + 4) % 7 == 0).unwrap_or_default() * 86_400_000
    };
    let is_summer = local_ms >= change(3) + 3 * 3_600_000 && local_ms < change(10) + 3 * 3_600_000;
    local_ms - if is_summer { 7_200_000 } else { 3_600_000 }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())
}

fn is_number(text: &str) -> bool {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    is_digits(whole.strip_prefix('-').unwrap_or(whole)) && is_digits(fraction) && is_digits(exponent)
}

fn reference_epoch(epoch: i128) -> i128 {
    match epoch.abs().to_string().len() {
        ..=11 => epoch * 1_000,
        12..=14 => epoch,
        15..=17 => epoch.div_euclid(1_000),
        _ => epoch.div_euclid(1_000_000),
    }
}

fn reference_float(epoch: f64) -> i128 {
    match epoch.abs() {
        size if size < 1e11 => ((epoch * 1e6).round() as i128).div_euclid(1_000),
        size if size < 1e14 => epoch.floor() as i128,
        size if size < 1e17 => (epoch / 1e3).floor() as i128,
        _ => (epoch / 1e6).floor() as i128,
    }
}

/// ms, and whether they are local.
fn reference_text(text: &str) -> Option<(i128, bool)> {
    if is_number(text) {
        let float: f64 = text.parse().ok()?;
        return match text.parse::<u64>() {
            Ok(epoch) => Some((reference_epoch(i128::from(epoch)), false)),
            Err(_) => float.is_finite().then(|| (reference_float(float), false)),
        };
    }
    let number = |text: Option<&str>, length: usize, least: i128, most: i128| {
        let text = text.filter(|text| text.len() == length && is_digits(text))?;
        text.parse().ok().filter(|number| (least..=most).contains(number))
    };
    let (date, time) = (text.get(..10)?, text.get(10..)?);
    let mut parts = date.split('-');
    let year = number(parts.next(), 4, 0, 9999)?;
    let month = number(parts.next(), 2, 1, 12)?;
    let leap = |year: i128| (year % 4 == 0) != (year % 100 == 0) || year % 400 == 0;
    let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let day = number(parts.next(), 2, 1, lengths[month as usize - 1])?;
    let years: i128 = (0..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    let days = years + lengths[..month as usize - 1].iter().sum::<i128>() + day - 1 - 719_528;
    if parts.next().is_some() || time.is_empty() {
        return time.is_empty().then_some((days * 86_400_000, true));
    }
    let time = time.strip_prefix(['T', 't', ' '])?;
    let (clock, zone) = time.split_at(time.find(['Z', 'z', '+', '-']).unwrap_or(time.len()));
    let zone_minutes = match zone.get(1..) {
        None => 0,
        Some("") if zone.eq_ignore_ascii_case("z") => 0,
        Some(ahead) => {
            let minutes = ahead.get(2..)?;
            let minutes = minutes.strip_prefix(':').filter(|text| !text.is_empty()).unwrap_or(minutes);
            let minutes = if minutes.is_empty() { 0 } else { number(Some(minutes), 2, 0, 59)? };
            let minutes = number(ahead.get(..2), 2, 0, 23)? * 60 + minutes;
            if zone.starts_with('-') { -minutes } else { minutes * i128::from(zone.starts_with('+')) }
        }
    };
    if zone.starts_with(['Z', 'z']) && zone.len() > 1 {
        return None;
    }
    let mut parts = clock.splitn(3, ':');
    let minutes = number(parts.next(), 2, 0, 23)? * 60 + number(parts.next(), 2, 0, 59)?;
    let second_ms = match parts.next() {
        None => 0,
        Some(seconds) => {
            let (seconds, fraction) = seconds.split_once(['.', ',']).unwrap_or((seconds, "0"));
            let thousandths = format!("{fraction:0<3}");
            let ms = is_digits(fraction).then(|| thousandths[..3].parse::<i128>().ok())??;
            (number(Some(seconds), 2, 0, 60)? * 1_000 + ms).min(59_999)
        }
    };
    Some((days * 86_400_000 + (minutes - zone_minutes) * 60_000 + second_ms, zone.is_empty()))
}
