//! The tables: created if they are missing, adopted if the old system created them, refused with an explanation if they
//! cannot be used.
//!
//! What exists is read first (`found`), and only what is missing is created (`build`), so that a role that may not create
//! tables can start once they exist, and so that a reconnect costs only that read. Nothing here deletes a row.

mod build;
mod days;
mod found;
mod layout;
mod stations;
mod units;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::postgres::failure::Failure;
use crate::postgres::session::Session;
use crate::reading::Format;

pub use days::Days;
use found::ExistingSchema;
pub use layout::SCHEMA_VERSION;
pub(super) use stations::MEASURES;
pub use units::Units;

/// Why set-up can fail.
#[derive(Debug)]
pub enum SetupError {
    /// Try again.
    Failed(Failure),
    /// The user has to decide or change something.
    Refused(Error),
}

impl From<Failure> for SetupError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Error> for SetupError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Makes the tables fit for this program, this topic and this window length, those of stations only where they are asked
/// for. Safe in several processes at once. However
/// long it takes, readers of an adopted table wait for moments only.
pub async fn set_up(
    session: &Session,
    topic: &str,
    window_ms: i64,
    units: &Units,
    by_station: bool,
) -> Result<(), SetupError> {
    let found = ExistingSchema::look(session, by_station).await?;
    if found.has_table("weather_pipeline") {
        // Before anything is changed: the tables may belong to another pipeline.
        check_identity(session, topic, window_ms, units).await?;
    }
    found.check_summary()?;
    if by_station {
        stations::check_encoding(session).await?;
    }
    units.check_adoption(session, &found).await?;
    if !found.missing().is_empty() || !found.without_identity.is_empty() {
        build::build(session, &found, by_station).await?;
    }
    identify(session, topic, window_ms, units).await
}

/// The pipeline's tables, columns and indexes that the search path does not show.
pub(super) async fn missing(session: &Session) -> Result<Vec<String>, Failure> {
    Ok(ExistingSchema::look(session, false).await?.missing())
}

/// The old system appended another row for the same window at every batch. Which to keep is the user's to decide.
pub(super) async fn refuse_duplicates(session: &Session) -> Result<(), SetupError> {
    let query = "SELECT count(*) FROM (SELECT 1 FROM weather_summary WHERE window_start IS NOT NULL \
                 AND window_end IS NOT NULL GROUP BY window_start, window_end HAVING count(*) > 1) AS d";
    let client = &session.client;
    session.call(client.batch_execute("SET statement_timeout = 0")).await?;
    let row = session.call_for_long(client.query_one(query, &[])).await?;
    session.limit_time().await?;
    let windows: i64 = row.try_get(0).map_err(Failure::from)?;
    match windows {
        0 => Ok(()),
        _ => Err(Error::usage(format!(
            "weather_summary holds {windows} windows more than once, as the old system wrote them; to keep the newest \
             row of each, run: {};",
            layout::REMOVE_DUPLICATES
        ))
        .into()),
    }
}

/// Notes what the tables are for, once; raises the version of older ones.
async fn identify(session: &Session, topic: &str, window_ms: i64, units: &Units) -> Result<(), SetupError> {
    let client = &session.client;
    if !check_identity(session, topic, window_ms, units).await? {
        let insert = "INSERT INTO weather_pipeline (schema_version, topic, window_ms, output_units) \
                      VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        session.call(client.execute(insert, &[&SCHEMA_VERSION, &topic, &window_ms, &units.text()])).await?;
        // Another process may have been the first, for another topic.
        check_identity(session, topic, window_ms, units).await?;
    }
    Ok(())
}

/// What the tables were made for.
#[derive(Debug, Clone)]
pub struct TablesIdentity {
    /// What they look like.
    pub schema_version: i32,
    /// The one topic that they hold.
    pub topic: String,
    /// Length of their windows, ms.
    pub window_ms: i64,
    /// In which units their averages are; None where there was no choice.
    units: Option<String>,
}

impl TablesIdentity {
    /// What is noted in the tables, if anything is.
    async fn look(session: &Session) -> Result<Option<Self>, Failure> {
        // As JSON, since older tables lack the column.
        let select =
            "SELECT schema_version, topic, window_ms, to_jsonb(p) ->> 'output_units' FROM weather_pipeline p";
        let Some(row) = session.call(session.client.query_opt(select, &[])).await? else { return Ok(None) };
        Ok(Some(Self {
            schema_version: row.try_get(0)?,
            topic: row.try_get(1)?,
            window_ms: row.try_get(2)?,
            units: row.try_get(3)?,
        }))
    }

    /// The format in the units of the tables, unless others were asked for.
    ///
    /// # Errors
    /// Others were.
    pub fn format(&self, asked: &Arc<Format>) -> Result<Arc<Format>, SetupError> {
        units::in_force(asked, self.units.as_deref())
    }
}

/// What the tables were made for, of a topic that a process of this version works on: nothing is changed.
///
/// # Errors
/// There are none, or they are of another topic, or another version.
pub async fn made_for(session: &Session, topic: &str) -> Result<TablesIdentity, SetupError> {
    let missing = missing(session).await?;
    if !missing.is_empty() {
        return Err(Error::usage(format!(
            "the database lacks {}: start `weather process` of this version once, or use another database",
            missing.join(", ")
        ))
        .into());
    }
    let Some(identity) = TablesIdentity::look(session).await? else {
        return Err(Error::usage("no `weather process` has used these tables yet").into());
    };
    check_version_and_topic(&identity, topic)?;
    Ok(identity)
}

fn check_version_and_topic(identity: &TablesIdentity, topic: &str) -> Result<()> {
    let TablesIdentity { schema_version, topic: its_topic, .. } = identity;
    if *schema_version > SCHEMA_VERSION {
        return Err(Error::usage(format!(
            "the tables were created by a newer version of weather (schema {schema_version}, this program supports \
             {SCHEMA_VERSION}); start that version, or use another database"
        )));
    }
    if its_topic != topic {
        return Err(Error::usage(format!(
            "these tables belong to topic {its_topic}, not {topic}: averages of two topics cannot share a table; use \
             another database, or another schema with options=-csearch_path=… in the URL"
        )));
    }
    Ok(())
}

/// One schema serves one topic and one window length: their sums cannot be mixed. Whether that is noted there, by a
/// program of this version.
async fn check_identity(
    session: &Session,
    topic: &str,
    window_ms: i64,
    units: &Units,
) -> Result<bool, SetupError> {
    let Some(identity) = TablesIdentity::look(session).await? else { return Ok(false) };
    check_version_and_topic(&identity, topic)?;
    let its_window = identity.window_ms;
    if its_window != window_ms {
        return Err(Error::usage(format!(
            "these tables hold windows of {} s, not {} s: use --window {}s, or another database",
            its_window / 1000,
            window_ms / 1000,
            its_window / 1000
        ))
        .into());
    }
    units.check(identity.units.as_deref())?;
    Ok(true)
}
