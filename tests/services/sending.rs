//! What the producer may hold of what is not acknowledged yet.

use crate::support::pipeline::RUN_LIMIT;
use crate::support::{Pipeline, turn};

/// However many partitions there are, what waits for acknowledgements is bounded for all of them together.
#[tokio::test]
async fn memory_is_bounded_over_200_partitions() {
    const MOST_BYTES: u64 = 64 << 20;
    let _turn = turn::heavy().await;
    let pipeline = Pipeline::new("wide").await;
    let arguments = ["--rate", "0", "--count", "1000000", "--stations", "2000", "--partitions", "200"];
    let producer = pipeline.producer(&arguments);
    producer.succeed(RUN_LIMIT).await;
    let peak_bytes = producer.usage().peak_rss_bytes;
    println!("200 partitions: a peak of {} MiB of memory", peak_bytes >> 20);
    assert!(peak_bytes < MOST_BYTES);
}
