//! Readmitted readings: whether their partials are what the marked dead letters come to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::readmission::{self, Readmission};
use crate::engine::verification::{ComparedValue, totals};
use crate::engine::window::Totals;
use crate::postgres::failure::Failure;
use crate::postgres::readmission::{READMITTED, readmitted};
use crate::time::SqlTimestamp;
use crate::verify::findings::{Difference, Unknown, describe};
use crate::verify::rules::ComparisonRules;

/// Compares them. Where dead letters may have been deleted since (not `all_kept`), more in the table proves nothing.
pub(super) async fn compare(
    rules: &ComparisonRules,
    all_kept: bool,
) -> Result<(Vec<Difference>, Option<Unknown>), Failure> {
    let mut readmission = Readmission::new(
        readmission::Criteria {
            window_ms: rules.settings.window_ms,
            // They were not in the future when they were taken.
            future_ms: i64::MAX,
            from_ms: None,
            to_ms: None,
        },
        Arc::clone(&rules.format),
    );
    let mut dead_letters: BTreeMap<i64, Totals> = BTreeMap::new();
    let mut unreadable = 0;
    let table =
        readmitted(&rules.session, &rules.topic, |dead_letter| {
            match readmission.take(
                dead_letter.key.offset,
                dead_letter.payload.as_deref(),
                dead_letter.payload_bytes,
            ) {
                Ok(_) => readmission.taken().windows.iter().for_each(|window| {
                    dead_letters.entry(window.start_ms).or_default().merge(&window.totals)
                }),
                Err(_) => unreadable += 1,
            }
        })
        .await?;
    let table: BTreeMap<i64, Totals> = table.into_iter().collect();
    let (mut differences, mut unknown) = (Vec::new(), BTreeSet::new());
    let starts: BTreeSet<i64> = table.keys().chain(dead_letters.keys()).copied().collect();
    let is_asked = |start_ms: &i64| {
        let between = &rules.between;
        between.from_ms.is_none_or(|from| *start_ms >= from) && between.to_ms.is_none_or(|to| *start_ms < to)
    };
    for start_ms in starts.into_iter().filter(is_asked) {
        let (found, expected) = (table.get(&start_ms).copied(), dead_letters.get(&start_ms).copied());
        let (found, expected) = (found.unwrap_or_default(), expected.unwrap_or_default());
        let values = differing(&found, &expected);
        if values.is_empty() {
            continue;
        }
        if unreadable > 0 || (!all_kept && found.readings > expected.readings) {
            unknown.insert(start_ms);
            continue;
        }
        differences.push(Difference {
            partition: Some(READMITTED),
            window_start_ms: Some(start_ms),
            window_start: Some(SqlTimestamp(start_ms).to_string()),
            offsets: None,
            what: format!("readmitted readings: {}", describe(&values)),
        });
    }
    let unknown = unknown.first().zip(unknown.last()).map(|(first, last)| Unknown {
        partition: READMITTED,
        windows: unknown.len() as i64,
        between: Some((SqlTimestamp(*first).to_string(), SqlTimestamp(*last).to_string())),
        gone: None,
        why: match unreadable {
            0 => "dead letters that were readmitted are no longer in the table".to_owned(),
            n => format!("{n} readmitted dead letters cannot be read by the current format"),
        },
    });
    Ok((differences, unknown))
}

/// What differs; offsets of several partitions together mean nothing.
fn differing(table: &Totals, dead_letters: &Totals) -> Vec<ComparedValue> {
    let mut values = totals(table, dead_letters);
    values.retain(|value| !["first_offset", "last_offset"].contains(&value.name));
    values
}
