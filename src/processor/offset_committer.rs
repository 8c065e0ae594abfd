//! The task that commits to Kafka how far PostgreSQL is, under the name of a consumer group.
//!
//! An offset is committed after PostgreSQL has confirmed everything below it, when it has moved, and again now and then
//! while it has not, because a broker forgets the offsets of a group that is silent for days. They are for display only:
//! a failure is reported once and does no harm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::kafka::error::ErrorKind;
use crate::kafka::group::Group;
use crate::processor::partition::handle::Registry;
use crate::shutdown::Shutdown;

/// How often offsets that have moved are committed.
const EVERY: Duration = Duration::from_secs(5);
/// How often all of them are.
const REPEAT_EVERY: Duration = Duration::from_secs(3600);
/// Between attempts after the user was refused: permissions change rarely.
const REFUSED_PAUSE: Duration = Duration::from_secs(600);

/// Commits the offsets of the partitions that this process owns.
pub(super) struct OffsetCommitter {
    group: Group,
    registry: Arc<Registry>,
    /// What was committed last.
    committed: BTreeMap<i32, i64>,
    repeated: Instant,
    /// Since when commits fail.
    failing: bool,
}

impl OffsetCommitter {
    pub(super) fn new(group: Group, registry: Arc<Registry>) -> Self {
        let (committed, repeated, failing) = (BTreeMap::new(), Instant::now(), false);
        Self { group, registry, committed, repeated, failing }
    }

    /// Works until shutdown is requested; returns itself for the last commit.
    pub(super) async fn run(mut self, mut shutdown: Shutdown) -> Self {
        let mut looks = interval(EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.wait() => return self,
                _ = looks.tick() => {}
            }
            if self.repeated.elapsed() >= REPEAT_EVERY {
                self.committed.clear();
                self.repeated = Instant::now();
            }
            if let Some(ErrorKind::Authorization) = self.commit().await {
                looks.reset_after(REFUSED_PAUSE);
            }
        }
    }

    /// Commits what has moved; what went wrong, if anything.
    pub(super) async fn commit(&mut self) -> Option<ErrorKind> {
        let moved = self.moved();
        if moved.is_empty() {
            return None;
        }
        match self.group.commit(&moved).await {
            Ok(()) => {
                self.failing = false;
                self.committed.extend(moved);
                None
            }
            Err(error) => {
                // A broker that is away is reported by the cluster, and the first failure is often one that moves.
                let lasts = std::mem::replace(&mut self.failing, true);
                if error.kind == ErrorKind::Authorization || lasts && error.kind != ErrorKind::Connection {
                    crate::warn!("Offsets are not committed to Kafka, so its tools show no lag; nothing else \
                                  is affected",
                        "group" => self.group.name(), "reason" => error);
                }
                Some(error.kind)
            }
        }
    }

    /// Partitions whose confirmed offset was not committed yet.
    fn moved(&self) -> Vec<(i32, i64)> {
        let confirmed = self.registry.all().into_iter().filter_map(|owned| {
            let progress = owned.published.progress();
            // An offset of a log that was replaced does not belong to this log.
            let current = progress.flushed_incarnation == progress.incarnation;
            current.then_some((owned.partition, progress.flushed_offset))
        });
        confirmed.filter(|(partition, offset)| self.committed.get(partition) != Some(offset)).collect()
    }
}
