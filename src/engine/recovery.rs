//! What a claimed partition continues from: its checkpoint file or PostgreSQL's state.
//!
//! The file is used only if no other process has owned the partition since it was written (its epoch is the one that
//! PostgreSQL held before this start) and the database is neither behind what the file knows to be confirmed (it went
//! back in time) nor ahead of the file: [`choose`], [`origin`]. In every other case PostgreSQL's own state is right, and
//! Kafka is read again from there; if it has none, reading starts as configured (`--from`). Files that cannot be read, and
//! those of another topic, window length or Kafka cluster, do not come this far (`processor::checkpoints`,
//! `processor::partition::start`). So a torn, flipped, old or foreign file costs some reading, never a wrong number.

use crate::engine::checkpoint::Checkpoint;
use crate::engine::dead_letter::DeadLetter;
use crate::engine::state::{PartitionState, Position};
use crate::engine::stations::StationRow;

/// A partition that was just claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Which.
    pub partition: i32,
    /// The epoch to write under.
    pub epoch: i64,
    /// The epoch before.
    pub epoch_before: i64,
    /// PostgreSQL's state, None if it has none.
    pub state: Option<PartitionState>,
    /// The stations of the state's windows, where they are asked for.
    pub stations: Vec<StationRow>,
}

impl Claimed {
    /// The position of PostgreSQL's state.
    pub fn position(&self) -> Option<Position> {
        self.state.as_ref().map(|state| state.progress.position())
    }
}

/// What a partition continues from.
#[derive(Debug, PartialEq, Eq)]
pub enum StateOrigin<'a> {
    /// The checkpoint file with this index: nobody else has owned the partition since.
    File(usize),
    /// PostgreSQL's state.
    Database {
        /// The state.
        state: &'a PartitionState,
        /// Why no file is used, for the log.
        why: &'static str,
    },
    /// Nothing is stored anywhere: reading starts as configured.
    Nowhere {
        /// Why no file is used, for the log.
        why: &'static str,
    },
}

/// What a partition that was just claimed continues from; `files` are its readable checkpoint files, the newest first.
pub fn origin<'a>(claimed: &'a Claimed, files: &[&Checkpoint]) -> StateOrigin<'a> {
    let mut why = None;
    for (index, file) in files.iter().enumerate() {
        match choose(file, claimed.epoch_before, claimed.position()) {
            Choice::File => return StateOrigin::File(index),
            // Of several, the newest file's reason is the one to report.
            Choice::Database(reason) => why = why.or(Some(reason)),
        }
    }
    let why = why.unwrap_or("there is none");
    match &claimed.state {
        Some(state) => StateOrigin::Database { state, why },
        None => StateOrigin::Nowhere { why },
    }
}

/// The state of a file that is used, with its dead letters and the stations that changed since PostgreSQL had them.
pub fn resume(file: Checkpoint, claimed: &Claimed) -> (PartitionState, Vec<DeadLetter>, Vec<StationRow>) {
    let mut state = file.state;
    // As after a claim: what arrived while no process read is not known yet.
    state.progress.idle = 0;
    if let Some(stored) = &claimed.state {
        // PostgreSQL may have confirmed more than the file knows. What had ended by then is there and stays as it is, and
        // the stations of what had not are those that were claimed.
        let position = stored.progress.position();
        (state.progress.flushed_incarnation, state.progress.flushed_offset) =
            (position.incarnation, position.offset);
        let closed_ms = stored.progress.watermark_ms.saturating_sub(file.window_ms);
        state.windows.retain(|window| window.start_ms > closed_ms);
    }
    (state, file.pending, file.stations)
}

/// Whether a file may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// It may: nobody else has owned the partition since, and the database continues what it knows.
    File,
    /// PostgreSQL's state is right; the reason is for the log.
    Database(&'static str),
}

/// The start rule: the rule of [`Position`], with a file in the owner's place. `epoch_before` is the epoch that PostgreSQL
/// held before this start raised it; `database` is the position of PostgreSQL's state, None if it has none.
pub fn choose(file: &Checkpoint, epoch_before: i64, database: Option<Position>) -> Choice {
    let progress = &file.state.progress;
    if file.epoch != epoch_before {
        return Choice::Database("the partition has had another owner since");
    }
    match database {
        None if progress.flushed() == (Position { incarnation: 0, offset: progress.origin_offset }) => {
            Choice::File
        }
        None => Choice::Database("the database has lost the state that the file builds on"),
        Some(at) if at < progress.flushed() => {
            Choice::Database("the database was set back to an older state")
        }
        Some(at) if at > progress.position() => Choice::Database("the database is ahead of it"),
        Some(_) => Choice::File,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Checkpoint {
        let mut state = PartitionState::starting_at(100);
        state.progress.next_offset = 160;
        state.progress.flushed_offset = 130;
        Checkpoint {
            topic: "weather_data".to_owned(),
            cluster_id: String::new(),
            partition: 3,
            epoch: 7,
            window_ms: 10,
            written_ms: 1,
            state,
            pending: Vec::new(),
            stations: Vec::new(),
        }
    }

    #[test]
    fn the_start_rule() {
        let file = sample();
        let at = |offset| Some(Position { incarnation: 0, offset });
        assert_eq!(choose(&file, 7, at(130)), Choice::File);
        assert_eq!(choose(&file, 7, at(145)), Choice::File);
        assert_eq!(choose(&file, 7, at(160)), Choice::File);
        for (epoch, database) in [(8, at(145)), (6, at(145)), (7, at(129)), (7, at(161)), (7, None)] {
            assert!(matches!(choose(&file, epoch, database), Choice::Database(_)), "{epoch} {database:?}");
        }
        let later_log = Some(Position { incarnation: 1, offset: 0 });
        assert!(matches!(choose(&file, 7, later_log), Choice::Database(_)));
        let mut unflushed = sample();
        unflushed.state.progress.flushed_offset = 100;
        assert_eq!(choose(&unflushed, 7, None), Choice::File);
    }

    #[test]
    fn the_newest_file_that_may_be_used_is_used_and_is_not_idle() {
        let claimed =
            |state| Claimed { partition: 3, epoch: 9, epoch_before: 7, state, stations: Vec::new() };
        let (mut file, mut foreign) = (sample(), sample());
        file.state.progress.idle = 1;
        foreign.epoch = 5;
        let mut stored = PartitionState::starting_at(100);
        stored.progress.next_offset = 140;
        let in_table = claimed(Some(stored.clone()));
        assert_eq!(origin(&in_table, &[&foreign, &file]), StateOrigin::File(1));
        let why = "the partition has had another owner since";
        assert_eq!(origin(&in_table, &[&foreign]), StateOrigin::Database { state: &stored, why });
        assert_eq!(origin(&claimed(None), &[]), StateOrigin::Nowhere { why: "there is none" });
        let (resumed, ..) = resume(file, &in_table);
        assert_eq!((resumed.progress.idle, resumed.progress.flushed_offset), (0, 140));
    }
}
