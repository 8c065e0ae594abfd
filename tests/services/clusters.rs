//! Another Kafka cluster with a topic of the same name: refused until the user names it, then read beside what is there.
//!
//! The oracle recomputes what the logs hold, in the order in which they could be read.

use rskafka::record::RecordAndOffset;

use crate::support::kafka::Version;
use crate::support::oracle::{Expected, Rules};
use crate::support::pipeline::RUN_LIMIT;
use crate::support::{Kafka, Pipeline, Weather, turn};

/// A pipeline on the clusters' common topic, which it reads on either of them.
struct Clusters {
    pipeline: Pipeline,
    /// Brokers and id of each.
    clusters: [(Kafka, String); 2],
    /// What could be read so far.
    log: Vec<RecordAndOffset>,
    /// How much of each cluster's log that has.
    read: [usize; 2],
}

impl Clusters {
    async fn new() -> Self {
        let pipeline = Pipeline::with_topic("clusters", 1).await;
        let other = Kafka::private(Version::V4_1, &[]).await;
        other.create_topic(&pipeline.topic, 1).await;
        let first = Kafka::shared();
        let clusters = [first, other].map(|kafka| {
            let id = kafka.cluster_id();
            (kafka, id)
        });
        Self { pipeline, clusters, log: Vec::new(), read: [0, 0] }
    }

    /// 1,000 readings of three hours to one of the clusters.
    async fn produce(&mut self, cluster: usize, seed: &str) {
        self.pipeline.brokers = self.clusters[cluster].0.brokers();
        let arguments = ["--count", "1000", "--rate", "0", "--backfill", "3h", "--late-ratio", "0.05"];
        self.pipeline.produce(&[&arguments[..], &["--partitions", "1", "--seed", seed]].concat()).await;
    }

    /// A bounded run on one of the clusters, not ended yet.
    fn run(&mut self, cluster: usize, arguments: &[&str]) -> Weather {
        self.pipeline.brokers = self.clusters[cluster].0.brokers();
        self.pipeline.spawn(&[&["--until-latest"], arguments].concat())
    }

    /// Reads what is new in a cluster's log, naming the cluster; the table has to be what the logs give then.
    async fn read(&mut self, cluster: usize, arguments: &[&str]) {
        let id = self.clusters[cluster].1.clone();
        let run = self.run(cluster, &[&["--accept-cluster", &id], arguments].concat());
        run.succeed(RUN_LIMIT).await;
        let new = self.clusters[cluster].0.read(&self.pipeline.topic, 0).await;
        self.log.extend(new.into_iter().skip(self.read[cluster]));
        self.read[cluster] = self.clusters[cluster].0.offsets(&self.pipeline.topic, 0).await.1 as usize;
        let expected = Expected::of_log(&self.pipeline.topic, &self.log, Rules::default());
        expected.assert_windows(&self.pipeline.database).await;
    }

    /// What `weather inspect` says of the cluster whose brokers are given.
    async fn inspect(&self) -> String {
        let pipeline = &self.pipeline;
        let places =
            ["--brokers", &pipeline.brokers, "--topic", &pipeline.topic, "--database-url", &pipeline.url];
        let run = Weather::spawn(["inspect", "--checkpoint-dir", pipeline.folder()].iter().chain(&places));
        run.wait(RUN_LIMIT).await;
        run.stdout().join("\n")
    }

    /// `weather verify` on the cluster whose brokers are given ends with this code, and names both if they are confused.
    async fn verify(&self, code: i32) {
        let pipeline = &self.pipeline;
        let run = Weather::spawn([
            "verify",
            "--brokers",
            &pipeline.brokers,
            "--topic",
            &pipeline.topic,
            "--database-url",
            &pipeline.url,
        ]);
        assert_eq!(run.wait(RUN_LIMIT).await.code(), Some(code), "{:?} {:?}", run.stdout(), run.stderr());
        let said = run.stderr().join("\n");
        assert!(code == 0 || self.clusters.iter().all(|(_, id)| said.contains(id.as_str())), "{said}");
    }

    async fn number(&self, query: &str) -> i64 {
        self.pipeline.database.number(query).await
    }

    async fn rows(&self) -> (Vec<String>, i64) {
        let positions =
            "SELECT sum(next_offset + 1000000 * incarnation + epoch)::bigint FROM weather_partition";
        (self.pipeline.table().await, self.number(positions).await)
    }

    /// One cluster's brokers are refused with both ids, and nothing changes.
    async fn refuses(&mut self, cluster: usize, arguments: &[&str]) {
        let before = self.rows().await;
        let refused = self.run(cluster, arguments);
        assert_eq!(refused.wait(RUN_LIMIT).await.code(), Some(2), "{:?}", refused.stderr());
        let said = refused.stderr().join("\n");
        for (_, id) in &self.clusters {
            assert!(said.contains(id.as_str()), "{said}");
        }
        assert!(said.contains(&format!("--accept-cluster {}", self.clusters[cluster].1)), "{said}");
        assert_eq!(self.rows().await, before);
        let inspected = self.inspect().await;
        assert!(self.clusters.iter().all(|(_, id)| inspected.contains(id.as_str())), "{inspected}");
        self.verify(2).await;
    }
}

#[tokio::test]
async fn another_cluster_is_refused_until_it_is_named_and_each_is_read_on_where_it_was_left() {
    let _turn = turn::heavy().await;
    let mut clusters = Clusters::new().await;
    clusters.produce(0, "1").await;
    clusters.read(0, &[]).await;
    clusters.verify(0).await;
    clusters.produce(1, "2").await;
    clusters.refuses(1, &[]).await;
    let own = clusters.clusters[0].1.clone();
    clusters.refuses(1, &["--accept-cluster", &own]).await;

    // Somebody still reads the first cluster while the tables go over to the other.
    clusters.pipeline.brokers = clusters.clusters[0].0.brokers();
    let left = clusters.pipeline.spawn(&["--checkpoint-interval", "100ms"]);
    left.wait_for_line("took a partition", RUN_LIMIT).await;
    clusters.read(1, &[]).await;
    assert_eq!(left.wait(RUN_LIMIT).await.code(), Some(2), "{:?}", left.stderr());

    // Back: what was read there is not counted again, and what came meanwhile is read.
    clusters.produce(0, "3").await;
    clusters.refuses(0, &[]).await;
    clusters.read(0, &[]).await;
    assert_eq!(clusters.number("SELECT incarnation FROM weather_partition").await, 2);
    clusters.produce(1, "4").await;
    clusters.read(1, &[]).await;
    assert_eq!(clusters.number("SELECT sum(lost)::bigint FROM weather_partition").await, 0);
    let accounted = "SELECT next_offset - origin_offset FROM weather_partition";
    assert_eq!(clusters.number(accounted).await, 4_000);
}

#[tokio::test]
async fn on_another_cluster_reading_starts_where_from_says() {
    let _turn = turn::heavy().await;
    let mut clusters = Clusters::new().await;
    clusters.produce(0, "1").await;
    clusters.read(0, &[]).await;
    clusters.produce(1, "2").await;
    // All of it was there before.
    clusters.read[1] = 1_000;
    clusters.read(1, &["--from", "latest"]).await;
    assert_eq!(clusters.number("SELECT next_offset FROM weather_partition").await, 1_000);
    clusters.produce(1, "3").await;
    clusters.read(1, &[]).await;
}

#[tokio::test]
async fn without_postgresql_the_files_of_another_cluster_are_refused() {
    let _turn = turn::heavy().await;
    let mut clusters = Clusters::new().await;
    clusters.produce(0, "1").await;
    clusters.produce(1, "2").await;
    clusters.pipeline.url = "none".to_owned();
    clusters.run(0, &[]).succeed(RUN_LIMIT).await;
    let refused = clusters.run(1, &[]);
    assert_eq!(refused.wait(RUN_LIMIT).await.code(), Some(2));
    let said = refused.stderr().join("\n");
    assert!(clusters.clusters.iter().all(|(_, id)| said.contains(id.as_str())), "{said}");
}
