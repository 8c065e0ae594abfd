//! From parsed options to a subcommand's configuration: relations between values, credentials, the database.

use std::sync::Arc;
use std::time::Duration;

use super::table::{FlagValues, Name, flags};
use super::{Command, Environment, GivenValue, Run, ValueOrigin, database, environment, value};
use crate::config::{
    Between, By, ByStation, Demo, Inspect, Kafka, LogSettings, Process, Producer, ReadingSource, Readmit,
    Sasl, SendPace, Verify,
};
use crate::error::{Error, Result};
use crate::reading::{Format, FormatSettings};

/// With more open windows per partition than this, window and watermark cannot be intended.
const MAX_OPEN_WINDOWS: u128 = 10_000;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A heartbeat must have time to reach the database and back, several times within a lease.
const MIN_LEASE: Duration = Duration::from_secs(1);

/// Checks the values against each other and builds the configuration.
pub(super) fn run(
    name: Name,
    options: FlagValues,
    given: &[GivenValue],
    env: &Environment<'_>,
) -> Result<Run> {
    let mut settings: Vec<(&'static str, String)> =
        given.iter().map(|value| (value.flag, value::masked(&value.text))).collect();
    let command = match name {
        Name::Producer => Command::Producer(producer(options, given, env)?),
        Name::Process => Command::Process(Box::new(process(options, given, env)?)),
        Name::Demo => Command::Demo(demo(options)?),
        Name::Inspect => Command::Inspect(inspect(options, given, env)?),
        Name::Verify => Command::Verify(Box::new(verify(options, given, env)?)),
        Name::Readmit => Command::Readmit(Box::new(readmit(options, given, env)?)),
    };
    let database = match &command {
        Command::Process(config) => config.database.as_ref(),
        Command::Inspect(config) => Some(&config.database),
        Command::Verify(config) => Some(&config.database),
        Command::Readmit(config) => Some(&config.database),
        Command::Producer(_) | Command::Demo(_) => None,
    };
    if let Some(database) = database {
        settings.retain(|(flag, _)| *flag != "database-url");
        settings.push(("database", database::describe(database)));
    }
    Ok(Run { command, settings })
}

/// A value that is always there, by the table's default.
fn present<T>(flag: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Error::usage(format!("--{flag} is required")))
}

fn origin(given: &[GivenValue], flag: &str) -> ValueOrigin {
    given.iter().find(|value| value.flag == flag).map_or(ValueOrigin::Default, |value| value.origin)
}

fn log(options: &FlagValues) -> Result<LogSettings> {
    Ok(LogSettings {
        level: present("log-level", options.log_level)?,
        format: present("log-format", options.log_format)?,
    })
}

fn kafka(options: &mut FlagValues, env: &Environment<'_>) -> Result<Kafka> {
    Ok(Kafka {
        brokers: present("brokers", options.brokers.take())?,
        broker_map: options.broker_map.take().unwrap_or_default(),
        topic: present("topic", options.topic.take())?,
        sasl: sasl(options, env)?,
    })
}

/// How records are read.
fn format(options: &mut FlagValues) -> Result<Arc<Format>> {
    let settings = FormatSettings {
        fields: options.fields.take().unwrap_or_default(),
        zone: options.zone.take(),
        missing_timestamp: present("missing-timestamp", options.missing_timestamp)?,
        missing_values: options.missing_values.take().unwrap_or_default(),
        output: options.output_units,
    };
    Ok(Arc::new(Format::new(settings)))
}

fn sasl(options: &mut FlagValues, env: &Environment<'_>) -> Result<Option<Sasl>> {
    let (mechanism, username) = (options.sasl_mechanism, options.sasl_username.take());
    let (mechanism, username) = match (mechanism, username) {
        (None, None) => return Ok(None),
        (Some(mechanism), Some(username)) => (mechanism, username),
        (Some(_), None) => return Err(Error::usage("--sasl-mechanism requires --sasl-username NAME")),
        (None, Some(_)) => {
            return Err(Error::usage(
                "--sasl-username requires --sasl-mechanism PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
            ));
        }
    };
    let password = environment::secret(env, "WEATHER_SASL_PASSWORD")?.ok_or_else(|| {
        Error::usage(
            "--sasl-mechanism requires a password in WEATHER_SASL_PASSWORD, or in a file named by \
             WEATHER_SASL_PASSWORD_FILE",
        )
    })?;
    Ok(Some(Sasl { mechanism, username, password }))
}

fn producer(mut o: FlagValues, given: &[GivenValue], env: &Environment<'_>) -> Result<Producer> {
    let source = present("source", o.source.take())?;
    let (backfill, speedup) = (present("backfill", o.backfill)?, present("speedup", o.speedup)?);
    let late = present("late-ratio", o.late_ratio)?;
    let malformed = present("malformed-ratio", o.malformed_ratio)?;
    let future = present("future-ratio", o.future_ratio)?;
    if source != ReadingSource::Synthetic {
        // An error only as a flag: a variable may be set once for a whole deployment.
        let simulation =
            ["backfill", "speedup", "late-ratio", "malformed-ratio", "future-ratio", "stations", "seed"];
        if let Some(flag) = simulation.iter().find(|flag| origin(given, flag) == ValueOrigin::Flag) {
            return Err(Error::usage(format!(
                "--{flag} applies to simulated stations only; remove it, or use --source synthetic"
            )));
        }
    }
    if speedup != 1.0 && backfill.is_zero() && source == ReadingSource::Synthetic {
        return Err(Error::usage(
            "--speedup requires --backfill, the history to send: for example --backfill 24h --speedup 3600",
        ));
    }
    if late + malformed + future > 1.0 {
        return Err(Error::usage(format!(
            "--late-ratio {late}, --malformed-ratio {malformed} and --future-ratio {future} add up to more than 1"
        )));
    }
    Ok(Producer {
        kafka: kafka(&mut o, env)?,
        format: format(&mut o)?,
        listen: present("listen", o.listen)?,
        log: log(&o)?,
        pace: pace(&o, given, &source)?,
        count: o.count,
        duration: o.duration,
        source,
        poll: present("poll", o.poll)?,
        stations: present("stations", o.stations)?,
        seed: present("seed", o.seed)?,
        backfill,
        speedup,
        late_ratio: late,
        malformed_ratio: malformed,
        future_ratio: future,
        partitions: present("partitions", o.partitions)?,
        linger: present("linger", o.linger)?,
        compression: present("compression", o.compression)?,
        log_sent: present("log-sent", o.log_sent)?,
    })
}

/// `--interval` or `--rate`: a flag goes before a variable; without either, only simulated stations keep a pace.
fn pace(options: &FlagValues, given: &[GivenValue], source: &ReadingSource) -> Result<SendPace> {
    let (interval, rate) = (origin(given, "interval"), origin(given, "rate"));
    match options.rate {
        Some(_) if rate == interval => Err(Error::usage(
            "--interval and --rate cannot be combined; remove one of them (6ms is 166.7 a second)",
        )),
        Some(pace) if rate > interval => Ok(pace),
        _ if interval == ValueOrigin::Default && *source != ReadingSource::Synthetic => {
            Ok(SendPace::Unlimited)
        }
        _ => Ok(SendPace::Every(present("interval", options.interval)?)),
    }
}

fn process(mut o: FlagValues, given: &[GivenValue], env: &Environment<'_>) -> Result<Process> {
    let (window, watermark) = (present("window", o.window)?, present("watermark", o.watermark)?);
    let max_future = present("max-future", o.max_future)?;
    check_window(window, watermark, max_future)?;
    let lease = present("lease", o.lease)?;
    if lease < MIN_LEASE {
        return Err(Error::usage(format!(
            "--lease {lease:?} is too short: a heartbeat must reach the database and return within it; use at least 1s"
        )));
    }
    Ok(Process {
        kafka: kafka(&mut o, env)?,
        format: format(&mut o)?,
        listen: present("listen", o.listen)?,
        log: log(&o)?,
        database: match o.database_url.as_deref() {
            Some("none") => None,
            _ => Some(database(&o, given, env)?),
        },
        checkpoint_dir: present("checkpoint-dir", o.checkpoint_dir)?,
        window,
        watermark,
        from: present("from", o.from)?,
        until_latest: present("until-latest", o.until_latest)?,
        assign: present("assign", o.assign)?,
        flush_interval: present("flush-interval", o.flush_interval)?,
        checkpoint_interval: present("checkpoint-interval", o.checkpoint_interval)?,
        max_future,
        idle_timeout: present("idle-timeout", o.idle_timeout)?,
        lease,
        on_data_loss: present("on-data-loss", o.on_data_loss)?,
        group: present("group", o.group)?,
        on_unreadable: present("on-unreadable", o.on_unreadable)?,
        accept_cluster: present("accept-cluster", o.accept_cluster)?,
        fetch_bytes: present("fetch-bytes", o.fetch_bytes)?,
        dead_letter_retention: present("dead-letter-retention", o.dead_letter_retention)?,
        dead_letter_max_bytes: present("dead-letter-max-bytes", o.dead_letter_max_bytes)?,
        by_station: match o.by {
            None => None,
            Some(By::Station) => Some(ByStation {
                max_stations: present("max-stations", o.max_stations)?,
                flush_interval: present("station-flush-interval", o.station_flush_interval)?,
                retention: o.station_retention,
            }),
        },
    })
}

fn check_window(window: Duration, watermark: Duration, max_future: Duration) -> Result<()> {
    let (day_ms, window_ms) = (DAY.as_millis(), window.as_millis());
    if window_ms == 0 {
        return Err(Error::usage("--window must be above zero, such as 1h"));
    }
    // Windows start at multiples of their length since 1970: only so do they start at the same time every day.
    if day_ms % window_ms != 0 && window_ms % day_ms != 0 {
        return Err(Error::usage(format!(
            "--window {window:?} does not divide a day evenly, so windows would start at different times each day; \
             choose for example 15m, 1h, 6h or whole days"
        )));
    }
    let open = (watermark + max_future).as_millis() / window_ms;
    if open > MAX_OPEN_WINDOWS {
        return Err(Error::usage(format!(
            "--window {window:?} is too short for --watermark {watermark:?} and --max-future {max_future:?}: \
             {open} windows would be open at once in each partition; at most {MAX_OPEN_WINDOWS}"
        )));
    }
    Ok(())
}

fn database(
    options: &FlagValues,
    given: &[GivenValue],
    env: &Environment<'_>,
) -> Result<tokio_postgres::Config> {
    let named = given.iter().find(|value| value.flag == "database-url").and_then(|value| {
        let flag = flags().find(|flag| flag.name == value.flag)?;
        Some(value.name(flag))
    });
    let url = named.as_deref().zip(options.database_url.as_deref());
    database::config(url, env)
}

fn demo(o: FlagValues) -> Result<Demo> {
    Ok(Demo {
        log: log(&o)?,
        listen: present("listen", o.listen)?,
        duration: present("duration", o.duration)?,
        postgres: !present("without-postgres", o.without_postgres)?,
    })
}

/// Which windows are looked at.
fn between(o: &FlagValues) -> Result<Between> {
    let (from_ms, to_ms) = (o.range_from, o.range_to);
    match o.window_start {
        Some(_) if from_ms.is_some() || to_ms.is_some() => {
            Err(Error::usage("--window-start cannot be combined with --from and --to; remove one of them"))
        }
        Some(start_ms) => Ok(Between { from_ms: Some(start_ms), to_ms: Some(start_ms + 1) }),
        None if from_ms.zip(to_ms).is_some_and(|(from, to)| from >= to) => {
            Err(Error::usage("--from must be before --to"))
        }
        None => Ok(Between { from_ms, to_ms }),
    }
}

fn verify(mut o: FlagValues, given: &[GivenValue], env: &Environment<'_>) -> Result<Verify> {
    Ok(Verify {
        kafka: kafka(&mut o, env)?,
        format: format(&mut o)?,
        log: log(&o)?,
        database: database(&o, given, env)?,
        watermark: present("watermark", o.watermark)?,
        max_future: present("max-future", o.max_future)?,
        dead_letter_retention: present("dead-letter-retention", o.dead_letter_retention)?,
        dead_letter_max_bytes: present("dead-letter-max-bytes", o.dead_letter_max_bytes)?,
        fetch_bytes: present("fetch-bytes", o.fetch_bytes)?,
        max_stations: present("max-stations", o.max_stations)?,
        between: between(&o)?,
        json: present("json", o.json)?,
    })
}

fn readmit(mut o: FlagValues, given: &[GivenValue], env: &Environment<'_>) -> Result<Readmit> {
    Ok(Readmit {
        topic: present("topic", o.topic.take())?,
        format: format(&mut o)?,
        log: log(&o)?,
        database: database(&o, given, env)?,
        reasons: present("reason", o.reasons.take())?,
        max_future: present("max-future", o.max_future)?,
        between: between(&o)?,
        dry_run: present("dry-run", o.dry_run)?,
    })
}

fn inspect(mut o: FlagValues, given: &[GivenValue], env: &Environment<'_>) -> Result<Inspect> {
    Ok(Inspect {
        kafka: kafka(&mut o, env)?,
        format: format(&mut o)?,
        log: log(&o)?,
        database: database(&o, given, env)?,
        checkpoint_dir: present("checkpoint-dir", o.checkpoint_dir)?,
        json: present("json", o.json)?,
    })
}
