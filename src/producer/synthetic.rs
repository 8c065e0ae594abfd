//! Simulated weather stations.
//!
//! Each station has a place on earth, drawn from the seed, and from it a climate: how warm it is there at this time of
//! year, how much days and nights differ, when its sun stands highest. Slow waves of some days model the weather's
//! changes, a little noise for the instruments. The same seed gives the same stations, and with the same event times
//! the same readings.
//!
//! Written for a million readings a second: the slow part of a station's weather is computed once for each minute of
//! event time, numbers are fixed-point integers written digit by digit, and everything before the timestamp is
//! prepared.

use std::f64::consts::TAU;

const DAY_MS: i64 = 86_400_000;
const MINUTE_MS: i64 = 60_000;
/// How late a late reading is: beyond a window of an hour and a watermark of ten minutes, whatever the moment.
const LATE_MS: (i64, u64) = (75 * MINUTE_MS, 165 * MINUTE_MS as u64);
/// How far ahead a wrong clock is: beyond now, however far back the history begins.
const AHEAD_MS: i64 = 36_525 * DAY_MS;

/// The stations and what they measure.
#[derive(Debug)]
pub(super) struct Synthetic {
    stations: Vec<SyntheticStation>,
    next: usize,
    random: SplitMix,
    stamp: WrittenTime,
    /// A reading is late when 32 random bits are below the first of these, else malformed when they are below the
    /// second, else from the future when they are below the third.
    late_below: u64,
    malformed_below: u64,
    future_below: u64,
}

/// Which shares of all readings cannot be used, each 0 to 1, and 1 at most together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct UnusableShares {
    pub(super) late: f64,
    pub(super) malformed: f64,
    pub(super) future: f64,
}

#[derive(Debug)]
struct SyntheticStation {
    name: String,
    /// `{"station":"station-017","timestamp":`
    head: Vec<u8>,
    climate: Climate,
    /// The minute of event time for which `weather` holds.
    minute: i64,
    weather: StationWeather,
}

#[derive(Debug, Clone, Copy)]
struct Climate {
    latitude: f64,
    /// Local solar time runs this many ms ahead of UTC.
    solar_offset_ms: i64,
    /// Half the difference between day and night, °C.
    daily_swing: f64,
    mean_humidity: f64,
    mean_wind: f64,
    /// Length of the slow wave, ms, and where in it the station is at the start of 1970.
    wave_ms: f64,
    wave_phase: f64,
}

/// A station's weather but for the noise, in the units of a reading's last digit.
#[derive(Debug, Clone, Copy, PartialEq)]
struct StationWeather {
    /// 0.01 °C.
    temperature: i64,
    /// 0.1 %.
    humidity: i64,
    /// 0.01 m/s.
    wind: i64,
}

impl Synthetic {
    /// Number of stations.
    pub(super) fn new(stations: u32, seed: u64, shares: UnusableShares) -> Self {
        let mut random = SplitMix::new(seed);
        let stations = (0..stations).map(|number| SyntheticStation::new(number, &mut random)).collect();
        let share = |ratio: f64| (ratio * (1u64 << 32) as f64).round() as u64;
        let late_below = share(shares.late);
        let malformed_below = late_below + share(shares.malformed);
        let future_below = malformed_below + share(shares.future);
        let stamp = WrittenTime::default();
        Self { stations, next: 0, random, stamp, late_below, malformed_below, future_below }
    }

    /// Writes the next station's reading of this time into `value`; the station's name.
    pub(super) fn reading(&mut self, event_ms: i64, value: &mut Vec<u8>) -> &str {
        let noise = self.random.next();
        let fate = u64::from(self.random.next() as u32);
        let i = self.next;
        self.next = if i + 1 == self.stations.len() { 0 } else { i + 1 };
        let event_ms = if fate < self.late_below {
            event_ms - LATE_MS.0 - (self.random.next() % LATE_MS.1) as i64
        } else if fate >= self.malformed_below && fate < self.future_below {
            event_ms + AHEAD_MS
        } else {
            event_ms
        };
        let station = &mut self.stations[i];
        value.clear();
        station.write(event_ms, noise, &mut self.stamp, value);
        if fate >= self.late_below && fate < self.malformed_below {
            spoil(value, self.random.next(), &station.head);
        }
        &station.name
    }
}

/// The last event time as it is written: at full speed, hundreds of readings in a row share theirs.
#[derive(Debug, Default)]
struct WrittenTime {
    event_ms: i64,
    digits: Vec<u8>,
}

impl WrittenTime {
    fn of(&mut self, event_ms: i64) -> &[u8] {
        if self.digits.is_empty() || event_ms != self.event_ms {
            self.event_ms = event_ms;
            self.digits.clear();
            push_integer(&mut self.digits, event_ms);
        }
        &self.digits
    }
}

impl SyntheticStation {
    fn new(number: u32, random: &mut SplitMix) -> Self {
        let name = format!("station-{number:03}");
        let head = format!("{{\"station\":\"{name}\",\"timestamp\":").into_bytes();
        // People measure where they live: 60° south to 70° north.
        let climate = Climate {
            latitude: random.between(-60.0, 70.0),
            solar_offset_ms: (random.between(-0.5, 0.5) * DAY_MS as f64) as i64,
            daily_swing: random.between(2.0, 9.0),
            mean_humidity: random.between(45.0, 80.0),
            mean_wind: random.between(1.5, 7.0),
            wave_ms: random.between(2.5, 6.0) * DAY_MS as f64,
            wave_phase: random.between(0.0, TAU),
        };
        // No event time has this minute, so the first reading computes.
        Self {
            name,
            head,
            climate,
            minute: i64::MIN,
            weather: StationWeather { temperature: 0, humidity: 0, wind: 0 },
        }
    }

    fn write(&mut self, event_ms: i64, noise: u64, stamp: &mut WrittenTime, out: &mut Vec<u8>) {
        let minute = event_ms.div_euclid(MINUTE_MS);
        if minute != self.minute {
            self.minute = minute;
            self.weather = self.climate.at(event_ms);
        }
        // Two dice a metric: most noise is small.
        let [a, b, c, d, e, f, ..] = noise.to_le_bytes().map(i64::from);
        let temperature = self.weather.temperature + (a - b) / 4;
        let humidity = (self.weather.humidity + (c - d) / 16).clamp(50, 1000);
        let wind = (self.weather.wind + (e - f) / 3).max(0);
        out.extend_from_slice(&self.head);
        out.extend_from_slice(stamp.of(event_ms));
        out.extend_from_slice(b",\"temperature\":");
        push_decimal::<2>(out, temperature);
        out.extend_from_slice(b",\"humidity\":");
        push_decimal::<1>(out, humidity);
        out.extend_from_slice(b",\"wind_speed\":");
        push_decimal::<2>(out, wind);
        out.push(b'}');
    }
}

impl Climate {
    fn at(&self, event_ms: i64) -> StationWeather {
        let part_of_day = (event_ms + self.solar_offset_ms).rem_euclid(DAY_MS) as f64 / DAY_MS as f64;
        // Days since 1970 are near enough to the calendar for the seasons.
        let part_of_year = (event_ms as f64 / DAY_MS as f64 / 365.2425).rem_euclid(1.0);
        // Warmest at three in the afternoon, and in the north late in July.
        let day = (TAU * (part_of_day - 15.0 / 24.0)).cos();
        let season = (TAU * (part_of_year - 0.56)).cos() * self.latitude.signum();
        let wave = (TAU * event_ms as f64 / self.wave_ms + self.wave_phase).sin();
        let distance = self.latitude.abs();
        let mean = 27.5 - 0.0075 * distance * distance + season * distance * 0.2;
        let temperature = mean + self.daily_swing * day + 2.5 * wave;
        // Air that warms grows drier, and the wind rises with the sun.
        let humidity = self.mean_humidity - 1.6 * self.daily_swing * day - 6.0 * wave;
        let wind = self.mean_wind * (1.0 + 0.35 * day + 0.25 * wave);
        StationWeather {
            temperature: (temperature * 100.0).round() as i64,
            humidity: (humidity * 10.0).round() as i64,
            wind: (wind * 100.0).round() as i64,
        }
    }
}

/// Makes a good reading one that cannot be used, in one of the ways that happen.
fn spoil(value: &mut Vec<u8>, random: u64, head: &[u8]) {
    // The reading without its closing bracket, to be continued.
    let open = value.len() - 1;
    match random % 10 {
        0 => value.truncate(open / 2),
        1 => replace(value, b"sensor rebooting"),
        2 => value.clear(),
        3 => replace(value, b"[]"),
        4 => splice(value, open, b",\"timestamp\":\"soon\"}"),
        5 => splice(value, open, b",\"timestamp\":\"2025-13-45\"}"),
        6 => splice(value, open, b",\"note\":\"\xff\xfe\"}"),
        // Good JSON, and still no reading: without a time, a metric, or a metric that can be.
        7 => replace(value, b"{\"temperature\":21.5,\"humidity\":60.0,\"wind_speed\":3.2}"),
        8 => {
            value.truncate(head.len());
            value.extend_from_slice(b"1700000000000,\"temperature\":null}");
        }
        _ => splice(value, open, b",\"temperature\":9999.9,\"humidity\":-1,\"wind_speed\":null}"),
    }
}

fn replace(value: &mut Vec<u8>, by: &[u8]) {
    value.clear();
    value.extend_from_slice(by);
}

fn splice(value: &mut Vec<u8>, at: usize, end: &[u8]) {
    value.truncate(at);
    value.extend_from_slice(end);
}

/// Appends a whole number.
fn push_integer(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    let mut rest = number.unsigned_abs();
    let digits = rest.checked_ilog10().map_or(1, |log| log as usize + 1);
    let mut end = out.len() + digits;
    // Written in place, from the last pair of digits to the first: the quickest way.
    out.resize(end, b'0');
    while rest >= 10 {
        out[end - 2..end].copy_from_slice(&PAIRS[(rest % 100) as usize]);
        rest /= 100;
        end -= 2;
    }
    if rest > 0 {
        out[end - 1] = b'0' + rest as u8;
    }
}

/// Appends a number of tenths (one place) or hundredths (two) as a decimal.
fn push_decimal<const PLACES: u32>(out: &mut Vec<u8>, number: i64) {
    let unit = const { 10_u64.pow(PLACES) };
    let magnitude = number.unsigned_abs();
    let (whole, [tens, ones]) = (magnitude / unit, PAIRS[(magnitude % unit) as usize]);
    let fraction = if PLACES == 2 { [b'.', tens, ones] } else { [b'.', ones, 0] };
    if number < 0 {
        out.push(b'-');
    }
    match PAIRS.get(whole as usize) {
        Some([b'0', digit]) => push_short(out, [*digit, fraction[0], fraction[1], fraction[2]], PLACES + 2),
        Some([a, b]) => push_short(out, [*a, *b, fraction[0], fraction[1], fraction[2]], PLACES + 3),
        None => {
            // Far below half of what 64 bits hold.
            push_integer(out, whole as i64);
            push_short(out, fraction, PLACES + 1);
        }
    }
}

/// Appends the first `length` bytes of `text`: all at once, and what is too much goes again.
fn push_short<const N: usize>(out: &mut Vec<u8>, text: [u8; N], length: u32) {
    let end = out.len() + length as usize;
    out.extend_from_slice(&text);
    out.truncate(end);
}

/// The digits of 00 to 99.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < pairs.len() {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// SplitMix64: small, quick, and good enough for weather.
#[derive(Debug, Clone)]
struct SplitMix(u64);

impl SplitMix {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{Parser, Reason};

    const T0_MS: i64 = 1_763_803_617_123;

    fn shares(late: f64, malformed: f64, future: f64) -> UnusableShares {
        UnusableShares { late, malformed, future }
    }

    fn values(source: &mut Synthetic, count: i64, step_ms: i64) -> Vec<Vec<u8>> {
        let mut value = Vec::new();
        (0..count)
            .map(|i| {
                source.reading(T0_MS + i * step_ms, &mut value);
                value.clone()
            })
            .collect()
    }

    #[test]
    fn every_reading_is_one_that_the_processor_takes() {
        let mut parser = Parser::default();
        let mut source = Synthetic::new(300, 7, UnusableShares::default());
        // Half a year, so that every season and hour comes by.
        for (i, value) in (0i64..).zip(values(&mut source, 50_000, 311_040)) {
            let text = String::from_utf8(value.clone()).unwrap();
            let reading = parser.parse(&value, None).unwrap_or_else(|reason| panic!("{reason:?}: {text}"));
            assert_eq!(reading.event_time_ms, T0_MS + i * 311_040, "{text}");
            assert!(reading.metrics.iter().all(Option::is_some), "{text}");
        }
    }

    #[test]
    fn a_reading_is_about_a_hundred_bytes() {
        let value = String::from_utf8(
            values(&mut Synthetic::new(18, 1, UnusableShares::default()), 18, 1).pop().unwrap(),
        )
        .unwrap();
        assert!(
            value.starts_with("{\"station\":\"station-017\",\"timestamp\":1763803617140,\"temperature\":"),
            "{value}"
        );
        assert!((95..115).contains(&value.len()), "{value}");
    }

    #[test]
    fn the_same_seed_gives_the_same_readings() {
        let run = |seed| values(&mut Synthetic::new(5, seed, shares(0.1, 0.1, 0.1)), 1000, 60_000);
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }

    #[test]
    fn afternoons_are_warmer_and_drier_than_nights() {
        let mut random = SplitMix::new(11);
        for number in 0..50 {
            let climate = SyntheticStation::new(number, &mut random).climate;
            let at_solar_hour = |hour: i64| {
                let day = T0_MS - T0_MS.rem_euclid(DAY_MS);
                climate.at(day + hour * 3_600_000 - climate.solar_offset_ms)
            };
            let (night, afternoon) = (at_solar_hour(3), at_solar_hour(15));
            assert!(afternoon.temperature > night.temperature, "{climate:?}");
            assert!(afternoon.humidity < night.humidity, "{climate:?}");
        }
    }

    #[test]
    fn ratios_hold_and_every_spoilt_reading_is_refused() {
        let mut parser = Parser::default();
        let (mut late, mut future, mut refused) = (0, 0, [0u32; Reason::ALL.len()]);
        for value in values(&mut Synthetic::new(10, 5, shares(0.05, 0.1, 0.02)), 20_000, 0) {
            match parser.parse(&value, None) {
                Ok(reading) if reading.event_time_ms < T0_MS - 70 * MINUTE_MS => late += 1,
                Ok(reading) if reading.event_time_ms > T0_MS => future += 1,
                Ok(_) => {}
                Err(reason) => refused[reason.index()] += 1,
            }
        }
        assert!((900..1100).contains(&late), "{late}");
        assert!((330..470).contains(&future), "{future}");
        assert!((1850..2150).contains(&refused.iter().sum::<u32>()), "{refused:?}");
        for reason in [Reason::Malformed, Reason::MissingTimestamp, Reason::NoMetric] {
            assert!(refused[reason.index()] > 100, "{reason:?}: {refused:?}");
        }
    }

    #[test]
    fn all_malformed_and_all_late() {
        let mut parser = Parser::default();
        let mut parse = |value: &mut Vec<u8>| parser.parse(value, None).map(|r| r.event_time_ms);
        assert!(
            values(&mut Synthetic::new(3, 5, shares(0.0, 1.0, 0.0)), 500, 1)
                .iter_mut()
                .all(|v| parse(v).is_err())
        );
        assert!(
            values(&mut Synthetic::new(3, 5, shares(1.0, 0.0, 0.0)), 500, 0)
                .iter_mut()
                .all(|v| parse(v).unwrap() < T0_MS)
        );
    }

    #[test]
    fn numbers_digit_by_digit() {
        let written = |push: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            push(&mut out);
            String::from_utf8(out).unwrap()
        };
        for (number, expected) in [
            (2137, "21.37"),
            (-5, "-0.05"),
            (0, "0.00"),
            (-1230, "-12.30"),
            (100, "1.00"),
            (101_009, "1010.09"),
        ] {
            assert_eq!(written(&|out| push_decimal::<2>(out, number)), expected);
        }
        for (number, expected) in [(642, "64.2"), (7, "0.7"), (1000, "100.0")] {
            assert_eq!(written(&|out| push_decimal::<1>(out, number)), expected);
        }
        for number in [0, 9, 10, 99, 100, 1_763_803_617_123, i64::MAX, -1, i64::MIN] {
            assert_eq!(written(&|out| push_integer(out, number)), number.to_string());
        }
    }
}
