//! What each parser takes and refuses.

use super::*;

#[test]
fn durations() {
    let ns = |n| Ok(Duration::from_nanos(n));
    let cases = [
        ("6ms", ns(6_000_000)),
        ("500us", ns(500_000)),
        ("10s", ns(10_000_000_000)),
        ("1.5h", ns(5_400_000_000_000)),
        ("7d", ns(604_800_000_000_000)),
        ("1h30m", ns(5_400_000_000_000)),
        (".5s", ns(500_000_000)),
        ("0", ns(0)),
        ("0s", ns(0)),
    ];
    for (text, expected) in cases {
        assert_eq!(duration(text), expected, "{text}");
    }
    for text in
        ["", "5", "ms", "5x", "-1s", "1e3s", "1..5s", ".s", "1 h", "99999999999999999999d", "∞s", "1hh"]
    {
        let e = duration(text).unwrap_err();
        assert!(e.contains("6ms"), "{text}: {e}");
    }
    assert!(interval("0ms").is_err() && interval("1ns").is_ok());
    assert!(whole_ms("1500us").is_err() && whole_ms("1.5s").is_ok());
}

#[test]
fn numbers() {
    assert_eq!(count("100_000"), Ok(100_000));
    assert!(count("0").is_err() && count("-1").is_err() && count("1e3").is_err() && count("").is_err());
    assert_eq!(integer("6", 1, 9), Ok(6));
    assert!(integer("10", 1, 9).is_err() && integer("+6", 1, 9).is_err());
    assert_eq!(ratio("0.05"), Ok(0.05));
    assert!(ratio("1.1").is_err() && ratio("NaN").is_err() && ratio("-0.1").is_err());
    assert_eq!(rate("0"), Ok(SendPace::Unlimited));
    assert_eq!(rate("1000"), Ok(SendPace::Every(Duration::from_millis(1))));
    assert_eq!(rate("0.5"), Ok(SendPace::Every(Duration::from_secs(2))));
    assert!(rate("-1").is_err() && rate("1e-300").is_err() && rate("inf").is_err() && rate("1e8").is_err());
    assert!(speedup("0.5").is_err() && speedup("nan").is_err() && speedup("60").is_ok());
    assert_eq!(fetch_bytes("1MiB"), Ok(1 << 20));
    assert_eq!(fetch_bytes("500000"), Ok(500_000));
    assert!(
        fetch_bytes("1").is_err()
            && fetch_bytes("1GiB").is_err()
            && fetch_bytes("99999999999999999M").is_err()
    );
}

#[test]
fn broker_lists() {
    let cases = [
        ("127.0.0.1:9092", "127.0.0.1:9092"),
        ("kafka", "kafka:9092"),
        ("a:1, b:2", "a:1 b:2"),
        ("[::1]:9093", "[::1]:9093"),
        ("[::1]", "[::1]:9092"),
        ("::1", "[::1]:9092"),
        ("kafka-0.kafka.weather.svc.cluster.local:9092", "kafka-0.kafka.weather.svc.cluster.local:9092"),
    ];
    for (text, expected) in cases {
        assert_eq!(brokers(text).map(|b| b.join(" ")), Ok(expected.to_owned()), "{text}");
    }
    for text in [
        "",
        ",",
        "a:",
        "a:0",
        "a:70000",
        "a:b",
        "a,,b",
        ":9092",
        "[::1",
        "[x]:1",
        "kafka://a:1",
        "a b",
        "a:1:2",
    ] {
        assert!(brokers(text).is_err(), "{text}");
    }
}

#[test]
fn topics_by_kafkas_rule() {
    assert!(topic("weather_data").is_ok() && topic("a.b-C_9").is_ok() && topic(&"x".repeat(249)).is_ok());
    for text in ["", ".", "..", "a b", "a/b", "wetter_ö", &"x".repeat(250)] {
        assert!(topic(text).is_err(), "{text}");
    }
}

#[test]
fn sources() {
    assert_eq!(source("synthetic"), Ok(ReadingSource::Synthetic));
    assert_eq!(source("-"), Ok(ReadingSource::Stdin));
    assert_eq!(source("a.ndjson"), Ok(ReadingSource::File(PathBuf::from("a.ndjson"))));
    assert_eq!(source("http://h:1/x?y=1"), Ok(ReadingSource::Http("http://h:1/x?y=1".into())));
    assert!(source("https://h/").unwrap_err().contains("curl -s https://"));
    for text in ["", "http://", "http:///x", "http://u:p@h/", "http://h/a b", "ftp://h/"] {
        assert!(source(text).is_err(), "{text}");
    }
}

#[test]
fn starts_and_assignments() {
    assert_eq!(start_from("earliest"), Ok(StartFrom::Earliest));
    let nine = Ok(StartFrom::Timestamp(1_763_802_000_000));
    for text in
        ["2025-11-22T09:00:00Z", "2025-11-22 09:00", "2025-11-22T16:00:00+07:00", "2025-11-22T09:00:00.000"]
    {
        assert_eq!(start_from(text), nine, "{text}");
    }
    assert_eq!(start_from("2025-11-22"), Ok(StartFrom::Timestamp(1_763_769_600_000)));
    assert!(
        start_from("yesterday").is_err() && start_from("2025-13-01").is_err() && start_from("2025").is_err()
    );
    assert_eq!(assign("auto"), Ok(Assign::Auto));
    assert_eq!(assign("3,0,2-4"), Ok(Assign::Static(vec![0, 2, 3, 4])));
    for text in ["", "a", "5-2", "-1", "1,", "0-999999999"] {
        assert!(assign(text).is_err(), "{text}");
    }
}

#[test]
fn words_and_addresses() {
    assert_eq!(sasl_mechanism("scram-sha-256"), Ok(SaslMechanism::ScramSha256));
    assert!(sasl_mechanism("GSSAPI").unwrap_err().contains("PLAIN, SCRAM-SHA-256"));
    assert_eq!(listen(""), Ok(None));
    assert!(listen("127.0.0.1:8080").is_ok_and(|a| a.is_some()));
    assert_eq!(listen("localhost:8080"), listen("127.0.0.1:8080"));
    assert!(listen("8080").is_err() && listen("example.org:80").is_err() && listen("localhost:").is_err());
    assert_eq!(boolean("TRUE"), Ok(true));
    assert!(boolean("2").is_err());
}
