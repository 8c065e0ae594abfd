//! Readings from a web API that is requested again and again.
//!
//! A response may be one record, an array of them, or one per line. A reading in the format of this run is sent as it is;
//! one without a time is current, since such an API gives current weather, and gets a `timestamp`. What was in the
//! previous response is not sent again: services update every few minutes, and requesting more often must not give a
//! reading more weight. So the reading is compared, not the response: that often also holds a clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::check::Check;
use super::http::Endpoint;
use super::records::{objects, one_line};
use crate::reading::explain::explain;
use crate::reading::{Format, Reading, Reason};
use crate::telemetry::log::Outage;
use crate::time::now_ms;

/// Longest wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The API, and its last response.
pub(super) struct PolledApi {
    endpoint: Endpoint,
    poll: Duration,
    next_poll: Instant,
    readings: VecDeque<Vec<u8>>,
    /// The readings of the last answer, with their stations.
    known: Vec<(Reading, Option<String>)>,
    format: Arc<Format>,
    check: Check,
    outage: Outage,
}

impl PolledApi {
    /// Requests this URL at once, and then every `poll`.
    pub(super) fn new(url: &str, poll: Duration, format: &Arc<Format>) -> Self {
        let endpoint = Endpoint::new(url);
        let outage = Outage::new(format!("The API at {}", endpoint.name()));
        let next_poll = Instant::now();
        Self {
            endpoint,
            poll,
            next_poll,
            readings: VecDeque::new(),
            known: Vec::new(),
            format: Arc::clone(format),
            check: Check::new(format),
            outage,
        }
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
                Ok(body) => self.take(&body, now_ms()),
                Err(e) => self.outage.failed(&e),
            }
        }
    }

    fn take(&mut self, body: &[u8], now_ms: i64) {
        let mut known = Vec::new();
        for object in objects(body) {
            let mut record = one_line(object);
            if matches!(self.check.read(&record, now_ms).0, Err(Reason::MissingTimestamp)) {
                record = stamped(&record, now_ms);
            }
            let (Ok(reading), station) = self.check.read(&record, now_ms) else { continue };
            let told = (reading, station.map(str::to_owned));
            if !self.known.contains(&told) {
                self.readings.push_back(record);
            }
            known.push(told);
        }
        if known.is_empty() {
            let hint = match objects(body).next() {
                Some(object) => explain(&self.format, object).hint().unwrap_or_default(),
                None => String::from("it contains no JSON object"),
            };
            return self.outage.failed(&format_args!("no reading in the response: {hint}"));
        }
        self.outage.ok();
        self.known = known;
    }
}

/// A time for a reading without one, after its other fields.
fn stamped(record: &[u8], now_ms: i64) -> Vec<u8> {
    let end = record.trim_ascii_end().len().saturating_sub(1);
    let mut stamped = record.get(..end).unwrap_or_default().to_vec();
    stamped.extend(format!(",\"timestamp\":{now_ms}}}").into_bytes());
    stamped
}

#[cfg(test)]
mod tests {
    use super::super::http::tests::serve;
    use super::*;
    use crate::reading::{self, FormatSettings};

    const NOW_MS: i64 = 1_763_803_617_123;

    fn shown(body: &str) -> Vec<String> {
        shown_in(FormatSettings::default(), body)
    }

    fn shown_in(settings: FormatSettings, body: &str) -> Vec<String> {
        let format = Arc::new(Format::new(settings));
        let mut api = PolledApi::new("http://127.0.0.1:1/", Duration::from_secs(1), &format);
        api.take(body.as_bytes(), NOW_MS);
        api.readings.into_iter().map(|r| String::from_utf8(r).unwrap()).collect()
    }

    #[test]
    fn records_in_any_wrapping_are_sent_as_they_came() {
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
        // The last of a repeated field counts.
        assert_eq!(
            shown(r#"{"temperature":1,"timestamp":null} "#),
            [r#"{"temperature":1,"timestamp":null,"timestamp":1763803617123}"#]
        );
        for none in ["", "[]", "{}", r#"{"error":true}"#, "<html>"] {
            assert_eq!(shown(none), [""; 0], "{none}");
        }
    }

    #[test]
    fn current_weather_of_known_services_is_a_reading() {
        let open_meteo = r#"{"latitude":52.5,"utc_offset_seconds":25200,"current_units":{"wind_speed_10m":"km/h"},"current":{"time":"2025-11-22T16:15","temperature_2m":2.1,"relative_humidity_2m":84,"wind_speed_10m":18.0}}"#;
        let weather_api = r#"{"location":{"name":"X"},"current":{"last_updated_epoch":1709633700,"temp_c":9.4,"wind_kph":14.4,"humidity":81}}"#;
        assert_eq!(shown(open_meteo), [open_meteo]);
        assert_eq!(shown(weather_api), [weather_api]);
        // Units that depend on the request must be given.
        let open_weather_map =
            r#"{"main":{"temp":24.3,"humidity":78},"wind":{"speed":3.6},"dt":1763802900,"name":"X"}"#;
        assert_eq!(shown(open_weather_map), [""; 0]);
        let fields = reading::fields("timestamp=dt,temperature=main.temp:C,humidity=main.humidity").unwrap();
        assert_eq!(
            shown_in(FormatSettings { fields, ..FormatSettings::default() }, open_weather_map),
            [open_weather_map]
        );
    }

    #[test]
    fn what_the_answer_lacks_is_said() {
        let mut api = PolledApi::new("http://127.0.0.1:1/", Duration::from_secs(1), &Format::shared());
        api.take(br#"{"main":{"temp":283.1,"humidity":78},"wind":{"speed":3.6},"dt":1763802900}"#, NOW_MS);
        let said = api.outage.reason().unwrap();
        assert!(said.contains("--fields 'temperature=main.temp:K,humidity=main.humidity:%"), "{said}");
    }

    #[test]
    fn a_clock_in_the_answer_makes_it_no_other() {
        let answer = |clock: u32| {
            format!(
                r#"{{"location":{{"name":"X","localtime_epoch":{clock}}},"current":{{"last_updated_epoch":1709633700,"temp_c":9.4}}}}"#
            )
        };
        let mut api = PolledApi::new("http://127.0.0.1:1/", Duration::from_secs(1), &Format::shared());
        for clock in [1_709_633_710, 1_709_633_720, 1_709_633_730] {
            api.take(answer(clock).as_bytes(), NOW_MS);
        }
        assert_eq!(api.readings.len(), 1);
    }

    #[tokio::test]
    async fn what_was_told_before_is_not_sent_again() {
        let body = r#"[{"station":"a","timestamp":1,"temperature":1},{"station":"b","timestamp":1,"temperature":2}]"#;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let mut api = PolledApi::new(&serve(answer).await, Duration::from_millis(10), &Format::shared());
        assert!(api.next().await.starts_with(b"{\"station\":\"a\""));
        assert!(api.next().await.starts_with(b"{\"station\":\"b\""));
        assert!(timeout(Duration::from_millis(100), api.next()).await.is_err(), "the answer is the same");
        api.take(br#"{"station":"a","timestamp":2,"temperature":1}"#, NOW_MS);
        assert!(api.next().await.starts_with(b"{\"station\":\"a\",\"timestamp\":2"));
    }

    #[tokio::test]
    async fn an_api_that_is_away_is_waited_for() {
        let mut api =
            PolledApi::new("http://127.0.0.1:1/x?appid=s3cret", Duration::from_millis(10), &Format::shared());
        assert!(timeout(Duration::from_millis(100), api.next()).await.is_err());
        assert!(api.outage.reason().is_some());
    }
}
