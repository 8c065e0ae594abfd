//! Parsers of option values: text to a typed, checked value, or what was expected instead, with an example.
//!
//! Each returns `Err` with a phrase that completes "expected …"; the caller adds the flag and the value.

use std::fmt::Display;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::config::{
    Assign, By, Compression, LogFormat, LogLevel, LogSent, OnDataLoss, OnUnreadable, ReadingSource,
    SaslMechanism, SendPace, StartFrom,
};
use crate::reading::timestamp;
use crate::reading::{MissingTimestamp, Reason, Zone};
pub(super) use crate::reading::{fields, missing_values, output_units};

/// A value, or the end of the sentence "expected …".
pub(super) type Parsed<T> = Result<T, String>;

const DEFAULT_KAFKA_PORT: u16 = 9092;
/// Above this a rate is a typing error, and its interval no longer a good whole number of nanoseconds.
const MAX_RATE: f64 = 10_000_000.0;
/// Far above any real topic; keeps a typing error from filling the memory.
const MAX_PARTITION: i32 = 99_999;

const HTTPS_SENTENCE: &str = "a plain http:// address: for https use another program, for example \
     `curl -s https://… | weather producer --source -`";

/// A duration: numbers with units, such as `6ms`, `1.5h` or `1h30m`.
pub(super) fn duration(text: &str) -> Parsed<Duration> {
    let expected = || String::from("a duration such as 500us, 6ms, 10s, 5m, 1.5h or 7d");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total_ns: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(expected)?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let ns = unit_ns(unit).and_then(|unit| decimal_times(number, unit)).ok_or_else(expected)?;
        total_ns = total_ns.checked_add(ns).ok_or_else(expected)?;
        rest = tail;
    }
    // 10,000 years: no real duration, and far from every overflow behind this point.
    if text.is_empty() || total_ns > 315_360_000_000_000_000_000 {
        return Err(expected());
    }
    let seconds = u64::try_from(total_ns / 1_000_000_000).map_err(|_| expected())?;
    Ok(Duration::new(seconds, (total_ns % 1_000_000_000) as u32))
}

fn unit_ns(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    })
}

/// `number` times `unit`, exact in whole units of one; `number` is digits with at most one point.
fn decimal_times(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 15 {
        return None;
    }
    let parse = |digits: &str| if digits.is_empty() { Some(0u128) } else { digits.parse().ok() };
    let scale = 10u128.pow(fraction.len() as u32);
    let value = parse(whole)?.checked_mul(unit)?;
    value.checked_add(parse(fraction)?.checked_mul(unit)? / scale)
}

/// A duration above zero.
pub(super) fn interval(text: &str) -> Parsed<Duration> {
    match duration(text) {
        Ok(d) if d.is_zero() => Err(String::from("a duration above zero, such as 6ms or 10s")),
        other => other,
    }
}

/// A duration of whole milliseconds: event time is counted in these.
pub(super) fn whole_ms(text: &str) -> Parsed<Duration> {
    match duration(text) {
        Ok(d) if d.subsec_nanos() % 1_000_000 != 0 => {
            Err(String::from("a whole number of milliseconds, such as 10m or 1500ms"))
        }
        other => other,
    }
}

/// A whole number in a range.
pub(super) fn integer<T>(text: &str, min: T, max: T) -> Parsed<T>
where
    T: FromStr + PartialOrd + Display + Copy,
{
    let expected = || format!("a whole number from {min} to {max}, such as {min}");
    // Rust accepts a leading +, but nobody writes a number like that in a manifest.
    match text.parse::<T>() {
        Ok(n) if n >= min && n <= max && !text.starts_with('+') => Ok(n),
        _ => Err(expected()),
    }
}

/// A count from 1 on.
pub(super) fn count(text: &str) -> Parsed<u64> {
    let digits = text.replace('_', "");
    integer(&digits, 1, u64::MAX).map_err(|_| String::from("a whole number of at least 1, such as 100000"))
}

/// A share from 0 to 1.
pub(super) fn ratio(text: &str) -> Parsed<f64> {
    match text.parse::<f64>() {
        Ok(r) if (0.0..=1.0).contains(&r) => Ok(r),
        _ => Err(String::from("a share from 0 to 1, such as 0.05")),
    }
}

/// How many times faster than the clock.
pub(super) fn speedup(text: &str) -> Parsed<f64> {
    match text.parse::<f64>() {
        Ok(x) if (1.0..=1e6).contains(&x) => Ok(x),
        _ => Err(String::from("a number from 1 to 1000000, such as 60")),
    }
}

/// Readings per second; 0 = as fast as possible.
pub(super) fn rate(text: &str) -> Parsed<SendPace> {
    match text.parse::<f64>() {
        Ok(0.0) => Ok(SendPace::Unlimited),
        Ok(r) if r > 0.0 && r <= MAX_RATE && 1.0 / r <= 1e6 => {
            Ok(SendPace::Every(Duration::from_secs_f64(1.0 / r)))
        }
        _ => Err(String::from(
            "readings per second, at most 10000000, such as 1000; 0 for as fast as possible",
        )),
    }
}

/// The most bytes that one fetch may return.
pub(super) fn fetch_bytes(text: &str) -> Parsed<i32> {
    match bytes(text) {
        Some(n) if (16 * 1024..=64 * 1024 * 1024).contains(&n) => Ok(n as i32),
        _ => Err(String::from("bytes from 16KiB to 64MiB, such as 1MiB or 500000")),
    }
}

/// The maximum size of a table.
pub(super) fn table_bytes(text: &str) -> Parsed<i64> {
    match bytes(text) {
        Some(n) if n >= 1024 * 1024 => Ok(n),
        _ => Err(String::from("bytes, at least 1MiB, such as 1GiB")),
    }
}

/// A number of bytes, with or without a unit.
fn bytes(text: &str) -> Option<i64> {
    let unit_start = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_start);
    let factor: i64 = match unit {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(factor)
}

/// How long something is kept: what PostgreSQL can subtract from today.
pub(super) fn retention(text: &str) -> Parsed<Duration> {
    const LONGEST: Duration = Duration::from_secs(36_500 * 24 * 60 * 60);
    match interval(text) {
        Ok(d) if d > LONGEST => Err(String::from("at most 36500d, such as 7d")),
        other => other,
    }
}

/// What averages are kept by beside the window.
pub(super) fn by(text: &str) -> Parsed<By> {
    match text {
        "station" => Ok(By::Station),
        _ => Err(String::from("station")),
    }
}

/// Bootstrap brokers, `host:port` each; the port is 9092 where none is given.
pub(super) fn brokers(text: &str) -> Parsed<Vec<String>> {
    text.split(',').map(|one| broker(one.trim())).collect()
}

/// Advertised addresses and where they can be reached, `advertised=reachable` each.
pub(super) fn broker_map(text: &str) -> Parsed<Vec<(String, String)>> {
    let pair = |pair: &str| {
        let (advertised, reachable) = pair.split_once('=')?;
        Some((broker(advertised.trim()).ok()?, broker(reachable.trim()).ok()?))
    };
    let pairs: Option<Vec<_>> = text.split(',').map(pair).collect();
    pairs.ok_or_else(|| {
        String::from("pairs advertised=reachable separated by commas, such as kafka-1:9092=127.0.0.1:19092")
    })
}

fn broker(text: &str) -> Parsed<String> {
    let expected = || String::from("host:port pairs separated by commas, such as kafka-1:9092,kafka-2:9092");
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or_else(expected)?;
            address.parse::<Ipv6Addr>().map_err(|_| expected())?;
            (format!("[{address}]"), port)
        }
        // An IPv6 address without brackets has no port: its own colons leave no room for one.
        None if text.parse::<Ipv6Addr>().is_ok() => (format!("[{text}]"), ""),
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let (host, port) = text.split_at(end);
            (host.to_owned(), port)
        }
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
    if host.is_empty() || !host.chars().all(plain) {
        return Err(expected());
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => DEFAULT_KAFKA_PORT,
        None => return Err(expected()),
        Some(port) => integer(port, 1, u16::MAX).map_err(|_| expected())?,
    };
    Ok(format!("{host}:{port}"))
}

/// A topic's name by Kafka's own rule.
pub(super) fn topic(text: &str) -> Parsed<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=249).contains(&text.len()) && text.chars().all(legal) && text != "." && text != ".." {
        return Ok(text.to_owned());
    }
    Err(String::from("1 to 249 letters, digits, dots, underscores or dashes, such as weather_data"))
}

/// An address to listen on; empty = off.
pub(super) fn listen(text: &str) -> Parsed<Option<SocketAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    let expected = "an address with a port, such as 127.0.0.1:8080 or 0.0.0.0:8080, or empty for off";
    let address = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    address.parse().map(Some).map_err(|_| expected.to_owned())
}

/// A value as a message may show it: a URL's query may carry an API key, and what is before its @ a password.
pub(super) fn masked(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (address, query) = rest.split_once('?').map_or((rest, ""), |(address, _)| (address, "?***"));
    match address.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}{query}"),
        None => format!("{scheme}://{address}{query}"),
    }
}

/// Where the producer's readings come from.
pub(super) fn source(text: &str) -> Parsed<ReadingSource> {
    let expected = || String::from("synthetic, - (standard input), a file, or http://host/path");
    match text.split_once("://") {
        None if text.is_empty() => Err(expected()),
        None if text == "synthetic" => Ok(ReadingSource::Synthetic),
        None if text == "-" => Ok(ReadingSource::Stdin),
        None => Ok(ReadingSource::File(PathBuf::from(text))),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let printable = text.chars().all(|c| c.is_ascii_graphic());
            if authority.is_empty() || authority.contains('@') || !printable {
                return Err(String::from("http://host[:port]/path without a user name and without spaces"));
            }
            Ok(ReadingSource::Http(text.to_owned()))
        }
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => Err(HTTPS_SENTENCE.to_owned()),
        Some(_) => Err(expected()),
    }
}

/// Where reading starts if there is no state.
pub(super) fn start_from(text: &str) -> Parsed<StartFrom> {
    match text {
        "earliest" => Ok(StartFrom::Earliest),
        "latest" => Ok(StartFrom::Latest),
        // Shorter is no date: "2026" would otherwise be 34 minutes past 1970.
        _ => timestamp::from_text(text).filter(|_| text.len() >= 10).map(StartFrom::Timestamp).ok_or_else(
            || {
                String::from(
                    "earliest, latest, or a time such as 2026-11-22T09:00:00Z (without an offset: UTC)",
                )
            },
        ),
    }
}

/// A moment, in ms since 1970.
pub(super) fn time(text: &str) -> Parsed<i64> {
    match start_from(text) {
        Ok(StartFrom::Timestamp(ms)) => Ok(ms),
        _ => Err(String::from("a time such as 2026-11-22T09:00:00Z (without an offset: UTC)")),
    }
}

/// Reasons of dead letters.
pub(super) fn reasons(text: &str) -> Parsed<Vec<Reason>> {
    let reason = |name: &str| Reason::ALL.into_iter().find(|reason| reason.as_str() == name.trim());
    text.split(',').map(reason).collect::<Option<_>>().ok_or_else(|| {
        let names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        format!("reasons of {}, with commas between them", names.join(", "))
    })
}

/// Which partitions a process takes.
pub(super) fn assign(text: &str) -> Parsed<Assign> {
    if text == "auto" {
        return Ok(Assign::Auto);
    }
    let expected = || String::from("auto, or partitions such as 0,2-5");
    let mut partitions = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first = integer(first, 0, MAX_PARTITION).map_err(|_| expected())?;
        let last = integer(last, first, MAX_PARTITION).map_err(|_| expected())?;
        partitions.extend(first..=last);
    }
    partitions.sort_unstable();
    partitions.dedup();
    Ok(Assign::Static(partitions))
}

/// One of a few words.
fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Parsed<T> {
    if let Some((_, value)) = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
        return Ok(*value);
    }
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    Err(format!("one of {}", names.join(", ")))
}

/// On or off.
pub(super) fn boolean(text: &str) -> Parsed<bool> {
    let words = [("true", true), ("false", false), ("1", true), ("0", false), ("yes", true), ("no", false)];
    word(text, &words).map_err(|_| String::from("true or false"))
}

pub(super) fn log_level(text: &str) -> Parsed<LogLevel> {
    use LogLevel as L;
    word(text, &[("error", L::Error), ("warn", L::Warn), ("info", L::Info), ("debug", L::Debug)])
}

pub(super) fn log_format(text: &str) -> Parsed<LogFormat> {
    word(text, &[("text", LogFormat::Text), ("json", LogFormat::Json)])
}

pub(super) fn sasl_mechanism(text: &str) -> Parsed<SaslMechanism> {
    use SaslMechanism as S;
    word(text, &[("PLAIN", S::Plain), ("SCRAM-SHA-256", S::ScramSha256), ("SCRAM-SHA-512", S::ScramSha512)])
}

pub(super) fn compression(text: &str) -> Parsed<Compression> {
    use Compression as C;
    word(text, &[("none", C::None), ("gzip", C::Gzip), ("snappy", C::Snappy)])
}

pub(super) fn log_sent(text: &str) -> Parsed<LogSent> {
    word(text, &[("sample", LogSent::Sample), ("all", LogSent::All), ("none", LogSent::None)])
}

pub(super) fn missing_timestamp(text: &str) -> Parsed<MissingTimestamp> {
    word(text, &[("reject", MissingTimestamp::Reject), ("kafka", MissingTimestamp::Kafka)])
}

/// The zone of times without an offset. `TZDIR` is where other programs, too, look for zone files.
pub(super) fn zone(text: &str) -> Parsed<Zone> {
    Zone::from_text(text, std::env::var_os("TZDIR").map(PathBuf::from))
}

pub(super) fn on_data_loss(text: &str) -> Parsed<OnDataLoss> {
    word(text, &[("continue", OnDataLoss::Continue), ("stop", OnDataLoss::Stop)])
}

/// A consumer group's name; empty for none.
pub(super) fn group(text: &str) -> Parsed<Option<String>> {
    match text {
        "" => Ok(None),
        name if name.len() <= 249 && !name.contains(char::is_control) => Ok(Some(name.to_owned())),
        _ => Err(String::from("a name of at most 249 bytes, such as weather-pipeline, or empty for none")),
    }
}

/// A cluster's id, as Kafka says it; empty for none.
pub(super) fn cluster_id(text: &str) -> Parsed<Option<String>> {
    match text {
        "" => Ok(None),
        id if !id.contains(char::is_whitespace) && !id.contains(char::is_control) => Ok(Some(id.to_owned())),
        _ => Err(String::from("the id of a Kafka cluster, or nothing")),
    }
}

/// What to do about a batch that cannot be read.
pub(super) fn on_unreadable(text: &str) -> Parsed<OnUnreadable> {
    word(text, &[("pause", OnUnreadable::Pause), ("stop", OnUnreadable::Stop)])
}

/// Text that must not be empty.
pub(super) fn text(text: &str) -> Parsed<String> {
    if text.is_empty() { Err(String::from("a value that is not empty")) } else { Ok(text.to_owned()) }
}

/// A folder's path.
pub(super) fn folder(text: &str) -> Parsed<PathBuf> {
    if text.is_empty() { Err(String::from("a folder, such as /checkpoint")) } else { Ok(PathBuf::from(text)) }
}

#[cfg(test)]
mod tests;
