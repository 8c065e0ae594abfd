//! Connections to PostgreSQL for the tasks of the processor, each with the tables checked and its statements prepared.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::config::Process;
use crate::error::{Error, Result};
use crate::postgres::failure::{Failure, FailureKind};
use crate::postgres::leases::LeaseSession;
use crate::postgres::schema::{self, SetupError};
use crate::postgres::session::Session;
use crate::postgres::write::FlushSession;
use crate::retry::Backoff;
use crate::telemetry::log::Outage;

/// Where PostgreSQL is and what is expected there.
#[derive(Debug)]
pub struct Connector {
    config: Config,
    topic: String,
    owner: String,
    window_ms: i64,
    lease: std::time::Duration,
    connections: AtomicU64,
    outage: Outage,
    /// A bit for each [`Caller`] whose last call failed.
    failing: AtomicU8,
}

/// Which task calls PostgreSQL: what one cannot do another may still be able to.
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
            lease: config.lease,
            connections: AtomicU64::new(0),
            failing: AtomicU8::new(0),
        }
    }

    /// What everybody may look at: whether PostgreSQL is away or refuses, and why.
    pub fn outage(&self) -> &Outage {
        &self.outage
    }

    /// Notes that a call failed; the log says it once, whichever task notices first.
    pub fn failed(&self, caller: Caller, failure: &Failure) {
        // Relaxed: each task changes its own bit only, and a line more or less harms nobody.
        self.failing.fetch_or(caller as u8, Ordering::Relaxed);
        match failure.kind {
            FailureKind::Outage => self.outage.failed(failure),
            _ => self.outage.refused(failure),
        }
    }

    /// Notes that a call succeeded. PostgreSQL is back only when it is for all.
    pub fn ok(&self, caller: Caller) {
        let before = self.failing.fetch_and(!(caller as u8), Ordering::Relaxed);
        if before & !(caller as u8) == 0 {
            self.outage.ok();
        }
    }

    /// Waits for PostgreSQL and makes the tables fit. Ends with a usage error where only the user can go on: a wrong
    /// password, a missing database or right, tables that cannot be used.
    pub async fn set_up(&self) -> Result<()> {
        let mut backoff = Backoff::default();
        loop {
            let result = match Session::open(&self.config).await {
                Ok(session) => schema::set_up(&session, &self.topic, self.window_ms).await,
                Err(failure) => Err(SetupError::Failed(failure)),
            };
            match result {
                Ok(()) => {
                    self.ok(Caller::SetUp);
                    return Ok(());
                }
                Err(SetupError::Refused(error)) => return Err(error),
                Err(SetupError::Failed(failure)) if failure.kind == FailureKind::Setup => {
                    let at = address(&self.config);
                    return Err(Error::usage(format!("PostgreSQL at {at} refuses: {failure}")));
                }
                Err(SetupError::Failed(failure)) => self.failed(Caller::SetUp, &failure),
            }
            backoff.wait().await;
        }
    }

    /// A connection that nothing was checked of, to look at the tables.
    pub async fn session(&self) -> Result<Session, Failure> {
        Session::open(&self.config).await
    }

    /// `host:port/database`.
    pub fn address(&self) -> String {
        address(&self.config)
    }

    /// A connection for flushes; the summary is what the partials say.
    pub async fn flush_session(&self) -> Result<FlushSession, Failure> {
        let session = self.unmended_flush_session().await?;
        match session.mend().await {
            Ok(0) => Ok(session),
            Ok(mended) => {
                crate::warn!("rows of weather_summary were changed or deleted by others; set right",
                    "windows" => mended);
                Ok(session)
            }
            // A repair that takes too long must not keep what is new from being written.
            Err(failure) => {
                crate::warn!("cannot compare weather_summary with weather_partial; going on without",
                    "reason" => failure);
                self.unmended_flush_session().await
            }
        }
    }

    async fn unmended_flush_session(&self) -> Result<FlushSession, Failure> {
        FlushSession::prepare(self.checked().await?, &self.topic, self.window_ms, self.lease).await
    }

    /// A connection for leases.
    pub async fn lease_session(&self) -> Result<LeaseSession, Failure> {
        LeaseSession::prepare(self.checked().await?, &self.topic, &self.owner, self.lease).await
    }

    /// How many connections there were so far. What was written through an earlier one may be gone: the database may have
    /// been set back between the two.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// A connection whose tables are as they should be, whatever was done to them meanwhile.
    async fn checked(&self) -> Result<Session, Failure> {
        let session = Session::open(&self.config).await?;
        match schema::set_up(&session, &self.topic, self.window_ms).await {
            Ok(()) => {
                // Relaxed here and where it is read: nothing else hangs on it.
                self.connections.fetch_add(1, Ordering::Relaxed);
                Ok(session)
            }
            Err(SetupError::Failed(failure)) => Err(failure),
            // At run time it can only be waited for: somebody is changing tables.
            Err(SetupError::Refused(error)) => Err(Failure::new(FailureKind::Setup, error.to_string())),
        }
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
