//! Calls of processes to the database, and its answers.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::rc::Rc;

use weather::engine::assignment::Leases;
use weather::engine::flush_plan::{PartitionFlush, Standing};
use weather::engine::readmission::Criteria;
use weather::engine::state::Position;
use weather::engine::stations::StationRow;
use weather::engine::window::Window;
use weather::reading::Reason;

use super::Stored;
use super::flush::Transaction;
use super::readmission::{Key, Portion};
use crate::ledger::Ledger;

/// What one partition adds to a flush, and the ledger of its state.
#[derive(Debug, Clone)]
pub struct Part {
    pub flush: PartitionFlush,
    pub ledger: Rc<Ledger>,
}

impl Deref for Part {
    type Target = PartitionFlush;

    fn deref(&self) -> &PartitionFlush {
        &self.flush
    }
}

/// A call of a process.
#[derive(Debug, Clone)]
pub enum Request {
    Connect,
    AddPartitions(Vec<i32>),
    Beat {
        owner: String,
        owned: Vec<(i32, i64)>,
        shares: bool,
    },
    Claim {
        owner: String,
        wanted: Vec<i32>,
    },
    OpenWindows {
        partition: i32,
        after_ms: i64,
    },
    Release {
        owner: String,
        owned: Vec<(i32, i64)>,
    },
    Leave {
        owner: String,
    },
    Finish {
        out_of_orderness_ms: i64,
        partitions: Vec<i32>,
    },
    Positions,
    Flush(Vec<Part>),
    Standing(Vec<i32>),
    /// The dead letters behind a key that were refused for these reasons, as many as one transaction takes.
    Readmit {
        after: Option<Key>,
        reasons: Vec<Reason>,
        criteria: Criteria,
    },
}

impl Request {
    /// Whether its commit waits until all that was committed before is on disk. A beat writes too seldom to count.
    pub(super) fn waits_for_disk(&self) -> bool {
        use Request::{AddPartitions, Claim, Finish, Leave, Release};
        matches!(self, AddPartitions(_) | Claim { .. } | Release { .. } | Leave { .. } | Finish { .. })
    }
}

/// What a claim gives for each partition that was free.
#[derive(Debug, Clone)]
pub struct ClaimedRow {
    pub partition: i32,
    pub epoch: i64,
    pub epoch_before: i64,
    pub stored: Option<Stored>,
}

/// Where each partition's state stands.
pub type Positions = BTreeMap<i32, Option<Position>>;

#[derive(Debug, Clone)]
pub enum Answer {
    Connected(Session),
    Done,
    Leases(Leases),
    Claimed(Vec<ClaimedRow>),
    Windows(Vec<Window>, Vec<StationRow>),
    Positions(Positions),
    Standing(Vec<Standing>),
    /// The last dead letter that was looked at, and how many were taken.
    Readmitted(Option<Key>, usize),
}

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody knows whether it was carried out.
    Outage,
    Fenced,
}

pub type Reply = Result<Answer, Trouble>;

/// A connection: good until the server goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session(pub(super) u32);

/// Names a call, to ask for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub(super) u64);

#[derive(Debug)]
pub(super) struct Call {
    pub id: CallId,
    pub client: u64,
    pub request: Request,
    /// Statements carried out.
    pub statement: u32,
    pub due_ms: i64,
    /// The client does not learn of it.
    pub unheard: bool,
    pub transaction: Transaction,
    /// What a readmission has found so far.
    pub portion: Portion,
}

/// What carrying out one statement comes to.
pub(super) enum Progressed {
    /// The next statement follows.
    Further,
    Ended(Reply),
}
