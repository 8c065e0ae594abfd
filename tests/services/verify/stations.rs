//! What is wrong with single stations, and what cannot be checked of them.

use simd_json::prelude::*;

use super::{LOAD, Plant, assert_exact, differences, drain_by_station, exit, report, sum};
use crate::support::{Pipeline, turn};

/// `chosen` is one row of the table, any one, by the seed.
pub(super) const PLANTS_OF: [Plant; 8] = [
    Plant {
        name: "a station's sum off by a millionth",
        change: "WITH chosen AS (SELECT station, window_start, partition FROM weather_station_partial
            ORDER BY md5(station || window_start::text || partition || $1) LIMIT 1)
            UPDATE weather_station_partial p SET humidity_sum = humidity_sum + 1 FROM chosen c
            WHERE (p.station, p.window_start, p.partition) = (c.station, c.window_start, c.partition)
            RETURNING p.partition, p.window_start::text, p.station",
    },
    Plant {
        name: "the row of a station missing",
        change: "WITH chosen AS (SELECT station, window_start, partition FROM weather_station_partial
            WHERE window_start > (SELECT min(window_start) FROM weather_station_partial)
            ORDER BY md5(station || window_start::text || partition || $1) LIMIT 1)
            DELETE FROM weather_station_partial p USING chosen c
            WHERE (p.station, p.window_start, p.partition) = (c.station, c.window_start, c.partition)
            RETURNING p.partition, p.window_start::text, p.station",
    },
    Plant {
        name: "a row of a station that never sent",
        change: "INSERT INTO weather_station_partial (SELECT 'never', window_start, partition, reading_count, temp_count,
                humidity_count, wind_speed_count, temp_sum, humidity_sum, wind_speed_sum, min_temp, min_humidity,
                min_wind_speed, max_temp, max_humidity, max_wind_speed FROM weather_station_partial
                ORDER BY md5(station || window_start::text || partition || $1) LIMIT 1)
            RETURNING partition, window_start::text, station",
    },
    Plant {
        name: "a reading moved from one station to another",
        change: "WITH chosen AS (SELECT window_start, partition, min(station) AS a, max(station) AS b
            FROM weather_station_partial WHERE station <> '*' GROUP BY window_start, partition
            ORDER BY md5(window_start::text || partition || $1) LIMIT 1)
            UPDATE weather_station_partial p SET reading_count = reading_count + CASE WHEN station = a THEN -1 ELSE 1 END
            FROM chosen c WHERE (p.window_start, p.partition) = (c.window_start, c.partition) AND p.station IN (a, b)
            RETURNING p.partition, p.window_start::text, p.station",
    },
    Plant {
        name: "two stations exchanged",
        change: "WITH chosen AS (SELECT window_start, partition, min(station) AS a, max(station) AS b
            FROM weather_station_partial WHERE station <> '*' GROUP BY window_start, partition
            ORDER BY md5(window_start::text || partition || $1) LIMIT 1)
            UPDATE weather_station_partial p SET (temp_sum, humidity_sum, wind_speed_sum) =
                (SELECT temp_sum, humidity_sum, wind_speed_sum FROM weather_station_partial o
                WHERE (o.window_start, o.partition, o.station) =
                    (c.window_start, c.partition, CASE WHEN p.station = a THEN b ELSE a END))
            FROM chosen c WHERE (p.window_start, p.partition) = (c.window_start, c.partition) AND p.station IN (a, b)
            RETURNING p.partition, p.window_start::text, p.station",
    },
    Plant {
        name: "an extreme of a station that was not measured",
        change: "WITH chosen AS (SELECT station, window_start, partition FROM weather_station_partial
            WHERE min_wind_speed IS NOT NULL ORDER BY md5(station || window_start::text || partition || $1) LIMIT 1)
            UPDATE weather_station_partial p SET min_wind_speed = min_wind_speed - 1 FROM chosen c
            WHERE (p.station, p.window_start, p.partition) = (c.station, c.window_start, c.partition)
            RETURNING p.partition, p.window_start::text, p.station",
    },
    Plant {
        name: "an extreme of a station that is gone",
        change: "WITH chosen AS (SELECT station, window_start, partition FROM weather_station_partial
            WHERE station <> '*' AND max_temp IS NOT NULL
            ORDER BY md5(station || window_start::text || partition || $1) LIMIT 1)
            UPDATE weather_station_partial p SET max_temp = NULL FROM chosen c
            WHERE (p.station, p.window_start, p.partition) = (c.station, c.window_start, c.partition)
            RETURNING p.partition, p.window_start::text, p.station",
    },
    Plant {
        name: "a sum of the others off by a millionth",
        change: "WITH chosen AS (SELECT window_start, partition FROM weather_station_partial WHERE station = '*'
            ORDER BY md5(window_start::text || partition || $1) LIMIT 1)
            UPDATE weather_station_partial p SET wind_speed_sum = wind_speed_sum - 1 FROM chosen c
            WHERE (p.window_start, p.partition) = (c.window_start, c.partition) AND p.station = '*'
            RETURNING p.partition, p.window_start::text, p.station",
    },
];

/// The windows that cannot be checked, and why.
fn unknown(report: &simd_json::OwnedValue) -> Vec<(i64, String)> {
    let all = report.get_array("unknown").expect("what is unknown").iter();
    all.map(|about| {
        (about.get_i64("windows").unwrap_or(0), about.get_str("why").unwrap_or_default().to_owned())
    })
    .collect()
}

#[tokio::test]
async fn what_came_before_stations_were_kept_apart_cannot_be_told() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::new("before").await;
    let load = ["--stations", "50", "--rate", "0", "--partitions", "2"];
    pipeline.produce(&[&load[..], &["--count", "2000", "--backfill", "5h"]].concat()).await;
    pipeline.drain().await;
    // Nobody has asked for stations yet: there is nothing to compare.
    let plain = assert_exact(&pipeline, &[]).await;
    assert_eq!(sum(&plain, "station_rows"), 0, "{plain}");
    pipeline.produce(&[&load[..], &["--count", "2000", "--seed", "2"]].concat()).await;
    drain_by_station(&pipeline).await;
    let (code, report) = report(&pipeline, &["--max-stations", "20"]).await;
    let found = unknown(&report);
    assert_eq!((code, found.len()), (3, 2), "{report}");
    assert!(
        found.iter().all(|(windows, why)| *windows > 0 && why.contains("before --by station")),
        "{report}"
    );
    // What they are together is known to the last digit all the same.
    let plant =
        "UPDATE weather_station_partial SET temp_sum = temp_sum + 1 WHERE station = '*' AND partition = 1";
    pipeline.database.execute(plant).await;
    let (code, text) = exit(&pipeline, &["--max-stations", "20"]).await;
    assert!(
        code == Some(1)
            && text.contains("partition 1: its rows of weather_station_partial together: temp_sum"),
        "{text}"
    );
}

#[tokio::test]
async fn stations_whose_old_windows_are_deleted_are_not_missed() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::new("deleted").await;
    pipeline.produce(&LOAD).await;
    drain_by_station(&pipeline).await;
    let whole = assert_exact(&pipeline, &["--max-stations", "20"]).await;
    // The oldest two windows, and half of the third.
    let delete =
        "WITH windows AS (SELECT DISTINCT window_start FROM weather_station_partial ORDER BY 1 LIMIT 3)
        DELETE FROM weather_station_partial WHERE window_start IN (SELECT window_start FROM windows)
        AND (station < 'station-010' OR window_start < (SELECT max(window_start) FROM windows))";
    pipeline.database.execute(delete).await;
    let rows = pipeline.database.number("SELECT count(*) FROM weather_station_partial").await;
    let rest = assert_exact(&pipeline, &["--max-stations", "20"]).await;
    assert!(sum(&whole, "station_rows") > rows && sum(&rest, "station_rows") == rows, "{rows}: {rest}");
    // One that is there is compared, and one that is missing behind it is found.
    let oldest = "(SELECT min(window_start) FROM weather_station_partial)";
    for (plant, word) in [
        (
            format!("UPDATE weather_station_partial SET temp_sum = temp_sum + 1 WHERE partition = 0 AND window_start = {oldest}
                AND station = (SELECT max(station) FROM weather_station_partial WHERE partition = 0 AND window_start = {oldest})"),
            "temp_sum is",
        ),
        (
            format!("DELETE FROM weather_station_partial WHERE partition = 0 AND window_start > {oldest}"),
            "has no row of it",
        ),
    ] {
        pipeline.database.execute(&plant).await;
        let (code, report) = report(&pipeline, &["--max-stations", "20"]).await;
        let found = differences(&report);
        assert!(code == 1 && found.iter().any(|(p, _, what)| *p == Some(0) && what.contains(word)), "{report}");
    }
}
