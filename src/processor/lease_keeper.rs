//! The task that keeps this process's share of the partitions: renews its lease, takes free partitions, gives up surplus
//! ones. What to take and give up is decided by [`assignment`], when a bounded run is done by [`BoundedRun`].
//!
//! While PostgreSQL is away nothing is taken or given up, and the owned partitions continue: no other process can take
//! them without PostgreSQL either. When it is back and another process has taken one, the next read of the leases shows
//! it, or the flush is fenced.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::config::Assign;
use crate::engine::assignment::{self, BOUNDED_TICK, Holdings, Leases, Ruling, TICK, Wish, hand_over_limit};
use crate::engine::bounded::{BoundedRun, Own};
use crate::error::{Error, Result};
use crate::postgres::connector::{Caller, Connector};
use crate::postgres::failure::Failure;
use crate::postgres::leases::{Beat, LeaseSession};
use crate::processor::cluster_check;
use crate::processor::flusher::{FlushRequest, flush_now};
use crate::processor::housekeeper::{self, Housekeeper};
use crate::processor::observe::stats::Stats;
use crate::processor::partition::handle::{PartitionHandle, Registry};
use crate::processor::partition::start::Launcher;
use crate::shutdown::{Shutdown, Trigger};

/// Up to this many processes read the leases at the usual rate; more do so less often, because each read is a transaction.
const LOOKING_AT_ONCE: u32 = 8;

/// A bounded run names partitions that have had no owner for so long.
const UNOWNED: Duration = Duration::from_secs(5);

/// The settings of ownership.
#[derive(Debug)]
pub struct LeaseSettings {
    /// This process.
    pub owner: String,
    /// Which partitions it wants.
    pub assign: Assign,
    /// How long a silent process keeps its partitions.
    pub lease: Duration,
    /// What is done for all processes.
    pub upkeep: housekeeper::UpkeepSettings,
    /// The run's end; None = it never ends.
    pub bounded: Option<BoundedRun>,
}

/// Keeps this process's share.
#[derive(Debug)]
pub struct LeaseKeeper {
    /// Its settings.
    pub settings: LeaseSettings,
    /// PostgreSQL.
    pub database: Arc<Connector>,
    /// What this process owns.
    pub registry: Arc<Registry>,
    /// Starts partitions.
    pub launcher: Arc<Launcher>,
    /// The topic's partitions as Kafka knows them.
    pub topic: watch::Receiver<BTreeSet<i32>>,
    /// What other tasks read.
    pub stats: Arc<Stats>,
    /// Requests a flush.
    pub flushes: mpsc::Sender<FlushRequest>,
    /// Ends the process: a bounded run that is done.
    pub done: Trigger,
    /// Ends the process: a partition that cannot be started.
    pub failures: mpsc::Sender<Error>,
}

/// What is left of ownership when it ends.
#[derive(Debug, Default)]
pub struct Remainder {
    /// The connection, for the release.
    pub session: Option<LeaseSession>,
    /// Partition and epoch of what was claimed, but did not run yet.
    pub coming_up: Vec<(i32, i64)>,
}

/// What ownership remembers between ticks.
#[derive(Debug)]
struct Ticking {
    session: Option<LeaseSession>,
    /// The partitions that have rows.
    known: BTreeSet<i32>,
    /// Claimed, but not running yet.
    coming_up: BTreeMap<i32, ComingUp>,
    launches: JoinSet<Launched>,
    /// Whether it was logged that every partition has an owner.
    waiting: bool,
    /// Since when a bounded run waits for partitions without an owner, and whether it was said.
    unowned: Option<Instant>,
    told_unowned: bool,
    /// How many processes share the topic.
    processes: u32,
    housekeeper: Housekeeper,
}

/// A partition, and the result of starting it.
type Launched = (i32, Result<PartitionHandle>);

/// A partition that was claimed and does not run yet.
#[derive(Debug)]
struct ComingUp {
    epoch: i64,
    launch: AbortHandle,
}

impl Ticking {
    fn coming_up(&self) -> Vec<(i32, i64)> {
        self.coming_up.iter().map(|(partition, coming_up)| (*partition, coming_up.epoch)).collect()
    }

    /// Whether a partition was starting under this epoch; it no longer is.
    fn remove(&mut self, partition: i32, epoch: i64) -> bool {
        let is_current = self.coming_up.get(&partition).is_some_and(|coming_up| coming_up.epoch == epoch);
        if is_current && let Some(coming_up) = self.coming_up.remove(&partition) {
            coming_up.launch.abort();
        }
        is_current
    }

    /// Names the partitions that a bounded run waits for although no process has had them for a while.
    fn log_unowned(&mut self, leases: &Leases) {
        let unowned =
            leases.owners.iter().filter(|(_, owner)| owner.is_none()).map(|(partition, _)| partition);
        let unowned: Vec<String> = unowned.map(ToString::to_string).collect();
        let since = self.unowned.get_or_insert_with(Instant::now);
        if unowned.is_empty() {
            self.unowned = None;
        } else if since.elapsed() >= UNOWNED && !self.told_unowned {
            self.told_unowned = true;
            crate::warn!("this process has read its partitions; --until-latest waits for others, which no process reads: \
                start one that does, or leave --assign out", "partitions" => unowned.join(","));
        }
    }

    fn end(self) -> Remainder {
        Remainder { coming_up: self.coming_up(), session: self.session }
    }
}

impl LeaseKeeper {
    /// Works until shutdown is requested.
    pub async fn run(mut self, mut shutdown: Shutdown) -> Remainder {
        let mut ticking = Ticking {
            session: None,
            known: BTreeSet::new(),
            coming_up: BTreeMap::new(),
            launches: JoinSet::new(),
            waiting: false,
            unowned: None,
            told_unowned: false,
            processes: 1,
            housekeeper: Housekeeper::new(self.settings.upkeep),
        };
        let mut next = Instant::now();
        loop {
            self.stats.owning.rest();
            tokio::select! {
                biased;
                () = shutdown.wait() => return ticking.end(),
                Some(launched) = ticking.launches.join_next() => {
                    self.launched(&mut ticking, launched);
                    // One read of the leases when all have started, not one for each.
                    if !ticking.coming_up.is_empty() && Instant::now() < next {
                        continue;
                    }
                }
                _ = self.topic.changed() => {}
                () = sleep_until(next) => {}
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
            next = Instant::now() + self.pause(&ticking);
        }
    }

    /// Until the next read of the leases, several of which must fit into a lease.
    fn pause(&self, ticking: &Ticking) -> Duration {
        let pause = match self.settings.bounded {
            Some(_) => BOUNDED_TICK,
            None => TICK * (ticking.processes / LOOKING_AT_ONCE).max(1),
        };
        pause.min(self.settings.lease / 4)
    }

    fn launched(&self, ticking: &mut Ticking, launched: std::result::Result<Launched, JoinError>) {
        let (partition, launched) = match launched {
            Ok(launched) => launched,
            // Lost or released while it was starting.
            Err(error) if error.is_cancelled() => return,
            Err(error) => return self.fail(Error::failure(format!("starting a partition: {error}"))),
        };
        match launched {
            Ok(owned) if ticking.remove(partition, owned.epoch) => {
                self.registry.insert(owned);
                // The flush ignored what it published before it was on the list.
                self.launcher.changed.notify_one();
            }
            // Lost, and perhaps claimed again, while it was starting.
            Ok(_) => {}
            Err(error) => self.fail(error),
        }
    }

    /// The first failure ends the process; later ones are not needed.
    fn fail(&self, error: Error) {
        let _ = self.failures.try_send(error);
    }

    async fn tick(&mut self, ticking: &mut Ticking) -> Result<(), Failure> {
        let session = match ticking.session.take().filter(LeaseSession::is_usable) {
            Some(session) => session,
            None => {
                let session = self.database.lease_session().await?;
                // The flusher checks again what it has written.
                self.launcher.changed.notify_one();
                session
            }
        };
        let existing = self.topic.borrow().clone();
        if existing != ticking.known {
            session.add_partitions(&Vec::from_iter(existing.iter().copied())).await?;
            ticking.known.clone_from(&existing);
        }
        let held = Holdings { running: self.registry.epochs(), coming_up: ticking.coming_up() };
        let (wish, shares) = match &self.settings.assign {
            Assign::Auto => (Wish::Share, true),
            Assign::Static(wanted) => (Wish::Given(wanted), false),
        };
        let Beat { mut leases, now_ms } = session.beat(&Vec::from_iter(held.all()), shares).await?;
        self.launcher.clock.saw(now_ms);
        let ruling = assignment::rule(&self.settings.owner, wish, &held, &existing, &mut leases);
        self.stats.saw_leases(&leases);
        if ruling.rows_missing {
            // They are created again at the next tick.
            ticking.known.clear();
        }
        self.drop_lost(ticking, &ruling, &leases);
        if !ruling.lost.is_empty() && self.has_other_cluster(&session).await? {
            return Ok(());
        }
        Self::log_if_waiting(ticking, &ruling, &leases);
        if !ruling.claim.is_empty() {
            self.claim(ticking, &session, &ruling.claim).await?;
        }
        self.release(ticking, &session, &ruling).await?;
        ticking.processes = u32::try_from(leases.processes.len()).unwrap_or(u32::MAX);
        // One process does for all what is to be done once.
        let keeps_house = !shares || leases.processes.first() == Some(&self.settings.owner);
        if keeps_house {
            ticking.housekeeper.work(&session, &existing).await?;
        }
        ticking.housekeeper.watch(&session, &self.stats, keeps_house).await?;
        if ruling.claim.is_empty() && ticking.coming_up.is_empty() {
            self.end_if_done(ticking, &session, &existing, &leases).await?;
        }
        ticking.session = Some(session);
        Ok(())
    }

    fn drop_lost(&self, ticking: &mut Ticking, ruling: &Ruling, leases: &Leases) {
        for lost in &ruling.lost {
            ticking.remove(lost.partition, lost.epoch);
            if self.registry.remove(lost.partition, lost.epoch).is_some() {
                self.stats.fenced.increment();
                let owner = leases.owners.get(&lost.partition).and_then(Option::as_deref);
                crate::warn!(format_args!("fenced: {}; dropping the partition here", lost.why),
                    "partition" => lost.partition, "epoch" => lost.epoch, "owner" => owner.unwrap_or("nobody"));
            }
        }
    }

    /// Logs once that there is nothing to do yet, and why.
    fn log_if_waiting(ticking: &mut Ticking, ruling: &Ruling, leases: &Leases) {
        if ruling.waits && !ticking.waiting {
            let holders: BTreeSet<&str> = leases.owners.values().flatten().map(String::as_str).collect();
            let (partitions, owners) = (leases.owners.len(), Vec::from_iter(holders).join(","));
            match owners.as_str() {
                "" => {
                    crate::info!("the topic has none of the partitions that --assign names; waiting for them",
                        "partitions" => partitions);
                }
                owners => crate::info!(
                    "every partition has an owner; waiting for a share, or for a lease to expire",
                    "partitions" => partitions, "owners" => owners),
            }
        }
        ticking.waiting = ruling.waits;
    }

    async fn claim(
        &self,
        ticking: &mut Ticking,
        session: &LeaseSession,
        wanted: &[i32],
    ) -> Result<(), Failure> {
        let taken = session.claim(wanted, self.launcher.settings.window_ms).await?;
        // Only now can nobody change it without fencing what was taken.
        if !taken.is_empty() && self.has_other_cluster(session).await? {
            let taken = taken.iter().map(|claimed| (claimed.partition, claimed.epoch));
            return session.release(&Vec::from_iter(taken)).await;
        }
        for claimed in taken {
            let partition = claimed.partition;
            crate::info!("took a partition", "partition" => partition, "epoch" => claimed.epoch);
            let epoch = claimed.epoch;
            let end_offset = self.settings.bounded.as_ref().and_then(|run| run.end_of(partition));
            let launcher = Arc::clone(&self.launcher);
            let launch = async move { (partition, launcher.start(claimed, end_offset).await) };
            let launch = ticking.launches.spawn(launch);
            ticking.coming_up.insert(partition, ComingUp { epoch, launch });
        }
        Ok(())
    }

    /// Whether the tables' offsets are of another Kafka cluster by now, with which this process has nothing more to do.
    async fn has_other_cluster(&self, session: &LeaseSession) -> Result<bool, Failure> {
        let Some(id) = self.launcher.cluster.id() else { return Ok(false) };
        let Some(other) = session.other_cluster(id).await? else { return Ok(false) };
        self.fail(cluster_check::other_tables(&other, id, &self.launcher.cluster));
        Ok(true)
    }

    /// Frees partitions for others: running ones stop reading and are flushed first.
    async fn release(
        &self,
        ticking: &mut Ticking,
        session: &LeaseSession,
        ruling: &Ruling,
    ) -> Result<(), Failure> {
        for (partition, epoch) in &ruling.give_back {
            ticking.remove(*partition, *epoch);
            crate::info!("released a partition that had not started yet", "partition" => partition);
        }
        let owned = self.registry.all();
        let released: Vec<&Arc<PartitionHandle>> =
            owned.iter().filter(|o| ruling.hand_over.contains(&(o.partition, o.epoch))).collect();
        released.iter().for_each(|owned| owned.pause());
        if !released.is_empty() && !flush_now(&self.flushes, hand_over_limit(self.settings.lease)).await {
            crate::warn!("released without a final flush; the new owner will re-read what is not in the table",
                "partitions" => released.len());
        }
        for owned in &released {
            self.registry.remove(owned.partition, owned.epoch);
            crate::info!("handed over a partition", "partition" => owned.partition);
        }
        let free = [ruling.hand_over.as_slice(), &ruling.give_back].concat();
        if free.is_empty() { Ok(()) } else { session.release(&free).await }
    }

    /// Ends a bounded run that is done.
    async fn end_if_done(
        &mut self,
        ticking: &mut Ticking,
        session: &LeaseSession,
        existing: &BTreeSet<i32>,
        leases: &Leases,
    ) -> Result<(), Failure> {
        let Some(run) = &mut self.settings.bounded else { return Ok(()) };
        let own = |owned: &Arc<PartitionHandle>| Own {
            partition: owned.partition,
            reached: owned.reached.get().copied(),
            flushed: owned.published.progress().flushed(),
        };
        let own: Vec<Own> = self.registry.all().iter().map(own).collect();
        if BoundedRun::wants_flush(&own) {
            flush_now(&self.flushes, hand_over_limit(self.settings.lease)).await;
        }
        let left = run.left(&session.positions().await?, &own, existing);
        self.stats.left(left);
        if left == 0 {
            self.done.fire();
        } else if BoundedRun::waits_for_others(&own) {
            ticking.log_unowned(leases);
        }
        Ok(())
    }
}
