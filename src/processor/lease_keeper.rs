//! The task that keeps this process's share of the partitions: tells that it lives, takes what is free, gives up surplus.
//!
//! While PostgreSQL is away nothing is taken or given up, and the partitions at hand go on: nobody else can take them
//! without PostgreSQL either. When it is back and somebody has taken one, the next look shows it, or the flush is fenced.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::config::Assign;
use crate::engine::assignment::{Decision, Leases, fair_share, given_share};
use crate::engine::state::Position;
use crate::error::{Error, Result};
use crate::postgres::connector::{Caller, Connector};
use crate::postgres::failure::Failure;
use crate::postgres::leases::{LeaseSession, PRUNE_PORTION};
use crate::processor::flusher::{Request, flush_now};
use crate::processor::observe::stats::Stats;
use crate::processor::partition::handle::{PartitionHandle, Registry};
use crate::processor::partition::start::Launcher;
use crate::shutdown::{Shutdown, Trigger};

/// How often the leases are looked at.
const TICK: Duration = Duration::from_millis(500);
/// How often, when the end of a bounded run is waited for.
const BOUNDED_TICK: Duration = Duration::from_millis(50);
/// How often windows are marked final that time alone has closed.
const FINISH_EVERY: Duration = Duration::from_secs(1);
/// How often old dead letters are deleted.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// Longest wait for the flush before a partition is handed over; half a lease if that is shorter, as nobody tells
/// meanwhile that this process lives.
const HAND_OVER: Duration = Duration::from_secs(10);

/// What ownership is decided by.
#[derive(Debug)]
pub struct Rules {
    /// This process.
    pub owner: String,
    /// Which partitions it wants.
    pub assign: Assign,
    /// How long a silent process keeps its partitions.
    pub lease: Duration,
    /// The watermark's delay, for marking windows final.
    pub out_of_orderness_ms: i64,
    /// How long dead letters are kept.
    pub dead_letter_retention: Duration,
    /// Where each partition of a bounded run ends; None = it never ends.
    pub end_offsets: Option<BTreeMap<i32, i64>>,
}

/// Keeps this process's share.
#[derive(Debug)]
pub struct LeaseKeeper {
    /// What it is decided by.
    pub rules: Rules,
    /// PostgreSQL.
    pub database: Arc<Connector>,
    /// What this process owns.
    pub registry: Arc<Registry>,
    /// Makes tasks of partitions.
    pub launcher: Arc<Launcher>,
    /// The topic's partitions as Kafka knows them.
    pub topic: watch::Receiver<BTreeSet<i32>>,
    /// What others want to know.
    pub stats: Arc<Stats>,
    /// Hurries the flush.
    pub flushes: mpsc::Sender<Request>,
    /// Ends the process: a bounded run that is done.
    pub done: Trigger,
    /// Ends the process: a partition that cannot be brought up.
    pub failures: mpsc::Sender<Error>,
}

/// What is left of ownership when it ends.
#[derive(Debug, Default)]
pub struct Remainder {
    /// The connection, for the last words.
    pub session: Option<LeaseSession>,
    /// Partition and epoch of what was taken, but did not run yet.
    pub coming_up: Vec<(i32, i64)>,
}

/// What ownership remembers between ticks.
#[derive(Debug)]
struct Ticking {
    session: Option<LeaseSession>,
    /// Where the table stood when a bounded run began.
    begun: Option<BTreeMap<i32, Option<Position>>>,
    known: Vec<i32>,
    /// Taken, but not running yet.
    coming_up: BTreeMap<i32, i64>,
    launches: JoinSet<(i32, Result<PartitionHandle>)>,
    /// Whether it was said that every partition has an owner.
    waiting: bool,
    finished: Instant,
    pruned: Instant,
}

impl Ticking {
    fn end(self) -> Remainder {
        Remainder { session: self.session, coming_up: self.coming_up.into_iter().collect() }
    }
}

impl LeaseKeeper {
    /// Works until the end is asked for.
    pub async fn run(mut self, mut shutdown: Shutdown) -> Remainder {
        let mut ticking = Ticking {
            session: None,
            begun: None,
            known: Vec::new(),
            coming_up: BTreeMap::new(),
            launches: JoinSet::new(),
            waiting: false,
            finished: Instant::now(),
            pruned: Instant::now(),
        };
        let mut ticks = interval(if self.rules.end_offsets.is_some() { BOUNDED_TICK } else { TICK });
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.stats.owning.rest();
            tokio::select! {
                biased;
                () = shutdown.wait() => return ticking.end(),
                Some(launched) = ticking.launches.join_next() => match launched {
                    Ok((partition, launched)) => self.launched(&mut ticking, partition, launched).await,
                    // Cancelled: the runtime is going down.
                    Err(_) => return ticking.end(),
                },
                _ = self.topic.changed() => {}
                _ = ticks.tick() => {}
            }
            self.stats.owning.work();
            match self.tick(&mut ticking).await {
                Ok(()) => {
                    if ticking.session.is_some() {
                        self.database.ok(Caller::LeaseKeeper);
                    }
                }
                Err(failure) => {
                    ticking.session = None;
                    // The next connection may find a database that was set back to before these had rows.
                    ticking.known.clear();
                    self.database.failed(Caller::LeaseKeeper, &failure);
                }
            }
        }
    }

    async fn launched(&self, ticking: &mut Ticking, partition: i32, launched: Result<PartitionHandle>) {
        match launched {
            Ok(owned) if ticking.coming_up.get(&partition) == Some(&owned.epoch) => {
                ticking.coming_up.remove(&partition);
                self.registry.insert(owned);
                // The flush passed over what it published before it was on the list.
                self.launcher.changed.notify_one();
            }
            // Taken away, perhaps taken again, while it came up.
            Ok(_) => {}
            // The first failure ends the process and stands for all.
            Err(error) => drop(self.failures.try_send(error)),
        }
    }

    async fn tick(&self, ticking: &mut Ticking) -> Result<(), Failure> {
        let session = match ticking.session.take() {
            Some(session) => session,
            None => {
                let session = self.database.lease_session().await?;
                // The flush looks again at what it has written.
                self.launcher.changed.notify_one();
                session
            }
        };
        let partitions: Vec<i32> = self.topic.borrow().iter().copied().collect();
        if partitions != ticking.known {
            session.add_partitions(&partitions).await?;
            ticking.known.clone_from(&partitions);
        }
        let mut owned = self.registry.epochs();
        owned.extend(ticking.coming_up.iter().map(|(partition, epoch)| (*partition, *epoch)));
        let shares = self.rules.assign == Assign::Auto;
        let mut leases = session.beat(&owned, shares).await?;
        // Rows may be left of a topic that had more partitions.
        leases.owners.retain(|partition, _| partitions.contains(partition));
        if leases.owners.len() < partitions.len() {
            // Rows were deleted by hand: they are made again at the next tick.
            ticking.known.clear();
        }
        self.stats.saw_leases(&leases);
        owned.retain(|(partition, epoch)| !self.taken_away(ticking, *partition, *epoch, &leases));
        let decision = self.decide(&owned, &leases);
        self.say_if_waiting(ticking, &owned, &decision, &leases);
        if !decision.claim.is_empty() {
            self.claim(ticking, &session, &decision.claim).await?;
        }
        self.release(&session, &decision.release).await?;
        self.housekeep(ticking, &session).await?;
        if let Some(ends) = &self.rules.end_offsets
            && decision.claim.is_empty()
            && ticking.coming_up.is_empty()
        {
            self.end_if_done(ticking, &session, ends).await?;
        }
        ticking.session = Some(session);
        Ok(())
    }

    /// Drops a partition that was taken since, whether somebody has it now or not.
    fn taken_away(&self, ticking: &mut Ticking, partition: i32, epoch: i64, leases: &Leases) -> bool {
        let why = match leases.epochs.get(&partition) {
            Some(now) if *now == epoch => return false,
            Some(now) if *now > epoch => "another process has taken the partition",
            Some(_) => "the database was set back to an older state",
            None => "its row is gone from weather_partition",
        };
        if ticking.coming_up.get(&partition) == Some(&epoch) {
            ticking.coming_up.remove(&partition);
        }
        if self.registry.remove(partition, epoch).is_some() {
            self.stats.fenced.increment();
            let owner = leases.owners.get(&partition).and_then(Option::as_deref);
            crate::warn!(format_args!("fenced: {why}; dropping the partition here"),
                "partition" => partition, "epoch" => epoch, "owner" => owner.unwrap_or("nobody"));
        }
        true
    }

    fn decide(&self, owned: &[(i32, i64)], leases: &Leases) -> Decision {
        let owned: Vec<i32> = owned.iter().map(|(partition, _)| *partition).collect();
        match &self.rules.assign {
            Assign::Auto => fair_share(&self.rules.owner, &owned, leases),
            Assign::Static(wanted) => given_share(&self.rules.owner, wanted, &owned, leases),
        }
    }

    /// Says once that there is nothing to do yet, and why.
    fn say_if_waiting(
        &self,
        ticking: &mut Ticking,
        owned: &[(i32, i64)],
        decision: &Decision,
        leases: &Leases,
    ) {
        let waiting = owned.is_empty() && decision.claim.is_empty() && !leases.owners.is_empty();
        if waiting && !ticking.waiting {
            let holders: BTreeSet<&str> = leases.owners.values().flatten().map(String::as_str).collect();
            crate::info!("every partition has an owner; waiting for a share, or for a lease to run out",
                "partitions" => leases.owners.len(), "owners" => Vec::from_iter(holders).join(","));
        }
        ticking.waiting = waiting;
    }

    async fn claim(
        &self,
        ticking: &mut Ticking,
        session: &LeaseSession,
        wanted: &[i32],
    ) -> Result<(), Failure> {
        for claimed in session.claim(wanted, self.launcher.settings.window_ms).await? {
            let partition = claimed.partition;
            crate::info!("took a partition", "partition" => partition, "epoch" => claimed.epoch);
            ticking.coming_up.insert(partition, claimed.epoch);
            let end_offset = self.rules.end_offsets.as_ref().and_then(|ends| ends.get(&partition).copied());
            let launcher = Arc::clone(&self.launcher);
            ticking.launches.spawn(async move { (partition, launcher.start(claimed, end_offset).await) });
        }
        Ok(())
    }

    /// Hands partitions over: no more records, a last flush, then free for others.
    async fn release(&self, session: &LeaseSession, partitions: &[i32]) -> Result<(), Failure> {
        if partitions.is_empty() {
            return Ok(());
        }
        let released: Vec<Arc<PartitionHandle>> =
            self.registry.all().into_iter().filter(|o| partitions.contains(&o.partition)).collect();
        released.iter().for_each(|owned| owned.pause());
        if !flush_now(&self.flushes, HAND_OVER.min(self.rules.lease / 2)).await {
            crate::warn!("handing partitions over without a last flush; the new owner reads again",
                "partitions" => released.len());
        }
        for owned in &released {
            self.registry.remove(owned.partition, owned.epoch);
            crate::info!("handed a partition over", "partition" => owned.partition);
        }
        let epochs: Vec<(i32, i64)> = released.iter().map(|o| (o.partition, o.epoch)).collect();
        session.release(&epochs).await
    }

    /// Ends a bounded run when every partition is in the table up to its end, whoever read it.
    async fn end_if_done(
        &self,
        ticking: &mut Ticking,
        session: &LeaseSession,
        ends: &BTreeMap<i32, i64>,
    ) -> Result<(), Failure> {
        let own = self.registry.all();
        let unwritten = |at: &Position, owned: &PartitionHandle| owned.published.progress().flushed() < *at;
        let reached: Option<Vec<bool>> =
            own.iter().map(|owned| owned.reached.get().map(|at| unwritten(at, owned))).collect();
        if reached.is_some_and(|unwritten| unwritten.contains(&true)) {
            // All is read: nothing more will come that the next flush could wait for.
            flush_now(&self.flushes, HAND_OVER.min(self.rules.lease / 2)).await;
        }
        let positions = session.positions().await?;
        let begun = &*ticking.begun.get_or_insert_with(|| positions.clone());
        let left = ends.iter().map(|(partition, end)| {
            let at = positions.get(partition).copied().flatten();
            let done = match own.iter().find(|owned| owned.partition == *partition) {
                // One's own worker knows whether the log is still the one that the offsets are of.
                Some(owned) => owned.reached.get().is_some_and(|reached| at >= Some(*reached)),
                None => at.is_some_and(|at| at.is_past(*end, begun.get(partition).copied().flatten())),
            };
            if done { 0 } else { at.map_or(*end, |at| end - at.offset).max(1) }
        });
        let left = left.sum();
        self.stats.left(left);
        if left == 0 {
            self.done.fire();
        }
        Ok(())
    }

    async fn housekeep(&self, ticking: &mut Ticking, session: &LeaseSession) -> Result<(), Failure> {
        if ticking.finished.elapsed() >= FINISH_EVERY {
            session.finish_windows(self.rules.out_of_orderness_ms, &ticking.known).await?;
            ticking.finished = Instant::now();
        }
        if ticking.pruned.elapsed() >= PRUNE_EVERY {
            let pruned = session.prune_dead_letters(self.rules.dead_letter_retention).await?;
            // A full portion means that there is more: go on at the next tick.
            if pruned < PRUNE_PORTION {
                ticking.pruned = Instant::now();
            }
        }
        Ok(())
    }
}
