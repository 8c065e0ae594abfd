//! Seeded mutation: whatever the bytes, the parser does not panic, and three ways of reading agree.
//!
//! By the shapes that it knows; by simd-json alone; and by a plain second implementation, which reads simd-json's DOM,
//! splits text and shares nothing with the parser but simd-json and the list of names. The tests build simd-json with
//! its bounds checks on, so a read past a buffer is a panic here. `WEATHER_FUZZ_RECORDS=10000000` makes it a long run.

use std::sync::Arc;

use simd_json::{OwnedValue, StaticNode};

use super::names::{HUMIDITIES, KnownUnit, KnownZone, STATIONS, TEMPERATURES, TIMES, WIND_SPEEDS};
use super::*;

const RECORDS: usize = 200_000;
const SEED: u64 = 0x5EED_0F5E_ED0F_5EED;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

const SEEDS: [&str; 16] = [
    r#"{"station":"S1","timestamp":1700000000123,"temperature":21.5,"humidity":60,"wind_speed":3.25}"#,
    r#"{"city": "H\u00e0 N\u1ed9i", "timestamp": 1700000000.123, "temperature": -3.5e0, "humidity": null}"#,
    r#"{"location":"Huế","timestamp":"2023-11-14T22:13:20.123456789+07:00","wind_speed":0}"#,
    r#"{"timestamp":"2024-02-29 23:59:60,5-0330","temperature":70.0000001,"humidity":100.0}"#,
    r#"{"t":{"timestamp":5,"humidity":["a",{}]},"timestamp":"1999-12-31","temperature":"x","temperature":1}"#,
    r#"{"timestamp":"1700000000123456","\u0074emperature":1e-7,"humidity":-0.0}"#,
    r#"{"timestamp":18446744073709551615,"wind_speed":149.99999999999999999,"x":"\\\"\ud83c\udf27"}"#,
    r#"{"timestamp":253402300799999.5,"humidity":12.3456785}"#,
    r#"{"timestamp":-1.5,"wind_speed":151,"station":{"a":[1,2,{"b":null}]},"city":true}"#,
    r#"{"timestamp":"-0.0001","temperature":0.00000050000000000000001}"#,
    r#"{"city": "Hanoi", "temperature_c": 27.483920335769653, "humidity": 72, "wind_speed_kph": 10.8, "condition": "Tr\u1eddi", "last_updated": "2024-03-05 10:15", "timestamp": "2024-03-05 10:16:40"}"#,
    r#"{"schema":{"type":"struct"},"payload":{"station":"s1","timestamp":1709633700000,"temp_f":51.8}}"#,
    r#"{"location":{"name":"Sometown"},"current":{"last_updated_epoch":1709633700,"temp_c":9.4,"wind_kph":14.4,"humidity":81,"is_day":1}}"#,
    r#"{"utc_offset_seconds":3600,"current_units":{"wind_speed_10m":"km/h"},"current":{"time":"2024-03-05T11:15","temperature_2m":14.2,"relative_humidity_2m":61,"wind_speed_10m":10.8}}"#,
    r#"{"city":"A","timestamp":"1709633700","temperature":"4.50","humidity":NaN,"wind_speed":-Infinity,"temp_f":"x"}"#,
    r#"{"event_time":"2024-03-31 02:30:00","temperature":41,"temperatureUnit":"F","humidity":100.4,"wind_mph":6.7}"#,
];

const TOKENS: [&str; 36] = [
    "\"timestamp\":",
    "\"temperature\":",
    "\"humidity\":",
    "\"wind_speed\":",
    "\"station\":",
    ",",
    ":",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    "\\u0074",
    "\\ud800",
    "null",
    "true",
    "1e400",
    "-",
    "-0.0",
    "0.0000005",
    "9999999999999999999",
    "1e10",
    "\u{feff}",
    "é",
    "\0",
    " ",
    "T",
    "Z",
    "+14:00",
    "2024-02-30",
    ":60",
    ".999999999",
    "null,",
    "1,",
    "\n",
];

/// A few random cuts, copies, flips and insertions.
fn mutate(random: &mut Random, value: &mut Vec<u8>) {
    for _ in 0..random.below(4) {
        let at = random.below(value.len() + 1);
        let end = (at + random.below(12)).min(value.len());
        match random.below(8) {
            0 => value.truncate(at),
            1 => drop(value.drain(at..end)),
            2 => value.extend_from_within(at..end),
            3 | 4 => drop(value.splice(at..at, random.pick(&TOKENS).bytes())),
            5 => drop(value.splice(at..end, random.pick(&SEEDS).bytes().skip(at).take(end - at + 8))),
            6 => value
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|byte| *byte = b"0123456789.,:-+eT\" "[random.below(19)]),
            _ => value.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
        }
    }
}

/// Other digits for those of a seed, so that records differ in values and not in shape.
fn vary(random: &mut Random, value: &mut [u8]) {
    for byte in value.iter_mut().filter(|byte| byte.is_ascii_digit()) {
        if random.below(3) == 0 {
            *byte = b'0' + (random.below(10) as u8);
        }
    }
}

/// Its parts between commas in another order: of a flat record, its fields.
fn shuffle(random: &mut Random, value: &mut Vec<u8>) {
    let is_outer = |byte: &u8| matches!(byte, b'{' | b'}');
    let (first, last) = (value.iter().position(is_outer), value.iter().rposition(is_outer));
    let Some((from, to)) = first.zip(last).map(|(first, last)| (first + 1, last)) else { return };
    let Some(inner) = value.get(from..to) else { return };
    let mut parts: Vec<Vec<u8>> = inner.split(|byte| *byte == b',').map(<[u8]>::to_vec).collect();
    for at in 1..parts.len() {
        parts.swap(at, random.below(at + 1));
    }
    let inner = parts.join(&b',');
    value.splice(from..to, inner);
}

/// A seed or the value before, often with other digits: so shapes come again.
fn next_value(random: &mut Random, last: &[u8]) -> Vec<u8> {
    let mut value = if random.below(3) > 0 { last.to_vec() } else { random.pick(&SEEDS).as_bytes().to_vec() };
    match random.below(4) {
        0 => mutate(random, &mut value),
        1 => {}
        _ => vary(random, &mut value),
    }
    if random.below(4) == 0 {
        shuffle(random, &mut value);
    }
    value
}

fn records() -> usize {
    std::env::var("WEATHER_FUZZ_RECORDS").ok().and_then(|text| text.parse().ok()).unwrap_or(RECORDS)
}

#[test]
fn mutated_values_are_read_alike_three_ways() {
    let mut random = Random(SEED);
    let zone = Zone::from_text("Europe/Berlin", None).unwrap();
    let formats = [Settings::default(), Settings { zone: Some(zone), ..Settings::default() }];
    let formats = formats.map(|settings| Arc::new(Format::new(settings)));
    let mut parsers = formats.clone().map(Parser::new);
    let mut outcomes = [0; 4];
    let mut last = SEEDS[0].as_bytes().to_vec();
    let records = records();
    for round in 0..records {
        let value = next_value(&mut random, &last);
        let say = || format!("seed {SEED:#x} round {round}: {}", String::from_utf8_lossy(&value));
        for (format, parser) in formats.iter().zip(&mut parsers) {
            let parsed = parser.parse(&value, None);
            assert_eq!(parser.parse_whole(&value, None), parsed, "shape, simd-json: {}", say());
            let expected = reference(&value, format);
            let reading = expected.as_ref().map(|(reading, _)| *reading).map_err(|reason| *reason);
            assert_eq!(parsed, reading, "parser, reference: {}", say());
            let (again, station) = parser.parse_with_station(&value, None);
            let station = station.map(str::to_owned);
            assert_eq!(again.map(|reading| (reading, station)), expected, "station: {}", say());
            outcomes[parsed.map_or_else(Reason::index, |_| 3)] += 1;
        }
        last = if last.len() > 4_000 || random.below(50) == 0 { SEEDS[0].as_bytes().to_vec() } else { value };
    }
    assert!(outcomes.iter().all(|&count| count > records / 100), "{outcomes:?} do not cover every outcome");
}

/// Lists of values that are read alone, too; in a list, envelopes are not looked for.
#[test]
fn a_list_is_read_as_its_elements_are() {
    let mut random = Random(SEED);
    let list = Settings { fields: fields("station=[].no such name").unwrap(), ..Settings::default() };
    let mut parser = Parser::new(Arc::new(Format::new(list)));
    let mut single = Parser::default();
    let mut last = SEEDS[0].as_bytes().to_vec();
    let mut several = 0;
    for _ in 0..RECORDS / 10 {
        let mut values: Vec<Vec<u8>> = Vec::new();
        for _ in 0..random.below(5) {
            let value = next_value(&mut random, &last);
            let is_json = simd_json::to_tape(&mut value.clone()).is_ok();
            let has_mark = |mark: &&[u8]| value.windows(mark.len()).any(|window| window == *mark);
            if is_json && value.first() == Some(&b'{') && ![&b"schema"[..], b"op"].iter().any(has_mark) {
                last.clone_from(&value);
                values.push(value);
            }
        }
        let read: Vec<_> = values.iter().map(|value| single.parse(value, None)).collect();
        let mut readings = Vec::new();
        let joined = [&b"["[..], &values.join(&b','), b"]"].concat();
        let result = parser.parse_list(&joined, None, |reading, _| readings.push(reading));
        let say = || String::from_utf8_lossy(&joined);
        assert_eq!(readings, read.iter().filter_map(|read| read.ok()).collect::<Vec<_>>(), "{}", say());
        let refused = read.iter().filter(|read| read.is_err()).count() as i64;
        let reason = read.iter().filter_map(|read| read.err()).min().unwrap_or(Reason::Malformed);
        assert_eq!(result, if readings.is_empty() { Err(reason) } else { Ok(refused) }, "{}", say());
        let first = readings.first().copied().ok_or(reason);
        assert_eq!(parser.parse(&joined, None), first, "{}", say());
        several += usize::from(readings.len() > 1);
    }
    assert!(several > RECORDS / 100, "{several}");
}

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

type Read = Result<(Reading, Option<String>), Reason>;

fn reference(value: &[u8], format: &Format) -> Read {
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
