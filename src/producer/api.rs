//! Readings from a web API that is asked again and again.
//!
//! An answer may be one reading, an array, one reading a line, or what two well-known services call the current weather:
//! Open-Meteo (`current`) and OpenWeatherMap with metric units (`main`, `wind`). Readings in our own form pass
//! unchanged; one without a timestamp is of now, for that is what such an API tells. What was in the answer
//! before is not sent again: services update every few minutes, and asking more often must not weigh a reading more.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::http::Endpoint;
use super::json;
use crate::reading::timestamp;
use crate::telemetry::log::Outage;
use crate::time::now_ms;

/// Longest wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const METRICS: [&str; 3] = ["temperature", "humidity", "wind_speed"];

/// The API, and what it has told.
#[derive(Debug)]
pub(super) struct Api {
    endpoint: Endpoint,
    poll: Duration,
    next_poll: Instant,
    readings: VecDeque<Vec<u8>>,
    /// The readings of the last answer.
    known: HashSet<Vec<u8>>,
    outage: Outage,
}

impl Api {
    /// Asks this URL at once, and then every `poll`.
    pub(super) fn new(url: &str, poll: Duration) -> Self {
        let endpoint = Endpoint::new(url);
        let outage = Outage::new(format!("The API at {}", endpoint.name()));
        let next_poll = Instant::now();
        Self { endpoint, poll, next_poll, readings: VecDeque::new(), known: HashSet::new(), outage }
    }

    /// The next reading; waits until the API has one.
    pub(super) async fn next(&mut self) -> Vec<u8> {
        loop {
            if let Some(reading) = self.readings.pop_front() {
                return reading;
            }
            tokio::time::sleep_until(self.next_poll.into()).await;
            self.next_poll = Instant::now() + self.poll;
            let answer = match timeout(ANSWER_TIMEOUT, self.endpoint.get()).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
            };
            match answer {
                Ok(body) => self.take(&body),
                Err(e) => self.outage.failed(&e),
            }
        }
    }

    fn take(&mut self, body: &[u8]) {
        let found = readings(body, now_ms());
        if found.is_empty() {
            let expected =
                "one reading, an array, one a line, Open-Meteo's or OpenWeatherMap's current weather";
            return self.outage.failed(&format_args!("no reading in the answer; expected {expected}"));
        }
        self.outage.ok();
        self.readings.extend(found.iter().filter(|reading| !self.known.contains(*reading)).cloned());
        self.known = found.into_iter().collect();
    }
}

/// The readings in an answer, in our form.
fn readings(body: &[u8], now_ms: i64) -> Vec<Vec<u8>> {
    json::objects(body)
        .filter_map(|object| {
            open_meteo(object, now_ms)
                .or_else(|| open_weather_map(object, now_ms))
                .or_else(|| plain(object, now_ms))
        })
        .collect()
}

/// A reading in our own form: unchanged but for line breaks, and a timestamp where there is none.
fn plain(object: &[u8], now_ms: i64) -> Option<Vec<u8>> {
    if !json::fields(object).any(|(key, _)| METRICS.iter().any(|metric| metric.as_bytes() == key)) {
        return None;
    }
    // Inside of strings a raw line break is not allowed, so these are all between the fields.
    let line = object.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte });
    let has_time = json::get(object, "timestamp").is_some_and(|value| value != b"null");
    if has_time {
        return Some(line.collect());
    }
    // Last, as of a field that comes twice the last one counts.
    let mut stamped: Vec<u8> = line.collect();
    stamped.truncate(stamped.trim_ascii_end().len().saturating_sub(1));
    stamped.extend(format!(",\"timestamp\":{now_ms}}}").into_bytes());
    Some(stamped)
}

/// <https://open-meteo.com/en/docs>: `current=temperature_2m,relative_humidity_2m,wind_speed_10m`.
fn open_meteo(object: &[u8], now_ms: i64) -> Option<Vec<u8>> {
    let current = json::get(object, "current")?;
    let units = json::get(object, "current_units").unwrap_or_default();
    let unit = |field| json::get(units, field).and_then(json::text).unwrap_or_default();
    let value = |field| json::get(current, field).and_then(json::number);
    let temperature = value("temperature_2m").map(|t| match unit("temperature_2m").as_ref() {
        b"\xc2\xb0F" => (t - 32.0) / 1.8,
        _ => t,
    });
    let wind = value("wind_speed_10m").map(|speed| match unit("wind_speed_10m").as_ref() {
        b"m/s" => speed,
        b"mp/h" => speed * 0.447_04,
        b"kn" => speed * 0.514_444,
        // The service's default.
        _ => speed / 3.6,
    });
    let time = json::get(current, "time")?;
    let event_ms = match json::text(time) {
        // Local time of the place, unless the caller asked for UTC: the offset is beside it.
        Some(text) => {
            let local_ms = timestamp::from_text(std::str::from_utf8(&text).ok()?)?;
            let offset_s = json::get(object, "utc_offset_seconds").and_then(json::number).unwrap_or(0.0);
            Some(local_ms - (offset_s * 1000.0) as i64)
        }
        None => json::number(time).map(|seconds| (seconds * 1000.0) as i64),
    };
    let place = |field| json::get(object, field).and_then(json::number).map(|n| (n * 1e4).round() / 1e4);
    let station = match (place("latitude"), place("longitude")) {
        (Some(latitude), Some(longitude)) => Some(format!("\"{latitude},{longitude}\"").into_bytes()),
        _ => None,
    };
    compose(
        station.as_deref(),
        event_ms.unwrap_or(now_ms),
        [temperature, value("relative_humidity_2m"), wind],
    )
}

/// <https://openweathermap.org/current> with `units=metric`.
fn open_weather_map(object: &[u8], now_ms: i64) -> Option<Vec<u8>> {
    let main = json::get(object, "main")?;
    let wind = json::get(object, "wind").unwrap_or_default();
    let value = |object, field| json::get(object, field).and_then(json::number);
    let event_ms = value(object, "dt").map_or(now_ms, |seconds| (seconds * 1000.0) as i64);
    // As it stands there, quotes and escapes included.
    let station = json::get(object, "name").filter(|name| name.starts_with(b"\"") && name.len() > 2);
    compose(station, event_ms, [value(main, "temp"), value(main, "humidity"), value(wind, "speed")])
}

/// A reading of ours; None without any metric. `station` is a JSON string.
fn compose(station: Option<&[u8]>, event_ms: i64, metrics: [Option<f64>; 3]) -> Option<Vec<u8>> {
    metrics.iter().flatten().next()?;
    let mut reading = b"{".to_vec();
    if let Some(station) = station {
        reading.extend_from_slice(b"\"station\":");
        reading.extend_from_slice(station);
        reading.push(b',');
    }
    reading.extend_from_slice(format!("\"timestamp\":{event_ms}").as_bytes());
    for (name, value) in METRICS.iter().zip(metrics) {
        if let Some(value) = value {
            // Two digits more than any of these services gives, and no trail of a unit's conversion.
            let value = (value * 1e4).round() / 1e4;
            reading.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
        }
    }
    reading.push(b'}');
    Some(reading)
}

#[cfg(test)]
mod tests {
    use super::super::http::tests::serve;
    use super::*;

    const NOW_MS: i64 = 1_763_803_617_123;

    fn shown(body: &str) -> Vec<String> {
        readings(body.as_bytes(), NOW_MS).into_iter().map(|r| String::from_utf8(r).unwrap()).collect()
    }

    #[test]
    fn our_own_form_in_any_wrapping() {
        let one = r#"{"city":"Hue","timestamp":1,"temperature":21.50}"#;
        let two = r#"{"station":"b","timestamp":"2025-11-22","humidity":5e1,"wind_speed":null}"#;
        assert_eq!(shown(one), [one]);
        assert_eq!(shown(&format!("[{one},\n {two}]")), [one, two]);
        assert_eq!(shown(&format!("{one}\n{two}\n")), [one, two]);
        assert_eq!(
            shown("{\n \"temperature\": 1,\n \"timestamp\": 2\n}"),
            ["{  \"temperature\": 1,  \"timestamp\": 2 }"]
        );
        assert_eq!(shown(r#"{"temperature":1}"#), [r#"{"temperature":1,"timestamp":1763803617123}"#]);
        // Of a field that comes twice the last one counts.
        assert_eq!(
            shown(r#"{"temperature":1,"timestamp":null} "#),
            [r#"{"temperature":1,"timestamp":null,"timestamp":1763803617123}"#]
        );
        for none in ["", "[]", "{}", r#"{"error":true}"#, "<html>"] {
            assert_eq!(shown(none), [""; 0], "{none}");
        }
    }

    #[test]
    fn open_meteos_current_weather() {
        let answer = |units: &str, current: &str| {
            format!(
                r#"{{"latitude":52.52,"longitude":13.419998,"utc_offset_seconds":25200,"timezone":"Asia/Bangkok",
                "current_units":{units},"current":{current}}}"#
            )
        };
        let current = r#"{"time":"2025-11-22T16:15","interval":900,"temperature_2m":2.1,"relative_humidity_2m":84,"wind_speed_10m":18.0}"#;
        let kmh = answer(r#"{"temperature_2m":"°C","wind_speed_10m":"km/h"}"#, current);
        let expected = r#"{"station":"52.52,13.42","timestamp":1763802900000,"temperature":2.1,"humidity":84,"wind_speed":5}"#;
        assert_eq!(shown(&kmh), [expected]);
        assert_eq!(shown(&format!("[{kmh},{kmh}]")), [expected, expected]);
        let ms = answer(r#"{"wind_speed_10m":"m/s"}"#, r#"{"time":1763802900,"wind_speed_10m":18.0}"#);
        assert_eq!(shown(&ms), [r#"{"station":"52.52,13.42","timestamp":1763802900000,"wind_speed":18}"#]);
        let us = answer(
            r#"{"temperature_2m":"°F","wind_speed_10m":"mp/h"}"#,
            r#"{"time":1763802900,"temperature_2m":50,"wind_speed_10m":10}"#,
        );
        assert_eq!(
            shown(&us),
            [r#"{"station":"52.52,13.42","timestamp":1763802900000,"temperature":10,"wind_speed":4.4704}"#]
        );
        assert_eq!(shown(&answer("{}", r#"{"time":"soon","temperature_2m":1}"#)), [""; 0]);
    }

    #[test]
    fn open_weather_maps_current_weather() {
        let answer = r#"{"coord":{"lon":105.8,"lat":21.0},"weather":[{"main":"Clouds"}],"main":{"temp":24.3,
            "feels_like":24.9,"pressure":1013,"humidity":78},"wind":{"speed":3.6,"deg":120},"dt":1763802900,
            "name":"H\u00e0 N\u1ed9i","cod":200}"#;
        let expected = r#"{"station":"H\u00e0 N\u1ed9i","timestamp":1763802900000,"temperature":24.3,"humidity":78,"wind_speed":3.6}"#;
        assert_eq!(shown(answer), [expected]);
        assert_eq!(shown(r#"{"main":{"temp":"x"},"dt":1}"#), [""; 0]);
    }

    #[tokio::test]
    async fn what_was_told_before_is_not_sent_again() {
        let body = r#"[{"station":"a","timestamp":1,"temperature":1},{"station":"b","timestamp":1,"temperature":2}]"#;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let mut api = Api::new(&serve(answer).await, Duration::from_millis(10));
        assert!(api.next().await.starts_with(b"{\"station\":\"a\""));
        assert!(api.next().await.starts_with(b"{\"station\":\"b\""));
        assert!(timeout(Duration::from_millis(100), api.next()).await.is_err(), "the answer is the same");
        api.take(br#"{"station":"a","timestamp":2,"temperature":1}"#);
        assert!(api.next().await.starts_with(b"{\"station\":\"a\",\"timestamp\":2"));
    }

    #[tokio::test]
    async fn an_api_that_is_away_is_waited_for() {
        let mut api = Api::new("http://127.0.0.1:1/x?appid=s3cret", Duration::from_millis(10));
        assert!(timeout(Duration::from_millis(100), api.next()).await.is_err());
        assert!(api.outage.reason().is_some());
    }
}
