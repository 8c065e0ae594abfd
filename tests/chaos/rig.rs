//! A topic, a database and the processes on them, with an audit that sees every write.
//!
//! Triggers note what no process may ever do, whatever happens to it: take a count, an offset, a watermark or an epoch
//! back, or write for a partition that it has not taken under the epoch of that write. Each process connects under a
//! name of its own, so the audit knows who wrote; what is rolled back is not noted.

use std::time::{Duration, Instant};

use crate::support::oracle::{Expected, Rules};
use crate::support::pipeline::RUN_LIMIT;
use crate::support::proxy::Protocol;
use crate::support::{Database, Folder, Kafka, Postgres, Proxy, Weather, unique};

/// The longest that a process may take to end in order.
pub(crate) const END_LIMIT: Duration = Duration::from_secs(20);
/// How soon the work goes on when what was in its way is gone.
pub(crate) const RESUMED: Duration = Duration::from_secs(30);

const AUDIT: &str = "
CREATE TABLE audit_taken (app TEXT, partition INT, epoch BIGINT);
CREATE TABLE audit_write (app TEXT, partition INT, epoch BIGINT, transaction BIGINT);
CREATE TABLE audit_partial (app TEXT, partition INT, transaction BIGINT);
CREATE TABLE audit_back (app TEXT, what TEXT);
CREATE FUNCTION audit_partition() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE app TEXT := current_setting('application_name');
BEGIN
    IF NEW.epoch > OLD.epoch THEN
        INSERT INTO audit_taken VALUES (app, NEW.partition, NEW.epoch);
    END IF;
    IF NEW.epoch = OLD.epoch AND NEW.updated_at IS DISTINCT FROM OLD.updated_at THEN -- not a mere heartbeat
        INSERT INTO audit_write VALUES (app, NEW.partition, NEW.epoch, txid_current());
    END IF;
    IF NEW.epoch < OLD.epoch OR (NEW.incarnation, NEW.next_offset) < (OLD.incarnation, OLD.next_offset)
        OR NEW.watermark < OLD.watermark OR NEW.max_event_time < OLD.max_event_time OR NEW.aggregated < OLD.aggregated THEN
        INSERT INTO audit_back VALUES (app, format('partition %s: %s became %s', NEW.partition, OLD, NEW));
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION audit_partial() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO audit_partial VALUES (current_setting('application_name'), NEW.partition, txid_current());
    RETURN NULL;
END $$;
CREATE FUNCTION audit_summary() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF NEW.reading_count < OLD.reading_count THEN
        INSERT INTO audit_back VALUES (current_setting('application_name'), format('window %s became %s', OLD, NEW));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE ON weather_partition FOR EACH ROW EXECUTE FUNCTION audit_partition();
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON weather_partial FOR EACH ROW EXECUTE FUNCTION audit_partial();
CREATE TRIGGER audit AFTER INSERT ON weather_dead_letter FOR EACH ROW EXECUTE FUNCTION audit_partial();
CREATE TRIGGER audit AFTER UPDATE ON weather_summary FOR EACH ROW EXECUTE FUNCTION audit_summary()";

/// What the audit has against the processes, a line each.
const COMPLAINTS: &str = "
SELECT app || ' took back: ' || what FROM audit_back
UNION ALL
SELECT format('%s wrote partition %s under epoch %s, which it has not taken', w.app, w.partition, w.epoch)
FROM audit_write w WHERE NOT EXISTS (SELECT FROM audit_taken t WHERE (t.app, t.partition, t.epoch) = (w.app, w.partition, w.epoch))
UNION ALL
SELECT format('%s wrote sums or dead letters of partition %s without its offset', p.app, p.partition) FROM audit_partial p
WHERE NOT EXISTS (SELECT FROM audit_write w WHERE (w.transaction, w.app, w.partition) = (p.transaction, p.app, p.partition))";

/// A topic with the database and the folder that belong to it.
pub(crate) struct Rig {
    /// The broker, as the test reaches it.
    pub(crate) kafka: Kafka,
    /// The topic.
    pub(crate) topic: String,
    /// The database, as the test reaches it.
    pub(crate) database: Database,
    /// The folder of checkpoint files.
    pub(crate) checkpoints: Folder,
    /// What the program is told.
    brokers: String,
    url: String,
}

impl Rig {
    /// On the shared services, with a proxy before PostgreSQL.
    pub(crate) async fn behind_postgres(label: &str, partitions: i32) -> (Proxy, Self) {
        let postgres = Postgres::shared();
        let proxy = Proxy::start(Protocol::Postgres, postgres.port()).await;
        let rig = Self::new(Kafka::shared(), &postgres, label, partitions).await.postgres_through(&proxy);
        (proxy, rig)
    }

    /// On the shared services, with a proxy before Kafka.
    pub(crate) async fn behind_kafka(label: &str, partitions: i32) -> (Proxy, Self) {
        let kafka = Kafka::shared();
        let proxy = Proxy::start(Protocol::Kafka, kafka.port()).await;
        let rig = Self::new(kafka, &Postgres::shared(), label, partitions).await.kafka_through(&proxy);
        (proxy, rig)
    }

    /// A new topic and a new database, with its tables made and the audit on.
    pub(crate) async fn new(kafka: Kafka, postgres: &Postgres, label: &str, partitions: i32) -> Self {
        let rig = Self::without_audit(kafka, postgres, label, partitions).await;
        rig.drain().await;
        rig.database.execute(AUDIT).await;
        rig
    }

    /// The same with nothing in the database.
    pub(crate) async fn without_audit(
        kafka: Kafka,
        postgres: &Postgres,
        label: &str,
        partitions: i32,
    ) -> Self {
        let topic = kafka.topic(label, partitions).await;
        Self::of_topic(kafka, postgres, &topic).await
    }

    /// The same with a topic that is there.
    pub(crate) async fn of_topic(kafka: Kafka, postgres: &Postgres, topic: &str) -> Self {
        let database = postgres.database().await;
        let (brokers, url) = (kafka.brokers(), database.url().to_owned());
        Self {
            kafka,
            topic: topic.to_owned(),
            database,
            checkpoints: Folder::new("checkpoints"),
            brokers,
            url,
        }
    }

    /// Lets the program reach Kafka only through the proxy.
    pub(crate) fn kafka_through(mut self, proxy: &Proxy) -> Self {
        self.brokers = format!("127.0.0.1:{}", proxy.port());
        self
    }

    /// Lets the program reach PostgreSQL only through the proxy.
    pub(crate) fn postgres_through(mut self, proxy: &Proxy) -> Self {
        let (user, rest) = self.url.rsplit_once('@').expect("the URL has a user");
        let (_, name) = rest.split_once('/').expect("the URL has a database");
        self.url = format!("{user}@127.0.0.1:{}/{name}", proxy.port());
        self
    }

    /// Lets the program work as a new role with no more rights than rows need; its name.
    pub(crate) async fn with_a_poor_role(mut self) -> (Self, String) {
        let role = unique("poor");
        let grant = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public";
        self.database.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'poor'; {grant} TO {role}")).await;
        let (_, server) = self.url.rsplit_once('@').expect("the URL has a user");
        self.url = format!("postgres://{role}:poor@{server}");
        (self, role)
    }

    /// `weather producer`.
    pub(crate) fn producer(&self, arguments: &[&str]) -> Weather {
        let common = ["producer", "--brokers", &self.brokers, "--topic", &self.topic, "--log-sent", "none"];
        Weather::spawn(common.iter().chain(arguments))
    }

    /// `weather process`, known to PostgreSQL by this name.
    pub(crate) fn process(&self, name: &str, arguments: &[&str]) -> Weather {
        self.process_at(&self.url, name, arguments)
    }

    /// The same, but with no proxy before PostgreSQL.
    pub(crate) fn process_without_proxy(&self, name: &str, arguments: &[&str]) -> Weather {
        self.process_at(self.database.url(), name, arguments)
    }

    fn process_at(&self, url: &str, name: &str, arguments: &[&str]) -> Weather {
        let folder = self.checkpoints.path().to_str().expect("the folder's name is UTF-8");
        let url = format!("{url}?application_name={name}");
        let common = ["process", "--brokers", &self.brokers, "--topic", &self.topic, "--listen", ""];
        let own = ["--database-url", &url, "--checkpoint-dir", folder];
        Weather::spawn(common.iter().chain(&own).chain(arguments))
    }

    /// `weather process --until-latest` to its end.
    pub(crate) async fn drain(&self) -> Weather {
        let run = self.process("drain", &["--until-latest"]);
        run.succeed(RUN_LIMIT).await;
        run
    }

    /// Readings in the table.
    pub(crate) async fn readings(&self) -> i64 {
        self.database.number("SELECT coalesce(sum(reading_count), 0)::bigint FROM weather_summary").await
    }

    /// Waits until the table counts more readings than now; how long that took.
    pub(crate) async fn wait_for_more(&self) -> Duration {
        let (before, start) = (self.readings().await, Instant::now());
        while self.readings().await <= before {
            assert!(start.elapsed() < RESUMED, "the table stands still");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        start.elapsed()
    }

    /// Ends the processes in order, works off what is left, and compares all tables with the topic.
    pub(crate) async fn assert_exact(&self, runs: &[&Weather]) -> Expected {
        for run in runs {
            run.sigterm();
            run.succeed(END_LIMIT).await;
        }
        self.drain().await;
        let expected = Expected::of_topic(&self.kafka, &self.topic, Rules::default()).await;
        expected.assert_table(&self.database).await;
        if self.database.has_table("audit_back").await {
            self.assert_audit().await;
        }
        println!("{}: exact, {:?}", self.topic, expected.counts());
        expected
    }

    async fn assert_audit(&self) {
        let rows = self.database.query(COMPLAINTS, &[]).await;
        let complaints: Vec<String> = rows.iter().map(|row| row.get(0)).take(10).collect();
        assert!(complaints.is_empty(), "{} complaints, such as {complaints:#?}", rows.len());
    }
}
