//! What the format accepts around and instead of the usual fields: envelopes, `--fields`, units, sentinels.

use super::*;

#[test]
fn bytes_before_the_json_are_skipped() {
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
fn a_unit_next_to_the_value_counts() {
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
fn sentinels_and_output_units() {
    let settings = FormatSettings {
        missing_values: crate::reading::missing_values("-9.5,999").unwrap(),
        output: Some(crate::reading::output_units("wind_speed=km/h,temperature=°F").unwrap()),
        ..FormatSettings::default()
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
