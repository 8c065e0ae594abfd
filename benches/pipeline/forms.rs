//! The whole job on records of other forms, each next to the bare loop on the same topic.

use super::common::kafka::Kafka;
use super::common::program::{self, Run};
use super::common::readings::{self, Form};
use super::common::table::Table;
use super::common::{number, setting};
use super::end_to_end::{FETCH_BYTES, PARTITIONS, process, ratio, report};
use weather::time::now_ms;

/// Reads a topic of each form in turns with the bare loop on two threads.
pub async fn run() {
    let real = setting("WEATHER_BENCH_KAFKA").is_some();
    let count = number("WEATHER_BENCH_READINGS", if real { 4_000_000 } else { 500_000 }) / 2;
    let kafka = Kafka::start(count as usize * 300).await;
    let table = Table::named();
    for form in [Form::OldSystem, Form::Shuffled] {
        let start_ms = now_ms() - (count as i64 + 10_000) * readings::INTERVAL_MS;
        let reading = move |number| {
            let mut value = Vec::with_capacity(200);
            readings::write(form, number, start_ms, &mut value);
            (None, value)
        };
        let topic = kafka.filled_with(form.name(), PARTITIONS, count, reading).await;
        let (mut runs, mut loops): (Vec<Run>, Vec<Run>) = (Vec::new(), Vec::new());
        for _ in 0..number("WEATHER_BENCH_RUNS", 5) {
            runs.push(process(&kafka, &topic, table.as_ref(), count, &[]).await);
            let bare = program::bare(&kafka.brokers, &topic, PARTITIONS, 2, FETCH_BYTES);
            loops.push(program::run(bare).await);
        }
        report(&format!("forms/{}", form.name()), &runs, count);
        report(&format!("forms/{}-bare-2-threads", form.name()), &loops, count);
        let cpu = ratio(&runs, &loops, |run| run.cpu.as_secs_f64());
        println!("forms: {} / bare-2-threads: CPU × {cpu:.2}", form.name());
        kafka.delete(&topic).await;
    }
}
