//! What counts of a record: metrics, keys and the station.

use super::*;

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
fn the_last_of_a_repeated_key_counts() {
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
