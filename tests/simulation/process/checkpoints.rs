//! The task of `src/processor/checkpoints/task.rs`: every interval the files of partitions that moved, written system
//! call by system call.

use std::collections::BTreeMap;

use weather::engine::state::Position;

use super::worker::Image;
use super::{Shared, UnitRef};
use crate::env::{Env, NEVER};
use crate::volume::{Handle, current, previous, temporary};

enum Step {
    Waiting,
    /// Asks the next worker.
    Next,
    Asking(UnitRef),
    Writing {
        file: Writing,
        call: u32,
    },
}

struct Writing {
    partition: i32,
    epoch: i64,
    image: Image,
    file: Handle,
}

pub struct Checkpoints {
    /// Epoch and positions of the file of each partition.
    written: BTreeMap<i32, (i64, (Position, Position))>,
    step: Step,
    left: Vec<UnitRef>,
    next_ms: i64,
    /// The shutdown request was seen.
    pub ended: bool,
}

impl Checkpoints {
    pub fn new(now_ms: i64) -> Self {
        let (written, left) = (BTreeMap::new(), Vec::new());
        Self { written, step: Step::Waiting, left, next_ms: now_ms, ended: false }
    }

    pub fn due_ms(&self, shared: &Shared, env: &Env) -> i64 {
        match &self.step {
            Step::Waiting if self.ended => NEVER,
            Step::Waiting if shared.done => env.now_ms(),
            Step::Waiting => self.next_ms,
            Step::Asking(unit) if unit.borrow().image.is_none() => NEVER,
            _ => env.now_ms(),
        }
    }

    /// Whether it writes nothing at the moment.
    pub fn is_at_rest(&self) -> bool {
        matches!(self.step, Step::Waiting)
    }

    /// Begins to write the files of all partitions that moved.
    pub fn write_all(&mut self, shared: &Shared) {
        self.left = shared.registry.values().rev().cloned().collect();
        self.step = Step::Next;
    }

    pub fn step(&mut self, shared: &Shared, env: &mut Env) {
        self.step = match std::mem::replace(&mut self.step, Step::Waiting) {
            Step::Waiting if shared.done => {
                self.ended = true;
                Step::Waiting
            }
            Step::Waiting => return self.write_all(shared),
            Step::Next => match self.left.pop() {
                Some(unit) => {
                    unit.borrow_mut().asked = true;
                    Step::Asking(unit)
                }
                None => {
                    self.next_ms = env.now_ms() + env.plan.checkpoint_interval_ms;
                    Step::Waiting
                }
            },
            Step::Asking(unit) => self.begin(&unit, shared, env),
            Step::Writing { file, call } => self.write(file, call, shared, env),
        };
    }

    fn begin(&self, unit: &UnitRef, shared: &Shared, env: &mut Env) -> Step {
        let mut unit = unit.borrow_mut();
        let Some(image) = unit.image.take() else { return Step::Next };
        let (partition, epoch) = (unit.partition, unit.epoch);
        if self.written.get(&partition) == Some(&(epoch, image.positions)) {
            return Step::Next;
        }
        let file = env.volumes[shared.volume].create(&temporary(partition));
        Step::Writing { file: Writing { partition, epoch, image, file }, call: 0 }
    }

    /// The next system call; an error leaves the file as it is until the next interval.
    fn write(&mut self, writing: Writing, call: u32, shared: &Shared, env: &mut Env) -> Step {
        let Writing { partition, epoch, ref image, file } = writing;
        let volume = &mut env.volumes[shared.volume];
        let half = image.bytes.len() / 2;
        let mut failed = env.rng.chance(env.chances.disk_error);
        match call {
            _ if failed => {}
            0 => volume.write_at(file, 0, &image.bytes[..half]),
            1 => volume.write_at(file, half, &image.bytes[half..]),
            2 => volume.sync(file),
            // There is none at the first time.
            3 => drop(volume.rename(&current(partition), &previous(partition))),
            4 => failed = !volume.rename(&temporary(partition), &current(partition)),
            _ => {
                volume.sync_names();
                self.written.insert(partition, (epoch, image.positions));
                env.trace.note("checkpoint", &[shared.instance as i64, i64::from(partition), epoch]);
                return Step::Next;
            }
        }
        if failed { Step::Next } else { Step::Writing { file: writing, call: call + 1 } }
    }
}
