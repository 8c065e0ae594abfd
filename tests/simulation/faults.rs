//! What goes wrong, and how it is put right again.

use crate::env::NEVER;
use crate::plan::Fault;
use crate::world::World;

/// An hour: as far as a wall clock is ever set wrong.
const HOUR_MS: i64 = 3_600_000;

impl World {
    /// Lets a fault happen.
    pub(crate) fn strike(&mut self, fault: Fault) {
        let now_ms = self.env.now_ms();
        self.env.trace.note(fault.name(), &[]);
        match fault {
            Fault::Kill => self.kill(false),
            Fault::PowerLoss => self.kill(true),
            Fault::Pause | Fault::Starve => self.hold_up(fault),
            Fault::Scale => self.scale(),
            Fault::ClockStep => self.set_clock(),
            Fault::DatabaseClockStep => {
                self.env.database.clock_offset_ms = self.env.rng.between(-2_000, 2_000);
                self.env.database.disturb(now_ms + self.env.plan.lease_ms + 4_000);
            }
            Fault::DatabaseAway => {
                self.env.database.go_away(&mut self.env.rng);
                self.database_back_ms = now_ms + self.env.rng.between(10, 6_000);
            }
            Fault::Backup => self.env.database.back_up(&mut self.env.rng),
            Fault::Restore => {
                self.env.database.go_away(&mut self.env.rng);
                self.env.database.restore(&mut self.env.rng);
                self.database_back_ms = now_ms + self.env.rng.between(10, 1_000);
            }
            Fault::KafkaAway => {
                self.env.kafka.away = true;
                self.kafka_back_ms = now_ms + self.env.rng.between(10, 4_000);
            }
            Fault::Retention | Fault::Compaction => self.shorten_a_log(fault),
            Fault::Recreate => self.env.kafka.logs.iter_mut().for_each(crate::kafka::Log::recreate),
            Fault::Readmit => self.begin_readmission(),
            Fault::Verify => self.begin_verification(),
            Fault::AddPartition => {
                if (self.env.kafka.logs.len() as i32) < self.env.plan.partitions_most {
                    self.env.kafka.add_partition();
                    // It is found out about at the next look.
                    self.env.database.disturb(now_ms + self.env.plan.watch_ms);
                }
            }
        }
    }

    /// Ends a process at once.
    fn kill(&mut self, power: bool) {
        let Some(victim) = self.any_process() else { return };
        let process = self.processes.swap_remove(victim);
        let env = &mut self.env;
        env.trace.note("killed", &[process.shared.instance as i64]);
        env.database.hang_up(process.shared.instance, &mut env.rng);
        if power && !env.plan.shared_volume {
            env.volumes[process.shared.volume].lose_power(&mut env.rng);
        }
        let longest_ms = env.plan.lease_ms * env.rng.pick(&[0, 2, 2, 6]);
        let wait_ms = env.rng.between(0, longest_ms);
        self.put_down(process.slot, process.shared.volume, wait_ms);
    }

    /// A process has ended; it is started again after a while.
    pub(crate) fn put_down(&mut self, slot: usize, volume: usize, wait_ms: i64) {
        let env = &mut self.env;
        if env.rng.chance(env.chances.damage) {
            let what = env.volumes[volume].damage(&mut env.rng);
            env.trace.note(what, &[volume as i64]);
        }
        if env.rng.chance(500) {
            env.volumes[volume].keep_copy(&mut env.rng);
        }
        self.slots[slot].start_ms = env.now_ms() + wait_ms;
    }

    fn hold_up(&mut self, fault: Fault) {
        let Some(victim) = self.any_process() else { return };
        let env = &mut self.env;
        let longest_ms = if fault == Fault::Pause { 3 * env.plan.lease_ms } else { 3_000 };
        let until_ms = env.now_ms() + env.rng.between(1, longest_ms);
        let process = &mut self.processes[victim];
        match fault {
            Fault::Pause => process.paused_until_ms = until_ms,
            _ => process.starved = (env.rng.below(env.plan.weights.len()), until_ms),
        }
        env.database.disturb(until_ms);
    }

    /// One process less, or one more.
    fn scale(&mut self) {
        let down = self.slots.iter().position(|slot| slot.start_ms != NEVER);
        match down {
            Some(slot) if self.env.rng.chance(500) => self.slots[slot].start_ms = self.env.now_ms(),
            _ => {
                if let Some(victim) = self.any_process() {
                    let process = &mut self.processes[victim];
                    process.terminate();
                    self.env.trace.note("terminated", &[process.shared.instance as i64]);
                }
            }
        }
    }

    fn set_clock(&mut self) {
        let env = &mut self.env;
        let slot = env.rng.below(self.slots.len());
        let far = env.rng.chance(200);
        let skew_ms = if far { HOUR_MS } else { env.plan.skew_ms };
        let offset_ms = env.rng.between(-skew_ms, skew_ms);
        self.slots[slot].clock_offset_ms = offset_ms;
        for process in self.processes.iter_mut().filter(|process| process.slot == slot) {
            process.shared.clock.offset_ms = offset_ms;
        }
    }

    fn shorten_a_log(&mut self, fault: Fault) {
        let env = &mut self.env;
        let partition = env.rng.below(env.kafka.logs.len()) as i32;
        let log = env.kafka.log_mut(partition);
        let (earliest, latest) = (log.earliest(), log.latest());
        if fault == Fault::Retention {
            log.delete_below(env.rng.between(earliest, latest));
            return;
        }
        for _ in 0..env.rng.below(8) {
            log.compact(env.rng.between(earliest, latest));
        }
    }

    fn any_process(&mut self) -> Option<usize> {
        (!self.processes.is_empty()).then(|| self.env.rng.below(self.processes.len()))
    }
}
