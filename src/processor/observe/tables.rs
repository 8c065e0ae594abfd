//! What the dashboard shows of the tables: read when somebody asks, and cached for a while.
//!
//! The processor's own flushes would not do: other processes write windows too, and only the tables know which are final and
//! which dead letters were readmitted. While PostgreSQL is away, what was read last is shown. A process that nobody watches
//! has no connection for this.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::postgres::connector::Connector;
use crate::postgres::readmission::{self, Readmittable};
use crate::postgres::session::Session;
use crate::postgres::summary::{self, WindowRow};

/// Windows that are shown: two days of hours.
pub const WINDOWS: usize = 48;
/// How long the windows are used.
const WINDOWS_FRESH: Duration = Duration::from_secs(2);
/// How long the numbers of dead letters are used.
const READMITTABLE_FRESH: Duration = Duration::from_secs(30);
/// More dead letters of one reason are not counted for a page: that there are many is enough.
const READMITTABLE_COUNTED: i64 = 10_000;
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(10);
/// Longest wait for PostgreSQL.
const PATIENCE: Duration = Duration::from_secs(2);
/// An idle connection is closed after this time.
const KEEP: Duration = Duration::from_secs(30);

/// Reads them.
#[derive(Debug)]
pub struct Tables {
    reader: QueryConnection,
    topic: String,
    windows: Cached<Vec<WindowRow>>,
    readmittable: Cached<Vec<Readmittable>>,
}

impl Tables {
    /// Of a topic in this database.
    pub fn new(database: &Arc<Connector>, topic: &str) -> Self {
        Self {
            reader: QueryConnection::new(Arc::clone(database)),
            topic: topic.to_owned(),
            windows: Cached::new(WINDOWS_FRESH),
            readmittable: Cached::new(READMITTABLE_FRESH),
        }
    }

    /// The newest windows, ascending.
    pub async fn windows(&self) -> Arc<Vec<WindowRow>> {
        let read = async {
            let session = self.reader.take().await?;
            let windows = summary::newest(&session, WINDOWS as i64).await.ok()?;
            self.reader.give_back(session).await;
            Some(windows)
        };
        self.windows.get(read).await
    }

    /// Dead letters that could be readmitted, by reason.
    pub async fn readmittable(&self) -> Arc<Vec<Readmittable>> {
        let read = async {
            let session = self.reader.take().await?;
            let counted = readmission::count(&session, &self.topic, READMITTABLE_COUNTED).await.ok()?;
            self.reader.give_back(session).await;
            Some(counted)
        };
        self.readmittable.get(read).await
    }
}

/// A result that is read again when it is old.
#[derive(Debug)]
struct Cached<T> {
    fresh: Duration,
    /// Held while reading, so that many requests at once make one query.
    entry: Mutex<(Arc<T>, Option<Instant>)>,
}

impl<T: Default> Cached<T> {
    fn new(fresh: Duration) -> Self {
        Self { fresh, entry: Mutex::default() }
    }

    /// The result; read only if it is too old.
    async fn get(&self, read: impl Future<Output = Option<T>>) -> Arc<T> {
        let mut entry = self.entry.lock().await;
        if entry.1.is_none_or(|good_until| Instant::now() >= good_until) {
            let read = timeout(PATIENCE, read).await.ok().flatten();
            entry.1 = Some(Instant::now() + if read.is_some() { self.fresh } else { PAUSE });
            if let Some(read) = read {
                entry.0 = Arc::new(read);
            }
        }
        Arc::clone(&entry.0)
    }
}

/// A connection for people's questions: opened at the first, closed when there were none for a while.
#[derive(Debug)]
pub struct QueryConnection {
    database: Arc<Connector>,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    session: Option<Session>,
    used: Option<Instant>,
    is_watched: bool,
}

impl QueryConnection {
    /// Of this database.
    pub fn new(database: Arc<Connector>) -> Self {
        Self { database, held: Arc::default() }
    }

    /// The connection, or a new one; None if there is none to be had.
    pub async fn take(&self) -> Option<Session> {
        // While PostgreSQL is known to be away, other tasks already wait for it.
        if self.database.outage().reason().is_some() {
            return None;
        }
        match self.held.lock().await.session.take() {
            Some(session) => Some(session),
            None => self.database.session().await.ok(),
        }
    }

    /// Keeps a connection for the next question. One that has failed is dropped instead.
    pub async fn give_back(&self, session: Session) {
        let mut held = self.held.lock().await;
        (held.session, held.used) = (Some(session), Some(Instant::now()));
        if !std::mem::replace(&mut held.is_watched, true) {
            tokio::spawn(close_unused(Arc::clone(&self.held)));
        }
    }
}

/// Closes the connection once questions stop.
async fn close_unused(held: Arc<Mutex<Held>>) {
    loop {
        tokio::time::sleep(KEEP).await;
        let mut held = held.lock().await;
        if held.used.is_none_or(|used| used.elapsed() >= KEEP) {
            (held.session, held.is_watched) = (None, false);
            return;
        }
    }
}
