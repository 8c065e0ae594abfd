//! What one process does now and then for all that share a topic: it marks windows final that time alone has closed,
//! deletes old dead letters, compares another portion of the summary; and what each does for itself: it checks for
//! transactions that hold back PostgreSQL's own upkeep.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::engine::assignment::FINISH_EVERY;
use crate::postgres::failure::Failure;
use crate::postgres::leases::LeaseSession;
use crate::postgres::upkeep::{OldSnapshot, PRUNE_PORTION};
use crate::processor::observe::stats::Stats;

/// How often old dead letters are deleted.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// How often another portion of the summary is compared with the partials.
const REPAIR_EVERY: Duration = Duration::from_secs(10);
/// How often each process checks for transactions that hold back PostgreSQL's upkeep.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(10);
/// How often they are logged.
const SNAPSHOT_REMIND: Duration = Duration::from_secs(60 * 60);

/// Its settings.
#[derive(Debug, Clone, Copy)]
pub struct UpkeepSettings {
    /// Length of a window, ms.
    pub window_ms: i64,
    /// The watermark's delay, ms.
    pub out_of_orderness_ms: i64,
    /// How long dead letters are kept.
    pub dead_letter_retention: Duration,
    /// The most that dead letters may take in the database, in bytes.
    pub dead_letter_max_bytes: i64,
    /// How long windows of single stations are kept; None = for ever.
    pub station_retention: Option<Duration>,
}

/// When each task was last done.
#[derive(Debug)]
pub struct Housekeeper {
    settings: UpkeepSettings,
    finished: Instant,
    pruned: Instant,
    repaired: Instant,
    /// Where the next portion of the summary ends that is compared.
    repair_before: Option<SystemTime>,
    looked: Instant,
    warned: Option<Instant>,
}

impl Housekeeper {
    /// One that has just done all of it.
    pub fn new(settings: UpkeepSettings) -> Self {
        let now = Instant::now();
        Self {
            settings,
            finished: now,
            pruned: now,
            repaired: now,
            repair_before: None,
            looked: now,
            warned: None,
        }
    }

    /// Does what is due.
    pub async fn work(&mut self, session: &LeaseSession, existing: &BTreeSet<i32>) -> Result<(), Failure> {
        if self.finished.elapsed() >= FINISH_EVERY {
            let existing = Vec::from_iter(existing.iter().copied());
            session.finish_windows(self.settings.out_of_orderness_ms, &existing).await?;
            self.finished = Instant::now();
        }
        if self.pruned.elapsed() >= PRUNE_EVERY {
            let mut deleted = session.prune_dead_letters(self.settings.dead_letter_retention).await?;
            if deleted < PRUNE_PORTION {
                deleted = session.trim_dead_letters(self.settings.dead_letter_max_bytes).await?;
            }
            let stations = match self.settings.station_retention {
                Some(retention) => session.prune_stations(retention).await?,
                None => 0,
            };
            // A full portion means that there is more: continue at the next tick.
            if deleted.max(stations) < PRUNE_PORTION {
                self.pruned = Instant::now();
            }
        }
        if self.repaired.elapsed() >= REPAIR_EVERY {
            let repaired = session.repair(self.settings.window_ms, self.repair_before).await?;
            repaired.log();
            (self.repaired, self.repair_before) = (Instant::now(), repaired.next);
        }
        Ok(())
    }

    /// Looks for a transaction that keeps PostgreSQL from removing old row versions, which makes each flush slower:
    /// every process writes less often then, and the one that `warns` does so.
    pub async fn watch(&mut self, session: &LeaseSession, stats: &Stats, warns: bool) -> Result<(), Failure> {
        if self.looked.elapsed() < SNAPSHOT_EVERY {
            return Ok(());
        }
        self.looked = Instant::now();
        let oldest = session.oldest_snapshot().await?;
        stats.saw_oldest_snapshot(oldest.as_ref().map_or(0.0, |oldest| oldest.seconds));
        let Some(oldest) = oldest.filter(OldSnapshot::is_old) else {
            self.warned = None;
            return Ok(());
        };
        if warns && self.warned.is_none_or(|warned| warned.elapsed() >= SNAPSHOT_REMIND) {
            crate::warn!("a long transaction keeps PostgreSQL from removing old row versions, so rows are written less \
                often; end it, or set idle_in_transaction_session_timeout", "seconds" => oldest.seconds.round(),
                "who" => oldest.who);
            self.warned = Some(Instant::now());
        }
        Ok(())
    }
}
