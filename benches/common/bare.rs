//! The floor: what fetching with rskafka and parsing with simd-json cost alone.
//!
//! No windows, no table, no checkpoint, no time-outs, no retries; buffers are used again, one task a partition. Run as a
//! process of its own by starting the benchmark with `bare BROKERS TOPIC PARTITIONS THREADS FETCH_BYTES`.

use std::sync::Arc;

use rskafka::client::ClientBuilder;
use rskafka::client::partition::{OffsetAt, PartitionClient, UnknownTopicHandling};
use simd_json::{Buffers, Node, StaticNode, Tape};

/// Reads the topic to its end as the arguments after `bare` say, and prints how many readings it held.
pub fn run(arguments: &[String]) {
    let [brokers, topic, partitions, threads, fetch_bytes] = arguments else {
        panic!("bare BROKERS TOPIC PARTITIONS THREADS FETCH_BYTES, not {arguments:?}")
    };
    let number = |text: &String| text.parse::<i32>().unwrap_or_else(|e| panic!("{text}: {e}"));
    let (partitions, fetch_bytes) = (number(partitions), number(fetch_bytes));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(number(threads) as usize)
        .enable_all()
        .build()
        .expect("threads");
    let readings = runtime.block_on(async {
        let client = ClientBuilder::new(brokers.split(',').map(str::to_owned).collect());
        let client = Arc::new(client.build().await.expect("a broker"));
        let mut tasks = tokio::task::JoinSet::new();
        for partition in 0..partitions {
            let (client, topic) = (Arc::clone(&client), topic.clone());
            tasks.spawn(async move {
                let connect = client.partition_client(topic, partition, UnknownTopicHandling::Error);
                drain(connect.await.expect("a leader"), fetch_bytes).await
            });
        }
        let mut readings = 0;
        while let Some(done) = tasks.join_next().await {
            readings += done.expect("a loop that ends well");
        }
        readings
    });
    println!("{readings}");
}

async fn drain(partition: PartitionClient, fetch_bytes: i32) -> u64 {
    let end = partition.get_offset(OffsetAt::Latest).await.expect("the end");
    let (mut next, mut readings, mut sum) = (0, 0, 0.0);
    let mut buffers = Buffers::default();
    let mut tape = Tape(Vec::new());
    while next < end {
        let fetch = partition.fetch_records(next, 1..fetch_bytes, 1_000);
        let (mut records, _) = fetch.await.expect("records");
        for record in &mut records {
            next = record.offset + 1;
            let Some(value) = record.record.value.as_deref_mut() else { continue };
            let mut filled = tape.reset();
            if simd_json::fill_tape(value, &mut buffers, &mut filled).is_ok() {
                readings += 1;
                sum += temperature(&filled.0);
            }
            tape = filled.reset();
        }
    }
    std::hint::black_box(sum);
    readings
}

fn temperature(tape: &[Node<'_>]) -> f64 {
    let at = tape.iter().position(|node| matches!(node, Node::String("temperature")));
    match at.and_then(|at| tape.get(at + 1)) {
        Some(Node::Static(StaticNode::F64(value))) => *value,
        _ => 0.0,
    }
}
