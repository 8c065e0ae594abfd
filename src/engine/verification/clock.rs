//! By which clock a record was judged when it was read first: what is `future` depends on it, and nobody remembers it.
//!
//! The table's word is taken: what it has as a dead letter that came from the future was from the future, and nothing
//! else was, as long as it has as many of these dead letters as were counted. Where some are gone (a flood is sampled, old
//! ones are deleted), a record without a dead letter is judged by the time that Kafka has stamped it with.

/// Later than any event time: by this clock nothing is in the future.
const AFTER_ALL: i64 = i64::MAX;
/// Earlier than any event time: by this clock everything is.
const BEFORE_ALL: i64 = i64::MIN / 2;

/// The clock for one record, ms since 1970. `dead_letter` tells whether the table has a dead letter of it, and if so whether
/// that came from the future; `all_kept` whether it has all of these; `stamped_ms` is Kafka's time, below 0 without one.
pub fn clock(dead_letter: Option<bool>, all_kept: bool, stamped_ms: i64) -> i64 {
    match dead_letter {
        Some(true) => BEFORE_ALL,
        None if !all_kept && stamped_ms >= 0 => stamped_ms,
        _ => AFTER_ALL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_word_is_taken_where_there_is_one() {
        assert_eq!(clock(Some(true), true, 5), BEFORE_ALL);
        assert_eq!(clock(Some(true), false, 5), BEFORE_ALL);
        assert_eq!(clock(Some(false), false, 5), AFTER_ALL, "it was refused for another reason");
        assert_eq!(clock(None, true, 5), AFTER_ALL, "none is missing, so this is not one");
        assert_eq!(clock(None, false, 5), 5);
        assert_eq!(clock(None, false, -1), AFTER_ALL);
    }
}
