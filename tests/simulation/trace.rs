//! What a run records: a hash over everything that happened, the last lines of it as text on request, and the
//! first thing that was wrong.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

/// Lines kept to explain a failure.
const LINES: usize = 2_000;

/// What happened, in order.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    /// How often each event happened.
    pub counts: BTreeMap<&'static str, u64>,
    lines: Option<VecDeque<String>>,
    /// The simulated time, ms since 1970.
    pub now_ms: i64,
}

impl Trace {
    pub fn new(now_ms: i64, keep_lines: bool) -> Self {
        let lines = keep_lines.then(VecDeque::new);
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, counts: BTreeMap::new(), lines, now_ms }
    }

    /// Notes an event and the numbers that belong to it.
    pub fn note(&mut self, what: &'static str, numbers: &[i64]) {
        self.events += 1;
        *self.counts.entry(what).or_default() += 1;
        self.mix(self.now_ms as u64);
        what.bytes().for_each(|byte| self.mix(u64::from(byte)));
        numbers.iter().for_each(|number| self.mix(*number as u64));
        if let Some(lines) = &mut self.lines {
            if lines.len() == LINES {
                lines.pop_front();
            }
            lines.push_back(format!("{:>8} {what} {numbers:?}", self.now_ms % 100_000_000));
        }
    }

    fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }

    /// The hash and the number of events: equal for equal runs.
    pub fn digest(&self) -> (u64, u64) {
        (self.hash, self.events)
    }

    /// The last lines, if they were kept.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().flatten().map(String::as_str)
    }
}

/// Something that must never happen did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a step gives: nothing, unless an invariant broke.
pub type Checked<T = ()> = Result<T, Violation>;

/// Ends the step with a violation unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(crate::trace::Violation(format!($($message)+)));
        }
    };
}
pub(crate) use ensure;
