//! Seeded mutation: whatever the bytes, the parser does not panic, and three ways of reading agree.
//!
//! By the shapes that it knows; by simd-json alone; and by a plain second implementation, which reads simd-json's DOM,
//! splits text and shares nothing with the parser but simd-json and the list of names. The tests build simd-json with
//! its bounds checks on, so a read past a buffer is a panic here. `WEATHER_FUZZ_RECORDS=10000000` makes it a long run.

use std::sync::Arc;

use super::*;
use reference::reference;

mod reference;

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
    let formats =
        [FormatSettings::default(), FormatSettings { zone: Some(zone), ..FormatSettings::default() }];
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
    let list =
        FormatSettings { fields: fields("station=[].no such name").unwrap(), ..FormatSettings::default() };
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
