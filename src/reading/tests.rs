//! One table for each rule of the reading format; what mutation finds beyond them is in `fuzz`.

use std::sync::Arc;

use super::Cause::{Absent, Null};
use super::Reason::{Malformed, MissingTimestamp, NoMetric};
use super::*;

const MS: i64 = 1_700_000_000_123;

/// What a value is read as, the first time and again, when its shape is known.
fn parse(value: impl AsRef<[u8]>) -> Result<Reading, Reason> {
    parse_in(&Arc::new(Format::default()), value.as_ref())
}

fn parse_in(format: &Arc<Format>, value: &[u8]) -> Result<Reading, Reason> {
    let mut parser = Parser::new(Arc::clone(format));
    let result = parser.parse(value, None);
    assert_eq!(parser.parse(value, None), result, "by its shape: {}", String::from_utf8_lossy(value));
    result
}

type Metrics = Result<(i64, [Option<i64>; 3]), Reason>;

fn reading(metrics: [Option<i64>; 3]) -> Metrics {
    Ok((MS, metrics))
}

#[track_caller]
fn check(value: impl AsRef<[u8]>, expected: Metrics) {
    let value = value.as_ref();
    let result = parse(value).map(|reading| (reading.event_time_ms, reading.metrics));
    assert_eq!(result, expected, "{}", String::from_utf8_lossy(&value[..value.len().min(300)]));
}

/// A value whose fields beside `timestamp` are given.
#[track_caller]
fn check_fields(fields: &str, expected: Metrics) {
    check(format!(r#"{{"timestamp":{MS},{fields}}}"#), expected);
}

#[track_caller]
fn check_time(timestamp: &str, expected: Result<i64, Reason>) {
    let value = format!(r#"{{"timestamp":{timestamp},"humidity":50}}"#);
    assert_eq!(parse(&value).map(|reading| reading.event_time_ms), expected, "{value}");
}

#[test]
fn a_whole_reading() {
    let expected = reading([Some(21_500_000), Some(60_000_000), Some(3_250_000)]);
    check_fields(r#""station":"S1","temperature":21.5,"humidity":60,"wind_speed":3.25"#, expected);
    check_fields(r#""wind_speed":3.25,"city":"Hà Nội","humidity":60,"temperature":21.5"#, expected);
    check(
        format!(
            "\n {{ \"temperature\" :\t21.5 ,\r\n\"humidity\": 6e1, \"wind_speed\": 325E-2, \"timestamp\" : {MS} }} \n"
        ),
        expected,
    );
}

#[test]
fn metrics_may_be_absent_or_null_but_not_all() {
    check_fields(r#""temperature":1"#, reading([Some(SCALE), None, None]));
    check_fields(r#""humidity":1,"temperature":null"#, reading([None, Some(SCALE), None]));
    check_fields(r#""wind_speed":1,"temperature":null,"humidity":null"#, reading([None, None, Some(SCALE)]));
    check_fields(r#""temperature":null,"humidity":null,"wind_speed":null"#, Err(NoMetric));
    check_fields(r#""station":"S1""#, Err(NoMetric));
    check_fields(r#""TEMPERATURE":1,"HUMIDITY":1,"windspeed":1,"wind speed":1,"temp":1"#, Err(NoMetric));
}

/// What became of each metric of a reading.
#[track_caller]
fn check_causes(fields: &str, expected: [Result<i64, Cause>; 3]) {
    let value = format!(r#"{{"timestamp":{MS},{fields}}}"#);
    let reading = parse(&value).unwrap_or_else(|reason| panic!("{value}: {reason:?}"));
    for (index, expected) in expected.into_iter().enumerate() {
        assert_eq!(reading.metrics[index], expected.ok(), "{value}");
        assert_eq!(reading.left_out[index], expected.err(), "{value}");
    }
}

#[test]
fn a_metric_stands_alone() {
    use Cause::{NotANumber, OutOfRange};
    let one = Ok(SCALE);
    for (written, cause) in [
        ("null", Null),
        ("NaN", Null),
        ("Infinity", Null),
        ("-Infinity", Null),
        (r#""""#, Null),
        (r#"" NaN ""#, Null),
        ("true", NotANumber),
        ("{}", NotANumber),
        ("[1]", NotANumber),
        (r#"{"value":1}"#, NotANumber),
        (r#""unavailable""#, NotANumber),
        (r#""21.5°C""#, NotANumber),
        (r#""0x10""#, NotANumber),
        ("-100", OutOfRange),
        ("1e300", OutOfRange),
        ("123456789012345678901234567890", OutOfRange),
        (r#""-99.9""#, OutOfRange),
    ] {
        check_causes(&format!(r#""temperature":{written},"humidity":1"#), [Err(cause), one, Err(Absent)]);
        check_causes(&format!(r#""wind_speed":1,"temperature":{written}"#), [Err(cause), Err(Absent), one]);
        check_fields(&format!(r#""temperature":{written}"#), Err(NoMetric));
    }
    check_causes(
        r#""temperature":3,"humidity":100.4,"wind_speed":-0.1"#,
        [Ok(3 * SCALE), Ok(100 * SCALE), Err(OutOfRange)],
    );
    check_causes(
        r#""temperature":-90,"humidity":105,"wind_speed":150"#,
        [Ok(-90 * SCALE), Ok(100 * SCALE), Ok(150 * SCALE)],
    );
    check_causes(
        r#""temperature":60,"humidity":105.01,"wind_speed":150.001"#,
        [Ok(60 * SCALE), Err(OutOfRange), Err(OutOfRange)],
    );
}

#[test]
fn numbers_in_quotes_are_numbers() {
    let expected = reading([Some(21_500_000), Some(40 * SCALE), Some(310_000)]);
    check_fields(r#""temperature":"21.50","humidity":" 40 ","wind_speed":"3.1e-1""#, expected);
    check_fields(r#""temperature":"\u00321.50","humidity":"40","wind_speed":"0.310""#, expected);
}

#[test]
fn timestamps() {
    for form in [
        "1700000000123",
        "1700000000.123",
        "1700000000123456",
        "1700000000123456789",
        "1700000000123.9",
        "1.700000000123e12",
        r#""1700000000123""#,
        r#"" 1700000000.123 ""#,
        r#""2023-11-14T22:13:20.123Z""#,
        r#""2023-11-14 22:13:20.123456""#,
        r#""2023-11-15t05:13:20,123999+07:00""#,
        r#""2023-11-14\u002022:13:20.123\u005a""#,
    ] {
        check_time(form, Ok(MS));
    }
    check_time("0", Ok(0));
    check_time("-0", Ok(0));
    check_time("18446744073709551615", Ok(18_446_744_073_709));
    check_time(r#""9999-12-31T23:59:59.999Z""#, Ok(timestamp::MAX_MS));
    check_time(r#""2024-02-29""#, Ok(1_709_164_800_000));
}

#[test]
fn timestamps_that_are_refused() {
    for form in [
        "-1",
        "-0.001",
        "-1700000000",
        r#""-1""#,
        "1e30",
        "2.6e20",
        r#""1e30""#,
        r#""1969-12-31T23:59:59.999Z""#,
        r#""1970-01-01T00:00:00+00:01""#,
        r#""0001-01-01""#,
        r#""9999-12-31T23:59:59-01:00""#,
    ] {
        check_time(form, Err(Malformed));
    }
    for form in ["true", "false", r#""yesterday""#, r#""2023-02-29""#, r#""NaN""#, r#""1e999""#] {
        check_time(form, Err(Malformed));
    }
    for form in ["null", r#""""#, "{}", "[]", "[1700000000]", "NaN"] {
        check_time(form, Err(MissingTimestamp));
    }
    check(r#"{"humidity":50}"#, Err(MissingTimestamp));
    check(r#"{"TIMESTAMP":1,"startTime":1,"humidity":50}"#, Err(MissingTimestamp));
}

#[test]
fn the_first_reason_wins() {
    let timestamps = [("1", None), ("null", Some(MissingTimestamp)), ("-1", Some(Malformed))];
    let metrics = [("1", None), ("null", Some(NoMetric)), ("999", Some(NoMetric)), ("true", Some(NoMetric))];
    for (timestamp, first) in timestamps {
        for (metric, second) in metrics {
            let value = format!(r#"{{"temperature":{metric},"timestamp":{timestamp}}}"#);
            assert_eq!(parse(&value).err(), [first, second].into_iter().flatten().min(), "{value}");
        }
    }
    check("{}", Err(MissingTimestamp));
    check(r#"{"timestamp":1,"temperature":999}garbage"#, Err(Malformed));
}

#[test]
fn of_a_key_that_comes_twice_the_last_counts() {
    check_fields(r#""temperature":1,"temperature":2"#, reading([Some(2 * SCALE), None, None]));
    check_fields(
        r#""temperature":"x","humidity":2,"temperature":null"#,
        reading([None, Some(2 * SCALE), None]),
    );
    check_fields(r#""temperature":2,"temperature":null"#, Err(NoMetric));
    check_fields(r#""temperature":2,"temperature":"x""#, Err(NoMetric));
    check_fields(r#""temperature":2,"timestamp":null"#, Err(MissingTimestamp));
    check(
        format!(r#"{{"timestamp":{{}},"temperature":1,"timestamp":{MS}}}"#),
        reading([Some(SCALE), None, None]),
    );
}

#[test]
fn keys_count_as_their_unescaped_text() {
    check(format!(r#"{{"\u0074imestamp":{MS},"temperature":1}}"#), reading([Some(SCALE), None, None]));
    check_fields(r#""humidity":1,"wind\u005fspee\u0064":2"#, reading([None, Some(SCALE), Some(2 * SCALE)]));
    check_fields(r#""humidity":1,"wind\\_speed":2,"temperature\n":3"#, reading([None, Some(SCALE), None]));
}

#[test]
fn other_fields_are_ignored_whatever_they_hold() {
    for other in [
        "1",
        "-1e-7",
        "null",
        "true",
        r#""text \" \\ \u20ac \ud83c\udf27""#,
        "[]",
        "{}",
        "[[],[{}],1]",
        r#"{"timestamp":5,"temperature":"x","humidity":{"temperature":9}}"#,
        r#"["timestamp",5,"temperature",6]"#,
    ] {
        let expected = reading([Some(SCALE), Some(2 * SCALE), None]);
        check_fields(&format!(r#""x":{other},"temperature":1,"":{other},"humidity":2"#), expected);
        check_fields(&format!(r#""temperature":1,"humidity":2,"station":{other},"q":{other}"#), expected);
    }
}

#[test]
fn the_station_is_the_first_name_that_is_text() {
    for (fields, station) in [
        (r#""station":"S1""#, Some("S1")),
        (r#""city":"Hà Nội","station":"S1""#, Some("S1")),
        (r#""location":"L","city":"C""#, Some("C")),
        (r#""city":"C","location":"L""#, Some("C")),
        (r#""location":"L""#, Some("L")),
        (r#""station":null,"location":"L""#, Some("L")),
        (r#""station":7,"city":"C""#, Some("7")),
        (r#""station":7.5,"city":"C""#, None),
        (r#""station":{"name":"x"},"city":"C""#, Some("C")),
        (r#""station":-7,"city":"C""#, Some("-7")),
        (r#""station":"a","station":"b""#, Some("b")),
        (r#""station":"\u00e9t\u00e9\t\"x\"""#, Some("été\t\"x\"")),
        (r#""station":"""#, Some("")),
        (r#""station":true"#, None),
        (r#""name":"x""#, Some("x")),
        (r#""location":{"name":"x"}"#, Some("x")),
    ] {
        let value = format!(r#"{{"timestamp":{MS},"humidity":1,{fields}}}"#);
        let mut parser = Parser::default();
        for round in 0..3 {
            let (read, found) = parser.parse_with_station(value.as_bytes(), None);
            assert_eq!(found, station, "{fields}, round {round}");
            assert_eq!(read.unwrap().metrics, [None, Some(SCALE), None]);
            parser.parse(value.as_bytes(), None).unwrap();
        }
    }
    assert_eq!(Parser::default().parse_with_station(b"[]", None), (Err(Malformed), None));
    let without_time = br#"{"station":"a","humidity":1}"#;
    assert_eq!(Parser::default().parse_with_station(without_time, None), (Err(MissingTimestamp), Some("a")));
}

/// Separated by `|`.
const NO_OBJECTS: &str = r#"
    || |x|null|true|5|-|"text"|"|\|[]|{|}|[|]|{]|[}|:|,|{}{}|{},|{} x|{/**/}|{"a"}|{"a":}|{"a":1,}|{,}|{a:1}
    |{'a':1}|{1:1}|{"a" 1}|{"a":1 "b":2}|{"a":01}|{"a":+1}|{"a":1.}|{"a":.5}|{"a":1e}|{"a":0x1}|{"a":nan}
    |{"a":Nan}|{"a":Inf}|{"a":+Infinity}|{"a":NaNs}|{"a":"NaN}|{"a":nul}|{"a":nulll}|{"a":True}|{"a":1e400}|{"a":-1e400}
    |{"a":"\x"}|{"a":"\u12"}|{"a":"\ud800"}
    |{"a":"\udc00"}|{"a":"}|{"a":"\"}"#;

#[test]
fn whatever_is_no_object_is_malformed() {
    let mut values: Vec<Vec<u8>> = NO_OBJECTS.split('|').map(|text| text.as_bytes().to_vec()).collect();
    values.extend(
        ["{}\0", "\0", "\0\0\0\0\x07Obj", "{}\u{feff}", "{\"a\":\"\n\"}"]
            .map(|text| text.as_bytes().to_vec()),
    );
    values.extend([
        b"{\"a\":\"\xff\"}".to_vec(),
        b"{\"\xc3\":1}".to_vec(),
        b"\xed\xa0\x80{}".to_vec(),
        vec![0xff; 300],
    ]);
    values.push(format!("{{\"a\":{}}}", "9".repeat(400)).into_bytes());
    values.push(vec![b'['; 100_000]);
    values.push(b"{\"a\":".repeat(100_000));
    values.push([vec![b'['; 100_000], vec![b']'; 100_000]].concat());
    for value in values {
        check(value, Err(Malformed));
    }
}

#[test]
fn long_numbers_and_long_values_are_read() {
    let nines = "9".repeat(400);
    check_fields(
        &format!(r#""x":0.{nines},"temperature":1.{nines}"#),
        reading([Some(2 * SCALE), None, None]),
    );
    check_fields(
        &format!(r#""x":1e-{nines},"temperature":0.{nines}e1"#),
        reading([Some(10 * SCALE), None, None]),
    );
    let blanks = " ".repeat(1 << 20);
    check_fields(&format!(r#""temperature":1,{blanks}"x":"{blanks}""#), reading([Some(SCALE), None, None]));
    let depth = 1_000;
    let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    check_fields(&format!(r#""x":{nested},"temperature":1"#), reading([Some(SCALE), None, None]));
}

#[test]
fn every_prefix_of_a_reading_is_malformed() {
    let value =
        r#"{"station":"S\u0031","timestamp":"2023-11-14T22:13:20.123Z","temperature":1,"x":[{"y":null}]}"#;
    let mut parser = Parser::default();
    assert!(parser.parse(value.as_bytes(), None).is_ok());
    for length in 0..value.len() {
        assert_eq!(parser.parse(&value.as_bytes()[..length], None), Err(Malformed), "{}", &value[..length]);
    }
    check(value, reading([Some(SCALE), None, None]));
}

#[test]
fn a_parser_may_change_threads() {
    fn check<T: Send>(_: &T) {}
    check(&Parser::default());
}

#[test]
fn indexes_and_names_agree() {
    for (index, reason) in Reason::ALL.into_iter().enumerate() {
        assert_eq!(reason.index(), index);
    }
    let names = "malformed missing_timestamp no_metric out_of_range future late oversized";
    assert_eq!(Reason::ALL.map(Reason::as_str).join(" "), names);
    for (index, cause) in Cause::ALL.into_iter().enumerate() {
        assert_eq!(cause.index(), index);
    }
    for (index, metric) in Metric::ALL.into_iter().enumerate() {
        assert_eq!(metric.index(), index);
        let mut metrics = [None; 3];
        metrics[index] = Some(SCALE);
        check_fields(&format!(r#""{}":1"#, metric.as_str()), reading(metrics));
    }
    assert_eq!(Metric::ALL.map(Metric::unit), ["°C", "%", "m/s"]);
}

#[test]
fn what_stands_before_the_json_is_skipped() {
    let value = format!(r#"{{"timestamp":{MS},"temperature":1}}"#);
    for before in ["", " ", "\u{feff}", "\0\0\0\0\x07"] {
        check(format!("{before}{value}"), reading([Some(SCALE), None, None]));
    }
}

#[test]
fn envelopes_are_opened() {
    let inner = format!(r#"{{"timestamp":{MS},"temperature":1}}"#);
    let expected = reading([Some(SCALE), None, None]);
    check(format!(r#"{{"schema":{{"type":"struct"}},"payload":{inner}}}"#), expected);
    check(format!(r#"{{"payload":{inner},"schema":null}}"#), expected);
    check(
        format!(r#"{{"before":null,"after":{inner},"source":{{"ts_ms":1}},"op":"c","ts_ms":2}}"#),
        expected,
    );
    check(
        format!(r#"{{"schema":{{}},"payload":{{"after":{inner},"op":"u","before":{{"temperature":9}}}}}}"#),
        expected,
    );
    // Not one: an object that happens to be called so.
    check(
        format!(r#"{{"timestamp":{MS},"humidity":1,"payload":{inner}}}"#),
        reading([None, Some(SCALE), None]),
    );
    check(r#"{"schema":{},"payload":null}"#, Err(MissingTimestamp));
    check(r#"{"before":{},"after":null,"op":"d"}"#, Err(MissingTimestamp));
}

fn format(fields: &str, zone: Option<&str>) -> Arc<Format> {
    let zone = zone.map(|zone| Zone::from_text(zone, None).unwrap());
    Arc::new(Format::new(Settings { fields: super::fields(fields).unwrap(), zone, ..Settings::default() }))
}

#[test]
fn given_fields_come_before_the_known_ones() {
    let value = format!(
        r#"{{"dt":{MS},"timestamp":5,"main":{{"temp":283.15,"humidity":70}},"wind":{{"speed":36}},"humidity":1,"obs":[[2,3]]}}"#
    );
    let read =
        |fields| parse_in(&format(fields, None), value.as_bytes()).map(|r| (r.event_time_ms, r.metrics));
    let all = "timestamp=dt,temperature=main.temp:K,humidity=main.humidity,wind_speed=wind.speed:km/h";
    assert_eq!(read(all), reading([Some(10 * SCALE), Some(70 * SCALE), Some(10 * SCALE)]));
    assert_eq!(read("wind_speed=obs[0][1]"), Ok((5_000, [None, Some(SCALE), Some(3 * SCALE)])));
    let flat = br#"{"timestamp":1,"wind.speed":36}"#;
    assert_eq!(parse_in(&format(all, None), flat).map(|r| r.metrics), Ok([None, None, Some(10 * SCALE)]));
}

#[test]
fn a_unit_that_stands_beside_the_value_counts() {
    for (fields, expected) in [
        (r#""temperature":50,"temperatureUnit":"F""#, Ok(10 * SCALE)),
        (r#""temperature":283.15,"temperature_unit":"K""#, Ok(10 * SCALE)),
        (r#""temperature":10,"temperature_unit":"degrees""#, Err(Cause::NotANumber)),
        (r#""temperature":{"unitCode":"wmoUnit:degF","value":50}"#, Ok(10 * SCALE)),
        (r#""temperature":{"value":50}"#, Err(Cause::NotANumber)),
        (r#""properties":{"temperature":{"unitCode":"wmoUnit:degC","value":10}}"#, Ok(10 * SCALE)),
    ] {
        check_causes(&format!(r#"{fields},"humidity":1"#), [expected, Ok(SCALE), Err(Absent)]);
    }
}

#[test]
fn local_times_are_read_in_the_zone_that_was_given() {
    let utc = r#"{"timestamp":"2024-03-05 10:15:00","localtime":"2024-03-05 10:15","temperature":1}"#;
    let time = |value: &str, zone| parse_in(&format("", zone), value.as_bytes()).map(|r| r.event_time_ms);
    let ms = 1_709_633_700_000;
    assert_eq!(time(utc, None), Ok(ms));
    assert_eq!(time(utc, Some("+07:00")), Ok(ms - 7 * 3_600_000));
    assert_eq!(time(utc, Some("Asia/Ho_Chi_Minh")), Ok(ms - 7 * 3_600_000));
    assert_eq!(time(utc, Some("Asia/Kolkata")), Ok(ms - 19_800_000));
    // A name that says that it is local counts only where a zone is given; one that says UTC is UTC.
    let local = r#"{"localtime":"2024-03-05 10:15","temperature":1}"#;
    assert_eq!(time(local, None), Err(MissingTimestamp));
    assert_eq!(time(local, Some("UTC")), Ok(ms));
    assert_eq!(time(r#"{"ts_utc":"2024-03-05 10:15","temperature":1}"#, Some("+07:00")), Ok(ms));
    // Open-Meteo says its offset.
    let open_meteo =
        r#"{"utc_offset_seconds":3600,"current":{"time":"2024-03-05T11:15","wind_speed_10m":9}}"#;
    assert_eq!(time(open_meteo, Some("+07:00")), Ok(ms));
}

#[test]
fn a_reading_without_a_time_may_take_its_records() {
    let settings = Settings { missing_timestamp: super::MissingTimestamp::Kafka, ..Settings::default() };
    let mut parser = Parser::new(Arc::new(Format::new(settings)));
    for value in [
        r#"{"temperature":1}"#,
        r#"{"temperature":1,"timestamp":null}"#,
        r#"{"temperature":1,"timestamp":""}"#,
    ] {
        for _ in 0..2 {
            let time = |result: Result<Reading, Reason>| result.map(|reading| reading.event_time_ms);
            assert_eq!(time(parser.parse(value.as_bytes(), Some(MS))), Ok(MS));
            assert_eq!(time(parser.parse(value.as_bytes(), Some(-1))), Err(MissingTimestamp));
            assert_eq!(time(parser.parse(value.as_bytes(), None)), Err(MissingTimestamp));
            assert_eq!(time(Parser::default().parse(value.as_bytes(), Some(MS))), Err(MissingTimestamp));
        }
    }
    assert_eq!(parser.parse(br#"{"temperature":1,"timestamp":"soon"}"#, Some(MS)), Err(Malformed));
}

#[test]
fn sentinels_and_output_units() {
    let settings = Settings {
        missing_values: super::missing_values("-9.5,999").unwrap(),
        output: Some(super::output_units("wind_speed=km/h,temperature=°F").unwrap()),
        ..Settings::default()
    };
    let format = Arc::new(Format::new(settings));
    let read = |fields: &str| {
        let reading = parse_in(&format, format!(r#"{{"timestamp":{MS},{fields}}}"#).as_bytes()).unwrap();
        (reading.metrics, reading.left_out[0])
    };
    let whole = read(r#""temperature_c":10,"wind_speed_kph":10.8,"humidity":3"#);
    assert_eq!(whole, ([Some(50 * SCALE), Some(3 * SCALE), Some(10_800_000)], None));
    assert_eq!(read(r#""temperature":-9.50,"wind_speed":3"#), ([None, None, Some(10_800_000)], Some(Null)));
    assert_eq!(read(r#""temp_f":"999","wind_speed":3"#).1, Some(Null));
    assert_eq!(read(r#""temp_f":50,"wind_mph":10"#).0, [Some(50 * SCALE), None, Some(16_093_440)]);
}
