//! The table's own rules, and the command line as a user writes it.

use std::collections::HashSet;
use std::time::Duration;

use super::environment::tests::fake;
use super::table::{Name, flags};
use super::*;
use crate::config::{Assign, ReadingSource, SaslMechanism, SendPace};

/// As [`parse`] of a command, available or not.
fn run(command: Name, arguments: &[&str], env: &[(&str, &str)]) -> Result<Run> {
    let command = SUBCOMMANDS.iter().find(|c| c.name == command).unwrap();
    let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
    configure(command, &arguments, &fake(env))
}

fn producer(arguments: &[&str], env: &[(&str, &str)]) -> config::Producer {
    match run(Name::Producer, arguments, env).unwrap().command {
        Command::Producer(config) => config,
        other => panic!("{other:?}"),
    }
}

fn process(arguments: &[&str], env: &[(&str, &str)]) -> config::Process {
    match run(Name::Process, arguments, env).unwrap().command {
        Command::Process(config) => *config,
        other => panic!("{other:?}"),
    }
}

fn refusal(command: Name, arguments: &[&str], env: &[(&str, &str)]) -> String {
    let e = run(command, arguments, env).unwrap_err();
    assert_eq!(e.exit_code(), 2);
    e.to_string()
}

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

#[test]
fn every_flag_is_named_once_a_command_and_its_default_parses() {
    for command in SUBCOMMANDS {
        let mut names = HashSet::new();
        let mut variables = HashSet::new();
        for flag in flags_of(command.name) {
            assert!(names.insert(flag.name), "--{} twice in {}", flag.name, command.word);
            assert!(variables.insert(flag.variable()));
        }
    }
    for flag in flags() {
        let word = |c: char| c.is_ascii_lowercase() || c == '-';
        assert!(flag.name.chars().all(word) && !flag.name.starts_with('-'), "{}", flag.name);
        assert!(flag.variable().chars().all(|c| c.is_ascii_uppercase() || c == '_'));
        assert!(flag.help.ends_with(['.', '-']), "{}: {}", flag.name, flag.help);
        assert!(!flag.on.is_empty());
        if let Some(default) = flag.default {
            assert_eq!((flag.set)(&mut FlagValues::default(), default), Ok(()), "--{}", flag.name);
        }
    }
}

#[test]
fn defaults_are_the_contract() {
    let c = producer(&[], &[]);
    assert_eq!(c.kafka.brokers, ["127.0.0.1:9092"]);
    assert_eq!(c.kafka.topic, "weather_data");
    assert_eq!(c.pace, SendPace::Every(Duration::from_millis(6)));
    assert_eq!((c.listen, c.count, c.source), (None, None, ReadingSource::Synthetic));
    let c = process(&[], &[]);
    assert_eq!(c.listen, Some("127.0.0.1:8080".parse().unwrap()));
    assert_eq!((c.window, c.watermark), (Duration::from_secs(3600), Duration::from_secs(600)));
    assert_eq!((c.flush_interval, c.lease), (Duration::from_millis(250), Duration::from_secs(15)));
    assert_eq!((c.until_latest, c.assign, c.fetch_bytes), (false, Assign::Auto, 1 << 20));
    assert!(run(Name::Demo, &["--duration", "10s"], &[]).is_ok());
    assert!(run(Name::Inspect, &["--json"], &[]).is_ok());
}

#[test]
fn flag_before_variable_before_default() {
    let env = [("WEATHER_TOPIC", "from_env"), ("WEATHER_LINGER", "7ms")];
    let c = producer(&["--topic=from_flag"], &env);
    assert_eq!((c.kafka.topic.as_str(), c.linger), ("from_flag", Duration::from_millis(7)));
    assert_eq!(producer(&[], &[("WEATHER_TOPIC", "")]).kafka.topic, "weather_data");
    // Where empty means something, an empty variable counts.
    assert_eq!(process(&[], &[("WEATHER_LISTEN", "")]).listen, None);
    assert_eq!(process(&["--listen="], &[]).listen, None);
}

#[test]
fn switches_and_values_in_both_forms() {
    assert!(process(&["--until-latest", "--assign", "0,2-3"], &[]).until_latest);
    assert!(!process(&["--until-latest=false"], &[("WEATHER_UNTIL_LATEST", "1")]).until_latest);
    assert!(process(&[], &[("WEATHER_UNTIL_LATEST", "yes")]).until_latest);
    assert_eq!(producer(&["--source", "-"], &[]).source, ReadingSource::Stdin);
}

#[test]
fn pace_is_interval_or_rate() {
    assert_eq!(producer(&["--rate", "0"], &[]).pace, SendPace::Unlimited);
    assert_eq!(producer(&["--rate", "100"], &[]).pace, SendPace::Every(Duration::from_millis(10)));
    let env = [("WEATHER_INTERVAL", "1s")];
    assert_eq!(producer(&[], &env).pace, SendPace::Every(Duration::from_secs(1)));
    assert_eq!(producer(&["--rate", "0"], &env).pace, SendPace::Unlimited);
    assert_eq!(
        producer(&["--interval", "2s"], &[("WEATHER_RATE", "5")]).pace,
        SendPace::Every(Duration::from_secs(2))
    );
    assert!(
        refusal(Name::Producer, &["--rate", "1", "--interval", "1s"], &[]).contains("cannot be combined")
    );
    assert_eq!(producer(&["--source", "-"], &[]).pace, SendPace::Unlimited);
    assert_eq!(producer(&["--source=-", "--rate=10"], &[]).pace, SendPace::Every(Duration::from_millis(100)));
}

/// Command, arguments, environment, parts of the message.
type Refusal =
    (Name, &'static [&'static str], &'static [(&'static str, &'static str)], &'static [&'static str]);

#[test]
fn refusals_are_one_line_with_origin_value_and_example() {
    let cases: [Refusal; 21] = [
        (Name::Producer, &["--lingr", "5ms"], &[], &["--lingr", "did you mean --linger?"]),
        (Name::Producer, &["--linger", "5x"], &[], &["--linger:", "\"5x\"", "6ms"]),
        (Name::Producer, &[], &[("WEATHER_LINGER", "5x")], &["WEATHER_LINGER:", "\"5x\"", "6ms"]),
        (Name::Producer, &["--linger"], &[], &["--linger needs a value"]),
        (Name::Producer, &["--topic", "--linger", "1s"], &[], &["--topic needs a value"]),
        (Name::Producer, &["--topic", "a", "--topic=b"], &[], &["--topic is given twice"]),
        (Name::Process, &["--dead-letter-retention", "40000d"], &[], &["--dead-letter-retention", "36500d"]),
        (Name::Producer, &["weather_data"], &[], &["unexpected argument", "weather producer --help"]),
        (Name::Producer, &["-linger", "1s"], &[], &["did you mean --linger?"]),
        (Name::Producer, &["--source", "https://x/"], &[], &["curl -s https://"]),
        (Name::Producer, &["--sasl-mechanism", "PLAIN"], &[], &["--sasl-username"]),
        (Name::Producer, &["--sasl-username", "u"], &[], &["--sasl-mechanism"]),
        (Name::Producer, &["--sasl-mechanism=PLAIN", "--sasl-username=u"], &[], &["WEATHER_SASL_PASSWORD"]),
        (Name::Producer, &["--late-ratio", "0.6", "--malformed-ratio", "0.6"], &[], &["more than 1"]),
        (Name::Producer, &["--source", "-", "--backfill", "1h"], &[], &["--backfill", "--source synthetic"]),
        (Name::Producer, &["--speedup", "60"], &[], &["--speedup requires --backfill"]),
        (Name::Producer, &["--window", "1h"], &[], &["unknown option --window"]),
        (Name::Process, &["--window", "7h"], &[], &["does not divide a day"]),
        (Name::Process, &["--window", "1ms"], &[], &["too short"]),
        (Name::Process, &["--lease", "10ms"], &[], &["--lease"]),
        (
            Name::Process,
            &[],
            &[("WEATHER_DATABASE_URL", "s3cret")],
            &["WEATHER_DATABASE_URL is not a connection"],
        ),
    ];
    for (command, arguments, env, expected) in cases {
        let message = refusal(command, arguments, env);
        assert!(!message.contains('\n'));
        for part in expected {
            assert!(message.contains(part), "{arguments:?} {env:?}: {message}");
        }
    }
}

#[test]
fn credentials_come_from_the_environment_and_stay_out_of_sight() {
    let env = [("WEATHER_SASL_PASSWORD", "s3cret"), ("PGPASSWORD", "s3cret")];
    let arguments = ["--sasl-mechanism", "SCRAM-SHA-512", "--sasl-username", "u"];
    let c = producer(&arguments, &env);
    let sasl = c.kafka.sasl.unwrap();
    assert_eq!((sasl.mechanism, sasl.password.expose()), (SaslMechanism::ScramSha512, "s3cret"));
    let url = ["--database-url", "postgres://u:s3cret@h/d"];
    let run = run(Name::Process, &[&arguments[..], &url[..]].concat(), &env).unwrap();
    assert!(!format!("{:?}", run.settings).contains("s3cret"), "{:?}", run.settings);
    assert!(run.settings.contains(&("database", "postgres://u@h:5432/d".into())));
    let source = ["--source", "http://api/weather?appid=s3cret"];
    let run = super::tests::run(Name::Producer, &source, &[]).unwrap();
    assert!(run.settings.contains(&("source", "http://api/weather?***".into())), "{:?}", run.settings);
}

#[test]
fn a_refused_address_is_shown_without_what_may_be_secret() {
    for address in
        ["https://api/weather?appid=s3cret", "http://u:s3cret@api/weather", "ftp://u:s3@cret@h?s3cret"]
    {
        let message = refusal(Name::Producer, &["--source", address], &[]);
        assert!(
            message.contains("***") && !message.contains("cret\"") && !message.contains("s3"),
            "{message}"
        );
    }
}

#[test]
fn help_version_and_unknown_commands() {
    let none = fake(&[]);
    let print = |line: &str| match parse(words(line), &none).unwrap() {
        Invocation::Print(text) => text,
        other => panic!("{other:?}"),
    };
    assert!(print("--help").contains("producer"));
    assert_eq!(print("help"), print("-h"));
    assert_eq!(print("producer --help"), print("help producer"));
    assert_eq!(print("producer --topic x -h"), print("help producer"));
    assert!(print("--version").starts_with("weather "));
    assert!(matches!(parse(words(""), &none), Ok(Invocation::NoCommand(_))));
    let refused = |line: &str| parse(words(line), &none).unwrap_err().to_string();
    assert!(refused("prodcer").contains("did you mean producer?"));
    assert!(refused("--topic x producer").contains("put the command before"));
    assert!(refused("help nothing").contains("unknown command"));
    assert!(matches!(parse(words("producer --count 1"), &none), Ok(Invocation::Run(_))));
}

#[test]
fn variables_of_the_replaced_container_count_where_ours_are_not_set() {
    let old = [
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka-service:9092"),
        ("JDBC_URL", "jdbc:postgresql://postgres-service:5433/weather"),
        ("JDBC_USER", "hanoi"),
    ];
    let c = process(&[], &old);
    assert_eq!(c.kafka.brokers, ["kafka-service:9092"]);
    let database = c.database.unwrap();
    assert_eq!((database.get_user(), database.get_dbname()), (Some("hanoi"), Some("weather")));
    assert_eq!(database.get_ports(), [5433]);
    let ours = [&old[..], &[("WEATHER_BROKERS", "b:1"), ("DATABASE_URL", "postgres://u@h/d")]].concat();
    let c = process(&[], &ours);
    assert_eq!(c.kafka.brokers, ["b:1"]);
    assert_eq!(c.database.unwrap().get_user(), Some("u"));
    assert_eq!(process(&["--brokers", "f:2"], &ours).kafka.brokers, ["f:2"]);
}

#[test]
fn the_format_comes_from_its_flags() {
    let c = process(
        &["--fields", "temperature=t:K", "--time-zone", "Asia/Kolkata", "--missing-values", "-99"],
        &[],
    );
    assert!(c.format.settings().zone.is_some() && c.format.settings().fields.len() == 1);
    assert!(!c.format.has_chosen_units());
    let c = process(&["--output-units", "wind_speed=km/h"], &[("WEATHER_MISSING_TIMESTAMP", "kafka")]);
    assert_eq!(c.format.output_units(), "temperature=°C,humidity=%,wind_speed=km/h");
    for (flag, value, part) in [
        ("--time-zone", "Asia/Nowhere", "an existing IANA name"),
        ("--fields", "temp=x", "temperature"),
        ("--output-units", "wind_speed=bft", "km/h"),
        ("--missing-timestamp", "guess", "kafka"),
    ] {
        let refused = super::parse(["process", flag, value].map(Into::into), &|_| None).unwrap_err();
        assert!(refused.exit_code() == 2 && refused.to_string().contains(part), "{refused}");
    }
}
