//! Stations, where they are kept apart: row by row with what the topic says, and whether those of each window add up to it.
//!
//! The second is asked for every window of the table, also those that Kafka no longer has, by one statement. What the first
//! has found is not listed again.

use std::collections::BTreeMap;

use crate::engine::stations::Stations;
use crate::engine::verification::stations::{StationComparison, StationVerdict};
use crate::postgres::failure::Failure;
use crate::postgres::station_evidence;
use crate::time::SqlTimestamp;
use crate::verify::findings::{Difference, PartitionFindings};
use crate::verify::rules::{ComparisonRules, StationRules};

/// At most this many windows are listed that their stations do not add up to.
const MAX_LISTED: i64 = 20;

/// The windows that can be checked, and the first and last offset of each where these are known.
pub(super) type Checkable = BTreeMap<i64, Option<(i64, i64)>>;

/// Where a partition is with its stations.
#[derive(Debug)]
pub(super) struct StationReplay {
    partition: i32,
    /// Whether a window of the table had stations already.
    has_begun: bool,
}

impl StationReplay {
    /// Before the first window that counts.
    pub(super) async fn begin(
        rules: &StationRules,
        partition: i32,
        compared_to_ms: Option<i64>,
    ) -> Result<Self, Failure> {
        let has_begun = match compared_to_ms {
            None => false,
            Some(to_ms) => {
                station_evidence::have_begun(&*rules.session.lock().await, partition, to_ms).await?
            }
        };
        Ok(Self { partition, has_begun })
    }

    /// Compares the rows of closed windows that begin after `after_ms`, up to `to_ms`.
    pub(super) async fn compare_closed(
        &mut self,
        rules: &ComparisonRules,
        stations: &StationRules,
        log: &mut Stations,
        checkable: &Checkable,
        (after_ms, to_ms): (Option<i64>, i64),
    ) -> Result<Vec<(i64, StationVerdict)>, Failure> {
        let session = stations.session.lock().await;
        let mut comparison = StationComparison::new(log, checkable.keys().copied());
        station_evidence::rows(&session, self.partition, after_ms, to_ms, |row| {
            comparison.row(row.start_ms, &row.station, &row.totals);
        })
        .await?;
        // Later than the rows: what was deleted meanwhile is not missed.
        let deleted_to_ms = station_evidence::deleted_to_ms(&session, &rules.topic).await?;
        Ok(comparison.finish(&mut self.has_begun, deleted_to_ms))
    }

    /// Compares the rows of open windows, which were read with them.
    pub(super) async fn compare_open(
        &mut self,
        rules: &ComparisonRules,
        stations: &StationRules,
        log: &mut Stations,
        checkable: &Checkable,
        table: &Stations,
    ) -> Result<Vec<(i64, StationVerdict)>, Failure> {
        let mut comparison = StationComparison::new(log, checkable.keys().copied());
        for start_ms in table.starts_ms() {
            table.rows_of(start_ms).for_each(|(station, totals)| comparison.row(start_ms, station, &totals));
        }
        let session = stations.session.lock().await;
        let deleted_to_ms = station_evidence::deleted_to_ms(&session, &rules.topic).await?;
        Ok(comparison.finish(&mut self.has_begun, deleted_to_ms))
    }
}

/// The first windows that their stations do not add up to, and of which nothing is listed yet.
pub(super) async fn add_up(
    rules: &ComparisonRules,
    partitions: &[PartitionFindings],
) -> Result<Vec<Difference>, Failure> {
    let unlike = station_evidence::unlike(&rules.session, &rules.topic, rules.between, MAX_LISTED).await?;
    let is_listed = |partition: i32, start_ms: i64| {
        partitions.iter().any(|found| found.partition == partition && found.has_listed_stations(start_ms))
    };
    let news = unlike.into_iter().filter(|window| !is_listed(window.partition, window.start_ms));
    let listed = news.map(|window| Difference {
        partition: Some(window.partition),
        window_start_ms: Some(window.start_ms),
        window_start: Some(SqlTimestamp(window.start_ms).to_string()),
        offsets: None,
        what: window.what,
    });
    Ok(listed.collect())
}
