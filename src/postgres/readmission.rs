//! Dead letters that are taken into their windows: a portion in one transaction, so that each counts once.
//!
//! A dead letter is locked, added to the partials of [`READMITTED`], and marked, and the rows of the output are computed by
//! the statements of a flush. Where stations are kept apart, it is added to the partials of its station, too. A dead letter
//! that another run holds is left to it. Whatever ends a run at any moment, a dead letter is both marked and counted, or
//! neither. A dead letter is never deleted here.
//!
//! Locks are taken in the order of a flush: partials, then rows of the output, each in the order of their windows; stations
//! last. The run that has locked a window's partial is the only one that changes the stations of it.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::engine::readmission::{Taken, stations_after};
use crate::engine::window::{Totals, Window};
use crate::postgres::failure::{Failure, FailureKind};
use crate::postgres::partials::{self, PartialColumns, partial_columns, window_of};
use crate::postgres::session::Session;
use crate::postgres::station_partials;
use crate::postgres::write::{LOCK_ROWS, MAKE_ROWS, RECOMPUTE};
use crate::reading::Reason;
use crate::time::timestamp;

/// The partition under which readmitted readings are in `weather_partial`: no process owns it, so none overwrites it.
pub const READMITTED: i32 = -1;
/// Dead letters in one transaction: with their payloads at most 2 MiB, and quickly done.
const PORTION: i64 = 500;

/// Which dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The partition.
    pub partition: i32,
    /// Which log of it.
    pub incarnation: i64,
    /// The offset there.
    pub offset: i64,
}

impl Key {
    /// Before every dead letter.
    pub const FIRST: Self = Self { partition: -1, incarnation: -1, offset: -1 };
}

/// A dead letter, as far as it is needed.
#[derive(Debug)]
pub struct ReadmissionCandidate {
    /// Which.
    pub key: Key,
    /// The beginning of its value.
    pub payload: Option<Vec<u8>>,
    /// Length of the whole value.
    pub payload_bytes: i64,
}

macro_rules! dead_letters {
    ($marked:literal) => {
        concat!(
            "SELECT partition, incarnation, \"offset\", payload, payload_bytes FROM weather_dead_letter
WHERE topic = $1 AND (partition, incarnation, \"offset\") > ($2, $3, $4) AND readmitted_at IS ",
            $marked,
            "NULL AND ($6::text[] IS NULL OR reason = ANY($6)) ORDER BY partition, incarnation, \"offset\" LIMIT $5"
        )
    };
}

const CANDIDATES: &str = dead_letters!("");
const LOCKED_CANDIDATES: &str = concat!(dead_letters!(""), " FOR UPDATE SKIP LOCKED");
const MARKED: &str = dead_letters!("NOT ");

const MARK: &str = "\
UPDATE weather_dead_letter SET readmitted_at = clock_timestamp()
WHERE topic = $1 AND readmitted_at IS NULL
    AND (partition, incarnation, \"offset\") IN (SELECT * FROM unnest($2::int[], $3::bigint[], $4::bigint[]))";

/// Of several runs the first makes the row, the others wait for its end.
const MAKE_PARTIALS: &str = "\
INSERT INTO weather_partial (topic, window_start, partition, reading_count, temp_count, humidity_count,
    wind_speed_count, temp_sum, humidity_sum, wind_speed_sum, digest, incarnation, first_offset, last_offset)
SELECT $1, w, $3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM unnest($2::timestamp[]) AS w ORDER BY w
ON CONFLICT (topic, window_start, partition) DO NOTHING";

const LOCK_PARTIALS: &str = concat!(
    "SELECT ",
    partial_columns!(),
    " FROM weather_partial w WHERE topic = $1 AND window_start = ANY($2::timestamp[]) AND partition = $3
ORDER BY window_start FOR UPDATE"
);

const PARTIALS: &str = concat!(
    "SELECT ",
    partial_columns!(),
    " FROM weather_partial w WHERE topic = $1 AND partition = $2 ORDER BY window_start"
);

/// Reasons of dead letters that `weather readmit` takes unless others are asked for: what time or another clock can change.
const REASONS: [Reason; 3] = [Reason::Late, Reason::Future, Reason::OutOfRange];

/// Dead letters of one reason that may be taken into their windows: whole, and not marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Readmittable {
    /// Why they were rejected.
    pub reason: &'static str,
    /// How many there are, or have been counted.
    pub count: i64,
    /// Whether there are more.
    pub or_more: bool,
}

/// Begins a transaction and locks a portion of dead letters behind `after`, for these reasons.
pub async fn lock(
    session: &Session,
    topic: &str,
    reasons: &[&str],
    after: Key,
) -> Result<Vec<ReadmissionCandidate>, Failure> {
    session.call(session.client.batch_execute(&session.begin())).await?;
    read(session, LOCKED_CANDIDATES, topic, Some(reasons), after).await
}

/// The same portion, only to look at.
pub async fn look(
    session: &Session,
    topic: &str,
    reasons: &[&str],
    after: Key,
) -> Result<Vec<ReadmissionCandidate>, Failure> {
    read(session, CANDIDATES, topic, Some(reasons), after).await
}

async fn read(
    session: &Session,
    query: &str,
    topic: &str,
    reasons: Option<&[&str]>,
    after: Key,
) -> Result<Vec<ReadmissionCandidate>, Failure> {
    let parameters: [&(dyn ToSql + Sync); 6] =
        [&topic, &after.partition, &after.incarnation, &after.offset, &PORTION, &reasons];
    let rows = session.call(session.client.query(query, &parameters)).await?;
    rows.iter().map(dead_letter_of).collect()
}

fn dead_letter_of(row: &Row) -> Result<ReadmissionCandidate, Failure> {
    let key = Key { partition: row.try_get(0)?, incarnation: row.try_get(1)?, offset: row.try_get(2)? };
    Ok(ReadmissionCandidate { key, payload: row.try_get(3)?, payload_bytes: row.try_get(4)? })
}

/// Ends the transaction without a change.
pub async fn leave(session: &Session) -> Result<(), Failure> {
    session.call(session.client.batch_execute("ROLLBACK")).await
}

/// Marks these locked dead letters, adds what is in them to the partials, computes the rows of the output, and commits.
pub async fn take(
    session: &Session,
    topic: &str,
    window_ms: i64,
    keys: &[Key],
    taken: &Taken,
) -> Result<(), Failure> {
    let (client, windows) = (&session.client, &taken.windows);
    let partitions: Vec<i32> = keys.iter().map(|key| key.partition).collect();
    let incarnations: Vec<i64> = keys.iter().map(|key| key.incarnation).collect();
    let offsets: Vec<i64> = keys.iter().map(|key| key.offset).collect();
    let mark: [&(dyn ToSql + Sync); 4] = [&topic, &partitions, &incarnations, &offsets];
    let marked = session.call(client.execute(MARK, &mark)).await?;
    if marked != keys.len() as u64 {
        let detail = format!("of {} locked dead letters {marked} could be marked", keys.len());
        return Err(Failure::new(FailureKind::Lasting, detail));
    }
    let starts: Vec<_> = windows.iter().map(|window| timestamp(window.start_ms)).collect();
    session.call(client.execute(MAKE_PARTIALS, &[&topic, &starts, &READMITTED])).await?;
    let rows = session.call(client.query(LOCK_PARTIALS, &[&topic, &starts, &READMITTED])).await?;
    let before: Vec<Window> = rows.iter().map(window_of).collect::<Result<_, _>>()?;
    let mut sums = before.clone();
    for (sum, window) in sums.iter_mut().zip(windows) {
        sum.totals.merge(&window.totals);
    }
    let columns = PartialColumns::of_rows(sums.iter().map(|window| (READMITTED, window)));
    let (topic_text, window_ms) = (topic.to_owned(), window_ms as f64);
    session.call(client.execute(partials::STORE, &columns.parameters(&topic_text))).await?;
    session.call(client.execute(MAKE_ROWS, &[&starts, &window_ms])).await?;
    session.call(client.execute(LOCK_ROWS, &[&starts])).await?;
    session.call(client.query(RECOMPUTE, &[&topic, &starts, &window_ms])).await?;
    if station_partials::exist(session).await? {
        let stored = station_partials::of_windows(session, READMITTED, &starts).await?;
        let stations = stations_after(stored, &before, &taken.readings);
        station_partials::store_rows(session, READMITTED, &stations).await?;
    }
    session.call(client.batch_execute("COMMIT")).await
}

/// Dead letters that may be taken, by reason, without those of which there are none; of each reason no more are counted than
/// `at_most`. An index has just these, so the many that may not be taken cost nothing.
pub async fn count(session: &Session, topic: &str, at_most: i64) -> Result<Vec<Readmittable>, Failure> {
    // The reasons are written out, as only then is it clear from the statement alone that the index has these rows.
    let count_of = |reason: Reason| {
        format!(
            "(SELECT count(*) FROM (SELECT FROM weather_dead_letter WHERE topic = $1 AND reason = '{}' \
             AND readmitted_at IS NULL AND payload_bytes = octet_length(payload) LIMIT {}) AS counted)",
            reason.as_str(),
            at_most.saturating_add(1)
        )
    };
    let query = format!("SELECT {}", REASONS.map(count_of).join(", "));
    let row = session.call(session.client.query_one(&query, &[&topic])).await?;
    let mut found = Vec::new();
    for (i, reason) in REASONS.iter().enumerate() {
        let count: i64 = row.try_get(i)?;
        if count > 0 {
            let or_more = count > at_most;
            found.push(Readmittable { reason: reason.as_str(), count: count.min(at_most), or_more });
        }
    }
    Ok(found)
}

/// The command that takes them.
pub fn command(found: &[Readmittable]) -> Option<String> {
    let reasons: Vec<&str> = found.iter().map(|of| of.reason).collect();
    (!reasons.is_empty()).then(|| format!("weather readmit --reason {}", reasons.join(",")))
}

/// What was only counted of floods, and so was never kept.
pub async fn sampled_out(session: &Session, topic: &str) -> Result<i64, Failure> {
    let query = "SELECT coalesce(sum(sampled_out), 0)::bigint FROM weather_partition WHERE topic = $1";
    Ok(session.call(session.client.query_one(query, &[&topic])).await?.try_get(0)?)
}

/// All readmitted dead letters in the order of their keys, each given to `see`, and what their partials say, at one moment.
pub async fn readmitted(
    session: &Session,
    topic: &str,
    mut see: impl FnMut(ReadmissionCandidate),
) -> Result<Vec<(i64, Totals)>, Failure> {
    let begin = "BEGIN TRANSACTION READ ONLY, ISOLATION LEVEL REPEATABLE READ";
    session.call(session.client.batch_execute(begin)).await?;
    let rows = session.call(session.client.query(PARTIALS, &[&topic, &READMITTED])).await?;
    let mut after = Key::FIRST;
    loop {
        let dead_letters = read(session, MARKED, topic, None, after).await?;
        let Some(last) = dead_letters.last() else { break };
        after = last.key;
        dead_letters.into_iter().for_each(&mut see);
    }
    leave(session).await?;
    rows.iter().map(|row| window_of(row).map(|window| (window.start_ms, window.totals))).collect()
}
