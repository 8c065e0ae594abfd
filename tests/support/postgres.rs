//! PostgreSQL: the server that all tests share, with a database for each, or a private one to be stopped and killed.

use super::service::{Served, Service, port};
use super::{setting, unique, within};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row};

/// The most that one statement of a test may take.
const STATEMENT_LIMIT: Duration = Duration::from_secs(60);

/// A server. A private one ends with this value.
pub struct Postgres {
    folder: PathBuf,
    port: u16,
    private: Option<Service>,
}

impl Served for Postgres {
    fn service(&mut self) -> &mut Service {
        self.private
            .as_mut()
            .expect("this is the server of all tests; use Postgres::private to stop or kill one")
    }
}

impl Postgres {
    /// The server that `tests/run` started for all tests.
    pub fn shared() -> Self {
        let folder = Path::new(&setting("WEATHER_TEST_DIR")).join("postgres");
        Self { port: port(&folder), folder, private: None }
    }

    /// A server of this test alone. `settings` are those of `postgresql.conf`, such as `fsync=on`.
    pub async fn private(settings: &[&str]) -> Self {
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        // INT rolls back and closes; QUIT does not wait, but, unlike KILL, frees the shared memory.
        let mut service = Service::new(&["postgres"], &settings, "INT", "QUIT");
        service.start().await;
        Self { folder: service.path().to_owned(), port: port(service.path()), private: Some(service) }
    }

    /// Its port, the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's password; the user is `postgres`.
    pub fn password(&self) -> String {
        setting("WEATHER_TEST_PG_PASSWORD")
    }

    /// The URL of a database as the superuser, over TCP.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/{database}", self.password(), self.port)
    }

    /// The folder of its unix socket.
    pub fn socket_folder(&self) -> &Path {
        &self.folder
    }

    /// A new, empty database.
    pub async fn database(&self) -> Database {
        let name = unique("weather");
        let statement = format!("CREATE DATABASE {name}");
        Database { url: self.url("postgres") }.execute(&statement).await;
        Database { url: self.url(&name) }
    }
}

/// A database of a test.
#[derive(Debug, Clone)]
pub struct Database {
    url: String,
}

impl Database {
    /// What `--database-url` takes.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection, as the superuser.
    pub async fn connect(&self) -> Client {
        let connected =
            within(STATEMENT_LIMIT, "connecting to PostgreSQL", tokio_postgres::connect(&self.url, NoTls));
        let (client, connection) = connected.await.expect("PostgreSQL is there");
        tokio::spawn(connection); // ends with the client; its errors reach the client's calls
        client
    }

    /// Runs statements, divided by semicolons, on a connection of their own.
    pub async fn execute(&self, statements: &str) {
        let client = self.connect().await;
        let executed = within(STATEMENT_LIMIT, statements, client.batch_execute(statements)).await;
        executed.unwrap_or_else(|e| panic!("{statements}: {}", explain(&e)));
    }

    /// The rows of a query, on a connection of its own.
    pub async fn query(&self, query: &str, parameters: &[&(dyn ToSql + Sync)]) -> Vec<Row> {
        let client = self.connect().await;
        let queried = within(STATEMENT_LIMIT, query, client.query(query, parameters)).await;
        queried.unwrap_or_else(|e| panic!("{query}: {}", explain(&e)))
    }

    /// The one number (`BIGINT`) that a query gives.
    pub async fn number(&self, query: &str) -> i64 {
        let rows = self.query(query, &[]).await;
        assert_eq!(rows.len(), 1, "{query}: one row expected");
        rows[0].get(0)
    }

    /// Whether a table (or view) of this name exists.
    pub async fn has_table(&self, name: &str) -> bool {
        self.query("SELECT to_regclass($1)::text IS NOT NULL", &[&name]).await[0].get(0)
    }
}

/// tokio-postgres displays only `db error`; the rest is in the cause.
fn explain(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)
}
