//! What a failed statement asks of its caller, decided by SQLSTATE and by what the connection says.
//!
//! Only what is known to pass by itself is an outage. Whatever else the server refuses is reported in the server's own
//! words, with its SQLSTATE and what to do: a wrong explanation is worse than none.

use std::error::Error as _;
use std::fmt;
use std::io;

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::engine::flush_plan::Refusal;

/// A failed call to PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the caller has to do.
    pub kind: FailureKind,
    /// One line for the user.
    pub detail: String,
    code: Option<SqlState>,
}

/// What a failed call asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Away or shutting down: try again on a new connection, forever.
    Outage,
    /// The server works and could not do it this time: a lock, a conflict, a statement that was ended, a full disk. Try
    /// again as after an outage.
    Busy,
    /// The server works and refuses: the user can make it accept while the program runs, but time alone changes nothing.
    Lasting,
    /// As `Lasting`, and at the start so clear that waiting makes no sense: a password, a name, a permission, a table.
    Setup,
    /// A partition of the transaction has another owner or no row now, or the database's state is not the one that is
    /// continued.
    Fenced,
    /// A value cannot be stored: leave it out, the rest is fine.
    BadRow,
}

use FailureKind::{BadRow, Busy, Fenced, Lasting, Outage, Setup};

/// SQLSTATE or its class (the first two characters), what it asks of the caller, and what the user can do about it. The
/// first that fits counts; what no line fits is [`Lasting`].
const RULES: [(&str, FailureKind, &str); 37] = [
    ("08P01", Lasting, "the server, or a pooler in front of it, does not accept the connection's settings"),
    ("0A", Lasting, "the server may be too old: PostgreSQL 12 or newer is needed"),
    // Raised by the fence of the flush, which divides by zero when an epoch is no longer ours.
    ("22012", Fenced, ""),
    (
        "25006",
        Lasting,
        "this server is read-only, perhaps a standby: give the primary, or all hosts, in --database-url",
    ),
    ("25", Busy, ""),
    ("26000", Lasting, POOLER),
    ("42P05", Lasting, POOLER),
    ("28", Setup, "check user, password and pg_hba.conf: --database-url or PGUSER and PGPASSWORD"),
    ("3D", Setup, "create the database, or name another in --database-url or PGDATABASE"),
    ("3F", Setup, "create the schema, or check search_path"),
    ("42501", Setup, "start once with a role that may create tables, or grant that right to this one"),
    (
        "42",
        Setup,
        "a table is not as the program created it: compare it with a newly created one, or use another database",
    ),
    ("53100", Busy, "the server's disk is full: make room there"),
    ("53200", Busy, "the server has not enough memory"),
    ("53300", Busy, "raise max_connections, or end other connections"),
    ("53400", Lasting, "raise the limit that the server names"),
    ("54", Lasting, "the server has reached the limit that its message names"),
    ("55000", Lasting, "if a publication asks for a replica identity: ALTER TABLE … REPLICA IDENTITY FULL"),
    ("55P02", Setup, "leave that setting out of --database-url"),
    ("55P03", Busy, "another session holds a lock: pg_stat_activity and pg_locks say which"),
    (
        "57014",
        Busy,
        "a time limit or a user cancelled the statement: the server may be overloaded, or a lock may be held",
    ),
    ("57", Outage, ""),
    ("2F", Lasting, TRIGGER),
    ("38", Lasting, TRIGGER),
    ("39", Lasting, TRIGGER),
    ("P0", Lasting, TRIGGER),
    ("44", Lasting, TRIGGER),
    ("XX001", Lasting, DAMAGED),
    ("XX002", Lasting, DAMAGED),
    // Data exception, integrity constraint.
    ("22", BadRow, ""),
    ("23", BadRow, ""),
    // Connection; rollback (deadlock), resources, object state, system, internal.
    ("08", Outage, ""),
    ("40", Busy, ""),
    ("53", Busy, ""),
    ("55", Busy, ""),
    ("58", Busy, "the server's system reports this: see the server's log"),
    ("XX", Busy, "an internal error of the server: see its log"),
];

const POOLER: &str = "a pooler in transaction mode gives each statement another connection: let it pool by session, or \
     connect to PostgreSQL itself";
const TRIGGER: &str = "a trigger, rule or view that was added to the tables raises this: change or drop it";
const DAMAGED: &str = "the server's data is damaged: see its log";

impl Failure {
    /// A failure that this program detected.
    pub fn new(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), code: None }
    }

    /// No answer in time: the connection may be half open.
    pub fn timed_out() -> Self {
        Self::new(Outage, "no answer in time")
    }

    /// A phrase about the server, to be put after its name.
    pub fn verdict(&self) -> String {
        match self.kind {
            Outage => format!("is not available: {}", self.detail),
            Busy => format!("could not answer the request: {}", self.detail),
            _ => format!("refuses the request: {}", self.detail),
        }
    }

    /// Whether it passes without anybody's doing.
    pub fn passes(&self) -> bool {
        matches!(self.kind, Outage | Busy)
    }

    /// Whether waiting for a lock timed out.
    pub fn is_lock_timeout(&self) -> bool {
        self.code == Some(SqlState::LOCK_NOT_AVAILABLE)
    }

    /// Whether a statement took longer than it may.
    pub fn is_statement_timeout(&self) -> bool {
        self.code == Some(SqlState::QUERY_CANCELED)
    }

    /// What it means for a flush.
    pub fn refusal(&self) -> Refusal {
        match self.kind {
            Fenced => Refusal::Fenced,
            BadRow => Refusal::BadValue,
            Outage | Busy | Lasting | Setup => Refusal::NotNow,
        }
    }

    /// The failure once leaving values out has not helped: a trigger or a constraint of the user's.
    pub fn as_lasting(self) -> Self {
        let kind = if self.kind == BadRow { Lasting } else { self.kind };
        Self { kind, ..self }
    }

    /// Whether the connection is used on. After these two it is as it was, but for the transaction, which is over: the
    /// statement was refused for what it said. After anything else the connection is thrown away, even where the server
    /// has answered: it may be about to end, or without the settings and prepared statements that the next call needs.
    pub fn leaves_connection_usable(&self) -> bool {
        matches!(self.kind, Fenced | BadRow)
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
        let Some(db) = error.as_db_error() else { return of_connection(&error) };
        let (code, message) = (db.code().code(), db.message());
        let (mut kind, advice) = rule(code);
        // A pooler has one code for all its own errors; of these only this one can never pass.
        if code == "08P01" && message.contains("startup parameter") {
            kind = Setup;
        }
        let mut detail = format!("{message} (SQLSTATE {code})");
        for more in [db.hint().unwrap_or_default(), advice] {
            if !more.is_empty() {
                detail = format!("{detail}; {more}");
            }
        }
        Self { kind, detail, code: Some(db.code().clone()) }
    }
}

fn rule(code: &str) -> (FailureKind, &'static str) {
    let fits = |(start, ..): &&(&str, FailureKind, &str)| code.starts_with(start);
    RULES.iter().find(fits).map_or((Lasting, ""), |(_, kind, advice)| (*kind, *advice))
}

/// What went wrong without a message from the server.
fn of_connection(error: &Error) -> Failure {
    let detail = describe(error);
    // The kind of the client's error is private; its first words stand for it.
    let kind = error.to_string();
    let starts = |words: &str| kind.starts_with(words);
    if starts("invalid configuration") || starts("authentication error") {
        return Failure::new(Setup, format!("{detail}; check --database-url and PGPASSWORD"));
    }
    if starts("unexpected message from server") || starts("error parsing response") {
        return Failure::new(
            Lasting,
            format!("{detail}; whatever listens there does not speak the PostgreSQL protocol"),
        );
    }
    if starts("error deserializing column") || starts("invalid column") {
        return Failure::new(Lasting, format!("{detail}; a table is not as the program created it"));
    }
    let io = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    if io.is_some_and(|io| io.kind() == io::ErrorKind::PermissionDenied && io.raw_os_error().is_none()) {
        return Failure::new(
            Lasting,
            "none of the hosts that answer can be written to; add the primary to --database-url",
        );
    }
    Failure::new(Outage, detail)
}

/// The whole chain on one line: tokio-postgres itself only reports "error connecting to server".
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
            ("57P01", Outage),  // admin_shutdown
            ("57P03", Outage),  // cannot_connect_now
            ("53300", Busy),    // too_many_connections
            ("53100", Busy),    // disk_full
            ("40P01", Busy),    // deadlock_detected
            ("25P02", Busy),    // in_failed_sql_transaction
            ("57014", Busy),    // query_canceled by statement_timeout
            ("55P03", Busy),    // lock_not_available
            ("58030", Busy),    // io_error
            ("XX000", Busy),    // internal_error
            ("57P05", Outage),  // idle_session_timeout
            ("08006", Outage),  // connection_failure
            ("25006", Lasting), // read_only_sql_transaction
            ("55000", Lasting), // no replica identity under a publication
            ("0A000", Lasting), // feature_not_supported
            ("P0001", Lasting), // raise_exception, by a trigger
            ("XX001", Lasting), // data_corrupted
            ("F0000", Lasting), // unknown classes
            ("22012", Fenced),
            ("22003", BadRow),
            ("23502", BadRow),
            ("28P01", Setup), // invalid_password
            ("3D000", Setup), // invalid_catalog_name
            ("42501", Setup), // insufficient_privilege
            ("42P01", Setup), // undefined_table
        ];
        for (code, kind) in cases {
            assert_eq!(rule(code).0, kind, "{code}");
        }
    }

    #[test]
    fn whatever_time_does_not_change_says_what_to_do_and_no_rule_is_hidden_by_another() {
        for (i, (code, kind, advice)) in RULES.iter().enumerate() {
            assert!(matches!(kind, Busy) || matches!(kind, Lasting | Setup) != advice.is_empty(), "{code}");
            assert!(
                RULES[..i].iter().all(|(before, ..)| !code.starts_with(before)),
                "{code} is never reached"
            );
        }
    }
}
