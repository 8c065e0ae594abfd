//! What a failed statement asks of its caller, decided by SQLSTATE and by what the connection says.

use std::error::Error as _;
use std::fmt;

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// A failed call to PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the caller has to do.
    pub kind: FailureKind,
    /// One line for the user.
    pub detail: String,
}

/// What a failed call asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Away, busy, shutting down, read-only, in conflict: try again on a new connection, for ever.
    Outage,
    /// A partition of the transaction has another owner now.
    Fenced,
    /// A value cannot be stored: leave it out, the rest is fine.
    BadRow,
    /// Somebody has to change a name, a password, a right or a table.
    Setup,
}

impl Failure {
    /// A failure of our own making.
    pub fn new(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// No answer in time: the connection may be half open.
    pub fn timed_out() -> Self {
        Self::new(FailureKind::Outage, "no answer in time")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let Some(db) = error.as_db_error() else {
            return Self::new(FailureKind::Outage, describe(&error));
        };
        let mut detail = format!("{} (SQLSTATE {})", db.message(), db.code().code());
        if let Some(hint) = db.hint() {
            detail = format!("{detail}; {hint}");
        }
        Self::new(kind_of(db.code()), detail)
    }
}

fn kind_of(code: &SqlState) -> FailureKind {
    match code.code() {
        // A standby, or a server set read-only: passes when the role changes.
        "25006" => FailureKind::Outage,
        // A plan made before a table was changed: a new connection makes another.
        "0A000" | "26000" => FailureKind::Outage,
        // Raised by the fence of the flush, which divides by zero when an epoch is no longer ours.
        "22012" => FailureKind::Fenced,
        _ => match &code.code()[..2] {
            // Data exception, integrity constraint.
            "22" | "23" => FailureKind::BadRow,
            // Authorization, catalog name, schema name, syntax or access rule: names, passwords, rights, tables.
            "28" | "3D" | "3F" | "42" => FailureKind::Setup,
            // Connection, transaction state, rollback (deadlock), resources, limits, state, intervention, system, internal.
            _ => FailureKind::Outage,
        },
    }
}

/// The whole chain on one line: tokio-postgres says only "error connecting to server" by itself.
fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstate_decides() {
        let cases = [
            ("57P01", FailureKind::Outage), // admin_shutdown
            ("57P03", FailureKind::Outage), // cannot_connect_now
            ("53300", FailureKind::Outage), // too_many_connections
            ("53100", FailureKind::Outage), // disk_full
            ("40P01", FailureKind::Outage), // deadlock_detected
            ("25P02", FailureKind::Outage), // in_failed_sql_transaction
            ("57014", FailureKind::Outage), // query_canceled by statement_timeout
            ("55P03", FailureKind::Outage), // lock_not_available
            ("25006", FailureKind::Outage), // read_only_sql_transaction
            ("22012", FailureKind::Fenced),
            ("22003", FailureKind::BadRow),
            ("23502", FailureKind::BadRow),
            ("28P01", FailureKind::Setup), // invalid_password
            ("3D000", FailureKind::Setup), // invalid_catalog_name
            ("42501", FailureKind::Setup), // insufficient_privilege
            ("42P01", FailureKind::Setup), // undefined_table
        ];
        for (code, kind) in cases {
            assert_eq!(kind_of(&SqlState::from_code(code)), kind, "{code}");
        }
    }
}
