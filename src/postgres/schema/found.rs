//! What the database already has of what the program needs.

use std::collections::HashMap;

use super::layout;
use crate::error::{Error, Result};
use crate::postgres::failure::Failure;
use crate::postgres::session::Session;

/// The pipeline's tables and indexes that the search path shows.
#[derive(Debug, Default)]
pub(super) struct ExistingSchema {
    tables: HashMap<String, HashMap<String, String>>,
    /// By name; whether it can be used: one that was being made when its maker was killed cannot.
    indexes: HashMap<String, bool>,
    /// Tables that hold the summary's rows, as SQL names them, of which logical replication knows no row by a key.
    pub(super) without_identity: Vec<String>,
    /// Whether the tables of stations are needed, too.
    stations: bool,
}

const COLUMNS: &str = "\
SELECT n, a.attname::text, format_type(a.atttypid, NULL) FROM unnest($1::text[]) AS n
JOIN pg_attribute a ON a.attrelid = to_regclass(quote_ident(n)) AND a.attnum > 0 AND NOT a.attisdropped";

const INDEXES: &str = "\
SELECT n, i.indisvalid FROM unnest($1::text[]) AS n JOIN pg_index i ON i.indexrelid = to_regclass(quote_ident(n))";

/// The table itself and whatever inherits from it: partitions, chunks.
const WITHOUT_IDENTITY: &str = "\
WITH RECURSIVE family AS (
    SELECT to_regclass('weather_summary')::oid AS oid
    UNION ALL SELECT inhrelid FROM pg_inherits JOIN family ON inhparent = family.oid
)
SELECT c.oid::regclass::text FROM family JOIN pg_class c USING (oid)
WHERE c.relkind = 'r' AND c.relreplident = 'd'
    AND NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)";

impl ExistingSchema {
    /// Looks; `stations` are needed or not.
    pub(super) async fn look(session: &Session, stations: bool) -> Result<Self, Failure> {
        let client = &session.client;
        let mut found = Self { stations, ..Self::default() };
        let tables: Vec<&str> = layout::tables_with(stations).map(|(name, _)| name).collect();
        let indexes: Vec<&str> = layout::indexes_with(stations).map(|(name, ..)| name).collect();
        for row in session.call(client.query(COLUMNS, &[&tables])).await? {
            let columns = found.tables.entry(row.try_get(0)?).or_default();
            columns.insert(row.try_get(1)?, row.try_get(2)?);
        }
        for row in session.call(client.query(INDEXES, &[&indexes])).await? {
            found.indexes.insert(row.try_get(0)?, row.try_get(1)?);
        }
        for row in session.call(client.query(WITHOUT_IDENTITY, &[])).await? {
            found.without_identity.push(row.try_get(0)?);
        }
        Ok(found)
    }

    pub(super) fn has_table(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }

    pub(super) fn has_column(&self, table: &str, column: &str) -> bool {
        self.tables.get(table).is_some_and(|columns| columns.contains_key(column))
    }

    /// Whether there is a `weather_summary` with none of the columns that the program adds. Where only some of them are
    /// missing, they were dropped from a table that had been adopted.
    pub(super) fn has_summary_of_old_system(&self) -> bool {
        let added = layout::SUMMARY_COLUMNS.iter().filter(|(_, _, addition)| addition.is_some());
        self.has_table("weather_summary")
            && added.map(|(name, ..)| name).all(|name| !self.has_column("weather_summary", name))
    }

    /// Whether an index is there at all, and if so, whether it can be used.
    pub(super) fn index(&self, name: &str) -> Option<bool> {
        self.indexes.get(name).copied()
    }

    /// Tables, columns and indexes that are not there, as the user knows them.
    pub(super) fn missing(&self) -> Vec<String> {
        let tables = layout::tables_with(self.stations).filter(|(table, _)| !self.has_table(table));
        let columns = self.missing_columns();
        let indexes = layout::indexes_with(self.stations).filter(|(name, ..)| self.index(name) != Some(true));
        let tables = tables.map(|(table, _)| table.to_owned());
        let columns = columns.iter().map(|(table, column, _)| format!("{table}.{column}"));
        tables.chain(columns).chain(indexes.map(|(name, ..)| name.to_owned())).collect()
    }

    /// Columns that tables lack which are there: table, name, definition.
    pub(super) fn missing_columns(&self) -> Vec<(&'static str, &'static str, &'static str)> {
        let summary = layout::SUMMARY_COLUMNS
            .iter()
            .filter_map(|(name, _, definition)| Some(("weather_summary", *name, (*definition)?)));
        let lacks = |(table, column, _): &(&str, &str, &str)| {
            self.has_table(table) && !self.has_column(table, column)
        };
        summary.chain(layout::ADDED_COLUMNS).filter(lacks).collect()
    }

    /// Refuses a `weather_summary` that cannot be the pipeline's.
    pub(super) fn check_summary(&self) -> Result<()> {
        let Some(columns) = self.tables.get("weather_summary") else { return Ok(()) };
        for (name, expected, addition) in layout::SUMMARY_COLUMNS {
            match columns.get(name) {
                Some(actual) if actual == expected => {}
                Some(actual) => {
                    return Err(Error::usage(format!(
                        "column {name} of weather_summary is of type {actual}, expected {expected}; change it with \
                         ALTER TABLE weather_summary ALTER COLUMN {name} TYPE …, or rename the table"
                    )));
                }
                None if addition.is_some() => {}
                None => {
                    return Err(Error::usage(format!(
                        "weather_summary has no column {name}; it is not the pipeline's table: rename it, or \
                         use another database"
                    )));
                }
            }
        }
        Ok(())
    }
}
