//! What the program shows over HTTP, and that no client can disturb the work.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use simd_json::OwnedValue;
use simd_json::prelude::*;

use crate::support::oracle::{Expected, Rules};
use crate::support::{Pipeline, Postgres, Weather, poll, turn};

/// The most that anything here may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// `weather process` with its endpoint, and where that listens.
pub(crate) async fn spawn(pipeline: &Pipeline) -> (Weather, String) {
    spawn_with(pipeline, &[]).await
}

/// The same with more arguments.
pub(crate) async fn spawn_with(pipeline: &Pipeline, more: &[&str]) -> (Weather, String) {
    spawn_at(pipeline, pipeline.database.url(), more).await
}

/// The same with this `--database-url`.
pub(crate) async fn spawn_at(pipeline: &Pipeline, url: &str, more: &[&str]) -> (Weather, String) {
    let own = ["--database-url", url, "--checkpoint-dir", pipeline.folder(), "--listen", "127.0.0.1:0"];
    let common = ["process", "--brokers", &pipeline.brokers, "--topic", &pipeline.topic];
    let processor = Weather::spawn(common.iter().chain(&own).chain(more));
    let address = address(&processor).await;
    (processor, address)
}

async fn address(weather: &Weather) -> String {
    let line = weather.wait_for_line("listening", LIMIT).await;
    let url = line.split_once("url=http://").expect("the address").1;
    url.split('/').next().unwrap_or_default().to_owned()
}

/// Status and body of a GET.
pub(crate) fn get(address: &str, path: &str) -> (u16, String) {
    let answer = send(address, format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes());
    let status = answer.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
}

fn send(address: &str, request: &[u8]) -> String {
    let mut answer = Vec::new();
    if let Ok(mut stream) = TcpStream::connect(address) {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(15)));
        let _ = stream.write_all(request);
        let _ = stream.read_to_end(&mut answer);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) fn progress(address: &str) -> OwnedValue {
    document(address, "/progress")
}

fn document(address: &str, path: &str) -> OwnedValue {
    let (status, body) = get(address, path);
    assert_eq!(status, 200, "{path}: {body}");
    simd_json::to_owned_value(&mut body.into_bytes()).expect("JSON")
}

/// Every sample of an exposition, by its name with labels.
pub(crate) type Samples = BTreeMap<String, f64>;

/// Reads Prometheus' text format by the rules of its specification, version 0.0.4, and of its naming practice.
pub(crate) fn check_exposition(text: &str) -> Samples {
    assert!(text.ends_with('\n'), "the last line ends");
    let (mut samples, mut families) = (Samples::new(), BTreeMap::new());
    let (mut helped, mut current) = (BTreeSet::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(helped.insert(name.to_owned()), "{name} has two HELP lines, or its samples are apart");
            assert!(!help.is_empty());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(["counter", "gauge", "histogram", "summary", "untyped"].contains(&kind), "{line}");
            assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} has two TYPE lines");
            assert!(helped.contains(name), "{name}: HELP comes first here");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            for unit in ["_ms", "_milliseconds", "_kb", "_mb", "_minutes"] {
                assert!(!name.ends_with(unit), "{name} is not in a base unit");
            }
            current = name.to_owned();
        } else {
            assert!(!line.starts_with('#') && !line.is_empty(), "{line}");
            let (series, value) = check_sample(line);
            let base = series.split('{').next().unwrap_or_default();
            let kind = families.get(&current).map(String::as_str);
            let suffixes: &[&str] =
                if kind == Some("histogram") { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(
                suffixes.iter().any(|suffix| base == format!("{current}{suffix}")),
                "{line} is not of {current}"
            );
            assert!(samples.insert(series, value).is_none(), "{line}: the same series twice");
        }
    }
    for (name, _) in families.iter().filter(|(_, kind)| *kind == "histogram") {
        check_histogram(name, &samples);
    }
    samples
}

/// `name{label="value",…} number`; the series and the number.
fn check_sample(line: &str) -> (String, f64) {
    let end = line.rfind(' ').expect("a value");
    let (series, value) = (&line[..end], line[end + 1..].parse::<f64>().unwrap_or_else(|_| panic!("{line}")));
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let word = |text: &str| {
        text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !text.starts_with(|c: char| c.is_ascii_digit())
    };
    assert!(!name.is_empty() && word(name), "{line}");
    let mut labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
    while !labels.is_empty() {
        let (label, rest) = labels.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
        assert!(word(label) && !label.starts_with("__"), "{line}");
        let mut escaped = false;
        let close = rest.find(|c| {
            let ends = c == '"' && !escaped;
            assert!(!escaped || ['\\', '"', 'n'].contains(&c), "{line}");
            escaped = c == '\\' && !escaped;
            ends
        });
        labels = &rest[close.unwrap_or_else(|| panic!("{line}")) + 1..];
        labels = labels.strip_prefix(',').unwrap_or(labels);
    }
    (series.to_owned(), value)
}

fn check_histogram(name: &str, samples: &Samples) {
    let prefix = format!("{name}_bucket{{le=\"");
    let bound = |series: &str| match series[prefix.len()..].trim_end_matches("\"}") {
        "+Inf" => f64::INFINITY,
        number => number.parse().expect("a bound"),
    };
    let mut buckets: Vec<(f64, f64)> =
        samples.iter().filter(|(s, _)| s.starts_with(&prefix)).map(|(s, n)| (bound(s), *n)).collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{name}: buckets are cumulative: {buckets:?}");
    let last = buckets.last().expect("buckets");
    assert_eq!((last.0, Some(&last.1)), (f64::INFINITY, samples.get(&format!("{name}_count"))), "{name}");
    assert!(samples.contains_key(&format!("{name}_sum")), "{name}");
}

/// The sum of a family over its labels.
pub(crate) fn total(samples: &Samples, name: &str) -> f64 {
    let of_family = |series: &&String| series.split('{').next() == Some(name);
    samples.iter().filter(|(series, _)| of_family(series)).map(|(_, value)| value).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_progress_and_health_tell_the_truth() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::new("telemetry").await;
    let (processor, address) = spawn(&pipeline).await;
    let waiting =
        poll(LIMIT, || Some(get(&address, "/readyz")).filter(|(_, why)| why.contains("topic"))).await;
    let (status, why) = waiting.expect("it waits for the topic");
    assert_eq!(status, 503, "{why}");
    assert_eq!(get(&address, "/livez"), (200, "ok\n".to_owned()));
    check_exposition(&get(&address, "/metrics").1);

    let producer = pipeline.producer(&[
        "--count",
        "20000",
        "--rate",
        "0",
        "--backfill",
        "4h",
        "--late-ratio",
        "0.02",
        "--malformed-ratio",
        "0.02",
    ]);
    producer.succeed(LIMIT).await;
    let expected = Expected::of_topic(&pipeline.kafka, &pipeline.topic, Rules::default()).await;
    let settled = poll(LIMIT, || {
        let samples = check_exposition(&get(&address, "/metrics").1);
        let done = total(&samples, "weather_records_total") == 20_000.0
            && total(&samples, "weather_unflushed_records") == 0.0
            && samples.get("weather_ready") == Some(&1.0);
        done.then_some(samples)
    });
    let samples = settled.await.expect("everything is read and written");
    let counts = expected.counts();
    assert_eq!(total(&samples, "weather_aggregated_records_total"), counts["aggregated"] as f64);
    for reason in ["malformed", "missing_timestamp", "no_metric", "late"] {
        let label = format!("reason=\"{reason}\"");
        let rejected: f64 = samples.iter().filter(|(s, _)| s.contains(&label)).map(|(_, n)| n).sum();
        assert_eq!(rejected, counts[reason] as f64, "{reason}");
    }
    assert_eq!(total(&samples, "weather_lag_records"), 0.0);
    assert_eq!(samples["weather_owned_partitions"], 6.0);
    assert!(samples["weather_append_to_visible_seconds_count"] >= 6.0);
    for must_be in [
        "weather_build_info",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "weather_flush_duration_seconds_count",
        "weather_last_write_timestamp_seconds",
        "weather_processes",
    ] {
        assert!(samples.keys().any(|series| series.starts_with(must_be)), "{must_be}");
    }
    assert_eq!(get(&address, "/readyz"), (200, "ok\n".to_owned()));
    let progress = progress(&address);
    let weather = progress.get("weather").expect("ours");
    assert_eq!(weather.get("totals").and_then(|t| t.get_i64("aggregated")), Some(counts["aggregated"]));
    assert_eq!(progress.get_str("name"), Some(pipeline.topic.as_str()));
    for field in
        ["batchId", "inputRowsPerSecond", "processedRowsPerSecond", "stateOperators", "sources", "sink"]
    {
        assert!(progress.get(field).is_some(), "{field}");
    }
    let windows = pipeline.database.number("SELECT count(*) FROM weather_summary").await;
    assert_eq!(weather.get_array("windows").map(|w| w.len() as i64), Some(windows));
    assert!(!format!("{progress}").contains(&Postgres::shared().password()), "no secrets");
    processor.sigterm();
    processor.succeed(LIMIT).await;
}

/// The greatest averages of the newest window, as SQL has them.
const WARMEST: &str = "SELECT station, avg_temp, reading_count FROM weather_station_summary
    WHERE window_start = (SELECT max(window_start) FROM weather_summary) ORDER BY avg_temp DESC, station LIMIT 200";

#[tokio::test(flavor = "multi_thread")]
async fn stations_are_listed_in_part_and_counted_in_total() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::new("station_page").await;
    pipeline.produce(&["--count", "30000", "--rate", "0", "--stations", "700", "--late-ratio", "0.02"]).await;
    let (processor, address) = spawn_with(&pipeline, &["--by", "station", "--max-stations", "90"]).await;
    let all = "SELECT coalesce(sum(reading_count), 0)::bigint FROM weather_station_partial";
    let settled = poll(LIMIT, || {
        let samples = check_exposition(&get(&address, "/metrics").1);
        let read = total(&samples, "weather_records_total") == 30_000.0;
        (read && total(&samples, "weather_unwritten_station_rows") == 0.0).then_some(samples)
    });
    let samples = settled.await.expect("everything is read and written");
    let named = "SELECT count(*) FROM weather_station_partial WHERE station <> '*'
        AND window_start = (SELECT max(window_start) FROM weather_station_partial)";
    assert_eq!(total(&samples, "weather_stations"), pipeline.database.number(named).await as f64);
    let others = format!("{all} WHERE station = '*'");
    let overflow = pipeline.database.number(&others).await;
    assert!(overflow > 0);
    assert_eq!(total(&samples, "weather_station_overflow_readings"), overflow as f64);
    assert!(total(&samples, "weather_written_station_rows_total") >= total(&samples, "weather_station_rows"));
    assert!(!samples.keys().any(|series| series.contains("station-")), "no label for a station");
    let totals = progress(&address);
    let totals = totals.get("weather").and_then(|weather| weather.get("stations")).expect("totals");
    assert_eq!(totals.get_i64("overflow"), Some(overflow));

    let page = document(&address, "/stations?sort=temperature&order=desc");
    let listed: Vec<(String, i64)> =
        page.get_array("stations").expect("rows").iter().map(name_and_count).collect();
    let expected = pipeline.database.query(WARMEST, &[]).await;
    let expected: Vec<(String, i64)> = expected.iter().map(|row| (row.get(0), row.get(2))).collect();
    assert_eq!(listed.len(), 200, "no more than the limit");
    assert_eq!(listed, expected);
    assert!(page.get_i64("matching").expect("a number") > 500);
    let one = document(&address, "/stations?search=STATION-06&sort=readings");
    let names: Vec<_> = one.get_array("stations").expect("rows").iter().map(name_and_count).collect();
    assert!(!names.is_empty() && names.iter().all(|(name, _)| name.starts_with("station-06")), "{names:?}");
    for nothing in ["%25", "_", "%27%20OR%201=1--", "%00", "%ff"] {
        let found = document(&address, &format!("/stations?search={nothing}"));
        assert_eq!(found.get_i64("matching"), Some(0), "{nothing} is no pattern");
    }
    assert_eq!(get(&address, "/stations?sort=price").0, 400);

    let late = "SELECT count(*) FROM weather_dead_letter WHERE reason = 'late'";
    let late = pipeline.database.number(late).await;
    let told = poll(LIMIT, || {
        let progress = progress(&address);
        let readmittable = progress.get("weather")?.get_array("readmittable")?.first()?.get_i64("count")?;
        (readmittable == late)
            .then(|| progress.get("weather").and_then(|w| w.get_str("readmit").map(str::to_owned)))
    });
    assert_eq!(told.await.flatten().as_deref(), Some("weather readmit --reason late"));
    processor.sigterm();
    processor.succeed(LIMIT).await;
}

fn name_and_count(station: &OwnedValue) -> (String, i64) {
    let name = station.get_str("station").expect("a name").to_owned();
    (name, station.get_i64("readings").expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_producer_has_metrics_too() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::new("telemetry").await;
    let producer = pipeline.producer(&["--listen", "127.0.0.1:0", "--interval", "2ms"]);
    let address = address(&producer).await;
    let some = poll(LIMIT, || {
        let samples = check_exposition(&get(&address, "/metrics").1);
        (total(&samples, "weather_acknowledged_records_total") > 100.0).then_some(samples)
    });
    let samples = some.await.expect("readings are acknowledged");
    assert!(samples["weather_acknowledge_duration_seconds_count"] > 0.0);
    assert_eq!(get(&address, "/readyz"), (200, "ok\n".to_owned()));
    assert_eq!(get(&address, "/livez").0, 200);
    assert_eq!(get(&address, "/nowhere").0, 404);
    producer.sigterm();
    producer.succeed(LIMIT).await;
}

/// Bounded in number and time; none of it may slow ingestion down or block a health probe.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_clients_do_not_harm_the_work() {
    let _turn = turn::alone().await;
    const CONNECTIONS: usize = 10_000;
    let pipeline = Pipeline::new("telemetry").await;
    let (processor, address) = spawn(&pipeline).await;
    let producer = pipeline.producer(&["--rate", "2000", "--count", "30000"]);
    processor.wait_for_line("write OK", LIMIT).await;

    // Some send a request a byte at a time and never finish it, for the whole test.
    let slow = address.clone();
    let slowloris = std::thread::spawn(move || {
        let mut streams: Vec<TcpStream> = (0..200).filter_map(|_| TcpStream::connect(&slow).ok()).collect();
        for byte in b"GET / HTTP/1.1\r\nX: yyyyyyyyyyyyyyy" {
            streams.retain_mut(|stream| stream.write_all(&[*byte]).is_ok());
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    let huge = address.clone();
    let huge_requests = std::thread::spawn(move || {
        for _ in 0..20 {
            let line = [b"GET /".as_slice(), &vec![b'x'; 1_000_000], b" HTTP/1.1\r\n\r\n"].concat();
            let answer = send(&huge, &line);
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
        }
    });
    // Thousands connect and send nothing, hundreds at a time.
    let many = address.clone();
    let flood = std::thread::spawn(move || {
        let socket = many.parse().expect("an address");
        let (mut open, begun) = (Vec::new(), Instant::now());
        for i in 0..CONNECTIONS {
            if begun.elapsed() > Duration::from_secs(30) {
                break;
            }
            // The kernel's queue is short on purpose: most of these never get in.
            open.extend(TcpStream::connect_timeout(&socket, Duration::from_millis(2)));
            if i % 400 == 399 {
                open.clear();
            }
        }
    });
    // Other clients are answered meanwhile.
    let mut slowest = Duration::ZERO;
    while !producer.status().is_some_and(|status| status.success()) {
        let asked = Instant::now();
        let health =
            poll(Duration::from_secs(10), || Some(get(&address, "/livez").0).filter(|s| *s == 200)).await;
        assert!(health.is_some(), "no answer to a probe for 10 s");
        slowest = slowest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(producer.status().is_none_or(|status| status.success()), "the producer failed");
    }
    let done = poll(Duration::from_secs(10), || {
        Some(get(&address, "/metrics").1).filter(|text| text.contains("weather_ready 1"))
    });
    done.await.expect("metrics after the flood");
    for thread in [slowloris, huge_requests, flood] {
        thread.join().expect("a client");
    }
    assert!(slowest < Duration::from_secs(5), "a probe waited {slowest:?}");
    println!("slowest probe under attack: {slowest:?}");
    let settled = poll(LIMIT, || {
        let samples = check_exposition(&get(&address, "/metrics").1);
        let records = total(&samples, "weather_records_total");
        (records == 30_000.0 && total(&samples, "weather_unflushed_records") == 0.0).then_some(samples)
    });
    let samples = settled.await.expect("all readings are in the table");
    let visible =
        samples["weather_append_to_visible_seconds_sum"] / samples["weather_append_to_visible_seconds_count"];
    assert!(visible < 5.0, "readings took {visible} s on average to be visible");
    let open = samples["process_open_fds"];
    assert!(open < 120.0, "{open} files are open");
    assert!(processor.usage().peak_rss_bytes < 64 << 20, "{:?}", processor.usage());
}
