//! The task that keeps PostgreSQL current: whatever changed, at most once an interval, for all partitions together.
//!
//! It sleeps until a worker says that something changed, writes at once if the last flush is an interval ago, else when
//! it is. While PostgreSQL is away it tries again for ever; meanwhile the states go on, and what is written later is
//! what they are by then. A partition that has another owner is dropped, and the rest written without it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::engine::flush_plan::PartitionFlush;
use crate::engine::partition::Confirmation;
use crate::engine::state::Position;
use crate::engine::window::{Totals, Window};
use crate::postgres::connector::{Caller, Connector};
use crate::postgres::failure::{Failure, FailureKind};
use crate::postgres::summary::SummaryRow;
use crate::postgres::write::FlushSession;
use crate::processor::observe::batch_log::BatchLog;
use crate::processor::observe::stats::{self, FlushNote, Sample, Stats};
use crate::processor::partition::handle::{PartitionHandle, Registry};
use crate::retry::Backoff;
use crate::time::now_ms;

/// Asks for a flush now; answered when everything up to the asking is in the table.
pub type Request = oneshot::Sender<()>;

/// Asks for a flush and waits for it; whether it was done in time.
pub async fn flush_now(flushes: &mpsc::Sender<Request>, limit: Duration) -> bool {
    let (request, done) = oneshot::channel();
    let ask = async {
        flushes.send(request).await.ok()?;
        done.await.ok()
    };
    matches!(timeout(limit, ask).await, Ok(Some(())))
}

/// What PostgreSQL has of a partition, as far as this process wrote it.
#[derive(Debug, Default)]
struct Written {
    epoch: i64,
    position: Option<Position>,
    /// None: to be written again, as the windows are.
    idle: Option<i64>,
    windows: HashMap<i64, Totals>,
    /// Kafka's time stamp of the oldest record that is not written.
    oldest_ms: Option<i64>,
}

impl Written {
    /// Forgets what need not be there any more; the position shows whether it is.
    fn doubt(&mut self) {
        self.idle = None;
        self.windows.clear();
    }
}

/// Writes changes to PostgreSQL.
#[derive(Debug)]
pub struct Flusher {
    database: Arc<Connector>,
    registry: Arc<Registry>,
    changed: Arc<Notify>,
    requests: mpsc::Receiver<Request>,
    interval: Duration,
    session: Option<FlushSession>,
    written: HashMap<i32, Written>,
    /// As `Connector::connections` said when that was last looked at.
    connections: u64,
    log: BatchLog,
    stats: Arc<Stats>,
}

impl Flusher {
    /// A flusher of these partitions; `changed` wakes it, `requests` hurries it.
    pub fn new(
        database: Arc<Connector>,
        registry: Arc<Registry>,
        changed: Arc<Notify>,
        requests: mpsc::Receiver<Request>,
        interval: Duration,
        stats: Arc<Stats>,
    ) -> Self {
        let (written, log) = (HashMap::new(), BatchLog::default());
        Self {
            database,
            registry,
            changed,
            requests,
            interval,
            session: None,
            written,
            connections: 0,
            log,
            stats,
        }
    }

    /// Works until nobody can ask for a flush any more.
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
            dirty = false;
            next = Instant::now() + self.interval;
            self.write_all().await;
            if let Some(request) = request {
                // Whoever asked may have given up.
                let _ = request.send(());
            }
        }
        self.log.close();
    }

    /// Writes what there is now, however long it takes.
    async fn write_all(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            self.stats.flushing.work();
            self.stats.rates.note(std::time::Instant::now(), || self.registry.counts());
            let work = self.collect();
            if work.is_empty() {
                self.database.ok(Caller::Flusher);
                return;
            }
            match self.write(&work).await {
                Ok(()) => {
                    self.database.ok(Caller::Flusher);
                    return;
                }
                Err(failure) if failure.kind == FailureKind::Fenced => {
                    match self.drop_fenced(&work).await {
                        Ok(true) => {}
                        // Refused by something else, such as a trigger of the user's.
                        Ok(false) => self.away(&failure, &mut backoff).await,
                        Err(failure) => self.away(&failure, &mut backoff).await,
                    }
                }
                Err(failure) => self.away(&failure, &mut backoff).await,
            }
        }
    }

    async fn away(&mut self, failure: &Failure, backoff: &mut Backoff) {
        self.stats.failed_flushes.increment();
        self.session = None;
        self.database.failed(Caller::Flusher, failure);
        backoff.wait().await;
    }

    /// Everything that PostgreSQL does not have yet.
    fn collect(&mut self) -> Vec<PartitionFlush> {
        let owned = self.registry.all();
        self.written.retain(|partition, written| {
            owned.iter().any(|o| o.partition == *partition && o.epoch == written.epoch)
        });
        // Whatever is new makes a database noticed that was set back; nothing new must not leave it so.
        let connections = self.database.connections();
        if std::mem::replace(&mut self.connections, connections) != connections {
            self.written.values_mut().for_each(Written::doubt);
        }
        owned.iter().filter_map(|owned| self.changes(owned)).collect()
    }

    fn changes(&mut self, owned: &PartitionHandle) -> Option<PartitionFlush> {
        let oldest_ms = owned.oldest.take();
        let (state, letters) = owned.snapshot();
        let written = self.written.entry(owned.partition).or_default();
        written.epoch = owned.epoch;
        written.oldest_ms = [oldest_ms, written.oldest_ms].into_iter().flatten().min();
        let has = |window: &&Window| written.windows.get(&window.start_ms) != Some(&window.totals);
        let windows: Vec<Window> = state.windows.iter().filter(has).copied().collect();
        let same =
            written.position == Some(state.progress.position()) && written.idle == Some(state.progress.idle);
        if same && windows.is_empty() {
            return None;
        }
        let (known, high_watermark) =
            (written.position.unwrap_or(state.progress.flushed()), owned.high_watermark.get());
        Some(PartitionFlush {
            partition: owned.partition,
            epoch: owned.epoch,
            state,
            known,
            high_watermark,
            windows,
            letters,
        })
    }

    async fn write(&mut self, work: &[PartitionFlush]) -> Result<(), Failure> {
        let sent = Instant::now();
        match self.send(work).await {
            Ok(rows) => {
                self.confirm(work, &rows, sent);
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
        if rows.as_ref().err().is_none_or(Failure::leaves_connection_usable) {
            self.session = Some(session);
        }
        rows
    }

    /// PostgreSQL refuses a value: finds it by writing the partitions one by one, and leaves out what is refused alone.
    async fn write_in_parts(&mut self, work: &[PartitionFlush], refused: &Failure) -> Result<(), Failure> {
        for part in work {
            let (mut part, sent) = (part.clone(), Instant::now());
            let rows = loop {
                let failure = match self.send(std::slice::from_ref(&part)).await {
                    Ok(rows) => break rows,
                    Err(failure) => failure,
                };
                if failure.kind != FailureKind::BadRow || part.letters.is_empty() {
                    // It is not the dead letters: a trigger or a constraint of the user's.
                    let kind = match failure.kind {
                        FailureKind::BadRow => FailureKind::Refused,
                        kind => kind,
                    };
                    return Err(Failure::new(kind, failure.detail));
                }
                // Only what comes from outside can be refused, and only the samples of it can be done without.
                let kept = part.letters.len() / 2;
                crate::error!("PostgreSQL refuses a dead letter; leaving some out", "partition" => part.partition,
                    "left_out" => part.letters.len() - kept, "reason" => refused);
                part.letters.truncate(kept);
            };
            self.confirm(std::slice::from_ref(&part), &rows, sent);
            self.log.add(&rows);
        }
        Ok(())
    }

    fn confirm(&mut self, work: &[PartitionFlush], rows: &[SummaryRow], sent: Instant) {
        self.note(work, rows, sent.elapsed());
        let owned = self.registry.all();
        for part in work {
            let progress = &part.state.progress;
            let windows = part.state.windows.iter().map(|w| (w.start_ms, w.totals)).collect();
            let (position, idle) = (Some(progress.position()), Some(progress.idle));
            let written = Written { epoch: part.epoch, position, idle, windows, oldest_ms: None };
            self.written.insert(part.partition, written);
            let confirmation =
                Confirmation { position: progress.position(), watermark_ms: progress.watermark_ms };
            if let Some(owned) = owned.iter().find(|o| o.partition == part.partition && o.epoch == part.epoch)
            {
                owned.confirmed.send_replace(Some(confirmation));
            }
        }
    }

    /// For those who watch: what this flush was, before it counts as written.
    fn note(&self, work: &[PartitionFlush], rows: &[SummaryRow], took: Duration) {
        let now_ms = now_ms();
        let written = |part: &PartitionFlush| self.written.get(&part.partition);
        let waited = work.iter().filter_map(|part| written(part)?.oldest_ms).map(|oldest_ms| {
            // Kafka's clock may be ahead of ours.
            let waited = Duration::from_millis(u64::try_from(now_ms - oldest_ms).unwrap_or(0));
            self.stats.append_to_visible.record(waited);
            waited
        });
        let visible_after = waited.max();
        let offsets = work.iter().map(|part| {
            let (from, to) = (written(part).and_then(|w| w.position), part.state.progress.position());
            let from = from.unwrap_or(part.state.progress.flushed());
            (part.partition, if from.incarnation == to.incarnation { from.offset } else { 0 }, to.offset)
        });
        let batch = FlushNote {
            id: 0,
            at_ms: now_ms,
            took,
            visible_after,
            rows: rows.len(),
            dead_letters: work.iter().map(|part| part.letters.len()).sum(),
            offsets: offsets.collect(),
        };
        let sample = |part: &PartitionFlush| -> Vec<Sample> {
            let letters = part.letters.iter().rev().take(stats::SAMPLES).rev();
            letters.map(|letter| Sample::of(part.partition, letter)).collect()
        };
        self.stats.wrote(batch, work.iter().flat_map(sample));
    }

    /// Lets go of the partitions of this flush that can no longer be written as they are; whether there were any.
    async fn drop_fenced(&mut self, work: &[PartitionFlush]) -> Result<bool, Failure> {
        let Some(session) = &self.session else { return Ok(false) };
        let partitions: Vec<i32> = work.iter().map(|part| part.partition).collect();
        let rows = session.standing(&partitions).await?;
        let mut dropped = false;
        for part in work {
            let row = rows.iter().find(|row| row.partition == part.partition);
            let Some(why) = part.refusal(row) else { continue };
            if self.registry.remove(part.partition, part.epoch).is_some() {
                self.stats.fenced.increment();
                crate::warn!(format_args!("fenced: {why}; dropping the partition here"),
                    "partition" => part.partition, "epoch" => part.epoch,
                    "epoch_now" => row.map_or(-1, |row| row.epoch));
            }
            dropped = true;
        }
        Ok(dropped)
    }
}
