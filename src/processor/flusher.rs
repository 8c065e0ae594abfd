//! The task that keeps PostgreSQL current: whatever changed, for all partitions together.
//!
//! It sleeps until a partition reports a change, and writes at once if the last flush is an interval ago, else when it is.
//! A flush that is requested, as by a partition that is handed over, comes at once; under an old transaction intervals are
//! longer ([`flush_plan::pause`]), and stations have an interval of their own. What to write and what a refusal means is
//! the [`FlushPlan`]'s decision. While PostgreSQL is away it tries again forever; meanwhile the states advance, and
//! what is written later is their state by then.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::engine::flush_plan::{self, FlushPlan, Offer, PartitionFlush, Remedy};
use crate::postgres::connector::{Caller, Connector};
use crate::postgres::failure::Failure;
use crate::postgres::summary::SummaryRow;
use crate::postgres::write::FlushSession;
use crate::processor::observe::batch_log::BatchLog;
use crate::processor::observe::stats::{self, FlushNote, Sample, Stats};
use crate::processor::partition::handle::{FlushImage, PartitionHandle, Registry};
use crate::processor::station_flushes::StationFlushes;
use crate::retry::Backoff;
use crate::time::now_ms;

/// Asks for a flush now; answered when everything up to the asking is in the table.
pub type FlushRequest = oneshot::Sender<()>;

/// Asks for a flush and waits for it; whether it was done in time.
pub async fn flush_now(flushes: &mpsc::Sender<FlushRequest>, limit: Duration) -> bool {
    let (request, done) = oneshot::channel();
    let ask = async {
        flushes.send(request).await.ok()?;
        done.await.ok()
    };
    matches!(timeout(limit, ask).await, Ok(Some(())))
}

/// Writes changes to PostgreSQL.
#[derive(Debug)]
pub struct Flusher {
    database: Arc<Connector>,
    registry: Arc<Registry>,
    changed: Arc<Notify>,
    requests: mpsc::Receiver<FlushRequest>,
    interval: Duration,
    stations: Option<StationFlushes>,
    session: Option<FlushSession>,
    plan: FlushPlan,
    /// Kafka's time stamp of the oldest record of each partition that is not written.
    oldest_ms: HashMap<(i32, i64), i64>,
    log: BatchLog,
    stats: Arc<Stats>,
}

impl Flusher {
    /// A flusher of these partitions; `changed` wakes it, `requests` hurries it.
    pub fn new(
        database: Arc<Connector>,
        registry: Arc<Registry>,
        changed: Arc<Notify>,
        requests: mpsc::Receiver<FlushRequest>,
        interval: Duration,
        stations: Option<StationFlushes>,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            database,
            registry,
            changed,
            requests,
            interval,
            stations,
            session: None,
            plan: FlushPlan::default(),
            oldest_ms: HashMap::new(),
            log: BatchLog::default(),
            stats,
        }
    }

    /// Works until no flush can be requested any more.
    pub async fn run(mut self) {
        let mut next = Instant::now();
        let mut dirty = false;
        loop {
            self.stats.flushing.rest();
            let log_due = self.log.due();
            let request = tokio::select! {
                request = self.requests.recv() => match request {
                    Some(request) => Some(request),
                    None => break,
                },
                () = self.changed.notified(), if !dirty => {
                    dirty = true;
                    continue;
                }
                () = tokio::time::sleep_until(next), if dirty => None,
                () = tokio::time::sleep_until(log_due.unwrap_or(next)), if log_due.is_some() => {
                    self.log.print();
                    continue;
                }
            };
            let begun = Instant::now();
            dirty = self.write_all(request.is_some()).await;
            next = begun + flush_plan::pause(self.interval, self.stats.oldest_snapshot());
            if let Some(request) = request {
                // The caller may have given up.
                let _ = request.send(());
            }
        }
        self.log.close();
    }

    /// Writes what there is now, however long it takes; partitions whose flush is not worth it yet only if all are asked
    /// for. Whether some were left for later.
    async fn write_all(&mut self, all: bool) -> bool {
        let mut backoff = Backoff::default();
        loop {
            self.stats.rates.note(std::time::Instant::now(), || self.registry.counts());
            match self.write_round(all).await {
                Ok(left) => {
                    self.database.ok(Caller::Flusher);
                    return left;
                }
                Err(None) => {}
                Err(Some(failure)) => {
                    self.stats.failed_flushes.increment();
                    self.session = None;
                    self.database.failed(Caller::Flusher, &failure);
                    backoff.wait().await;
                }
            }
        }
    }

    /// Writes everything that PostgreSQL does not have yet, a portion as soon as it is full. Whether some was left for later.
    /// An error ends the round: without a failure the next one can begin at once, as partitions that were lost are no longer
    /// on the list.
    async fn write_round(&mut self, all: bool) -> Result<bool, Option<Failure>> {
        self.stats.flushing.work();
        let owned = self.registry.all();
        let held: Vec<(i32, i64)> = owned.iter().map(|owned| (owned.partition, owned.epoch)).collect();
        self.oldest_ms.retain(|key, _| held.contains(key));
        self.plan.begin(&held, self.database.connections());
        let mut left = false;
        for owned in &owned {
            if let (false, Some(stations)) = (all, &self.stations)
                && !stations.is_due(owned, held.len())
            {
                left = true;
                continue;
            }
            self.take(owned).await;
            while self.plan.is_full() {
                self.write_portion().await?;
            }
        }
        while !self.plan.portion().is_empty() {
            self.write_portion().await?;
        }
        Ok(left)
    }

    /// Adds a partition to the round, with its state as it is now.
    async fn take(&mut self, owned: &PartitionHandle) {
        if let Some(oldest_ms) = owned.oldest.take() {
            let noted_ms = self.oldest_ms.entry((owned.partition, owned.epoch)).or_insert(oldest_ms);
            *noted_ms = oldest_ms.min(*noted_ms);
        }
        let Some(FlushImage { state, dead_letters, stations }) = owned.snapshot().await else { return };
        let (partition, epoch, high_watermark) = (owned.partition, owned.epoch, owned.high_watermark.get());
        self.plan.add(Offer { partition, epoch, state, dead_letters, stations, high_watermark });
    }

    /// Sends the plan's next portion.
    async fn write_portion(&mut self) -> Result<(), Option<Failure>> {
        self.stats.flushing.work();
        let sent = Instant::now();
        let failure = match self.send().await {
            Ok(rows) => {
                self.confirm(&rows, sent);
                self.log.add(&rows);
                return Ok(());
            }
            Err(failure) => failure,
        };
        match self.plan.refused(failure.refusal()) {
            Remedy::SendApart => Ok(()),
            Remedy::SendWithout { partition, left_out } => {
                crate::error!("PostgreSQL refuses a dead letter; leaving some out", "partition" => partition,
                    "left_out" => left_out, "reason" => failure);
                Ok(())
            }
            Remedy::AskStanding => Err(self.drop_lost(failure).await),
            Remedy::TryAgain => Err(Some(failure.as_lasting())),
        }
    }

    async fn send(&mut self) -> Result<Vec<SummaryRow>, Failure> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.database.flush_session().await?,
        };
        let rows = session.flush(self.plan.portion(), self.stats.has_others()).await;
        // After most errors it is not known what the connection still holds.
        if rows.as_ref().err().is_none_or(Failure::leaves_connection_usable) {
            self.session = Some(session);
        }
        rows
    }

    fn confirm(&mut self, rows: &[SummaryRow], sent: Instant) {
        self.note(rows, sent.elapsed());
        if let Some(stations) = &mut self.stations {
            stations.flushed(self.plan.portion());
        }
        let owned = self.registry.all();
        for confirmed in self.plan.confirm() {
            let key = (confirmed.partition, confirmed.epoch);
            self.oldest_ms.remove(&key);
            if let Some(owned) = owned.iter().find(|o| (o.partition, o.epoch) == key) {
                owned.confirmed.send_replace(Some(confirmed.confirmation));
            }
        }
    }

    /// For observers: what this flush was, before it counts as written.
    fn note(&self, rows: &[SummaryRow], took: Duration) {
        let (now_ms, work) = (now_ms(), self.plan.portion());
        let oldest = work.iter().filter_map(|part| self.oldest_ms.get(&(part.partition, part.epoch)));
        let waited = oldest.map(|oldest_ms| {
            // Kafka's clock may be ahead of ours.
            let waited = Duration::from_millis(u64::try_from(now_ms - oldest_ms).unwrap_or(0));
            self.stats.append_to_visible.record(waited);
            waited
        });
        let visible_after = waited.max();
        let offsets = work.iter().map(|part| {
            let (from, to) = (part.known, part.state.progress.position());
            (part.partition, if from.incarnation == to.incarnation { from.offset } else { 0 }, to.offset)
        });
        let batch = FlushNote {
            id: 0,
            at_ms: now_ms,
            took,
            visible_after,
            rows: rows.len(),
            dead_letters: work.iter().map(|part| part.dead_letters.len()).sum(),
            offsets: offsets.collect(),
        };
        let sample = |part: &PartitionFlush| -> Vec<Sample> {
            let dead_letters = part.dead_letters.iter().rev().take(stats::SAMPLES).rev();
            dead_letters.map(|dead_letter| Sample::of(part.partition, dead_letter)).collect()
        };
        self.stats.wrote(batch, work.iter().flat_map(sample));
        self.stats.station_rows.add(work.iter().map(|part| part.stations.len()).sum());
    }

    /// Lets go of the partitions of this flush that this process has lost. What there is to wait out if there are none:
    /// something else refuses, such as a trigger of the user's.
    async fn drop_lost(&self, fenced: Failure) -> Option<Failure> {
        let Some(session) = &self.session else { return Some(fenced) };
        let partitions: Vec<i32> = self.plan.portion().iter().map(|part| part.partition).collect();
        let lost = match session.standing(&partitions).await {
            Ok(rows) => self.plan.fenced(&rows),
            Err(failure) => return Some(failure),
        };
        for lost in &lost {
            if self.registry.remove(lost.partition, lost.epoch).is_some() {
                self.stats.fenced.increment();
                crate::warn!(format_args!("fenced: {}; dropping the partition here", lost.why),
                    "partition" => lost.partition, "epoch" => lost.epoch,
                    "epoch_now" => lost.epoch_now.unwrap_or(-1));
            }
        }
        lost.is_empty().then_some(fenced)
    }
}
