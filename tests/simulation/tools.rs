//! What people run beside the pipeline: `weather readmit` and `weather verify`.

use weather::engine::readmission::Criteria;
use weather::reading::Reason;

use crate::database::{READMITTED, Tables};
use crate::env::NEVER;
use crate::prng::Prng;
use crate::readmit::Readmission;
use crate::trace::{Checked, ensure};
use crate::verification::{Report, Verification};
use crate::world::World;

/// Runs of `readmit` at one time.
const READMISSIONS: usize = 3;

/// What a whole run takes.
const READMITTABLE: [Reason; 2] = [Reason::Late, Reason::Future];

impl World {
    /// Starts `readmit` for some reasons, with a clock that may be wrong.
    pub(crate) fn begin_readmission(&mut self) {
        if self.readmissions.len() >= READMISSIONS {
            return;
        }
        let now_ms = self.env.now_ms();
        let env = &mut self.env;
        let reasons = match env.rng.below(3) {
            0 => vec![Reason::Late],
            1 => READMITTABLE.to_vec(),
            _ => Reason::ALL.to_vec(),
        };
        let skew_ms = env.rng.between(-env.plan.skew_ms, env.plan.skew_ms);
        let from_ms = env.rng.chance(200).then(|| now_ms - env.rng.between(0, 5_000));
        let to_ms = env.rng.chance(200).then(|| now_ms - env.rng.between(0, 5_000));
        let criteria = Criteria { from_ms, to_ms, ..self.criteria(skew_ms) };
        let killed = self.env.rng.chance(400);
        let killed_ms = if killed { now_ms + self.env.rng.between(0, 1_000) } else { NEVER };
        self.readmit(reasons, criteria, killed_ms);
    }

    fn criteria(&self, skew_ms: i64) -> Criteria {
        let settings = &self.env.plan.settings;
        let future_ms = self.env.now_ms() + skew_ms + settings.max_future_ms;
        Criteria { window_ms: settings.window_ms, future_ms, from_ms: None, to_ms: None }
    }

    fn readmit(&mut self, reasons: Vec<Reason>, criteria: Criteria, killed_ms: i64) {
        self.instances += 1;
        self.env.trace.note("readmission started", &[self.instances as i64]);
        let run = Readmission::start(self.instances, reasons, criteria, killed_ms, &mut self.env);
        self.readmissions.push(run);
    }

    pub(crate) fn step_readmission(&mut self, index: usize) {
        let run = &mut self.readmissions[index];
        run.step(&mut self.env);
        if run.has_ended() {
            let run = self.readmissions.swap_remove(index);
            self.taken = run.taken;
            self.env.database.hang_up(run.instance, &mut self.env.rng);
        }
    }

    /// With nothing else wrong: everything that can be is readmitted by one run, and nothing by the next.
    pub(crate) fn readmit_all(&mut self) -> Checked {
        let criteria = self.criteria(0);
        for again in [false, true] {
            self.readmit(READMITTABLE.to_vec(), criteria, NEVER);
            self.run_until("readmission", |world| world.readmissions.is_empty())?;
            let left = self.left_out(&criteria);
            ensure!(left.is_none(), "{left:?} could be readmitted and was not");
            ensure!(!again || self.taken == 0, "{} dead letters were readmitted by a second run", self.taken);
        }
        Ok(())
    }

    /// A dead letter that these criteria admit and that is not marked.
    fn left_out(&self, criteria: &Criteria) -> Option<(i32, i64, i64)> {
        let tables = &self.env.database.tables;
        let is_reading = |key: &(i32, i64, i64)| {
            let stored = tables.partitions.get(&key.0).and_then(|row| row.stored.as_ref());
            let known = stored.and_then(|stored| stored.ledger.dead_letters.get(&(key.1, key.2)));
            known
                .and_then(|refused| refused.reading)
                .is_some_and(|(reading, _)| reading.event_time_ms <= criteria.future_ms)
        };
        let left = tables.dead_letters.iter().find(|(key, kept)| !kept.is_readmitted && is_reading(key));
        left.map(|(key, _)| *key)
    }

    /// Starts `verify`, unless one is running. It is told one delay of the watermark, so there must have been one.
    pub(crate) fn begin_verification(&mut self) {
        let session = self.env.database.connect();
        if let Some(session) =
            session.filter(|_| self.verification.is_none() && !self.env.plan.changing_delay)
        {
            self.verification = Some((session, Verification::new(self.env.plan.settings)));
        }
    }

    /// When a verification can continue.
    pub(crate) fn verification_due_ms(&self) -> i64 {
        match &self.verification {
            Some(_) if !self.env.kafka.away => self.env.now_ms(),
            _ => NEVER,
        }
    }

    pub(crate) fn step_verification(&mut self) -> Checked {
        let Some((session, mut verification)) = self.verification.take() else { return Ok(()) };
        if !self.env.database.is_connected(session) {
            self.env.trace.note("verification failed", &[]);
            return Ok(());
        }
        verification.step(&self.env.database.tables, &self.env.kafka);
        match verification.has_ended() {
            true => self.conclude(&verification.report),
            false => {
                self.verification = Some((session, verification));
                Ok(())
            }
        }
    }

    fn conclude(&mut self, report: &Report) -> Checked {
        let Report { differences, unknown, equal, whole, .. } = report;
        let numbers = [whole.len() as i64, equal.len() as i64, unknown.len() as i64];
        self.env.trace.note("verified", &numbers);
        ensure!(differences.is_empty(), "verify says that the tables differ: {differences:?}");
        Ok(())
    }

    /// At the end: everything is verified, and anything that is changed then is found.
    pub(crate) fn verify_all(&mut self) -> Checked {
        if self.env.plan.changing_delay {
            return Ok(());
        }
        let (settings, kafka) = (self.env.plan.settings, &self.env.kafka);
        let report = Verification::at_once(settings, &self.env.database.tables, kafka);
        let mut tables = self.env.database.tables.clone();
        let unseen = tables
            .partitions
            .iter()
            .find(|(partition, row)| row.stored.is_some() && !report.seen.contains(partition));
        ensure!(unseen.is_none(), "verify has nothing to say of {unseen:?}");
        if let Some(what) = corrupt(&mut tables, &report, &mut self.env.rng) {
            let found = Verification::at_once(settings, &tables, &self.env.kafka);
            ensure!(!found.differences.is_empty(), "verify does not see that {what}");
            self.env.trace.note("corruption found", &[]);
        }
        self.conclude(&report)
    }
}

/// Changes something that was verified; what, if there is anything.
fn corrupt(tables: &mut Tables, report: &Report, rng: &mut Prng) -> Option<String> {
    let pick = |rng: &mut Prng, count: usize| (count > 0).then(|| rng.below(count));
    let readmitted = tables.partials.keys().filter(|key| key.0 == READMITTED);
    let windows: Vec<(i32, i64)> = report.equal.iter().chain(readmitted).copied().collect();
    let is_told = |(partition, ..): &(i32, i64, i64)| report.whole.contains(partition);
    match rng.below(8) {
        0 => {
            // Which were in the future depends on the dead letters that say so.
            let kept = tables.dead_letters.iter().filter(|(key, kept)| {
                // One of an earlier log is not looked at, and a readmitted one is missed there.
                is_told(key) && kept.reason != Reason::Future && !kept.is_readmitted
            });
            let keys: Vec<_> = kept.map(|(key, _)| *key).collect();
            let key = keys[pick(rng, keys.len())?];
            tables.dead_letters.remove(&key);
            Some(format!("the dead letter {key:?} is missing"))
        }
        1 => {
            let partition = report.whole[pick(rng, report.whole.len())?];
            let stored = tables.partitions.get_mut(&partition)?.stored.as_mut()?;
            stored.progress.aggregated += 1;
            Some(format!("the count of partition {partition} is one too high"))
        }
        2 => {
            let key = windows[pick(rng, windows.len())?];
            tables.partials.remove(&key);
            Some(format!("the row {key:?} is missing"))
        }
        3 => {
            let (from, to) =
                (windows[pick(rng, windows.len())?], report.whole[pick(rng, report.whole.len())?]);
            let moved = tables.partials.remove(&from).filter(|_| from.0 != to);
            tables.partials.entry((to, from.1)).or_default().merge(&moved?);
            Some(format!("the row {from:?} is counted by partition {to}"))
        }
        which => {
            let key = windows[pick(rng, windows.len())?];
            let totals = tables.partials.get_mut(&key)?;
            let metric = rng.below(3);
            match which {
                4 => totals.sums[metric] += rng.pick(&[-1, 1]),
                5 => totals.counts[metric] += 1,
                6 => totals.readings += 1,
                _ => totals.digest ^= 1,
            }
            Some(format!("the row {key:?} is {totals:?}"))
        }
    }
}
