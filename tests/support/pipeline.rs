//! The usual steps of a test: a topic, readings in it, a database, `weather process` on both.

use super::{Database, Folder, Kafka, Weather};
use std::time::Duration;

/// The most that a run over a test's topic may take.
pub const RUN_LIMIT: Duration = Duration::from_secs(120);

/// A topic with the database and the checkpoint folder that belong to it.
pub struct Pipeline {
    /// `--brokers`
    pub brokers: String,
    /// `--topic`
    pub topic: String,
    /// `--database-url`
    pub database: Database,
    /// `--checkpoint-dir`
    pub checkpoints: Folder,
}

impl Pipeline {
    /// Of this topic, into a database with no table.
    pub fn new(kafka: &Kafka, topic: &str, database: Database) -> Self {
        let checkpoints = Folder::new("checkpoints");
        Self { brokers: kafka.brokers(), topic: topic.to_owned(), database, checkpoints }
    }

    /// `weather producer` with these arguments, at its end.
    pub async fn produce(&self, arguments: &[&str]) {
        self.spawn_producer(arguments).succeed(RUN_LIMIT).await;
    }

    /// `weather producer` with these arguments.
    pub fn spawn_producer(&self, arguments: &[&str]) -> Weather {
        let common = ["producer", "--brokers", &self.brokers, "--topic", &self.topic, "--log-sent", "none"];
        Weather::spawn(common.iter().chain(arguments))
    }

    /// `weather process` with these arguments.
    pub fn spawn(&self, arguments: &[&str]) -> Weather {
        let folder = self.checkpoints.path().to_str().expect("the folder's name is UTF-8");
        let common = ["process", "--brokers", &self.brokers, "--topic", &self.topic, "--listen", ""];
        let own = ["--database-url", self.database.url(), "--checkpoint-dir", folder];
        Weather::spawn(common.iter().chain(&own).chain(arguments))
    }

    /// `weather process --until-latest` with these arguments, at its end.
    pub async fn drain(&self, arguments: &[&str]) -> Weather {
        let run = self.spawn(&[&["--until-latest"], arguments].concat());
        run.succeed(RUN_LIMIT).await;
        run
    }

    /// The table as text, a line a window: equal texts are equal tables.
    pub async fn table(&self) -> Vec<String> {
        let query = "SELECT concat_ws('|', window_start, window_end, avg_temp, avg_humidity, avg_wind_speed, \
                     reading_count, is_final) FROM weather_summary ORDER BY window_start";
        self.database.query(query, &[]).await.iter().map(|row| row.get(0)).collect()
    }
}
