//! The task that keeps PostgreSQL current: whatever changed, at most once an interval, for all partitions together.
//!
//! It sleeps until a worker says that something changed, writes at once if the last flush is an interval ago, else when
//! it is. While PostgreSQL is away it tries again for ever; meanwhile the states go on, and what is written later is
//! what they are by then. A partition that has another owner is dropped, and the rest written without it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use crate::kafka::source::Backoff;
use crate::postgres::failure::{Failure, FailureKind};
use crate::postgres::flush::{FlushSession, PartitionFlush, SummaryRow};
use crate::processor::batch_log::BatchLog;
use crate::processor::database::Database;
use crate::processor::owned::{Owned, Registry};
use crate::processor::partition::Confirmation;
use crate::processor::state::Position;
use crate::processor::window::{Totals, Window};

/// Asks for a flush now; answered when everything up to the asking is in the table.
pub type Request = oneshot::Sender<()>;

/// What PostgreSQL has of a partition, as far as this process wrote it.
#[derive(Debug, Default)]
struct Written {
    epoch: i64,
    position: Option<Position>,
    idle: i64,
    windows: HashMap<i64, Totals>,
}

/// Writes changes to PostgreSQL.
#[derive(Debug)]
pub struct Flusher {
    database: Arc<Database>,
    registry: Arc<Registry>,
    changed: Arc<Notify>,
    requests: mpsc::Receiver<Request>,
    interval: Duration,
    session: Option<FlushSession>,
    written: HashMap<i32, Written>,
    log: BatchLog,
}

impl Flusher {
    /// A flusher of these partitions; `changed` wakes it, `requests` hurries it.
    pub fn new(
        database: Arc<Database>,
        registry: Arc<Registry>,
        changed: Arc<Notify>,
        requests: mpsc::Receiver<Request>,
        interval: Duration,
    ) -> Self {
        let (written, log) = (HashMap::new(), BatchLog::default());
        Self { database, registry, changed, requests, interval, session: None, written, log }
    }

    /// Works until nobody can ask for a flush any more.
    pub async fn run(mut self) {
        let mut next = Instant::now();
        let mut dirty = false;
        loop {
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
            dirty = false;
            next = Instant::now() + self.interval;
            self.write_all().await;
            if let Some(request) = request {
                // Whoever asked may have given up.
                let _ = request.send(());
            }
        }
        self.log.print();
    }

    /// Writes what there is now, however long it takes.
    async fn write_all(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            let work = self.collect();
            if work.is_empty() {
                return;
            }
            match self.write(&work).await {
                Ok(()) => {
                    self.database.outage.ok();
                    return;
                }
                Err(failure) if failure.kind == FailureKind::Fenced => {
                    if let Err(failure) = self.drop_fenced(&work).await {
                        self.away(&failure, &mut backoff).await;
                    }
                }
                Err(failure) => self.away(&failure, &mut backoff).await,
            }
        }
    }

    async fn away(&mut self, failure: &Failure, backoff: &mut Backoff) {
        self.session = None;
        self.database.outage.failed(failure);
        backoff.wait().await;
    }

    /// Everything that PostgreSQL does not have yet.
    fn collect(&mut self) -> Vec<PartitionFlush> {
        let owned = self.registry.all();
        self.written.retain(|partition, written| {
            owned.iter().any(|o| o.partition == *partition && o.epoch == written.epoch)
        });
        owned.iter().filter_map(|owned| self.changes(owned)).collect()
    }

    fn changes(&mut self, owned: &Owned) -> Option<PartitionFlush> {
        let (state, letters) = owned.snapshot();
        let written = self.written.entry(owned.partition).or_default();
        written.epoch = owned.epoch;
        let has = |window: &&Window| written.windows.get(&window.start_ms) != Some(&window.totals);
        let windows: Vec<Window> = state.windows.iter().filter(has).copied().collect();
        let same = written.position == Some(state.progress.position()) && written.idle == state.progress.idle;
        if same && windows.is_empty() {
            return None;
        }
        let high_watermark = owned.high_watermark.get();
        Some(PartitionFlush {
            partition: owned.partition,
            epoch: owned.epoch,
            state,
            high_watermark,
            windows,
            letters,
        })
    }

    async fn write(&mut self, work: &[PartitionFlush]) -> Result<(), Failure> {
        match self.send(work).await {
            Ok(rows) => {
                self.confirm(work);
                self.log.add(&rows);
                Ok(())
            }
            Err(failure) if failure.kind == FailureKind::BadRow => self.write_in_parts(work, &failure).await,
            Err(failure) => Err(failure),
        }
    }

    async fn send(&mut self, work: &[PartitionFlush]) -> Result<Vec<SummaryRow>, Failure> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.database.flush_session().await?,
        };
        let rows = session.flush(work).await;
        // After an error the transaction is over, but what the connection still holds is not known well enough.
        if !matches!(&rows, Err(failure) if failure.kind == FailureKind::Outage) {
            self.session = Some(session);
        }
        rows
    }

    /// PostgreSQL refuses a value: finds it by writing the partitions one by one, and leaves out what is refused alone.
    async fn write_in_parts(&mut self, work: &[PartitionFlush], refused: &Failure) -> Result<(), Failure> {
        for part in work {
            let mut part = part.clone();
            while let Err(failure) = self.send(std::slice::from_ref(&part)).await {
                if failure.kind != FailureKind::BadRow || part.letters.is_empty() {
                    return Err(Failure::new(FailureKind::Outage, failure.detail));
                }
                // Only what comes from outside can be refused, and only the samples of it can be done without.
                let kept = part.letters.len() / 2;
                crate::error!("PostgreSQL refuses a dead letter; leaving some out", "partition" => part.partition,
                    "left_out" => part.letters.len() - kept, "reason" => refused);
                part.letters.truncate(kept);
            }
            self.confirm(std::slice::from_ref(&part));
        }
        Ok(())
    }

    fn confirm(&mut self, work: &[PartitionFlush]) {
        let owned = self.registry.all();
        for part in work {
            let progress = &part.state.progress;
            let windows = part.state.windows.iter().map(|w| (w.start_ms, w.totals)).collect();
            let position = progress.position();
            let written =
                Written { epoch: part.epoch, position: Some(position), idle: progress.idle, windows };
            self.written.insert(part.partition, written);
            let confirmation = Confirmation { position, watermark_ms: progress.watermark_ms };
            if let Some(owned) = owned.iter().find(|o| o.partition == part.partition && o.epoch == part.epoch)
            {
                owned.confirmed.send_replace(Some(confirmation));
            }
        }
    }

    /// Lets go of the partitions of this flush that are no longer ours.
    async fn drop_fenced(&mut self, work: &[PartitionFlush]) -> Result<(), Failure> {
        let Some(session) = &self.session else { return Ok(()) };
        let partitions: Vec<i32> = work.iter().map(|part| part.partition).collect();
        let rows = session.standing(&partitions).await?;
        for part in work {
            let row = rows.iter().find(|row| row.partition == part.partition);
            let ours = row.is_some_and(|row| {
                row.epoch == part.epoch && row.position.is_none_or(|at| at <= part.state.progress.position())
            });
            if !ours && self.registry.remove(part.partition, part.epoch).is_some() {
                crate::warn!("fenced: another process has taken the partition; dropping it here",
                    "partition" => part.partition, "epoch" => part.epoch,
                    "epoch_now" => row.map_or(-1, |row| row.epoch));
            }
        }
        Ok(())
    }
}
