//! Flushes against a real PostgreSQL, as the program sends them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use weather::engine::flush_plan::PartitionFlush;
use weather::engine::state::{PartitionState, Progress};
use weather::engine::window::{Totals, Window};
use weather::postgres::leases::LeaseSession;
use weather::postgres::schema::{self, Units};
use weather::postgres::session::Session;
use weather::postgres::write::FlushSession;
use weather::reading::Format;

use super::common::figures::{Figures, cpu_time};
use super::common::table::Table;
use super::common::wanted;

const PARTITIONS: i32 = 4;
const LEASE: Duration = Duration::from_secs(60);
const HOUR_MS: i64 = 3_600_000;

/// Four partitions with two changed windows each, again and again.
pub fn run() {
    if !wanted("flush/4-partitions") {
        return;
    }
    match Table::named() {
        Some(table) => tokio::runtime::Runtime::new().expect("threads").block_on(flushes(&table)),
        None => println!("flush: left out, WEATHER_BENCH_DATABASE_URL is not set"),
    }
}

async fn flushes(table: &Table) {
    table.empty().await;
    let config = table.url().parse().expect("a URL of PostgreSQL");
    let open = async || Session::open(&config).await.expect("PostgreSQL answers");
    schema::set_up(&open().await, "bench", HOUR_MS, &Units::of(&Format::default()), false)
        .await
        .expect("tables can be made");
    let leases = LeaseSession::prepare(Arc::new(open().await), "bench", "bench", LEASE, false)
        .await
        .expect("statements are taken");
    let partitions: Vec<i32> = (0..PARTITIONS).collect();
    leases.add_partitions(&partitions).await.expect("rows can be made");
    leases.beat(&[], true).await.expect("a heart beats");
    let claimed = leases.claim(&partitions, HOUR_MS).await.expect("no other process has them");
    let mut session = FlushSession::prepare(Arc::new(open().await), "bench", HOUR_MS, LEASE, false)
        .await
        .expect("statements are taken");
    let mut states: Vec<PartitionFlush> =
        claimed.iter().map(|claimed| first(claimed.partition, claimed.epoch)).collect();
    let mut figures = Figures::new("flush/4-partitions", "flush of 8 windows");
    let (start, cpu) = (Instant::now(), cpu_time());
    while start.elapsed() < Duration::from_secs(4) {
        for flush in &mut states {
            flush.known = flush.state.progress.position();
            flush.state.progress.next_offset += 10;
            flush.state.progress.aggregated += 10;
            flush.windows.iter_mut().for_each(|window| window.totals.readings += 5);
        }
        let begin = Instant::now();
        session.flush(&states, false).await.expect("nothing prevents it");
        figures.record(begin.elapsed());
        figures.items += 1;
    }
    figures.finish(start, cpu);
}

fn first(partition: i32, epoch: i64) -> PartitionFlush {
    let totals = Totals { readings: 0, counts: [5; 3], sums: [5_000_000; 3], ..Totals::default() };
    let windows = [1, 2].map(|hour| Window { start_ms: hour * HOUR_MS, totals }).to_vec();
    let state = PartitionState { progress: Progress::starting_at(0), ..PartitionState::starting_at(0) };
    let known = state.progress.position();
    PartitionFlush {
        partition,
        epoch,
        state,
        known,
        high_watermark: 0,
        windows,
        dead_letters: Vec::new(),
        stations: Vec::new(),
    }
}
