//! `weather readmit`: dead letters into the windows where they belong, each once, beside running processors.
//!
//! Portion by portion: dead letters are locked, judged by [`engine::readmission`](crate::engine::readmission), and what can be
//! taken is added and marked in one transaction. So it can be killed at any moment, run again, and run several times at
//! once. What cannot be taken stays as it is, and is counted by its cause.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::config::Readmit;
use crate::engine::readmission::{Criteria, Obstacle, Readmission};
use crate::error::{Error, Result};
use crate::postgres::connector::address;
use crate::postgres::failure::{Failure, FailureKind};
use crate::postgres::readmission::{self, Key};
use crate::postgres::schema::{self, SetupError, TablesIdentity};
use crate::postgres::session::Session;
use crate::reading::Reason;
use crate::retry::Backoff;
use crate::shutdown::Shutdown;
use crate::telemetry::human::Grouped;
use crate::telemetry::output;
use crate::time::{milliseconds, now_ms};

/// After this many failures in a row it gives up.
const TRIES: u32 = 10;

/// What became of the dead letters.
#[derive(Debug, Default)]
struct ReadmitCounts {
    dead_letters: i64,
    readings: usize,
    windows: BTreeSet<i64>,
    refused: BTreeMap<Obstacle, i64>,
}

/// Takes what can be taken, and prints what became of it.
pub async fn run(config: Readmit, mut shutdown: Shutdown) -> Result<()> {
    let mut counts = ReadmitCounts::default();
    let result = tokio::select! {
        done = readmit(&config, &mut counts) => done,
        () = shutdown.wait() => Err(Error::failure(
            "stopped by a signal; what was taken stays, and the next run takes the rest",
        )),
    };
    let sampled_out = match &result {
        Ok(sampled_out) => *sampled_out,
        Err(_) => 0,
    };
    output::deliver_until(&mut shutdown, counts.report(&config, sampled_out)).await;
    result.map(|_| ())
}

/// How many dead letters of floods were never kept.
async fn readmit(config: &Readmit, counts: &mut ReadmitCounts) -> Result<i64> {
    let mut session = Session::open(&config.database).await.map_err(|failure| refused(config, &failure))?;
    let identity = schema::made_for(&session, &config.topic).await.map_err(|e| setup_error(config, e))?;
    let format = identity.format(&config.format).map_err(|e| setup_error(config, e))?;
    let criteria = Criteria {
        window_ms: identity.window_ms,
        future_ms: now_ms().saturating_add(milliseconds(config.max_future)),
        from_ms: config.between.from_ms,
        to_ms: config.between.to_ms,
    };
    let mut readmission = Readmission::new(criteria, format);
    let (mut after, mut backoff) = (Key::FIRST, Backoff::default());
    loop {
        match portion(config, &identity, &session, &mut readmission, after, counts).await {
            Ok(Some(last)) => {
                after = last;
                backoff.reset();
            }
            Ok(None) => break,
            // What was asked for may have been done all the same: then those dead letters are marked.
            Err(failure) if failure.passes() && backoff.failures() < TRIES => {
                crate::warn!(format_args!("PostgreSQL {}; trying again", failure.verdict()));
                readmission.taken();
                backoff.wait().await;
                // An unusable connection fails again at the next portion, and is counted there.
                if let Ok(other) = Session::open(&config.database).await {
                    session = other;
                }
            }
            Err(failure) => return Err(refused(config, &failure)),
        }
    }
    readmission::sampled_out(&session, &config.topic).await.map_err(|failure| refused(config, &failure))
}

/// Works on the dead letters behind `after`; the last of them, None if there are no more.
async fn portion(
    config: &Readmit,
    identity: &TablesIdentity,
    session: &Session,
    readmission: &mut Readmission,
    after: Key,
    counts: &mut ReadmitCounts,
) -> std::result::Result<Option<Key>, Failure> {
    let reasons: Vec<&str> = config.reasons.iter().map(|reason| reason.as_str()).collect();
    let dead_letters = match config.dry_run {
        true => readmission::look(session, &config.topic, &reasons, after).await?,
        false => readmission::lock(session, &config.topic, &reasons, after).await?,
    };
    let (mut keys, mut readings, mut refusals) = (Vec::new(), 0, Vec::new());
    for dead_letter in &dead_letters {
        match readmission.take(
            dead_letter.key.offset,
            dead_letter.payload.as_deref(),
            dead_letter.payload_bytes,
        ) {
            Ok(count) => {
                keys.push(dead_letter.key);
                readings += count;
            }
            Err(refusal) => refusals.push(refusal),
        }
    }
    let taken = readmission.taken();
    let starts: Vec<i64> = taken.windows.iter().map(|window| window.start_ms).collect();
    match config.dry_run {
        true => {}
        false if keys.is_empty() => readmission::leave(session).await?,
        false => readmission::take(session, &config.topic, identity.window_ms, &keys, &taken).await?,
    }
    counts.dead_letters += keys.len() as i64;
    counts.readings += readings;
    counts.windows.extend(starts);
    for refusal in refusals {
        *counts.refused.entry(refusal).or_default() += 1;
    }
    Ok(dead_letters.last().map(|dead_letter| dead_letter.key))
}

impl ReadmitCounts {
    fn report(&self, config: &Readmit, sampled_out: i64) -> String {
        let done = if config.dry_run { "would be taken" } else { "taken" };
        let mut out = format!(
            "{} readings of {} dead letters {done} into {} windows\n",
            Grouped(self.readings as i64),
            Grouped(self.dead_letters),
            Grouped(self.windows.len() as i64)
        );
        // Writing to a String cannot fail.
        for (refusal, count) in &self.refused {
            let _ = writeln!(out, "{} not taken: {}", Grouped(*count), cause(*refusal));
        }
        if sampled_out > 0 {
            let _ = writeln!(
                out,
                "{} dead letters of floods, whatever their reason, were counted but never kept",
                Grouped(sampled_out)
            );
        }
        out
    }
}

fn cause(refusal: Obstacle) -> String {
    match refusal {
        Obstacle::Cut => "only the first 4 KiB of the payload were kept, or there was none".to_owned(),
        Obstacle::Outside => "outside of --from and --to".to_owned(),
        Obstacle::Still(Reason::Future) => "still in the future".to_owned(),
        Obstacle::Still(reason) => {
            format!("still {} by the current format (--fields and the like)", reason.as_str())
        }
    }
}

fn refused(config: &Readmit, failure: &Failure) -> Error {
    let message = format!("PostgreSQL at {} {}", address(&config.database), failure.verdict());
    match failure.kind {
        FailureKind::Setup => Error::usage(message),
        _ => Error::failure(message),
    }
}

fn setup_error(config: &Readmit, error: SetupError) -> Error {
    match error {
        SetupError::Refused(error) => error,
        SetupError::Failed(failure) => refused(config, &failure),
    }
}
