//! `--by station` next to the same topic without it: CPU time, and memory by the number of stations.
//!
//! Each station sends into one partition, all within an hour, so that a row is written a few times at most. They send in
//! turn, as a program does that asks one after the other, or in no order at all: then nothing near is needed again soon.
//! What they take in memory is compared with what the code keeps of them ([`predicted`]).

use weather::time::now_ms;

use super::common::kafka::{BATCH, Kafka};
use super::common::program::Run;
use super::common::table::Table;
use super::common::{median, number, setting};
use super::end_to_end::{process, report};

const PARTITIONS: u64 = 4;
const HOUR_MS: i64 = 3_600_000;
/// What a reading takes in the embedded broker, at most.
const STORED_BYTES: usize = 200;

/// How the stations of a topic send.
#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    stations: u64,
    in_turn: bool,
}

/// Few stations, and many, as many as `WEATHER_BENCH_STATIONS` says.
fn cases() -> [Case; 3] {
    let many = number("WEATHER_BENCH_STATIONS", 100_000);
    [
        Case { name: "few-in-turn", stations: 200, in_turn: true },
        Case { name: "many-in-turn", stations: many, in_turn: true },
        Case { name: "many-at-random", stations: many, in_turn: false },
    ]
}

/// Fills a topic for each case, and reads it with and without stations in turns.
pub async fn run() {
    let real = setting("WEATHER_BENCH_KAFKA").is_some();
    let count = number("WEATHER_BENCH_READINGS", if real { 4_000_000 } else { 500_000 });
    let Some(table) = Table::named() else {
        println!("stations: left out, WEATHER_BENCH_DATABASE_URL is not set");
        return;
    };
    let cases = cases();
    let kafka = Kafka::start(cases.len() * count as usize * STORED_BYTES).await;
    for case in cases {
        // The last whole hour: one window, at whatever time this runs.
        let start_ms = (now_ms() / HOUR_MS - 1) * HOUR_MS;
        let reading = move |number| (None, reading(case, number, start_ms, count));
        let topic = kafka.filled_with(case.name, PARTITIONS as i32, count, reading).await;
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..number("WEATHER_BENCH_RUNS", 5) {
            without.push(process(&kafka, &topic, Some(&table), count, &[]).await);
            let flags = ["--by", "station", "--max-stations", "1000000"];
            with.push(process(&kafka, &topic, Some(&table), count, &flags).await);
        }
        report(&format!("stations/{}", case.name), &with, count);
        tell(case, &without, &with);
        kafka.delete(&topic).await;
    }
}

/// The reading of this number, which goes to the partition that its batch goes to.
fn reading(case: Case, number: u64, start_ms: i64, count: u64) -> Vec<u8> {
    let mix = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let partition = number / BATCH % PARTITIONS;
    // The readings of a partition, counted.
    let turn = number / (BATCH * PARTITIONS) * BATCH + number % BATCH;
    let station =
        if case.in_turn { turn } else { mix >> 24 } % (case.stations / PARTITIONS) * PARTITIONS + partition;
    let event_ms = start_ms + HOUR_MS * number as i64 / count as i64;
    let (t, h, w) = ((mix >> 20) % 4_500, (mix >> 32) % 1_000, (mix >> 44) % 3_000);
    let (t, h, w) = (t as f64 / 100.0 - 10.0, h as f64 / 10.0, w as f64 / 100.0);
    format!(
        r#"{{"station":"station-{station:06}","timestamp":{event_ms},"temperature":{t:.2},"humidity":{h:.1},"wind_speed":{w:.2}}}"#
    )
    .into_bytes()
}

/// Medians of the ratios of runs side by side, and what a station takes in memory.
fn tell(case: Case, without: &[Run], with: &[Run]) {
    let pairs: Vec<(Run, Run)> = with.iter().copied().zip(without.iter().copied()).collect();
    let ratio = |(with, without): &(Run, Run)| with.cpu.as_secs_f64() / without.cpu.as_secs_f64();
    let more = |(with, without): &(Run, Run)| with.peak_rss_bytes as f64 - without.peak_rss_bytes as f64;
    let (cpu, bytes) = (ratio(&median(&pairs, ratio)), more(&median(&pairs, more)));
    println!(
        "stations: {} {} with / without: CPU × {cpu:.2}, memory + {:.1} MB, {:.0} bytes a station ({:.1} MB predicted)",
        case.stations,
        case.name,
        bytes / 1e6,
        bytes / case.stations as f64,
        predicted(case.stations) as f64 / 1e6
    );
}

/// Bytes that these stations take by README.md, which says what each number is. All of them change before the only flush; no
/// checkpoint is written at that time.
fn predicted(stations: u64) -> u64 {
    let (name, portion) = ("station-000000".len() as u64, 2 << 20);
    let each = stations / PARTITIONS;
    let tables = stations * (100 + name) + PARTITIONS * 8 * (2 * each).next_power_of_two();
    let flush = 152 * stations.min(portion / (104 + name) + each);
    tables + flush + stations.min(4_096) * (188 + 2 * 194)
}
