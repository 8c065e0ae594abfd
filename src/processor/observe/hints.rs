//! Hints for the user: once for each reason, what a rejected record carries and which flag reads it.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::engine::dead_letter::DeadLetter;
use crate::engine::state::REASONS;
use crate::reading::explain::explain;
use crate::reading::{Format, Reason};

/// What this process has logged, over all its partitions.
static TOLD: [AtomicBool; REASONS] = [const { AtomicBool::new(false) }; REASONS];

/// Logs what to do about a rejected record, if nothing was logged about its reason yet.
pub fn look(letter: &DeadLetter, format: &Format) {
    // Relaxed: only the flag itself counts, and logging a line twice does no harm.
    if TOLD[letter.reason.index()].load(Ordering::Relaxed) {
        return;
    }
    let Some(hint) = letter.payload.as_deref().and_then(|payload| hint(letter.reason, payload, format))
    else {
        return;
    };
    if !TOLD[letter.reason.index()].swap(true, Ordering::Relaxed) {
        crate::warn!(hint, "reason" => letter.reason.as_str(), "offset" => letter.offset);
    }
}

fn hint(reason: Reason, payload: &[u8], format: &Format) -> Option<String> {
    match reason {
        Reason::Malformed | Reason::MissingTimestamp | Reason::NoMetric => explain(format, payload).hint(),
        Reason::Future if format.settings().zone.is_none() => explain(format, payload).local_time().map(|time| {
            format!(
                "A record is in the future, and its time {time} has no offset, so it was read as UTC; if it is local, \
                 set --time-zone, such as --time-zone Asia/Kolkata"
            )
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_to_set() {
        let format = Format::default();
        let hint = |reason, payload: &str| hint(reason, payload.as_bytes(), &format);
        let kelvin = hint(Reason::NoMetric, r#"{"dt":1709633700,"main":{"temp":283.1}}"#).unwrap();
        assert!(kelvin.contains("--fields 'temperature=main.temp:K'"), "{kelvin}");
        let none = hint(Reason::MissingTimestamp, r#"{"temperature":1}"#).unwrap();
        assert!(none.contains("--missing-timestamp kafka"), "{none}");
        let local = hint(Reason::Future, r#"{"timestamp":"2999-01-01 10:00","temperature":1}"#).unwrap();
        assert!(local.contains("--time-zone"), "{local}");
        assert_eq!(hint(Reason::Future, r#"{"timestamp":"2999-01-01T10:00Z","temperature":1}"#), None);
        assert_eq!(hint(Reason::Late, r#"{"timestamp":"2020-01-01 10:00","temperature":1}"#), None);
    }
}
