//! The newest windows of the table, for the dashboard: read on request and cached for a while.
//!
//! The processor's own flushes would not do: other processes write windows too, and only the table knows which are
//! final. While PostgreSQL is away, what was read last is shown.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::postgres::connector::Connector;
use crate::postgres::failure::Failure;
use crate::postgres::session::Session;
use crate::postgres::summary::{self, SummaryRow};

/// Windows that are shown: two days of hours.
const LIMIT: i64 = 48;
/// How long a result is used.
const FRESH: Duration = Duration::from_secs(2);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(10);
/// Longest wait for PostgreSQL.
const PATIENCE: Duration = Duration::from_secs(2);
/// An idle connection is closed after this time.
const KEEP: Duration = Duration::from_secs(30);

/// Reads them.
#[derive(Debug)]
pub struct SummaryCache {
    database: Arc<Connector>,
    /// Held while reading, so that many requests at once make one query.
    cache: Arc<Mutex<Cache>>,
}

#[derive(Debug, Default)]
struct Cache {
    rows: Arc<[SummaryRow]>,
    good_until: Option<Instant>,
    used: Option<Instant>,
    session: Option<Session>,
}

impl SummaryCache {
    /// Of this database.
    pub fn new(database: Arc<Connector>) -> Self {
        Self { database, cache: Arc::default() }
    }

    /// The newest windows, ascending.
    pub async fn newest(&self) -> Arc<[SummaryRow]> {
        let mut cache = self.cache.lock().await;
        if cache.good_until.is_some_and(|until| Instant::now() < until) {
            return Arc::clone(&cache.rows);
        }
        let is_new = cache.session.is_none();
        // While it is known to be away, other tasks already wait for it.
        let read = match self.database.outage().reason() {
            Some(_) => None,
            None => timeout(PATIENCE, self.read(cache.session.take())).await.ok().and_then(Result::ok),
        };
        let now = Instant::now();
        cache.good_until = Some(now + if read.is_some() { FRESH } else { PAUSE });
        cache.used = Some(now);
        if let Some((rows, session)) = read {
            cache.rows = rows.into();
            cache.session = Some(session);
            if is_new {
                tokio::spawn(close_unused(Arc::clone(&self.cache)));
            }
        }
        Arc::clone(&cache.rows)
    }

    async fn read(&self, session: Option<Session>) -> Result<(Vec<SummaryRow>, Session), Failure> {
        let session = match session {
            Some(session) => session,
            None => self.database.session().await?,
        };
        Ok((summary::newest(&session, LIMIT).await?, session))
    }
}

/// Closes the connection once requests stop.
async fn close_unused(cache: Arc<Mutex<Cache>>) {
    loop {
        tokio::time::sleep(KEEP).await;
        let mut cache = cache.lock().await;
        if cache.session.is_none() || cache.used.is_none_or(|used| used.elapsed() >= KEEP) {
            cache.session = None;
            return;
        }
    }
}
