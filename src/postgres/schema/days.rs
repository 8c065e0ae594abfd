//! The views of whole days, in the zone of the readings: sums of the windows that begin on a day.
//!
//! They are over the program's own tables alone, so that they do not keep others from dropping `weather_summary`. Nothing needs them:
//! where they cannot be made, one line says so and the process goes on. They are made at start, not when a connection is
//! replaced.
//! Invariant: a view or table of the same name that was not made here is left as it is.

use super::stations::MEASURES;
use crate::config::Process;
use crate::postgres::failure::{Failure, FailureKind};
use crate::postgres::session::Session;
use crate::reading::Zone;

/// Any number that no other program is likely to lock: two processes cannot make the same view at once.
const VIEWS_LOCK: i64 = 0x7765_6174_6865_7203;
/// How the comments of these views begin; the zone follows.
const COMMENT: &str = "weather: averages of whole days of ";

/// How time is cut into days.
#[derive(Debug, Clone)]
pub struct Days {
    zone: Zone,
    window_ms: i64,
    by_station: bool,
}

/// What differs between the two views.
struct DayView {
    name: &'static str,
    table: &'static str,
    /// Columns behind the day by which rows are kept apart.
    keys: &'static str,
}

const DAILY: DayView = DayView { name: "weather_daily", table: "weather_partial", keys: "" };
const STATION_DAILY: DayView =
    DayView { name: "weather_station_daily", table: "weather_station_partial", keys: ", station" };

impl Days {
    /// As a process is asked to.
    pub fn of(config: &Process) -> Self {
        Self {
            zone: config.format.zone().clone(),
            window_ms: crate::time::milliseconds(config.window),
            by_station: config.by_station.is_some(),
        }
    }

    /// Makes the views that are missing or of another zone.
    ///
    /// # Errors
    /// PostgreSQL is away. Whatever it refuses is logged.
    pub async fn make_views(&self, session: &Session) -> Result<(), Failure> {
        let views = if self.by_station { &[DAILY, STATION_DAILY][..] } else { &[DAILY] };
        let names: Vec<&str> = views.iter().map(|view| view.name).collect();
        let names = names.join(", ");
        match self.make_each(session, views).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => crate::info!("views of whole days are left out", "names" => names,
                "reason" => reason),
            Err(failure) if failure.passes() && !failure.is_lock_timeout() => {
                return Err(failure);
            }
            Err(failure) => crate::info!("views of whole days are left out", "names" => names,
                "reason" => failure),
        }
        Ok(())
    }

    /// Inside: why they cannot be made.
    async fn make_each(&self, session: &Session, views: &[DayView]) -> Result<Result<(), String>, Failure> {
        if !self.zone.has_whole_windows(self.window_ms) {
            let Self { zone, window_ms, .. } = self;
            return Ok(Err(format!("windows of {} s do not fit into the days of {zone}", window_ms / 1000)));
        }
        let comment = format!("{COMMENT}{}", self.zone);
        for view in views {
            match self.find(session, view).await? {
                Some(found) if found == comment => {}
                Some(found) if !found.starts_with(COMMENT) => {
                    return Ok(Err(format!("there is another {}; rename it", view.name)));
                }
                _ if !self.is_known(session).await? => {
                    return Ok(Err(format!("to PostgreSQL, {} is no zone, or another one", self.zone)));
                }
                _ => {
                    session.call(session.client.batch_execute(&self.statement(view, &comment))).await?;
                    crate::info!("created a view of whole days", "name" => view.name, "zone" => &self.zone);
                }
            }
        }
        Ok(Ok(()))
    }

    /// The comment of what has the view's name; empty where it has none.
    async fn find(&self, session: &Session, view: &DayView) -> Result<Option<String>, Failure> {
        let query = "SELECT CASE c.relkind WHEN 'v' THEN coalesce(obj_description(c.oid, 'pg_class'), '') ELSE '' END \
                     FROM pg_class c WHERE c.oid = to_regclass($1::text)";
        let row = session.call(session.client.query_opt(query, &[&view.name])).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Whether PostgreSQL means the same zone by its name: it takes a few names of zones for abbreviations, which have one
    /// offset.
    async fn is_known(&self, session: &Session) -> Result<bool, Failure> {
        let Zone::Region(_) = self.zone else { return Ok(true) };
        let query = "SELECT now() AT TIME ZONE $1::text IS NOT NULL \
                     AND NOT EXISTS (SELECT 1 FROM pg_timezone_abbrevs WHERE abbrev = upper($1::text))";
        match session.call(session.client.query_one(query, &[&self.zone.to_string()])).await {
            Ok(row) => Ok(row.try_get(0)?),
            Err(failure) if failure.kind == FailureKind::BadRow => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// One transaction, as the server runs statements that come together.
    fn statement(&self, view: &DayView, comment: &str) -> String {
        let day = match &self.zone {
            Zone::Fixed(0) => String::from("window_start::date"),
            Zone::Fixed(ahead_ms) => format!("(window_start + interval '{ahead_ms} milliseconds')::date"),
            // No name of a zone has a quote in it.
            region @ Zone::Region(_) => {
                format!("(window_start AT TIME ZONE 'UTC' AT TIME ZONE '{region}')::date")
            }
        };
        let DayView { name, table, keys } = view;
        format!(
            "SELECT pg_advisory_xact_lock({VIEWS_LOCK}); \
             CREATE OR REPLACE VIEW {name} AS SELECT {day} AS day{keys},\n{MEASURES} FROM {table} \
             GROUP BY {day}{keys}; COMMENT ON VIEW {name} IS '{comment}'"
        )
    }
}
