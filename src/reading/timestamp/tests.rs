//! Times as text and numbers, against a calendar that counts days.

use super::*;

const DAY: i64 = DAY_MS;
/// 2024-02-29T12:34:56Z
const LEAP: i64 = 1_709_210_096_000;

#[track_caller]
fn check(text: &str, expected: Option<i64>) {
    assert_eq!(from_text(text), expected, "{text:?}");
}

#[test]
fn unit_follows_magnitude() {
    let cases: [(i64, i64); 14] = [
        (0, 0),
        (1, 1_000),
        (1_700_000_000, 1_700_000_000_000),
        (99_999_999_999, 99_999_999_999_000),
        (100_000_000_000, 100_000_000_000),
        (1_700_000_000_123, 1_700_000_000_123),
        (99_999_999_999_999, 99_999_999_999_999),
        (100_000_000_000_000, 100_000_000_000),
        (1_700_000_000_123_999, 1_700_000_000_123),
        (99_999_999_999_999_999, 99_999_999_999_999),
        (100_000_000_000_000_000, 100_000_000_000),
        (1_700_000_000_123_999_999, 1_700_000_000_123),
        (-1, -1_000),
        (-1_700_000_000_123_999, -1_700_000_000_124),
    ];
    for (epoch, expected) in cases {
        assert_eq!(from_integer(epoch), expected, "{epoch}");
        check(&epoch.to_string(), Some(expected));
    }
    assert_eq!(from_unsigned(u64::MAX), 18_446_744_073_709);
    assert_eq!(from_integer(i64::MIN), -9_223_372_036_855);
    for epoch in [1_700_000_000_i64, 1_700_000_000_123, 1_700_000_000_123_456, -5, 99_999_999_999] {
        assert_eq!(from_float(epoch as f64), from_integer(epoch), "{epoch}");
    }
}

#[test]
fn floats_are_cut_to_the_millisecond_that_was_meant() {
    for ms in 1_700_000_000_000..1_700_000_002_000 {
        let seconds: f64 = format!("{}.{:03}", ms / 1_000, ms % 1_000).parse().unwrap();
        assert_eq!(from_float(seconds), ms);
    }
    assert_eq!(from_float(1_700_000_000.999_9), 1_700_000_000_999);
    assert_eq!(from_float(1_700_000_000_123.9), 1_700_000_000_123);
    assert_eq!(from_float(1.700_000_000_123_9e15), 1_700_000_000_123);
    assert_eq!(from_float(1.700_000_000_123_9e18), 1_700_000_000_123);
    assert_eq!(from_float(-0.0), 0);
    assert_eq!(from_float(-0.000_4), -1);
    assert_eq!(from_float(1e300), i64::MAX);
    assert_eq!(from_float(-1e300), i64::MIN);
}

#[test]
fn iso_8601_forms() {
    for text in [
        "2024-02-29T12:34:56Z",
        "2024-02-29t12:34:56z",
        "2024-02-29 12:34:56",
        "2024-02-29T12:34:56.0Z",
        "2024-02-29T12:34:56,000000000000000Z",
        "2024-02-29T12:34:56+00:00",
        "2024-02-29T12:34:56-0000",
        "2024-02-29T19:34:56+07",
        "2024-02-29T19:34:56+07:00",
        "2024-02-29 19:34:56+0700",
        "2024-02-28T22:34:56-14:00",
        "2024-03-01T12:33:56+23:59",
        " 2024-02-29T12:34:56Z\n",
    ] {
        check(text, Some(LEAP));
    }
    check("2024-02-29T12:34", Some(LEAP - 56_000));
    check("2024-02-29T12:34Z", Some(LEAP - 56_000));
    check("2024-02-29T12:34+00:30", Some(LEAP - 56_000 - 1_800_000));
    check("2024-02-29", Some(LEAP / DAY * DAY));
    check("1970-01-01", Some(0));
    check("1969-12-31T23:59:59.999Z", Some(-1));
    check("0000-01-01", Some(-719_528 * DAY));
    check("9999-12-31T23:59:59.999999999Z", Some(MAX_MS));
    check("9999-12-31T23:59:59-00:01", Some(MAX_MS + 59_001));
}

#[test]
fn fractions_are_cut_never_rounded() {
    for (fraction, ms) in [
        ("5", 500),
        ("05", 50),
        ("005", 5),
        ("0009", 0),
        ("123456789", 123),
        ("999999999999", 999),
        ("25", 250),
    ] {
        check(&format!("2024-02-29T12:34:56.{fraction}Z"), Some(LEAP + ms));
        check(&format!("2024-02-29 12:34:56,{fraction}+00"), Some(LEAP + ms));
    }
}

#[test]
fn leap_second_stays_in_its_minute() {
    let last = Some(1_483_228_799_999);
    check("2016-12-31T23:59:60Z", last);
    check("2016-12-31T23:59:60.5Z", last);
    check("2017-01-01T06:59:60+07:00", last);
    check("2016-12-31T23:59:61Z", None);
}

/// Separated by `|`.
const NO_TIMESTAMPS: &str = "\
    | |now|null|NaN|inf|-inf|infinity|1e400|0x10|1_000|+5|--5|5.|.5|1e|-|١٢٣|12 34|\
    2024-2-29|2024-02-9|24-02-29|02024-02-29|+2024-02-29|2024/02/29|20240229T123456Z|2024-W09-4|2024-060|\
    29-02-2024|2024-13-01|2024-00-01|2024-01-00|2024-01-32|2024-04-31|2023-02-29|1900-02-29|2100-02-29|\
    2024-02-30|2024-02-29Z|2024-02-29T|2024-02-29T12|2024-02-29T12Z|2024-02-29T1:34|2024-02-29T12:3|\
    2024-02-29T24:00|2024-02-29T12:60|2024-02-29T12:34:|2024-02-29T12:34:5|2024-02-29T12:34:61|\
    2024-02-29T12:34:56.|2024-02-29T12:34:56.Z|2024-02-29T12:34:56.1.2|2024-02-29T12:34.5|\
    2024-02-29T12:34:56+|2024-02-29T12:34:56+7|2024-02-29T12:34:56+24:00|2024-02-29T12:34:56+07:60|\
    2024-02-29T12:34:56+07:0|2024-02-29T12:34:56+070|2024-02-29T12:34:56+07:00:00|2024-02-29T12:34:56ZZ|\
    2024-02-29T12:34:56 UTC|2024-02-29_12:34:56|2024-02-29T12:34:56\u{2212}07:00|２０２４-02-29|2024-02-2\u{e9}";

#[test]
fn other_text_is_refused() {
    for text in NO_TIMESTAMPS.split('|') {
        check(text, None);
    }
    // A number, not a year.
    check("2024", Some(2_024_000));
}

/// The clock of a zone that is `ahead_min` minutes ahead of UTC, as `YYYY-MM-DD`, `hh:mm:ss` and
/// milliseconds.
fn civil(ms: i64, ahead_min: i64) -> (String, String, i64) {
    let local_ms = ms + ahead_min * 60_000;
    let (mut days, mut year, mut month) = (local_ms.div_euclid(DAY) + 365, 1969, 1);
    let year_length = |year| (1..=12).map(|month| days_in_month(year, month)).sum::<i64>();
    while days >= year_length(year) {
        days -= year_length(year);
        year += 1;
    }
    while days >= days_in_month(year, month) {
        days -= days_in_month(year, month);
        month += 1;
    }
    let seconds = local_ms.rem_euclid(DAY) / 1_000;
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    (format!("{year:04}-{month:02}-{:02}", days + 1), clock, local_ms.rem_euclid(1_000))
}

#[test]
fn instants_come_back_from_every_form() {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for round in 0..2_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // All times that ISO 8601 reaches, then those whose milliseconds, and then those whose
        // nanoseconds, are distinguished.
        // All that text reaches, and the nearer times that fit into an integer as nanoseconds.
        let limit = [MAX_MS, 9_000_000_000_000][round % 2];
        let ms = (random >> 16).cast_signed() % limit;
        let (date, clock, fraction) = civil(ms, 0);
        check(&format!("{date}T{clock}.{fraction:03}Z"), Some(ms));
        check(&format!("{date} {clock},{fraction:03}999"), Some(ms));
        check(&date, Some(ms / DAY * DAY));
        check(&format!("{date}t{}", &clock[..5]), Some(ms / 60_000 * 60_000));
        for (ahead_min, zone) in [(420, "+07"), (345, "+05:45"), (-210, "-0330"), (-720, "-12:00")] {
            let (date, clock, fraction) = civil(ms, ahead_min);
            if date.len() == 10 {
                check(&format!("{date}T{clock}.{fraction:03}{zone}"), Some(ms));
            }
        }
        if ms / 1_000 < SECONDS_BELOW.cast_signed() {
            assert_eq!(from_integer(ms / 1_000), ms / 1_000 * 1_000);
        }
        if ms / 1_000 < 1 << 33 {
            check(&format!("{}.{fraction:03}", ms / 1_000), Some(ms));
        }
        if (SECONDS_BELOW.cast_signed()..9_000_000_000_000).contains(&ms) {
            for (scale, rest) in [(1, 0), (1_000, 999), (1_000_000, 999_999)] {
                assert_eq!(from_integer(ms * scale + rest), ms);
                check(&(ms * scale + rest).to_string(), Some(ms));
            }
        }
    }
}

#[test]
fn every_day_follows_the_one_before() {
    let (mut year, mut month, mut day) = (1970, 1, 1);
    for days in 0.. {
        check(&format!("{year:04}-{month:02}-{day:02}"), Some(days * DAY));
        check(&format!("{year:04}-{month:02}-{:02}", day + 31), None);
        let length = match month {
            2 => 28 + i64::from(year % 400 == 0 || year % 4 == 0 && year % 100 != 0),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        (month, day) = if day < length { (month, day + 1) } else { (month + 1, 1) };
        (year, month) = if month <= 12 { (year, month) } else { (year + 1, 1) };
        if year == 2405 {
            break;
        }
    }
    check("9999-12-31", Some(MAX_MS / DAY * DAY));
}
