//! A connection to PostgreSQL that is used or thrown away, never repaired.
//!
//! tokio-postgres does not reconnect. A [`Session`] is opened with everything that a caller needs; after any failure the
//! caller drops it and opens another, so that settings, prepared statements and the transaction state are always known.
//! Tasks may share one: each call has it for itself until it is answered.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::postgres::failure::Failure;

/// Longest wait for any one answer. Above the server's own limits below, so that its word comes first.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest wait for a lock, unless a caller sets a shorter one.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// A pooler that is busy may give the same connection by chance.
const POOL_TRIES: u32 = 5;

/// What every connection sets. Statements see what others have committed before them, even if the database or the role
/// has another default, so that one process finds what another creates.
const SETTINGS: &str = "SET TIME ZONE 'UTC'; SET client_min_messages = 'warning'; \
                        SET default_transaction_isolation = 'read committed'";

/// A connection.
#[derive(Debug)]
pub struct Session {
    /// To send statements by, under [`Session::call`].
    pub client: Client,
    config: Box<Config>,
    lock_wait: Duration,
    turn: Mutex<()>,
    failed: AtomicBool,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // The driver ends by itself once the client is gone, but not while the socket hangs.
        self.driver.abort();
    }
}

impl Session {
    /// Connects and applies the settings.
    pub async fn open(config: &Config) -> Result<Self, Failure> {
        Self::open_with(config, LOCK_WAIT).await
    }

    /// The same, for a caller that waits no longer for a lock than this, and never longer than it would otherwise.
    pub async fn open_with(config: &Config, lock_wait: Duration) -> Result<Self, Failure> {
        // Each of several hosts is waited for in turn.
        let hosts = config.get_hosts().len().max(config.get_hostaddrs().len()) as u32;
        let each = config.get_connect_timeout().copied().unwrap_or_default();
        let connect = timeout(CALL_TIMEOUT + each * hosts, config.connect(NoTls));
        let (client, connection) = connect.await.map_err(|_| Failure::timed_out())??;
        let driver = tokio::spawn(async move {
            // Calls in flight get the error too, and they know what they were for.
            let _ = connection.await;
        });
        let (config, lock_wait) = (Box::new(config.clone()), lock_wait.min(LOCK_WAIT));
        let session =
            Self { client, config, lock_wait, turn: Mutex::default(), failed: AtomicBool::default(), driver };
        session.limit_time().await?;
        Ok(session)
    }

    /// Another connection to the same place.
    pub async fn another(&self) -> Result<Self, Failure> {
        Self::open(&self.config).await
    }

    /// Applies the settings, also after some were changed.
    pub async fn limit_time(&self) -> Result<(), Failure> {
        let settings = format!("{SETTINGS}; {}", self.limits("SET"));
        self.call(self.client.batch_execute(&settings)).await
    }

    /// Opens a transaction that has the limits also where a pooler has given it another connection than the last one.
    pub fn begin(&self) -> String {
        format!("BEGIN ISOLATION LEVEL READ COMMITTED; {}", self.limits("SET LOCAL"))
    }

    /// A process that is stopped in a transaction must not hold its locks for long; nor may a lock that others hold stop
    /// this process silently.
    fn limits(&self, set: &str) -> String {
        let lock_ms = self.lock_wait.as_millis();
        format!(
            "{set} statement_timeout = '15s'; {set} lock_timeout = '{lock_ms}ms'; \
             {set} idle_in_transaction_session_timeout = '5s'"
        )
    }

    /// Whether a pooler between gives each transaction another of the server's connections: then neither prepared statements
    /// nor settings stay, and a statement of one process may be taken for another's.
    pub async fn is_pooled_by_transaction(&self) -> Result<bool, Failure> {
        let own = self.backend("").await?;
        // Where there is no room for another connection, nothing can be said.
        let Ok(other) = self.another().await else { return Ok(false) };
        for _ in 0..POOL_TRIES {
            // What was used last is given away next.
            let before = self.backend("").await?;
            let its = other.backend("BEGIN;").await?;
            let now = self.backend("").await?;
            other.call(other.client.batch_execute("ROLLBACK")).await?;
            if [&before, &now] != [&own, &own] || its == own {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The server's process behind this connection, after a statement. Asked for without preparing anything.
    async fn backend(&self, statement: &str) -> Result<Option<String>, Failure> {
        let query = format!("{statement} SELECT pg_backend_pid()");
        let rows = self.call(self.client.simple_query(&query)).await?;
        Ok(rows.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }))
    }

    /// Whether nothing has happened to it after which it should be thrown away.
    pub fn is_usable(&self) -> bool {
        // Relaxed: a reader that is a moment too early finds out by its own call.
        !self.failed.load(Ordering::Relaxed) && !self.client.is_closed()
    }

    /// Waits for an answer however long it takes: for making what is large. A peer that is gone is noticed by the
    /// connection's keepalives.
    pub async fn call_for_long<T>(
        &self,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        let _turn = self.turn.lock().await;
        self.note(call.await.map_err(Failure::from))
    }

    /// Waits for an answer, but not forever: a half-open socket answers nothing.
    pub async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        let _turn = self.turn.lock().await;
        self.note(match timeout(CALL_TIMEOUT, call).await {
            Ok(answer) => answer.map_err(Failure::from),
            Err(_) => Err(Failure::timed_out()),
        })
    }

    fn note<T>(&self, answer: Result<T, Failure>) -> Result<T, Failure> {
        if answer.as_ref().is_err_and(|failure| !failure.leaves_connection_usable()) {
            self.failed.store(true, Ordering::Relaxed);
        }
        answer
    }
}
