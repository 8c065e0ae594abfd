//! What the processor knows of itself, in one place: for the HTTP endpoint and the live line.
//!
//! Everything is read on request from what the tasks publish anyway: published states, high
//! watermarks, outages, [`Stats`]. Nothing is locked for longer than a copy takes, and nothing is changed. Without PostgreSQL
//! (`--database-url none`) there are no tables to show: then the states, which hold every window, are shown in their place.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::config::Process;
use crate::engine::state::Progress;
use crate::engine::watermark;
use crate::error::Result;
use crate::kafka::cluster::Cluster;
use crate::postgres::connector::Connector;
use crate::postgres::summary::WindowRow;
use crate::processor::identity::ProcessIdentity;
use crate::processor::observe::history::{History, Remembering};
use crate::processor::observe::station_page::StationPage;
use crate::processor::observe::stats::{ProcessPhase, SAMPLES, Sample, Stats};
use crate::processor::observe::tables::{Tables, WINDOWS};
use crate::processor::observe::windows;
use crate::processor::partition::handle::{PartitionHandle, Registry};
use crate::reading::Format;
use crate::telemetry::health::Health;
use crate::telemetry::http::{self, Serving};
use crate::telemetry::log::Outage;
use crate::telemetry::terminal::Live;
use crate::time::{milliseconds, now_ms};

/// The processor as it is: what the pages and the live line are made of, read when they are made.
#[derive(Debug)]
pub struct ProcessorStatus {
    pub(super) stats: Arc<Stats>,
    pub(super) registry: Arc<Registry>,
    pub(super) cluster: Arc<Cluster>,
    /// None without PostgreSQL.
    pub(super) database: Option<ShownTables>,
    pub(super) history: Arc<History>,
    /// This process's name among those that share the topic.
    pub(super) process: String,
    pub(super) window_ms: i64,
    pub(super) format: Arc<Format>,
    pub(super) started: Instant,
}

/// PostgreSQL, and what is shown of its tables.
#[derive(Debug)]
pub(super) struct ShownTables {
    pub(super) connector: Arc<Connector>,
    pub(super) tables: Tables,
    /// Where stations are kept apart.
    pub(super) stations: Option<StationPage>,
}

/// What shows a status as long as it is kept.
#[derive(Debug)]
pub struct Showing {
    _serving: Option<Serving>,
    _remembering: Remembering,
    _live: Option<Live>,
}

/// A snapshot of one partition.
#[derive(Debug, Clone)]
pub struct PartitionView {
    /// Which.
    pub partition: i32,
    /// Its epoch.
    pub epoch: i64,
    /// Its numbers.
    pub progress: Progress,
    /// Kafka's end of it.
    pub high_watermark: i64,
    /// Windows that still accept readings.
    pub open_windows: usize,
    /// How long ago the oldest of them ended by the clock, ms; 0 if none has.
    pub window_close_lag_ms: i64,
    /// Records that have been read and are not in the table; None where there is no table.
    pub unflushed: Option<i64>,
    /// How long its checkpoint file has been behind its state, ms; None if there is no file.
    pub checkpoint_age_ms: Option<i64>,
    /// Why it cannot be read, although Kafka is there.
    pub problem: Option<String>,
}

impl PartitionView {
    /// Records in Kafka that have not been read.
    pub fn lag(&self) -> i64 {
        (self.high_watermark - self.progress.next_offset).max(0)
    }

    /// Records read: aggregated, duplicate or rejected.
    pub fn records(&self) -> i64 {
        self.progress.aggregated + self.progress.duplicates + self.progress.rejected.iter().sum::<i64>()
    }
}

impl ProcessorStatus {
    /// A status of these; `database` is None without PostgreSQL.
    pub fn new(
        config: &Process,
        identity: &ProcessIdentity,
        stats: &Arc<Stats>,
        registry: &Arc<Registry>,
        cluster: &Arc<Cluster>,
        database: Option<&Arc<Connector>>,
    ) -> Self {
        let window_ms = milliseconds(config.window);
        let stations = |connector: &Arc<Connector>| {
            config.by_station.map(|_| StationPage::new(Arc::clone(connector), window_ms))
        };
        Self {
            stats: Arc::clone(stats),
            registry: Arc::clone(registry),
            cluster: Arc::clone(cluster),
            database: database.map(|connector| ShownTables {
                connector: Arc::clone(connector),
                tables: Tables::new(connector, &config.kafka.topic),
                stations: stations(connector),
            }),
            history: Arc::default(),
            process: identity.name().to_owned(),
            window_ms,
            format: Arc::clone(&config.format),
            started: Instant::now(),
        }
    }

    /// Shows it at this address, if there is one, and as a live line on a terminal.
    ///
    /// # Errors
    /// A usage error if the address cannot be used.
    pub fn show(self, listen: Option<SocketAddr>) -> Result<Showing> {
        let status = Arc::new(self);
        let (remembered, watched) = (Arc::clone(&status), Arc::clone(&status));
        let look = move || (remembered.rates(), remembered.registry.lag());
        Ok(Showing {
            _serving: http::start(listen, &status)?,
            _remembering: Remembering::start(&status.history, look),
            _live: Live::start(move || watched.live_line()),
        })
    }

    /// The partitions that this process owns, ascending.
    pub fn partitions(&self) -> Vec<PartitionView> {
        let now_ms = now_ms();
        self.registry.all().iter().map(|owned| self.view(owned, now_ms)).collect()
    }

    fn view(&self, owned: &PartitionHandle, now_ms: i64) -> PartitionView {
        let state = owned.published.read();
        let progress = state.progress;
        let ends = state.windows.iter().map(|window| window.start_ms + self.window_ms);
        let open: Vec<i64> = ends.filter(|end_ms| *end_ms > progress.watermark_ms).collect();
        PartitionView {
            partition: owned.partition,
            epoch: owned.epoch,
            progress,
            high_watermark: owned.high_watermark.get(),
            open_windows: open.len(),
            unflushed: self.database.as_ref().map(|_| unflushed(&progress)),
            window_close_lag_ms: open.first().map_or(0, |end_ms| (now_ms - end_ms).max(0)),
            checkpoint_age_ms: self.stats.file(owned.partition).map(|file| (now_ms - file.current_ms).max(0)),
            problem: owned.reading.problem(),
        }
    }

    /// The newest windows, ascending.
    pub(super) async fn windows(&self) -> Arc<Vec<WindowRow>> {
        match &self.database {
            Some(database) => database.tables.windows().await,
            None => {
                let states = self.registry.all().iter().map(|owned| owned.published.read()).collect();
                Arc::new(windows::newest(states, self.window_ms, WINDOWS))
            }
        }
    }

    /// Whether PostgreSQL is away; None if none is used.
    pub(super) fn postgres(&self) -> Option<&Outage> {
        self.database.as_ref().map(|database| database.connector.outage())
    }

    /// The newest dead letters, the newest last: those that wait for PostgreSQL after those that are there.
    pub(super) fn samples(&self) -> Vec<Sample> {
        let mut samples = self.stats.samples();
        for owned in self.registry.all() {
            let waiting = owned.outbox.with(|outbox| {
                outbox
                    .newest(SAMPLES)
                    .map(|dead_letter| Sample::of(owned.partition, dead_letter))
                    .collect::<Vec<_>>()
            });
            // Between the confirmation and the worker taking note of it, a dead letter is in both places.
            samples
                .extend(waiting.into_iter().filter(|sample| !samples.contains(sample)).collect::<Vec<_>>());
        }
        samples.split_off(samples.len().saturating_sub(SAMPLES))
    }

    /// Whether the loops run.
    pub fn live(&self) -> Health {
        let loops = [&self.stats.flushing, &self.stats.owning, &self.stats.checkpointing];
        Health::new(loops.into_iter().filter_map(|beat| beat.problem()))
    }

    /// Whether the work is being done, and if not, why.
    pub fn ready(&self) -> Health {
        let phase = match self.stats.phase() {
            ProcessPhase::Running => None,
            // Each unavailable service reports itself.
            ProcessPhase::WaitingForDatabase if self.postgres().and_then(Outage::reason).is_some() => None,
            ProcessPhase::WaitingForDatabase => Some("PostgreSQL has not been reached yet".to_owned()),
            ProcessPhase::WaitingForTopic
                if self.cluster.outage().or(self.stats.topic.reason()).is_some() =>
            {
                None
            }
            ProcessPhase::WaitingForTopic => Some("Kafka has not been reached yet".to_owned()),
            ProcessPhase::Stopping => Some("stopping".to_owned()),
        };
        let postgres = self.postgres().and_then(Outage::problem);
        let services = [self.cluster.problem(), postgres, self.stats.topic.problem()];
        let partitions = self.registry.all();
        let reading = partitions.iter().filter_map(|owned| owned.reading.problem());
        let ownership = match self.stats.phase() {
            ProcessPhase::Running if partitions.is_empty() => self.why_it_owns_nothing(),
            _ => None,
        };
        Health::new(phase.into_iter().chain(services.into_iter().flatten()).chain(reading).chain(ownership))
    }

    /// None if there is nothing to own: every partition has a live owner.
    fn why_it_owns_nothing(&self) -> Option<String> {
        match self.stats.leases() {
            None if self.database.is_none() => Some("no partition is read yet".to_owned()),
            None => Some("the leases in PostgreSQL have not been read yet".to_owned()),
            Some(leases) => {
                let free = leases.owners.values().filter(|owner| owner.is_none()).count();
                let mine = leases.owners.values().flatten().filter(|owner| **owner == self.process).count();
                (free + mine > 0).then(|| format!("owns no partition yet; {} are free", free + mine))
            }
        }
    }

    /// The processes that share the topic, as last seen in the table of leases; this one included.
    pub(super) fn processes(&self) -> usize {
        let leases = self.stats.leases().unwrap_or_default();
        leases
            .processes
            .iter()
            .map(String::as_str)
            .chain([self.process.as_str()])
            .collect::<BTreeSet<_>>()
            .len()
    }
}

fn unflushed(progress: &Progress) -> i64 {
    match progress.incarnation == progress.flushed_incarnation {
        true => (progress.next_offset - progress.flushed_offset).max(0),
        false => progress.next_offset,
    }
}

/// An event time that may not exist yet.
pub(super) fn event_time(ms: i64) -> Option<i64> {
    Some(ms).filter(|ms| *ms > watermark::NONE)
}
