//! What all processes share: the services, time, chance, and the trace.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::database::{CallId, Database, Request, Session};
use crate::kafka::Kafka;
use crate::ledger::Ledger;
use crate::plan::{Chances, Plan};
use crate::prng::Prng;
use crate::trace::Trace;
use crate::volume::Volume;

/// A time that does not come.
pub const NEVER: i64 = i64::MAX;

/// 2023-11-14, in ms since 1970.
pub const START_MS: i64 = 1_700_000_000_000;

#[derive(Debug)]
pub struct Env {
    pub plan: Plan,
    /// What goes wrong by chance; nothing any more once the faults are off.
    pub chances: Chances,
    pub rng: Prng,
    pub trace: Trace,
    pub kafka: Kafka,
    pub database: Database,
    pub volumes: Vec<Volume>,
    /// The ledger of every checkpoint that was made, by a hash of its bytes.
    images: BTreeMap<u64, Rc<Ledger>>,
}

impl Env {
    pub fn new(plan: Plan, keep_lines: bool) -> Self {
        let volumes = if plan.shared_volume { 1 } else { plan.processes };
        Self {
            chances: plan.chances.clone(),
            rng: Prng::new(plan.seed),
            trace: Trace::new(START_MS, keep_lines),
            kafka: Kafka::new(plan.partitions),
            database: Database::new(&plan),
            volumes: (0..volumes).map(|_| Volume::default()).collect(),
            images: BTreeMap::new(),
            plan,
        }
    }

    /// The time, which all monotonic clocks follow, ms since 1970.
    pub fn now_ms(&self) -> i64 {
        self.trace.now_ms
    }

    /// The volume that the process of a slot uses.
    pub fn volume_of(&self, slot: usize) -> usize {
        if self.plan.shared_volume { 0 } else { slot }
    }

    pub fn call(&mut self, client: u64, session: Option<Session>, request: Request) -> CallId {
        let now_ms = self.now_ms();
        self.database.send(client, session, request, (now_ms, &self.chances, &mut self.rng))
    }

    /// Notes which ledger belongs to a checkpoint.
    pub fn remember_image(&mut self, bytes: &[u8], ledger: Rc<Ledger>) {
        self.images.insert(hash(bytes), ledger);
    }

    /// The ledger of a checkpoint; None if nobody made one with these bytes.
    pub fn ledger_of(&self, bytes: &[u8]) -> Option<Rc<Ledger>> {
        self.images.get(&hash(bytes)).cloned()
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(bytes.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    rest.iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte)))
}
