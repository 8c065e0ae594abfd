//! What of a partition can be read again, by what the table says and what Kafka has now.

use crate::engine::state::{LogIdentity, Position, Progress};

/// Which part of what was counted can be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Where reading begins.
    pub from: Position,
    /// Whether nothing was counted before that.
    pub is_whole: bool,
    /// If something was: the earliest window all of whose readings, by the table, are there to be read again, in ms since
    /// 1970.
    pub sure_from_ms: Option<i64>,
}

/// A partition's log as Kafka has it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogNow {
    /// The topic's id; all zero where the broker gives none.
    pub topic_id: [u8; 16],
    /// The first offset that is left.
    pub earliest: i64,
    /// The offset behind the last record.
    pub end: i64,
}

/// From where on a partition can be read again: `table` are the numbers of its state, `counted` the log that they are of,
/// and `sure_from_ms` the earliest window that says that its first reading is at the first offset that is left or behind
/// it.
///
/// # Errors
/// Why it cannot, for people.
pub fn reach(
    table: &Progress,
    counted: &LogIdentity,
    sure_from_ms: Option<i64>,
    log: &LogNow,
) -> Result<Reach, String> {
    let unknown = LogIdentity::UNKNOWN.topic_id;
    if counted.topic_id != unknown && log.topic_id != unknown && counted.topic_id != log.topic_id {
        return Err("the topic was recreated, and the log that was counted is gone".to_owned());
    }
    if log.end < table.next_offset {
        let (last, next) = (log.end - 1, table.next_offset);
        return Err(format!(
            "its log ends at offset {last}, but was read up to {}: it was cut or recreated",
            next - 1
        ));
    }
    let is_first = table.incarnation == 0;
    let offset = if is_first { table.origin_offset.max(log.earliest) } else { log.earliest };
    Ok(Reach {
        // All of it may be gone.
        from: Position { incarnation: table.incarnation, offset: offset.min(table.next_offset) },
        is_whole: is_first && log.earliest <= table.origin_offset,
        sure_from_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_the_log_decides() {
        let counted = LogIdentity { topic_id: [1; 16], leader_epoch: 7 };
        let reach_of = |(incarnation, origin_offset, next_offset), earliest, end| {
            let table =
                Progress { incarnation, origin_offset, next_offset, ..Progress::starting_at(origin_offset) };
            let log = LogNow { topic_id: [1; 16], earliest, end };
            reach(&table, &counted, Some(1), &log).map(|reach| (reach.from.offset, reach.is_whole))
        };
        assert_eq!(reach_of((0, 0, 50), 0, 60), Ok((0, true)));
        assert_eq!(reach_of((0, 20, 50), 10, 60), Ok((20, true)), "reading began there");
        assert_eq!(reach_of((0, 0, 50), 10, 60), Ok((10, false)));
        assert_eq!(reach_of((0, 0, 50), 55, 60), Ok((50, false)), "nothing is left");
        assert_eq!(reach_of((1, -9, 50), 0, 60), Ok((0, false)), "a log before is gone");
        assert!(reach_of((0, 0, 50), 0, 49).is_err_and(|why| why.contains("cut")));
        let other = LogNow { topic_id: [2; 16], earliest: 0, end: 9 };
        let table = Progress { next_offset: 5, ..Progress::starting_at(0) };
        assert!(reach(&table, &counted, None, &other).is_err_and(|why| why.contains("recreated")));
        let nameless = LogNow { topic_id: [0; 16], ..other };
        assert!(reach(&table, &counted, None, &nameless).is_ok());
    }
}
