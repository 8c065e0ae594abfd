//! Readings for the benchmarks: about 100 bytes each, the same in every run.

use std::io::Write;
use std::sync::Arc;

use weather::reading::{Format, FormatSettings, fields};

/// Event time between two readings: 10,000 a minute, as the producer's default.
pub const INTERVAL_MS: i64 = 6;

/// How a message writes what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Epoch in ms: what the producer sends.
    EpochMs,
    /// The time as ISO 8601.
    Iso8601,
    /// Metrics that are null or missing.
    Nulls,
    /// Three unused fields.
    MoreFields,
    /// The replaced system's: other names, km/h, text without an offset.
    OldSystem,
    /// OpenWeatherMap's answer, named with `--fields`.
    Nested,
    /// The fields in another order each time.
    Shuffled,
    /// Cut in the middle: a dead letter.
    Malformed,
}

impl Form {
    /// All of them.
    pub const ALL: [Form; 8] = [
        Form::EpochMs,
        Form::Iso8601,
        Form::Nulls,
        Form::MoreFields,
        Form::OldSystem,
        Form::Nested,
        Form::Shuffled,
        Form::Malformed,
    ];

    /// The name of its benchmark.
    pub fn name(self) -> &'static str {
        match self {
            Form::EpochMs => "epoch",
            Form::Iso8601 => "iso8601",
            Form::Nulls => "nulls",
            Form::MoreFields => "more-fields",
            Form::OldSystem => "old-system",
            Form::Nested => "nested",
            Form::Shuffled => "shuffled",
            Form::Malformed => "malformed",
        }
    }
}

impl Form {
    /// How it has to be read.
    pub fn format(self) -> Arc<Format> {
        let text = match self {
            Form::Nested => {
                "station=name,timestamp=dt,temperature=main.temp:K,humidity=main.humidity,wind_speed=wind.speed:m/s"
            }
            _ => "",
        };
        let fields = fields(text).expect("fields");
        Arc::new(Format::new(FormatSettings { fields, ..FormatSettings::default() }))
    }
}

/// The reading of this number, its event time counted from `start_ms`.
pub fn write(form: Form, number: u64, start_ms: i64, value: &mut Vec<u8>) {
    let event_ms = start_ms + number as i64 * INTERVAL_MS;
    // Digits that look measured: no two neighbours are equal, none needs a generator of randomness.
    let mix = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (temperature, humidity, wind) = ((mix >> 20) % 4500, (mix >> 32) % 1000, (mix >> 44) % 3000);
    let (t, h, w) = (temperature as f64 / 100.0 - 10.0, humidity as f64 / 10.0, wind as f64 / 100.0);
    let station = number % 100;
    value.clear();
    let written = match form {
        Form::EpochMs | Form::Malformed => write!(
            value,
            r#"{{"station":"station-{station:03}","timestamp":{event_ms},"temperature":{t:.2},"humidity":{h:.1},"wind_speed":{w:.2}}}"#
        ),
        Form::Iso8601 => write!(
            value,
            r#"{{"station":"station-{station:03}","timestamp":"2026-06-01T12:{:02}:{:02}.{:03}Z","temperature":{t:.2},"humidity":{h:.1},"wind_speed":{w:.2}}}"#,
            event_ms / 60_000 % 60,
            event_ms / 1_000 % 60,
            event_ms % 1_000
        ),
        Form::Nulls => write!(
            value,
            r#"{{"station":"station-{station:03}","timestamp":{event_ms},"temperature":null,"wind_speed":{w:.2}}}"#
        ),
        Form::OldSystem => write!(
            value,
            r#"{{"city": "Hanoi", "temperature_c": {:?}, "humidity": {h:.1}, "wind_speed_kph": {w:.2}, "condition": "Sunny", "last_updated": "2026-06-01 12:15", "timestamp": "2026-06-01 12:{:02}:{:02}"}}"#,
            // It sends all digits that it has.
            25.0 + 10.0 * (mix >> 11) as f64 / (1_u64 << 53) as f64,
            event_ms / 60_000 % 60,
            event_ms / 1_000 % 60
        ),
        Form::Nested => write!(
            value,
            r#"{{"coord":{{"lon":2.3,"lat":48.8}},"main":{{"temp":{:.2},"humidity":{h:.1}}},"wind":{{"speed":{w:.2},"deg":90}},"dt":{},"name":"station-{station:03}"}}"#,
            t + 273.15,
            event_ms / 1_000
        ),
        Form::Shuffled => {
            let mut fields = [
                format!(r#""station":"station-{station:03}""#),
                format!(r#""timestamp":{event_ms}"#),
                format!(r#""temperature":{t:.2}"#),
                format!(r#""humidity":{h:.1}"#),
                format!(r#""wind_speed":{w:.2}"#),
            ];
            for at in 1..fields.len() {
                fields.swap(at, (mix >> (8 * at)) as usize % (at + 1));
            }
            write!(value, "{{{}}}", fields.join(","))
        }
        Form::MoreFields => write!(
            value,
            r#"{{"station":"station-{station:03}","timestamp":{event_ms},"temperature":{t:.2},"humidity":{h:.1},"wind_speed":{w:.2},"battery":87,"firmware":"2.1.7","place":{{"lat":21.0,"lon":105.8}}}}"#
        ),
    };
    written.expect("a Vec takes everything");
    if form == Form::Malformed {
        value.truncate(value.len() / 2);
    }
}

/// The station's name, by which the producer keys.
pub fn key(number: u64) -> String {
    format!("station-{:03}", number % 100)
}
