//! Creates what is missing, in steps that each leave the tables usable, so that it can be interrupted and continued.
//!
//! 1. Tables, their indexes while they are empty, and columns of our own tables: one transaction, one process at a time.
//! 2. Columns and the replica identity of a `weather_summary` that was there before: changes of the catalogue alone, which
//!    lock readers out for a moment. If another session holds the table, it is retried with a short wait, as a
//!    lock that is waited for stops all that come after it.
//! 3. Indexes of tables that were there before, `CONCURRENTLY`: no session is locked out, however long it takes.
//! 4. The version.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::found::ExistingSchema;
use super::layout::{self, SCHEMA_VERSION};
use super::{SetupError, refuse_duplicates};
use crate::error::Error;
use crate::postgres::failure::{Failure, FailureKind};
use crate::postgres::session::Session;

/// Any numbers that no other program is likely to lock. Two, as building an index concurrently waits for every statement
/// that was there before it: none of them may wait for the builder in turn.
const TABLES_LOCK: i64 = 0x7765_6174_6865_7201;
const INDEXES_LOCK: i64 = 0x7765_6174_6865_7202;
/// How long a change of the catalogue waits for its lock, and everybody behind it.
const LOCK_WAIT: &str = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '300ms'";
/// Pause before the next attempt, in which all others can use the table.
const LOCK_PAUSE: Duration = Duration::from_secs(2);
/// How often a process checks whether another has created what it waits for.
const TURN_PAUSE: Duration = Duration::from_millis(200);
/// How often progress of a long step is logged.
const REMIND: Duration = Duration::from_secs(10);

/// Creates what is missing, or nothing at all if the summary has rows that prevent it.
pub(super) async fn build(
    session: &Session,
    found: &ExistingSchema,
    stations: bool,
) -> Result<(), SetupError> {
    if found.has_table("weather_summary") && found.index(layout::UNIQUE_WINDOW).is_none() {
        crate::info!("checking weather_summary for duplicate windows");
        refuse_duplicates(session).await?;
    }
    let mut made = make_tables(session, stations).await?;
    made.extend(change_summary(session, stations).await?);
    if !ExistingSchema::look(session, stations).await?.missing().is_empty() {
        made.extend(make_indexes(session, stations).await?);
    }
    let raise = "UPDATE weather_pipeline SET schema_version = $1 WHERE schema_version < $1";
    session.call(session.client.execute(raise, &[&SCHEMA_VERSION])).await?;
    if !made.is_empty() {
        crate::info!("created in the database", "names" => made.join(", "));
    }
    Ok(())
}

/// Step 1; what was made, by name.
async fn make_tables(session: &Session, stations: bool) -> Result<Vec<String>, SetupError> {
    session.call(session.client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED")).await?;
    let made = make_tables_in_transaction(session, stations).await;
    let end = if made.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = session.call(session.client.batch_execute(end)).await;
    let made = made?;
    ended?;
    Ok(made)
}

async fn make_tables_in_transaction(session: &Session, stations: bool) -> Result<Vec<String>, SetupError> {
    let client = &session.client;
    session.call_for_long(client.execute("SELECT pg_advisory_xact_lock($1)", &[&TABLES_LOCK])).await?;
    let found = ExistingSchema::look(session, stations).await?;
    let mut made = Vec::new();
    for (table, statement) in layout::tables_with(stations) {
        if found.has_table(table) {
            continue;
        }
        made.push(make(session, table, statement).await?);
        for (name, _, columns) in layout::indexes_with(stations).filter(|(_, of, _)| *of == table) {
            if !statement.contains(name) {
                make(session, name, &layout::index_statement(name, table, columns, false)).await?;
                made.push(name.to_owned());
            }
        }
    }
    for (table, column, definition) in found.missing_columns() {
        if table != "weather_summary" {
            let statement = format!("ALTER TABLE {table} ADD COLUMN {column} {definition}");
            made.push(make(session, &format!("{table}.{column}"), &statement).await?);
        }
    }
    Ok(made)
}

/// Step 2; what was made, by name.
async fn change_summary(session: &Session, stations: bool) -> Result<Vec<String>, SetupError> {
    let found = ExistingSchema::look(session, stations).await?;
    let mut made = Vec::new();
    let columns: Vec<_> =
        found.missing_columns().into_iter().filter(|(table, ..)| *table == "weather_summary").collect();
    if !columns.is_empty() {
        let add = |(_, name, definition): &(&str, &str, &str)| {
            format!("ADD COLUMN IF NOT EXISTS {name} {definition}")
        };
        let changes: Vec<String> = columns.iter().map(add).collect();
        let names: Vec<String> =
            columns.iter().map(|(_, name, _)| format!("weather_summary.{name}")).collect();
        let statement = format!("ALTER TABLE weather_summary {}", changes.join(", "));
        change(session, &names.join(", "), &statement).await?;
        made.extend(names);
    }
    for table in &found.without_identity {
        let (name, statement) = (
            format!("the replica identity of {table}"),
            format!("ALTER TABLE {table} REPLICA IDENTITY FULL"),
        );
        match change(session, &name, &statement).await {
            Ok(()) => made.push(name),
            // Only a publication needs it, and then the server says so.
            Err(SetupError::Refused(error)) => crate::debug!("going on without", "reason" => error),
            Err(failed) => return Err(failed),
        }
    }
    Ok(made)
}

/// Changes the catalogue of a table that others use.
async fn change(session: &Session, name: &str, statement: &str) -> Result<(), SetupError> {
    let transaction = format!("BEGIN ISOLATION LEVEL READ COMMITTED; {LOCK_WAIT}; {statement}; COMMIT");
    let mut said: Option<Instant> = None;
    loop {
        match make(session, name, &transaction).await {
            Err(SetupError::Failed(failure)) if failure.is_lock_timeout() => {
                session.call(session.client.batch_execute("ROLLBACK")).await?;
                if said.is_none_or(|said| said.elapsed() >= REMIND) {
                    crate::info!("waiting for a lock on the table", "to_make" => name);
                    said = Some(Instant::now());
                }
                sleep(LOCK_PAUSE).await;
            }
            Err(error) => {
                // An error leaves the transaction open; the connection may be used for the next step.
                session.call(session.client.batch_execute("ROLLBACK")).await?;
                return Err(error);
            }
            Ok(_) => return Ok(()),
        }
    }
}

/// Step 3; what was made, by name.
async fn make_indexes(session: &Session, stations: bool) -> Result<Vec<String>, SetupError> {
    take_turn(session).await?;
    let unlimited = "SET statement_timeout = 0; SET lock_timeout = 0";
    session.call(session.client.batch_execute(unlimited)).await?;
    let made = make_indexes_in_turn(session, stations).await;
    let unlock =
        session.call(session.client.execute("SELECT pg_advisory_unlock($1)", &[&INDEXES_LOCK])).await;
    let made = made?;
    unlock?;
    session.limit_time().await?;
    Ok(made)
}

/// Waits until no other process makes indexes, without a statement that waits.
async fn take_turn(session: &Session) -> Result<(), Failure> {
    let mut said = Instant::now();
    loop {
        let row = session
            .call(session.client.query_one("SELECT pg_try_advisory_lock($1)", &[&INDEXES_LOCK]))
            .await?;
        if row.try_get(0)? {
            return Ok(());
        }
        if said.elapsed() >= REMIND {
            crate::info!("waiting for another process that is setting up the tables");
            said = Instant::now();
        }
        sleep(TURN_PAUSE).await;
    }
}

async fn make_indexes_in_turn(session: &Session, stations: bool) -> Result<Vec<String>, SetupError> {
    let found = ExistingSchema::look(session, stations).await?;
    let mut made = Vec::new();
    for (name, table, columns) in layout::indexes_with(stations) {
        match found.index(name) {
            Some(true) => continue,
            // The process that built it was killed.
            Some(false) => {
                let drop = format!("DROP INDEX {name}");
                session.call_for_long(session.client.batch_execute(&drop)).await?;
            }
            None => {}
        }
        crate::info!("creating an index; the table can be read and written meanwhile", "name" => name,
            "table" => table);
        let begun = Instant::now();
        tokio::select! {
            made = make_index(session, name, table, columns) => made?,
            never = report_progress(session, name, table) => match never {},
        }
        crate::info!("created an index", "name" => name, "seconds" => begun.elapsed().as_secs());
        made.push(name.to_owned());
    }
    Ok(made)
}

async fn make_index(session: &Session, name: &str, table: &str, columns: &str) -> Result<(), SetupError> {
    let concurrently = layout::index_statement(name, table, columns, true);
    match make(session, name, &concurrently).await {
        // Not for partitioned tables; there only writers wait.
        Err(SetupError::Failed(failure)) if failure.kind == FailureKind::Lasting => {
            make(session, name, &layout::index_statement(name, table, columns, false)).await?;
        }
        // Another session added a second row of a window meanwhile.
        Err(SetupError::Failed(failure)) if failure.kind == FailureKind::BadRow => {
            refuse_duplicates(session).await?;
            return Err(failure.into());
        }
        made => drop(made?),
    }
    Ok(())
}

/// Logs now and then the progress of an index, as another connection sees it.
async fn report_progress(session: &Session, name: &str, table: &str) -> Infallible {
    let query = "SELECT phase, coalesce(100 * greatest(blocks_done, tuples_done) \
                 / nullif(greatest(blocks_total, tuples_total), 0), 0)::bigint \
                 FROM pg_stat_progress_create_index WHERE datname = current_database() AND relid = to_regclass($1)";
    loop {
        sleep(REMIND).await;
        let look = async {
            let other = session.another().await?;
            let row = other.call(other.client.query_opt(query, &[&table])).await?;
            row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
        };
        let seen: Result<Option<(String, i64)>, Failure> = look.await;
        // Without permission there is no progress to log; the index is still created.
        if let Ok(Some((phase, percent))) = seen {
            crate::info!("still creating an index", "name" => name, "phase" => phase, "percent" => percent);
        }
    }
}

/// Runs a statement that creates something; returns its name.
async fn make(session: &Session, name: &str, statement: &str) -> Result<String, SetupError> {
    match session.call_for_long(session.client.batch_execute(statement)).await {
        Ok(()) => Ok(name.to_owned()),
        Err(failure) if failure.kind == FailureKind::Setup => Err(Error::usage(format!(
            "{name} is missing in the database and could not be created: {failure}"
        ))
        .into()),
        Err(failure) => Err(failure.into()),
    }
}
