//! The connection to PostgreSQL that the tasks of the processor share, with the tables checked and statements prepared.
//!
//! One connection per process is enough: if the server accepts no more, a second one would leave a process with leases
//! under which it cannot write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::config::Process;
use crate::error::{Error, Result};
use crate::postgres::failure::{Failure, FailureKind};
use crate::postgres::leases::LeaseSession;
use crate::postgres::repair;
use crate::postgres::schema::{self, Days, SetupError, Units};
use crate::postgres::session::Session;
use crate::postgres::write::FlushSession;
use crate::retry::Backoff;
use crate::telemetry::log::Outage;

/// A lock that is free within a moment is waited for, however short the lease.
const SHORTEST_LOCK_WAIT: Duration = Duration::from_secs(1);

/// Where PostgreSQL is and what is expected there.
#[derive(Debug)]
pub struct Connector {
    config: Config,
    topic: String,
    owner: String,
    window_ms: i64,
    units: Units,
    by_station: bool,
    days: Days,
    lease: Duration,
    connections: AtomicU64,
    shared: Mutex<Option<Arc<Session>>>,
    outage: Outage,
    /// A bit for each [`Caller`] whose last call failed.
    failing: AtomicU8,
}

/// Which task calls PostgreSQL: one may fail while another succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Caller {
    /// Start-up, until the tables are there.
    SetUp = 1,
    /// The task that writes.
    Flusher = 2,
    /// The task that keeps the leases.
    LeaseKeeper = 4,
}

impl Connector {
    /// Of a process of this name, at `database`.
    pub fn new(config: &Process, database: Config, owner: &str) -> Self {
        Self {
            outage: Outage::new(format!("PostgreSQL at {}", address(&database))),
            config: database,
            topic: config.kafka.topic.clone(),
            owner: owner.to_owned(),
            window_ms: crate::time::milliseconds(config.window),
            units: Units::of(&config.format),
            by_station: config.by_station.is_some(),
            days: Days::of(config),
            lease: config.lease,
            connections: AtomicU64::new(0),
            shared: Mutex::default(),
            failing: AtomicU8::new(0),
        }
    }

    /// Public: whether PostgreSQL is away or refuses requests, and why.
    pub fn outage(&self) -> &Outage {
        &self.outage
    }

    /// Records that a call failed; it is logged once, whichever task notices first.
    pub fn failed(&self, caller: Caller, failure: &Failure) {
        // Relaxed: each task changes its own bit only, and a line more or less harms nobody.
        self.failing.fetch_or(caller as u8, Ordering::Relaxed);
        match failure.kind {
            FailureKind::Outage => self.outage.failed(failure),
            _ => self.outage.refused(failure),
        }
    }

    /// Notes that a call succeeded. PostgreSQL is back only when every task reaches it.
    pub fn ok(&self, caller: Caller) {
        let before = self.failing.fetch_and(!(caller as u8), Ordering::Relaxed);
        if before & !(caller as u8) == 0 {
            self.outage.ok();
        }
    }

    /// Waits for PostgreSQL and sets up the tables. Ends with a usage error where the user has to act: a wrong
    /// password, a missing database or right, tables that cannot be used.
    pub async fn set_up(&self) -> Result<()> {
        let mut backoff = Backoff::default();
        loop {
            let result = match self.session().await {
                Ok(session) => self.set_up_by(&session).await,
                Err(failure) => Err(SetupError::Failed(failure)),
            };
            match result {
                Ok(()) => {
                    self.ok(Caller::SetUp);
                    return Ok(());
                }
                Err(error) => self.wait_or_refuse(error, &mut backoff).await?,
            }
        }
    }

    async fn set_up_by(&self, session: &Session) -> std::result::Result<(), SetupError> {
        if session.is_pooled_by_transaction().await? {
            let at = address(&self.config);
            return Err(Error::usage(format!(
                "PostgreSQL at {at} is reached through a pooler in transaction mode, which keeps neither settings nor \
                 prepared statements: set pool_mode = session for this user or database, or connect to the server itself"
            ))
            .into());
        }
        schema::set_up(session, &self.topic, self.window_ms, &self.units, self.by_station).await?;
        Ok(self.days.make_views(session).await?)
    }

    /// After a failure at start-up: waits before the next try.
    ///
    /// # Errors
    /// Where only the user can go on.
    pub async fn wait_or_refuse(&self, error: SetupError, backoff: &mut Backoff) -> Result<()> {
        match error {
            SetupError::Refused(error) => return Err(error),
            SetupError::Failed(failure) if failure.kind == FailureKind::Setup => {
                let at = address(&self.config);
                return Err(Error::usage(format!("PostgreSQL at {at} refuses: {failure}")));
            }
            SetupError::Failed(failure) => self.failed(Caller::SetUp, &failure),
        }
        backoff.wait().await;
        Ok(())
    }

    /// An unchecked connection, to read the tables.
    pub async fn session(&self) -> Result<Session, Failure> {
        Session::open(&self.config).await
    }

    /// `host:port/database`.
    pub fn address(&self) -> String {
        address(&self.config)
    }

    /// For flushes.
    pub async fn flush_session(&self) -> Result<FlushSession, Failure> {
        let session = self.checked().await?;
        FlushSession::prepare(session, &self.topic, self.window_ms, self.lease, self.by_station).await
    }

    /// For leases.
    pub async fn lease_session(&self) -> Result<LeaseSession, Failure> {
        let session = self.checked().await?;
        LeaseSession::prepare(session, &self.topic, &self.owner, self.lease, self.by_station).await
    }

    /// How many connections there were so far. What was written through an earlier one may be gone: the database may have
    /// been set back between the two.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// The connection, with its tables checked and repaired, whatever was done to them since the last one.
    async fn checked(&self) -> Result<Arc<Session>, Failure> {
        let mut shared = self.shared.lock().await;
        if let Some(session) = shared.as_ref().filter(|session| session.is_usable()) {
            return Ok(Arc::clone(session));
        }
        *shared = None;
        let mut session = self.open().await?;
        // A failed repair must not keep new data from being written.
        if let Err(failure) = self.repair(&session).await {
            crate::warn!("cannot compare weather_summary with weather_partial; continuing without",
                "reason" => failure);
            session = self.open().await?;
        }
        // Relaxed here and where it is read: nothing else depends on it.
        self.connections.fetch_add(1, Ordering::Relaxed);
        let session = Arc::new(session);
        *shared = Some(Arc::clone(&session));
        Ok(session)
    }

    async fn open(&self) -> Result<Session, Failure> {
        // A task that waits for a lock cannot extend its leases meanwhile.
        let session = Session::open_with(&self.config, (self.lease / 3).max(SHORTEST_LOCK_WAIT)).await?;
        match schema::set_up(&session, &self.topic, self.window_ms, &self.units, self.by_station).await {
            Ok(()) => Ok(session),
            Err(SetupError::Failed(failure)) => Err(failure),
            // At run time it can only be waited for: others are changing tables.
            Err(SetupError::Refused(error)) => Err(Failure::new(FailureKind::Setup, error.to_string())),
        }
    }

    /// Restores the newest rows of the summary from the partials.
    async fn repair(&self, session: &Session) -> Result<(), Failure> {
        repair::repair(session, &self.topic, self.window_ms, None).await?.log();
        Ok(())
    }
}

/// `host:port/database`, without anything secret.
pub fn address(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => "localhost".to_owned(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    format!("{host}:{port}/{}", config.get_dbname().unwrap_or("postgres"))
}
