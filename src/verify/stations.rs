//! Stations: whether those of each window add up to it. The window itself is compared with the topic.

use crate::postgres::failure::Failure;
use crate::postgres::station_evidence;
use crate::time::SqlTimestamp;
use crate::verify::findings::Difference;
use crate::verify::replay::Rules;

/// So many windows are told.
const TOLD: i64 = 20;

/// The first windows that their stations do not add up to.
pub(super) async fn compare(rules: &Rules) -> Result<Vec<Difference>, Failure> {
    let unlike = station_evidence::unlike(&rules.session, &rules.topic, rules.between, TOLD).await?;
    let told = unlike.into_iter().map(|window| Difference {
        partition: Some(window.partition),
        window_start_ms: Some(window.start_ms),
        window_start: Some(SqlTimestamp(window.start_ms).to_string()),
        offsets: None,
        what: window.what,
    });
    Ok(told.collect())
}
