//! `/stations`: the stations that match a search, for the table of the dashboard.
//!
//! `?search=PART&sort=station|temperature|humidity|wind_speed|readings&order=asc|desc`. A search must not keep
//! PostgreSQL busy: one query runs at a time, then there is a rest of some times its length, and a result serves everybody who
//! asks for the same until it is old.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::postgres::connector::Connector;
use crate::postgres::failure::Failure;
use crate::postgres::station_list::{
    self, HISTORY, LIMIT, ListedStation, StationList, StationOrder, StationQuery,
};
use crate::processor::observe::measures::Measures;
use crate::processor::observe::tables::QueryConnection;
use crate::telemetry::http::HttpAnswer;
use crate::time::Rfc3339;

/// How long a result is used.
const FRESH: Duration = Duration::from_secs(5);
/// The rest after a query, in times of its length.
const REST: u32 = 4;
/// The longest rest.
const MAX_REST: Duration = Duration::from_secs(4);
/// Results that are kept.
const KEPT: usize = 4;

/// The page.
#[derive(Debug)]
pub struct StationPage {
    reader: QueryConnection,
    window_ms: i64,
    results: Mutex<Results>,
}

#[derive(Debug, Default)]
struct Results {
    /// When each was read, and what the answer is.
    kept: HashMap<StationQuery, (Instant, Arc<str>)>,
    rest_until: Option<Instant>,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    newest_window: Option<String>,
    window_seconds: f64,
    matching: i64,
    limit: i64,
    history_windows: i64,
    stations: Vec<StationLine<'a>>,
}

#[derive(Debug, Serialize)]
struct StationLine<'a> {
    station: &'a str,
    window: String,
    #[serde(flatten)]
    measures: Measures,
    readings: i64,
    temperatures: Vec<Option<f64>>,
}

impl StationPage {
    /// Of windows of this length.
    pub fn new(database: Arc<Connector>, window_ms: i64) -> Self {
        Self { reader: QueryConnection::new(database), window_ms, results: Mutex::default() }
    }

    /// The answer to a query.
    pub async fn answer(&self, query: &str) -> HttpAnswer {
        let wanted = match wanted(query) {
            Ok(wanted) => wanted,
            Err(why) => return HttpAnswer::text(400, &why),
        };
        match self.document(wanted).await {
            Ok(document) => HttpAnswer::ok("application/json", document.to_string()),
            Err(why) => HttpAnswer::text(503, &why),
        }
    }

    async fn document(&self, wanted: StationQuery) -> Result<Arc<str>, String> {
        let mut results = self.results.lock().await;
        if let Some((read, document)) = results.kept.get(&wanted)
            && read.elapsed() < FRESH
        {
            return Ok(Arc::clone(document));
        }
        if let Some(until) = results.rest_until {
            sleep_until(until).await;
        }
        let begun = Instant::now();
        let read = self.read(&wanted).await;
        results.rest_until = Some(Instant::now() + (begun.elapsed() * REST).min(MAX_REST));
        let document: Arc<str> = document(&read?, self.window_ms).into();
        results.kept.retain(|_, (read, _)| read.elapsed() < FRESH);
        if results.kept.len() < KEPT {
            results.kept.insert(wanted, (Instant::now(), Arc::clone(&document)));
        }
        Ok(document)
    }

    async fn read(&self, wanted: &StationQuery) -> Result<StationList, String> {
        let away = || "PostgreSQL is not available".to_owned();
        let session = self.reader.take().await.ok_or_else(away)?;
        let list = station_list::read(&session, wanted, self.window_ms).await;
        let list = list.map_err(|failure: Failure| match failure.is_statement_timeout() {
            true => {
                "too many stations for PostgreSQL to sort in time: search for a part of a name".to_owned()
            }
            false => failure.to_string(),
        })?;
        self.reader.give_back(session).await;
        Ok(list)
    }
}

/// What a query asks for.
///
/// # Errors
/// Why it cannot be answered.
fn wanted(query: &str) -> Result<StationQuery, String> {
    let mut wanted =
        StationQuery { search: String::new(), order: StationOrder::Station, is_descending: false };
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match (name, value) {
            ("search", value) => wanted.search = decoded(value),
            ("sort", value) => {
                let order = StationOrder::ALL.into_iter().find(|order| order.as_str() == value);
                let names = || StationOrder::ALL.map(StationOrder::as_str).join(", ");
                wanted.order = order.ok_or_else(|| format!("sort is one of {}", names()))?;
            }
            ("order", "asc") => wanted.is_descending = false,
            ("order", "desc") => wanted.is_descending = true,
            ("order", _) => return Err("order is asc or desc".to_owned()),
            _ => {}
        }
    }
    Ok(wanted)
}

/// A value of a query as text. In names of stations, what PostgreSQL cannot store is a replacement character.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        match (first, digit(0).zip(digit(1))) {
            (b'%', Some((high, low))) => {
                // Two digits are a byte.
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            (byte, _) => {
                bytes.push(if *byte == b'+' { b' ' } else { *byte });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).replace('\0', "\u{fffd}")
}

fn document(list: &StationList, window_ms: i64) -> String {
    let document = Document {
        newest_window: list.newest_ms.map(|ms| Rfc3339(ms).to_string()),
        window_seconds: window_ms as f64 / 1000.0,
        matching: list.matching,
        limit: LIMIT,
        history_windows: HISTORY,
        stations: list.stations.iter().map(StationLine::of).collect(),
    };
    // Text and finite numbers always serialise; otherwise, an empty document would show it.
    simd_json::to_string(&document).unwrap_or_else(|_| "{}".to_owned())
}

impl<'a> StationLine<'a> {
    fn of(station: &'a ListedStation) -> Self {
        // More digits are in the view.
        let short = |value: Option<f64>| value.map(|value| (value * 1_000.0).round() / 1_000.0);
        Self {
            station: &station.station,
            window: Rfc3339(station.start_ms).to_string(),
            measures: Measures::of(
                station.averages.map(short),
                station.minima.map(short),
                station.maxima.map(short),
            ),
            readings: station.readings,
            temperatures: station.temperatures.iter().map(|value| short(*value)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_a_browser_writes_it() {
        let found = |query: &str| {
            wanted(query).map(|wanted| (wanted.search, wanted.order.as_str(), wanted.is_descending))
        };
        let by = |search: &str, order, is_descending| Ok((search.to_owned(), order, is_descending));
        for (query, expected) in [
            ("", by("", "station", false)),
            ("search=&sort=readings&order=desc", by("", "readings", true)),
            ("search=H%C3%A0+N%E1%BB%99i%26&other=1", by("Hà Nội&", "station", false)),
            ("search=100%25+%2B+%", by("100% + %", "station", false)),
            ("search=%zz%0", by("%zz%0", "station", false)),
            ("search=a%00%ff", by("a\u{fffd}\u{fffd}", "station", false)),
            ("search=%+1", by("% 1", "station", false)),
            (
                "sort=price",
                Err("sort is one of station, temperature, humidity, wind_speed, readings".to_owned()),
            ),
            ("order=up", Err("order is asc or desc".to_owned())),
        ] {
            assert_eq!(found(query), expected, "{query}");
        }
    }
}
