//! Timestamps: forms, time zones, and records without one.

use super::*;

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
fn local_times_are_read_in_the_zone_that_was_given() {
    let utc = r#"{"timestamp":"2024-03-05 10:15:00","localtime":"2024-03-05 10:15","temperature":1}"#;
    let time = |value: &str, zone| parse_in(&format("", zone), value.as_bytes()).map(|r| r.event_time_ms);
    let ms = 1_709_633_700_000;
    assert_eq!(time(utc, None), Ok(ms));
    assert_eq!(time(utc, Some("+07:00")), Ok(ms - 7 * 3_600_000));
    assert_eq!(time(utc, Some("Asia/Ho_Chi_Minh")), Ok(ms - 7 * 3_600_000));
    assert_eq!(time(utc, Some("Asia/Kolkata")), Ok(ms - 19_800_000));
    // A name that means local time counts only where a zone is given; one that means UTC is UTC.
    let local = r#"{"localtime":"2024-03-05 10:15","temperature":1}"#;
    assert_eq!(time(local, None), Err(MissingTimestamp));
    assert_eq!(time(local, Some("UTC")), Ok(ms));
    assert_eq!(time(r#"{"ts_utc":"2024-03-05 10:15","temperature":1}"#, Some("+07:00")), Ok(ms));
    // Open-Meteo states its offset.
    let open_meteo =
        r#"{"utc_offset_seconds":3600,"current":{"time":"2024-03-05T11:15","wind_speed_10m":9}}"#;
    assert_eq!(time(open_meteo, Some("+07:00")), Ok(ms));
}

#[test]
fn a_reading_without_a_time_may_take_its_records() {
    let settings = FormatSettings {
        missing_timestamp: crate::reading::MissingTimestamp::Kafka,
        ..FormatSettings::default()
    };
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
