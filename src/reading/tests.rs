//! One table for each rule of the reading format; what mutation finds beyond them is in `fuzz`.

use super::Reason::{Malformed, MissingTimestamp, NoMetric, OutOfRange};
use super::*;

const MS: i64 = 1_700_000_000_123;

fn parse(value: impl AsRef<[u8]>) -> Result<Reading, Reason> {
    Parser::new().parse(&mut value.as_ref().to_vec())
}

fn reading(metrics: [Option<i64>; 3]) -> Result<Reading, Reason> {
    Ok(Reading { event_time_ms: MS, metrics })
}

#[track_caller]
fn check(value: impl AsRef<[u8]>, expected: Result<Reading, Reason>) {
    let value = value.as_ref();
    assert_eq!(parse(value), expected, "{}", String::from_utf8_lossy(&value[..value.len().min(300)]));
}

/// A value whose fields beside `timestamp` are given.
#[track_caller]
fn check_fields(fields: &str, expected: Result<Reading, Reason>) {
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
    check_fields(r#""Temperature":1,"HUMIDITY":1,"windspeed":1,"wind speed":1,"temp":1"#, Err(NoMetric));
}

#[test]
fn metrics_of_another_type_are_malformed() {
    for metric in Metric::ALL.map(Metric::as_str) {
        for value in [r#""21.5""#, r#""""#, "true", "false", "{}", "[]", "[1]", r#"{"value":1}"#] {
            check_fields(&format!(r#""{metric}":{value}"#), Err(Malformed));
        }
    }
}

#[test]
fn ranges_are_inclusive_and_judged_as_sent() {
    for metric in Metric::ALL {
        let (min, max) = metric.range();
        let name = metric.as_str();
        for inside in [min, max, 0.0, -0.0, max - 1e-9, 0.5, 17.25] {
            let mut metrics = [None; 3];
            metrics[metric.index()] = Some((inside * 1e6).round() as i64);
            check_fields(&format!(r#""{name}":{inside:?}"#), reading(metrics));
        }
        for outside in [min - 1.0, max + 1.0, min - 1e-7, max + 1e-7, 1e300, -1e300] {
            check_fields(&format!(r#""{name}":{outside:?}"#), Err(OutOfRange));
        }
        for outside in ["18446744073709551615", "-9223372036854775808", "151", "-101", "1e308"] {
            check_fields(&format!(r#""{name}":{outside}"#), Err(OutOfRange));
        }
    }
    // One metric outside spoils the whole reading.
    check_fields(r#""temperature":20,"humidity":101,"wind_speed":3"#, Err(OutOfRange));
}

#[test]
fn fixed_point_rounds_half_away_from_zero() {
    for (sent, fixed) in [
        ("0.0000004", 0),
        ("0.0000005", 1),
        ("-0.0000005", -1),
        ("-0.0000004", 0),
        ("0.0000014", 1),
        ("0.0000015", 2),
        ("-0.0000025", -3),
        ("21.1234564", 21_123_456),
        ("-21.1234566", -21_123_457),
        ("69.9999999", 70_000_000),
        ("1e-320", 0),
        ("-0", 0),
        ("-0.0", 0),
        ("0e99999999999", 0),
    ] {
        check_fields(&format!(r#""temperature":{sent}"#), reading([Some(fixed), None, None]));
    }
    let mut value = -150.0;
    while value <= 150.0 {
        let fixed = round_half_away(value * 1e6);
        assert_eq!(fixed, (value * 1e6).round() as i64, "{value}");
        assert!((fixed as f64 / 1e6 - value).abs() <= 5.000_01e-7, "{value}");
        value += 0.001_003_7;
    }
    for value in [0.5, -0.5, 0.499_999_999_999_999_94, 1.5, 2.5, -2.5, 4_503_599_627_370_497.5, 1e17] {
        assert_eq!(round_half_away(value), value.round() as i64, "{value}");
    }
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
        check_time(form, Err(OutOfRange));
    }
    for form in [
        "true",
        "false",
        "{}",
        "[]",
        "[1700000000]",
        r#""""#,
        r#""yesterday""#,
        r#""2023-02-29""#,
        r#""NaN""#,
        r#""1e999""#,
    ] {
        check_time(form, Err(Malformed));
    }
    check_time("null", Err(MissingTimestamp));
    check(r#"{"humidity":50}"#, Err(MissingTimestamp));
    check(r#"{"Timestamp":1,"time":1,"humidity":50}"#, Err(MissingTimestamp));
}

#[test]
fn the_first_reason_wins() {
    let timestamps =
        [("1", None), ("null", Some(MissingTimestamp)), ("-1", Some(OutOfRange)), ("[]", Some(Malformed))];
    let metrics =
        [("1", None), ("null", Some(NoMetric)), ("999", Some(OutOfRange)), ("true", Some(Malformed))];
    for (timestamp, first) in timestamps {
        for (metric, second) in metrics {
            let value = format!(r#"{{"temperature":{metric},"timestamp":{timestamp}}}"#);
            assert_eq!(parse(&value).err(), [first, second].into_iter().flatten().min(), "{value}");
        }
    }
    check("{}", Err(MissingTimestamp));
    check(r#"{"timestamp":null,"temperature":999,"humidity":"x"}"#, Err(Malformed));
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
    check_fields(r#""temperature":2,"temperature":"x""#, Err(Malformed));
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
        (r#""station":7,"city":"C""#, Some("C")),
        (r#""station":"a","station":"b""#, Some("b")),
        (r#""station":"\u00e9t\u00e9\t\"x\"""#, Some("été\t\"x\"")),
        (r#""station":"""#, Some("")),
        (r#""station":7"#, None),
        (r#""name":"x""#, None),
    ] {
        let mut value = format!(r#"{{"timestamp":{MS},"humidity":1,{fields}}}"#).into_bytes();
        let expected = reading([None, Some(SCALE), None]).map(|reading| (reading, station));
        assert_eq!(Parser::new().parse_with_station(&mut value), expected, "{fields}");
    }
    assert_eq!(Parser::new().parse_with_station(&mut b"[]".to_vec()), Err(Malformed));
}

/// Separated by `|`.
const NO_OBJECTS: &str = r#"
    || |x|null|true|5|-|"text"|"|\|[]|{|}|[|]|{]|[}|:|,|{}{}|{},|{} x|{/**/}|{"a"}|{"a":}|{"a":1,}|{,}|{a:1}
    |{'a':1}|{1:1}|{"a" 1}|{"a":1 "b":2}|{"a":01}|{"a":+1}|{"a":1.}|{"a":.5}|{"a":1e}|{"a":0x1}|{"a":NaN}
    |{"a":Infinity}|{"a":-Infinity}|{"a":nul}|{"a":nulll}|{"a":True}|{"a":1e400}|{"a":-1e400}
    |{"a":18446744073709551616}|{"a":-9223372036854775809}|{"a":"\x"}|{"a":"\u12"}|{"a":"\ud800"}
    |{"a":"\udc00"}|{"a":"}|{"a":"\"}"#;

#[test]
fn whatever_is_no_object_is_malformed() {
    let mut values: Vec<Vec<u8>> = NO_OBJECTS.split('|').map(|text| text.as_bytes().to_vec()).collect();
    values.extend(["{}\0", "\0", "\u{feff}{}", "{\"a\":\"\n\"}"].map(|text| text.as_bytes().to_vec()));
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
    let mut parser = Parser::new();
    for length in 0..value.len() {
        assert_eq!(
            parser.parse(&mut value.as_bytes()[..length].to_vec()),
            Err(Malformed),
            "{}",
            &value[..length]
        );
    }
    assert_eq!(parser.parse(&mut value.as_bytes().to_vec()), reading([Some(SCALE), None, None]));
}

#[test]
fn memory_that_a_hostile_value_took_is_given_back() {
    let mut parser = Parser::new();
    let good = format!(r#"{{"timestamp":{MS},"temperature":1}}"#);
    let mebibyte = 1 << 20;
    let hostile = [
        vec![b'['; mebibyte],
        vec![b'"'; mebibyte + 1],
        vec![b' '; mebibyte],
        [b"[".to_vec(), b"1,".repeat(mebibyte / 2), b"1]".to_vec()].concat(),
        vec![b'['; KEPT_VALUE_BYTES],
        vec![b'{'; KEPT_STRUCTURALS],
    ];
    for value in hostile {
        assert_eq!(parser.parse(&mut value.clone()), Err(Malformed));
        assert!(parser.tape.0.is_empty());
        assert!(parser.tape.0.capacity() <= 2 * KEPT_STRUCTURALS, "{}", parser.tape.0.capacity());
        assert!(parser.buffers.structural_indexes().len() <= KEPT_STRUCTURALS);
        assert_eq!(parser.parse(&mut good.clone().into_bytes()), reading([Some(SCALE), None, None]));
    }
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
    for (index, metric) in Metric::ALL.into_iter().enumerate() {
        assert_eq!(metric.index(), index);
        let mut metrics = [None; 3];
        metrics[index] = Some(SCALE);
        check_fields(&format!(r#""{}":1"#, metric.as_str()), reading(metrics));
    }
    assert_eq!(Metric::ALL.map(Metric::unit), ["°C", "%", "m/s"]);
}
