//! Seeded mutation: whatever the bytes, the parser does not panic and says what a plain second implementation
//! says.
//!
//! The reference reads simd-json's DOM and splits text; it shares no code with the parser but simd-json
//! itself. The tests build simd-json with its bounds checks on, so a read past a buffer is a panic here.

use simd_json::OwnedValue;

use super::*;

const ROUNDS: usize = 200_000;
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

const SEEDS: [&str; 10] = [
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

#[test]
fn mutated_values_are_read_as_the_reference_reads_them() {
    let mut random = Random(SEED);
    let mut parser = Parser::new();
    let mut outcomes = [0; 5];
    for round in 0..ROUNDS {
        let mut value = random.pick(&SEEDS).as_bytes().to_vec();
        mutate(&mut random, &mut value);
        let expected = reference(&value);
        let mut scratch = value.clone();
        let parsed = parser.parse(&mut scratch);
        let text = String::from_utf8_lossy(&value);
        assert_eq!(parsed, expected.map(|(reading, _)| reading), "seed {SEED:#x} round {round}: {text}");
        assert!(
            scratch == value || value.contains(&b'\\'),
            "seed {SEED:#x} round {round}: {text} was changed"
        );
        let mut scratch = value.clone();
        let with_station = parser.parse_with_station(&mut scratch);
        assert_eq!(with_station.map(|(reading, _)| reading), parsed, "seed {SEED:#x} round {round}: {text}");
        if let (Ok((_, station)), Ok((_, expected))) = (with_station, reference(&value)) {
            assert_eq!(station, expected.as_deref(), "seed {SEED:#x} round {round}: {text}");
        }
        outcomes[parsed.map_or_else(Reason::index, |_| 4)] += 1;
    }
    assert!(outcomes.iter().all(|&count| count > ROUNDS / 100), "{outcomes:?} do not cover every outcome");
}

fn reference(value: &[u8]) -> Result<(Reading, Option<String>), Reason> {
    let Ok(OwnedValue::Object(fields)) = simd_json::to_owned_value(&mut value.to_vec()) else {
        return Err(Reason::Malformed);
    };
    let field = |name| fields.iter().filter(|(key, _)| key.as_str() == name).last().map(|(_, value)| value);
    let time = match field("timestamp") {
        None | Some(OwnedValue::Static(StaticNode::Null)) => None,
        Some(OwnedValue::Static(StaticNode::U64(epoch))) => Some(reference_epoch(i128::from(*epoch))),
        Some(OwnedValue::Static(StaticNode::I64(epoch))) => Some(reference_epoch(i128::from(*epoch))),
        Some(OwnedValue::Static(StaticNode::F64(epoch))) => Some(reference_float(*epoch)),
        Some(OwnedValue::String(text)) => Some(reference_text(text).ok_or(Reason::Malformed)?),
        Some(_) => return Err(Reason::Malformed),
    };
    let mut numbers = Vec::new();
    for metric in Metric::ALL {
        numbers.push(match field(metric.as_str()) {
            None | Some(OwnedValue::Static(StaticNode::Null)) => None,
            Some(OwnedValue::Static(StaticNode::F64(number))) => Some(*number),
            Some(OwnedValue::Static(StaticNode::U64(number))) => Some(*number as f64),
            Some(OwnedValue::Static(StaticNode::I64(number))) => Some(*number as f64),
            Some(_) => return Err(Reason::Malformed),
        });
    }
    let time = time.ok_or(Reason::MissingTimestamp)?;
    if numbers == [None; 3] {
        return Err(Reason::NoMetric);
    }
    let limits = [(-100.0, 70.0), (0.0, 100.0), (0.0, 150.0)];
    let outside = |(number, (min, max)): (&Option<f64>, (f64, f64))| {
        number.is_some_and(|number| number < min || number > max)
    };
    if !(0..253_402_300_800_000).contains(&time) || numbers.iter().zip(limits).any(outside) {
        return Err(Reason::OutOfRange);
    }
    let fixed = |at: usize| numbers[at].map(|number| (number * 1e6).round() as i64);
    let station = ["station", "city", "location"].into_iter().find_map(|name| match field(name) {
        Some(OwnedValue::String(station)) => Some(station.to_string()),
        _ => None,
    });
    Ok((Reading { event_time_ms: time as i64, metrics: [fixed(0), fixed(1), fixed(2)] }, station))
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

fn reference_text(text: &str) -> Option<i128> {
    let text = text.trim_matches([' ', '\t', '\n', '\r', '\u{c}']);
    let is_digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if is_digits(whole.strip_prefix('-').unwrap_or(whole)) && is_digits(fraction) && is_digits(exponent) {
        let float: f64 = text.parse().ok()?;
        return match text.parse::<u64>() {
            Ok(epoch) => Some(reference_epoch(i128::from(epoch))),
            Err(_) => float.is_finite().then(|| reference_float(float)),
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
        return time.is_empty().then_some(days * 86_400_000);
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
    Some(days * 86_400_000 + (minutes - zone_minutes) * 60_000 + second_ms)
}
