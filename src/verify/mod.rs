//! `weather verify`: whether the tables are what the topic says, by reading the topic again.
//!
//! Every partition is read again up to the offset that its state has in the table, at one moment for all, by the same
//! state machine (`replay`), and compared with what the table has. So the pipeline may go on meanwhile.
//! What cannot be checked, since Kafka no longer has it, is reported apart from what differs. Nothing is changed.

mod findings;
mod plan;
mod readmitted;
mod replay;
mod report;
mod rules;
mod stations;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::config::{Between, OnDataLoss, Verify};
use crate::engine::partition::WindowSettings;
use crate::error::{Error, Result};
use crate::kafka::cluster::Cluster;
use crate::kafka::fetcher::{self, Fetcher};
use crate::postgres::clusters;
use crate::postgres::connector::address;
use crate::postgres::evidence;
use crate::postgres::failure::{Failure, FailureKind};
use crate::postgres::schema::{self, SetupError};
use crate::postgres::session::Session;
use crate::shutdown::Shutdown;
use crate::telemetry::output;
use crate::telemetry::terminal::{Live, per_second, progress_bar};
use crate::time::{milliseconds, now_ms};

use findings::{Difference, PartitionFindings};
use plan::{Planned, PlannedReplay, TopicEnds};
use replay::Replay;
use report::{Verdict, VerifyReport};
use rules::{ComparisonRules, StationRules};

/// How long a broker may hold back an answer: what is to be read is there already.
const FETCH_WAIT: Duration = Duration::from_millis(500);
/// At most this many rows of the output that differ are listed.
const MAX_LISTED_ROWS: usize = 20;
/// Above this share of their room, old dead letters may have been deleted to make some: [`upkeep`](crate::postgres::upkeep)
/// leaves nine tenths.
const MAYBE_TRIMMED: f64 = 0.85;

/// Compares and prints.
///
/// # Errors
/// Something differs (exit code 1), or not all could be checked (3).
pub async fn run(config: Verify, mut shutdown: Shutdown) -> Result<()> {
    let report = tokio::select! {
        report = verify(&config) => report?,
        () = shutdown.wait() => return Err(Error::unknown("stopped by a signal before everything was compared")),
    };
    let text = if config.json { report.to_json() } else { report.to_text() };
    output::deliver_until(&mut shutdown, text).await;
    match report.verdict {
        Verdict::Exact => Ok(()),
        Verdict::Differs => {
            Err(Error::failure(format!("the tables differ from the topic: {}", report.first_difference())))
        }
        Verdict::Unknown => {
            Err(Error::unknown("no difference was found, but not everything could be checked; see above"))
        }
    }
}

async fn verify(config: &Verify) -> Result<VerifyReport> {
    let started = Instant::now();
    let refused = |failure: Failure| cannot_read(config, &failure);
    let session = Session::open(&config.database).await.map_err(refused)?;
    let topic_name = &config.kafka.topic;
    let identity = schema::made_for(&session, topic_name).await;
    let (identity, format) = identity
        .and_then(|identity| identity.format(&config.format).map(|format| (identity, format)))
        .map_err(|error| match error {
            SetupError::Refused(error) => error,
            SetupError::Failed(failure) => cannot_read(config, &failure),
        })?;
    let cluster = Arc::new(Cluster::new(config.kafka.clone()));
    let of_tables = clusters::current(&session).await.map_err(refused)?;
    let topic = TopicEnds::look(&cluster, of_tables.as_deref()).await?;
    let window_ms = identity.window_ms;
    let stored =
        evidence::partitions(&session, topic_name, window_ms, &topic.earliest).await.map_err(refused)?;
    // Later than the snapshot: what was read by then is there.
    let topic = topic.with_ends(&cluster).await?;
    let Planned { replays, differences, mut unknown } = plan::plan(stored, &topic, &config.between);
    let dead_letters_since_ms = dead_letters_since(config, &session).await.map_err(refused)?;
    let rules = Arc::new(ComparisonRules {
        topic: topic_name.clone(),
        settings: WindowSettings {
            window_ms,
            out_of_orderness_ms: milliseconds(config.watermark),
            max_future_ms: milliseconds(config.max_future),
        },
        format,
        between: config.between,
        dead_letters_since_ms,
        stations: station_rules(config, &session, &replays).await.map_err(refused)?,
        session,
        done: AtomicI64::new(0),
    });
    let _live = progress(&rules, replays.iter().map(|replay| replay.offsets()).sum());
    let settings = fetcher::FetchSettings {
        fetch_bytes: config.fetch_bytes,
        wait: FETCH_WAIT,
        pause: Duration::ZERO,
        on_data_loss: OnDataLoss::Continue,
    };
    let fetcher = Fetcher::start(Arc::clone(&cluster), settings);
    let mut reading: JoinSet<Result<PartitionFindings, Failure>> = JoinSet::new();
    for planned in replays {
        let feed = fetcher.open(planned.partition(), planned.reach.from.offset, planned.log);
        let replay = Replay::new(Arc::clone(&rules), planned.stored, planned.table, planned.reach);
        reading.spawn(replay.run(feed));
    }
    let mut partitions = Vec::new();
    while let Some(found) = reading.join_next().await {
        let found = found.map_err(|e| Error::failure(format!("internal error: {e}")))?;
        partitions.push(found.map_err(refused)?);
    }
    partitions.sort_by_key(|found| found.partition);
    let (rows, mut wrong) = compare_output(&rules).await.map_err(refused)?;
    wrong.extend(differences);
    wrong.extend(stations::add_up(&rules, &partitions).await.map_err(refused)?);
    let all_kept = partitions.iter().all(|found| found.dead_letters_are_kept) && unknown.is_empty();
    let (readmitted, lost) = readmitted::compare(&rules, all_kept).await.map_err(refused)?;
    wrong.extend(readmitted);
    unknown.extend(lost);
    Ok(VerifyReport::new(topic_name, partitions, rows, wrong, unknown, started.elapsed()))
}

/// What stations are compared by, where they are kept apart.
async fn station_rules(
    config: &Verify,
    session: &Session,
    replays: &[PlannedReplay],
) -> Result<Option<StationRules>, Failure> {
    if replays.iter().all(|replay| replay.stored.open_stations.is_none()) {
        return Ok(None);
    }
    let session = Mutex::new(session.another().await?);
    Ok(Some(StationRules { max_stations: config.max_stations, session }))
}

/// From which record on no dead letter can have been deleted for its age or for want of room, ms since 1970.
async fn dead_letters_since(config: &Verify, session: &Session) -> Result<i64, Failure> {
    let bytes = evidence::dead_letter_bytes(session).await? as f64;
    Ok(match bytes < MAYBE_TRIMMED * config.dead_letter_max_bytes as f64 {
        true => now_ms() - milliseconds(config.dead_letter_retention),
        false => i64::MAX,
    })
}

/// Compares the output with the partials, portion by portion; how many rows, and what differs.
async fn compare_output(rules: &ComparisonRules) -> Result<(usize, Vec<Difference>), Failure> {
    let (mut rows, mut differences) = (0, Vec::new());
    let mut between = rules.between;
    loop {
        let (count, wrong, next) =
            evidence::output(&rules.session, &rules.topic, rules.settings.window_ms, between).await?;
        rows += count - wrong.len().min(count);
        let listed = wrong.into_iter().map(|row| Difference {
            partition: None,
            window_start_ms: Some(row.start_ms),
            window_start: Some(crate::time::SqlTimestamp(row.start_ms).to_string()),
            offsets: None,
            what: row.what,
        });
        differences.extend(listed.take(MAX_LISTED_ROWS.saturating_sub(differences.len())));
        match next {
            Some(next) => between = Between { from_ms: Some(next), ..between },
            None => return Ok((rows, differences)),
        }
    }
}

/// How far it is, on a terminal.
fn progress(rules: &Arc<ComparisonRules>, offsets: i64) -> Option<Live> {
    let (rules, started) = (Arc::clone(rules), Instant::now());
    Live::start(move || {
        let (done, elapsed) = (rules.done.load(Ordering::Relaxed) as f64, started.elapsed());
        let bar = progress_bar(done / (offsets as f64).max(1.0), elapsed);
        format!("reading again  {bar}  {}", per_second(done / elapsed.as_secs_f64().max(0.001)))
    })
}

fn cannot_read(config: &Verify, failure: &Failure) -> Error {
    let message = format!("PostgreSQL at {} {}", address(&config.database), failure.verdict());
    match failure.kind {
        FailureKind::Setup => Error::usage(message),
        _ => Error::unknown(message),
    }
}
