//! A topic, a database and the processes on them: the usual steps of a test.

use std::time::{Duration, Instant};

use super::oracle::{Expected, Rules};
use super::proxy::Protocol;
use super::{Database, Folder, Kafka, Postgres, Proxy, Weather, audit, unique};

/// The most that a run over a test's topic may take.
pub const RUN_LIMIT: Duration = Duration::from_secs(120);
/// The longest that a process may take to end gracefully.
pub const END_LIMIT: Duration = Duration::from_secs(20);
/// How soon the work continues when the obstacle is gone: a connection that was begun before may hang for 20 s more, and
/// the machine may be busy.
pub const RESUMED: Duration = Duration::from_secs(45);

/// A topic with the database and the folder that belong to it.
pub struct Pipeline {
    /// The broker, as the test reaches it.
    pub kafka: Kafka,
    /// `--topic`
    pub topic: String,
    /// The database, as the test reaches it.
    pub database: Database,
    /// `--checkpoint-dir`
    pub checkpoints: Folder,
    /// `--brokers`
    pub brokers: String,
    /// `--database-url`
    pub url: String,
}

impl Pipeline {
    /// On the shared services: the name of a topic that is not there yet, and a database with no table.
    pub async fn new(label: &str) -> Self {
        Self::of_topic(Kafka::shared(), &Postgres::shared(), &unique(label)).await
    }

    /// The same with the topic made.
    pub async fn with_topic(label: &str, partitions: i32) -> Self {
        let kafka = Kafka::shared();
        let topic = kafka.topic(label, partitions).await;
        Self::of_topic(kafka, &Postgres::shared(), &topic).await
    }

    /// Of this topic, into a database with no table.
    pub async fn of_topic(kafka: Kafka, postgres: &Postgres, topic: &str) -> Self {
        let database = postgres.database().await;
        let (brokers, url) = (kafka.brokers(), database.url().to_owned());
        let checkpoints = Folder::new("checkpoints");
        Self { kafka, topic: topic.to_owned(), database, checkpoints, brokers, url }
    }

    /// A new topic and a new database, with its tables made and the audit on.
    pub async fn audited(kafka: Kafka, postgres: &Postgres, label: &str, partitions: i32) -> Self {
        let topic = kafka.topic(label, partitions).await;
        let pipeline = Self::of_topic(kafka, postgres, &topic).await;
        pipeline.drain().await;
        audit::start(&pipeline.database).await;
        pipeline
    }

    /// The same on the shared services, with a proxy before PostgreSQL.
    pub async fn behind_postgres(label: &str, partitions: i32) -> (Proxy, Self) {
        let postgres = Postgres::shared();
        let proxy = Proxy::start(Protocol::Postgres, postgres.port()).await;
        let pipeline = Self::audited(Kafka::shared(), &postgres, label, partitions).await;
        let pipeline = pipeline.postgres_through(&proxy);
        (proxy, pipeline)
    }

    /// The same on the shared services, with a proxy before Kafka.
    pub async fn behind_kafka(label: &str, partitions: i32) -> (Proxy, Self) {
        let kafka = Kafka::shared();
        let proxy = Proxy::start(Protocol::Kafka, kafka.port()).await;
        let pipeline =
            Self::audited(kafka, &Postgres::shared(), label, partitions).await.kafka_through(&proxy);
        (proxy, pipeline)
    }

    /// Lets the program reach Kafka only through the proxy.
    pub fn kafka_through(mut self, proxy: &Proxy) -> Self {
        self.brokers = format!("127.0.0.1:{}", proxy.port());
        self
    }

    /// Lets the program reach PostgreSQL only through the proxy.
    pub fn postgres_through(mut self, proxy: &Proxy) -> Self {
        let (user, rest) = self.url.rsplit_once('@').expect("the URL has a user");
        let (_, name) = rest.split_once('/').expect("the URL has a database");
        self.url = format!("{user}@127.0.0.1:{}/{name}", proxy.port());
        self
    }

    /// Lets the program work as a new role that may only read and write rows; its name.
    pub async fn with_a_poor_role(mut self) -> (Self, String) {
        let role = unique("poor");
        let grant = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public";
        self.database.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'poor'; {grant} TO {role}")).await;
        let (_, server) = self.url.rsplit_once('@').expect("the URL has a user");
        self.url = format!("postgres://{role}:poor@{server}");
        (self, role)
    }

    /// `weather producer`.
    pub fn producer(&self, arguments: &[&str]) -> Weather {
        let common = ["producer", "--brokers", &self.brokers, "--topic", &self.topic, "--log-sent", "none"];
        Weather::spawn(common.iter().chain(arguments))
    }

    /// The same, at its end.
    pub async fn produce(&self, arguments: &[&str]) {
        self.producer(arguments).succeed(RUN_LIMIT).await;
    }

    /// `weather process`.
    pub fn spawn(&self, arguments: &[&str]) -> Weather {
        self.process_at(&self.url, arguments)
    }

    /// The same, known to PostgreSQL by this name.
    pub fn process(&self, name: &str, arguments: &[&str]) -> Weather {
        self.process_at(&format!("{}?application_name={name}", self.url), arguments)
    }

    /// The same, but with no proxy before PostgreSQL.
    pub fn process_without_proxy(&self, name: &str, arguments: &[&str]) -> Weather {
        self.process_at(&format!("{}?application_name={name}", self.database.url()), arguments)
    }

    /// `weather process` on the database of this URL.
    pub fn process_at(&self, url: &str, arguments: &[&str]) -> Weather {
        let own = ["--database-url", url, "--checkpoint-dir", self.folder(), "--listen", ""];
        let common = ["process", "--brokers", &self.brokers, "--topic", &self.topic];
        Weather::spawn(common.iter().chain(&own).chain(arguments))
    }

    /// `weather process --until-latest` to its end.
    pub async fn drain(&self) -> Weather {
        let run = self.process("drain", &["--until-latest"]);
        run.succeed(RUN_LIMIT).await;
        run
    }

    /// The folder of checkpoint files, as an argument.
    pub fn folder(&self) -> &str {
        self.checkpoints.path().to_str().expect("the folder's name is UTF-8")
    }

    /// The table as text, a line a window: equal texts are equal tables.
    pub async fn table(&self) -> Vec<String> {
        let query = "SELECT concat_ws('|', window_start, window_end, avg_temp, avg_humidity, avg_wind_speed, \
                     reading_count, is_final) FROM weather_summary ORDER BY window_start";
        self.database.query(query, &[]).await.iter().map(|row| row.get(0)).collect()
    }

    /// Readings in the table.
    pub async fn readings(&self) -> i64 {
        self.database.number("SELECT coalesce(sum(reading_count), 0)::bigint FROM weather_summary").await
    }

    /// Waits until a process has created the tables, or recreated what was dropped of them.
    pub async fn wait_for_tables(&self) {
        let columns = "SELECT count(*) FROM pg_attribute WHERE attname IN ('reading_count', 'next_offset') AND \
                       attrelid IN (to_regclass('weather_summary'), to_regclass('weather_partition'))";
        let start = Instant::now();
        while self.database.number(columns).await < 2 {
            assert!(start.elapsed() < RESUMED, "the tables are not made");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the table counts more readings than now; how long that took.
    pub async fn wait_for_more(&self) -> Duration {
        let (before, start) = (self.readings().await, Instant::now());
        while self.readings().await <= before {
            assert!(start.elapsed() < RESUMED, "the table does not change");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        start.elapsed()
    }

    /// Ends the processes gracefully, processes what is left, and compares all tables with the topic.
    pub async fn assert_exact(&self, runs: &[&Weather]) -> Expected {
        for run in runs {
            run.sigterm();
            run.succeed(END_LIMIT).await;
        }
        self.drain().await;
        self.assert_table().await
    }

    /// Compares all tables, as they are, with the topic.
    pub async fn assert_table(&self) -> Expected {
        let expected = Expected::of_topic(&self.kafka, &self.topic, Rules::default()).await;
        expected.assert_table(&self.database).await;
        audit::assert_clean(&self.database).await;
        println!("{}: exact, {:?}", self.topic, expected.counts());
        expected
    }
}
