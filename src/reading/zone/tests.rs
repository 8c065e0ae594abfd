//! Zones against what is known of them: both changes of daylight saving, half hours, far history and far future.

use super::*;
use crate::reading::timestamp;

fn zone(name: &str) -> Zone {
    Zone::from_text(name, None).unwrap_or_else(|refused| panic!("{name}: {refused}"))
}

fn ms(text: &str) -> i64 {
    timestamp::from_text(text).unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn local_times_around_every_kind_of_change() {
    for (name, local, utc) in [
        ("UTC", "2024-03-31 02:30", "2024-03-31T02:30Z"),
        ("+05:30", "2024-03-05 10:00", "2024-03-05T04:30Z"),
        ("-0330", "2024-03-05 10:00", "2024-03-05T13:30Z"),
        ("Asia/Ho_Chi_Minh", "2024-03-05 10:00", "2024-03-05T03:00Z"),
        ("Asia/Kolkata", "2024-03-05 10:00", "2024-03-05T04:30Z"),
        ("Asia/Kathmandu", "2024-03-05 10:00", "2024-03-05T04:15Z"),
        ("America/Denver", "2024-03-05 10:00", "2024-03-05T17:00Z"),
        ("America/Denver", "2024-07-05 10:00", "2024-07-05T16:00Z"),
        // Set forward at 02:00 to 03:00: what never comes is read with the offset from before.
        ("Europe/Berlin", "2024-03-31 01:59:59", "2024-03-31T00:59:59Z"),
        ("Europe/Berlin", "2024-03-31 02:30", "2024-03-31T01:30Z"),
        ("Europe/Berlin", "2024-03-31 03:00", "2024-03-31T01:00Z"),
        // Set back at 03:00 to 02:00: what comes twice is the first of the two.
        ("Europe/Berlin", "2024-10-27 01:59", "2024-10-26T23:59Z"),
        ("Europe/Berlin", "2024-10-27 02:30", "2024-10-27T00:30Z"),
        ("Europe/Berlin", "2024-10-27 03:00", "2024-10-27T02:00Z"),
        ("America/New_York", "2024-03-10 03:00", "2024-03-10T07:00Z"),
        ("America/New_York", "2024-11-03 01:30", "2024-11-03T05:30Z"),
        ("America/New_York", "2024-11-03 02:00", "2024-11-03T07:00Z"),
        // Half an hour of summer time, in a southern summer.
        ("Australia/Lord_Howe", "2024-01-05 10:00", "2024-01-04T23:00Z"),
        ("Australia/Lord_Howe", "2024-07-05 10:00", "2024-07-04T23:30Z"),
        ("Australia/Adelaide", "2024-10-06 02:30", "2024-10-05T17:00Z"),
        // Rules with a time before midnight, and negative summer time.
        ("America/Nuuk", "2025-07-05 10:00", "2025-07-05T11:00Z"),
        ("Europe/Dublin", "2024-07-05 10:00", "2024-07-05T09:00Z"),
        ("Europe/Dublin", "2024-01-05 10:00", "2024-01-05T10:00Z"),
        // By the rule alone: beyond the file's table, and after 400 years and more.
        ("Europe/Berlin", "2099-07-05 10:00", "2099-07-05T08:00Z"),
        ("Europe/Berlin", "2599-01-05 10:00", "2599-01-05T09:00Z"),
        ("Europe/Berlin", "9999-07-05 10:00", "9999-07-05T08:00Z"),
        // History.
        ("Europe/Berlin", "1945-07-05 10:00", "1945-07-05T07:00Z"),
        ("Asia/Ho_Chi_Minh", "1970-01-05 10:00", "1970-01-05T02:00Z"),
    ] {
        let zone = zone(name);
        let found = zone.to_utc(ms(local), &mut Cursor::default());
        assert_eq!(found, ms(utc), "{local} in {name}");
    }
}

#[test]
fn days_are_cut_into_whole_windows_or_not() {
    const MINUTE_MS: i64 = 60_000;
    for (name, longest_minutes) in [
        ("UTC", 1440),
        ("+07:00", 60),
        ("-0330", 30),
        ("+08:00", 480),
        ("Asia/Ho_Chi_Minh", 60),
        ("Asia/Kathmandu", 15),
        // Half an hour off until 1982.
        ("Asia/Singapore", 480),
        ("Europe/Berlin", 60),
        ("America/Denver", 60),
        ("Australia/Lord_Howe", 30),
    ] {
        let zone = zone(name);
        for minutes in [15, 30, 60, 120, 480, 1440] {
            let fits = longest_minutes % minutes == 0;
            assert_eq!(zone.has_whole_windows(minutes * MINUTE_MS), fits, "{minutes} min in {name}");
        }
        assert!(!zone.has_whole_windows(2880 * MINUTE_MS) && !zone.has_whole_windows(0), "{name}");
    }
}

#[test]
fn a_zone_is_written_as_it_is_read() {
    for name in ["UTC", "+07:00", "-03:30", "Asia/Ho_Chi_Minh", "Etc/GMT+7"] {
        assert_eq!(zone(name).to_string(), name);
    }
}

#[test]
fn a_cursor_changes_nothing() {
    for name in ["Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata", "America/St_Johns"] {
        let (zone, mut cursor) = (zone(name), Cursor::default());
        let mut random = 1u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let local_ms = (random >> 12).cast_signed() % timestamp::MAX_MS;
            let near_ms = ms("2024-03-31") + (random >> 40).cast_signed() % 90_000_000;
            for local_ms in [local_ms, near_ms] {
                let fresh = zone.to_utc(local_ms, &mut Cursor::default());
                assert_eq!(zone.to_utc(local_ms, &mut cursor), fresh, "{local_ms} in {name}");
            }
        }
    }
}

#[test]
fn zones_that_do_not_exist_are_refused() {
    for name in
        ["", "Asia/Nowhere", "Mars", "../../etc/passwd", "/etc/passwd", "Asia/../../x", "+25", "Europe/"]
    {
        assert!(Zone::from_text(name, None).is_err(), "{name}");
    }
    assert!(Zone::from_text("Asia/Ho_Chi_Minh", Some(PathBuf::from("/nonexistent"))).is_ok());
}

#[test]
fn broken_files_are_refused_and_never_panic() {
    for name in ["Europe/Berlin", "Australia/Lord_Howe", "Africa/Casablanca"] {
        let path = FOLDERS.iter().map(|folder| PathBuf::from(folder).join(name)).find(|path| path.is_file());
        let bytes = std::fs::read(path.expect("zone files are installed")).unwrap();
        assert!(file::read(&bytes).is_some());
        for length in 0..bytes.len() {
            assert_eq!(file::read(&bytes[..length]), None, "{name} cut to {length}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                if let Some(place) = file::read(&bytes) {
                    let found = place.to_utc(ms("2024-03-31 02:30"), &mut Cursor::default());
                    assert!(found < i64::MAX, "{at}");
                }
            }
        }
    }
}
