//! From what a partition goes on when it was taken: its checkpoint file or PostgreSQL's state.
//!
//! The file is used only if nobody else owned the partition since it was written (its epoch is the one that PostgreSQL
//! held before this start) and the database is neither behind what the file knows to be confirmed (it went back in time)
//! nor ahead of the file: [`choose`]. In every other case PostgreSQL's own state is right, and Kafka is read again from
//! there. So a torn, flipped, old or foreign file costs some reading, never a wrong number.

use crate::engine::checkpoint::Checkpoint;
use crate::engine::state::{Position, State};

/// A partition that was just taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Which.
    pub partition: i32,
    /// The epoch to write under.
    pub epoch: i64,
    /// The epoch before.
    pub epoch_before: i64,
    /// PostgreSQL's state, None if it has none.
    pub state: Option<State>,
}

impl Claimed {
    /// Where PostgreSQL's state stands.
    pub fn position(&self) -> Option<Position> {
        self.state.as_ref().map(|state| state.progress.position())
    }
}

/// Where a partition's state is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The checkpoint file, as nothing happened since.
    File,
    /// PostgreSQL; the reason is for the log.
    Database(&'static str),
}

/// The start rule. `epoch_before` is the epoch that PostgreSQL held before this start raised it; `database` is the
/// position of PostgreSQL's state, None if it has none.
pub fn choose(file: &Checkpoint, epoch_before: i64, database: Option<Position>) -> Choice {
    let progress = &file.state.progress;
    if file.epoch != epoch_before {
        return Choice::Database("the partition had another owner since");
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
        let mut state = State::starting_at(100);
        state.progress.next_offset = 160;
        state.progress.flushed_offset = 130;
        let topic = "weather_data".to_owned();
        Checkpoint { topic, partition: 3, epoch: 7, window_ms: 10, written_ms: 1, state, pending: Vec::new() }
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
}
