//! The database of the benchmarks, emptied before each run.

use tokio_postgres::{Client, NoTls};

use super::setting;

/// A database that a benchmark may fill and empty.
pub struct Table {
    url: String,
}

impl Table {
    /// The one that `WEATHER_BENCH_DATABASE_URL` names, if it does.
    pub fn named() -> Option<Self> {
        setting("WEATHER_BENCH_DATABASE_URL").map(|url| Self { url })
    }

    /// What `--database-url` takes.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection.
    pub async fn connect(&self) -> Client {
        let (client, connection) =
            tokio_postgres::connect(&self.url, NoTls).await.expect("PostgreSQL answers");
        tokio::spawn(connection);
        client
    }

    /// Drops every table with its views: the next start creates them again.
    pub async fn empty(&self) {
        const DROP: &str = "DROP TABLE IF EXISTS weather_summary, weather_partial, weather_station_partial, weather_partition, \
                            weather_process, weather_dead_letter, weather_log, weather_pipeline CASCADE";
        self.connect().await.batch_execute(DROP).await.expect("the tables can be dropped");
    }

    /// How many readings the table covers.
    pub async fn readings(&self) -> u64 {
        const SUM: &str = "SELECT coalesce(sum(reading_count), 0)::bigint FROM weather_summary";
        let row = self.connect().await.query_one(SUM, &[]).await.expect("the table is there");
        u64::try_from(row.get::<_, i64>(0)).expect("a count")
    }
}
