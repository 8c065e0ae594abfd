//! A connection to PostgreSQL that is used or thrown away, never mended.
//!
//! tokio-postgres does not reconnect. A [`Session`] is opened with everything that a caller needs; after any failure the
//! caller drops it and opens another, so that settings, prepared statements and the transaction state are always known.

use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, Config, NoTls};

use crate::postgres::failure::Failure;

/// Longest wait for any one answer. Above the server's own limits below, so that its word comes first.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// What every connection sets. A process that is stopped in a transaction must not hold its locks for long; nor must
/// a lock that somebody else holds stop us without a word. Statements see what others have committed before them, also
/// where the database or the role has another default: what one process makes another finds.
const SETTINGS: &str = "SET TIME ZONE 'UTC'; SET statement_timeout = '15s'; SET lock_timeout = '10s'; \
                        SET idle_in_transaction_session_timeout = '5s'; SET client_min_messages = 'warning'; \
                        SET default_transaction_isolation = 'read committed'";

/// A connection.
#[derive(Debug)]
pub struct Session {
    /// To send statements by, under [`Session::call`].
    pub client: Client,
    config: Box<Config>,
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
        // Each of several hosts is waited for in turn.
        let hosts = config.get_hosts().len().max(config.get_hostaddrs().len()) as u32;
        let each = config.get_connect_timeout().copied().unwrap_or_default();
        let connect = timeout(CALL_TIMEOUT + each * hosts, config.connect(NoTls));
        let (client, connection) = connect.await.map_err(|_| Failure::timed_out())??;
        let driver = tokio::spawn(async move {
            // Calls in flight get the error too, and they know what they were for.
            let _ = connection.await;
        });
        let session = Self { client, config: Box::new(config.clone()), driver };
        session.limit_time().await?;
        Ok(session)
    }

    /// Another connection to the same place.
    pub async fn another(&self) -> Result<Self, Failure> {
        Self::open(&self.config).await
    }

    /// Applies the settings, also after some were changed.
    pub async fn limit_time(&self) -> Result<(), Failure> {
        self.call(self.client.batch_execute(SETTINGS)).await
    }

    /// Waits for an answer however long it takes: for making what is large. A peer that is gone is noticed by the
    /// connection's keepalives.
    pub async fn call_for_long<T>(
        &self,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        call.await.map_err(Failure::from)
    }

    /// Waits for an answer, but not for ever: a half-open socket answers nothing.
    pub async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        timeout(CALL_TIMEOUT, call).await.map_err(|_| Failure::timed_out())?.map_err(Failure::from)
    }
}
