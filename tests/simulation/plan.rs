//! What one seed sets: topology, configuration, workload, which faults happen and how often.
//!
//! Every kind of fault is wholly off in half of the seeds, so that a bug that one fault hides from another is
//! found as well, and a few seeds have none at all. Times are scaled down: what matters is their order, not their size.

use weather::engine::partition::WindowSettings;

use crate::prng::Prng;

/// What comes by itself: faults, and what people do. Each has a mean time between two of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A process is killed.
    Kill,
    /// A machine loses its power: what was not made durable on its volume is lost or torn.
    PowerLoss,
    /// A process is stopped, and continues later without noticing.
    Pause,
    /// One task of a process gets no turn for a while.
    Starve,
    /// A process is asked to end, or one more is started.
    Scale,
    /// A process's wall clock is set.
    ClockStep,
    /// The database's clock is set, by a little.
    DatabaseClockStep,
    /// PostgreSQL is gone; transactions under way are rolled back or not.
    DatabaseAway,
    /// A backup of the database is taken; it is what [`Fault::Restore`] goes back to.
    Backup,
    /// The database is set back to a backup, with connections open.
    Restore,
    /// No broker answers.
    KafkaAway,
    /// Kafka deletes old records.
    Retention,
    /// Kafka compacts some records away.
    Compaction,
    /// The topic is deleted and made again.
    Recreate,
    /// The topic gets one more partition.
    AddPartition,
    /// `weather readmit` is run.
    Readmit,
    /// `weather verify` is run.
    Verify,
}

impl Fault {
    /// As the trace names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "fault: kill",
            Self::PowerLoss => "fault: power loss",
            Self::Pause => "fault: pause",
            Self::Starve => "fault: starve",
            Self::Scale => "fault: scale",
            Self::ClockStep => "fault: clock step",
            Self::DatabaseClockStep => "fault: database clock step",
            Self::DatabaseAway => "fault: database away",
            Self::Backup => "backup",
            Self::Restore => "fault: restore",
            Self::KafkaAway => "fault: kafka away",
            Self::Retention => "fault: retention",
            Self::Compaction => "fault: compaction",
            Self::Recreate => "fault: recreate",
            Self::AddPartition => "fault: add partition",
            Self::Readmit => "readmission",
            Self::Verify => "verification",
        }
    }
}

/// Every kind, with the shortest and the longest mean time between two of it, ms.
const FAULTS: [(Fault, i64, i64); 17] = [
    (Fault::Kill, 800, 8_000),
    (Fault::PowerLoss, 2_000, 12_000),
    (Fault::Pause, 1_500, 10_000),
    (Fault::Starve, 300, 4_000),
    (Fault::Scale, 1_500, 10_000),
    (Fault::ClockStep, 1_500, 10_000),
    (Fault::DatabaseClockStep, 4_000, 10_000),
    (Fault::DatabaseAway, 1_500, 9_000),
    (Fault::Backup, 500, 4_000),
    (Fault::Restore, 1_500, 9_000),
    (Fault::KafkaAway, 3_000, 12_000),
    (Fault::Retention, 2_500, 12_000),
    (Fault::Compaction, 500, 5_000),
    (Fault::Recreate, 5_000, 20_000),
    (Fault::AddPartition, 5_000, 15_000),
    (Fault::Readmit, 500, 6_000),
    (Fault::Verify, 2_000, 12_000),
];

/// What goes wrong besides: chances in a thousand.
#[derive(Debug, Clone, Default)]
pub struct Chances {
    /// A call to the database is cut before it arrives.
    pub call_lost: u32,
    /// The answer of the database is cut.
    pub answer_lost: u32,
    /// The caller gives up, and the call is carried out later.
    pub call_late: u32,
    /// A call to Kafka fails.
    pub kafka_error: u32,
    /// A fetch gives records again that were read already.
    pub replay: u32,
    /// A write to the volume fails.
    pub disk_error: u32,
    /// The files of a process are damaged while it is down.
    pub damage: u32,
}

/// What the producers send: chances in a thousand.
#[derive(Debug, Clone)]
pub struct Workload {
    pub readings: u32,
    pub producers: usize,
    /// Mean time between two batches of one producer, ms.
    pub pace_ms: i64,
    pub batch_most: usize,
    pub bad: u32,
    pub late: u32,
    pub future: u32,
    pub markers: u32,
    pub corrupt: u32,
    /// Only the first partition gets anything in this share of the time.
    pub lopsided: u32,
    /// A producer stays with the partition that it last sent to, so that the others fall silent.
    pub sticky: u32,
    /// Malformed records that come all at once: more than are kept.
    pub flood: u32,
}

/// How many times a task's turn is likelier than that of another: main, ownership, flush, checkpoints, watch, launch,
/// source, worker.
pub type Weights = [u64; 8];

#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub partitions: i32,
    pub partitions_most: i32,
    pub processes: usize,
    /// All processes use one volume.
    pub shared_volume: bool,
    /// Partitions are dealt out by hand.
    pub assigned: bool,
    pub settings: WindowSettings,
    /// The watermark's delay changes from start to start.
    pub changing_delay: bool,
    pub from_latest: bool,
    pub lease_ms: i64,
    pub flush_interval_ms: i64,
    pub checkpoint_interval_ms: i64,
    pub idle_timeout_ms: i64,
    pub fetch_wait_ms: i64,
    pub fetch_records: usize,
    pub watch_ms: i64,
    /// How far the clocks of processes are off at most, ms.
    pub skew_ms: i64,
    /// Longest time that a statement takes to arrive, ms.
    pub latency_ms: i64,
    /// Longest time that a step of the schedule takes, ms.
    pub step_ms: i64,
    pub duration_ms: i64,
    pub weights: Weights,
    pub workload: Workload,
    pub chances: Chances,
    /// Kinds of faults, and the mean time between two of each.
    pub faults: Vec<(Fault, i64)>,
    /// The end is a bounded run.
    pub bounded_end: bool,
    /// Stations are kept apart, at most this many of a window.
    pub max_stations: Option<usize>,
}

impl Plan {
    /// Whether this comes in it.
    pub fn has(&self, kind: Fault) -> bool {
        self.faults.iter().any(|(fault, _)| *fault == kind)
    }

    pub fn of(seed: u64) -> Self {
        let mut rng = Prng::new(seed ^ 0x5EED);
        let rng = &mut rng;
        let window_ms = rng.pick(&[1_000, 2_000, 5_000]);
        let settings = WindowSettings {
            window_ms,
            out_of_orderness_ms: rng.pick(&[0, 300, 1_000, 3_000]),
            max_future_ms: rng.pick(&[500, 2_000]),
        };
        let partitions = rng.between(1, 5) as i32;
        let duration_ms = rng.between(9_000, 30_500);
        let calm = rng.chance(20);
        let faults = if calm { Vec::new() } else { faults(rng) };
        let has = |kind| faults.iter().any(|(fault, _)| *fault == kind);
        let (recreated, restored, adds) =
            (has(Fault::Recreate), has(Fault::Restore), has(Fault::AddPartition));
        Self {
            seed,
            partitions,
            partitions_most: partitions + if adds { 2 } else { 0 },
            processes: rng.pick(&[1, 2, 3, 3]),
            shared_volume: rng.chance(300),
            assigned: rng.chance(200),
            settings,
            changing_delay: rng.chance(100),
            // Where the state is lost and reading starts at the end, missing records is what was requested.
            from_latest: !restored && !recreated && rng.chance(50),
            lease_ms: rng.pick(&[1_500, 3_000, 6_000]),
            flush_interval_ms: rng.pick(&[5, 100, 250, 1_000]),
            checkpoint_interval_ms: rng.pick(&[100, 500, 3_000]),
            idle_timeout_ms: rng.pick(&[300, 1_000, 3_000]),
            fetch_wait_ms: rng.pick(&[100, 100, 500, 2_000]),
            fetch_records: rng.pick(&[1, 3, 10, 50]),
            watch_ms: rng.pick(&[500, 3_000]),
            skew_ms: rng.pick(&[0, 200, 3_000, 3_000]),
            latency_ms: rng.pick(&[1, 5, 40]),
            step_ms: rng.pick(&[1, 2, 4]),
            duration_ms,
            weights: std::array::from_fn(|_| rng.pick(&[1, 1, 4, 16])),
            workload: workload(rng, calm, recreated, duration_ms),
            chances: if calm { Chances::default() } else { chances(rng) },
            faults,
            bounded_end: rng.chance(400),
            max_stations: rng.chance(500).then(|| rng.pick(&[2, 100])),
        }
    }
}

fn faults(rng: &mut Prng) -> Vec<(Fault, i64)> {
    let mut faults = Vec::new();
    for (fault, shortest, longest) in FAULTS {
        if rng.chance(500) {
            faults.push((fault, rng.between(shortest, longest)));
        }
    }
    let has = |kind| faults.iter().any(|(fault, _)| *fault == kind);
    if has(Fault::Recreate) {
        // A record that is known may be gone from the new log as well; then nobody can tell that it is another.
        faults.retain(|(fault, _)| !matches!(fault, Fault::Retention | Fault::Compaction));
    }
    faults
}

fn chances(rng: &mut Prng) -> Chances {
    let mut sometimes = |most: &[u32]| if rng.chance(500) { rng.pick(most) } else { 0 };
    Chances {
        call_lost: sometimes(&[10, 50, 200]),
        answer_lost: sometimes(&[10, 50, 200]),
        call_late: sometimes(&[10, 50]),
        kafka_error: sometimes(&[10, 50]),
        replay: sometimes(&[100, 300]),
        disk_error: sometimes(&[20, 200]),
        damage: sometimes(&[300, 800]),
    }
}

fn workload(rng: &mut Prng, calm: bool, recreated: bool, duration_ms: i64) -> Workload {
    let readings = rng.between(50, 500);
    let producers = rng.between(1, 3);
    let batch_most = rng.pick(&[1, 4, 10]);
    // Spread over most of the run, or early and in haste, and then silence.
    let batches_each = (2 * readings / (batch_most + 1) / producers).max(1);
    let pace_ms = (duration_ms / batches_each / rng.pick(&[1, 1, 1, 2, 20])).max(1);
    let flood = if rng.chance(20) { 1_500 } else { 0 };
    let mut sometimes = |most: &[u32]| if rng.chance(600) { rng.pick(most) } else { 0 };
    Workload {
        bad: sometimes(&[20, 100, 400]),
        late: sometimes(&[20, 150]),
        future: sometimes(&[10, 80]),
        markers: sometimes(&[20, 100]),
        corrupt: if calm || recreated { 0 } else { sometimes(&[0, 0, 10]) },
        lopsided: sometimes(&[300, 900]),
        sticky: sometimes(&[700, 970]),
        flood,
        readings: readings as u32,
        producers: producers as usize,
        pace_ms,
        batch_most: batch_most as usize,
    }
}
