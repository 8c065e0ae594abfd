//! The demo's own PostgreSQL, if its programs are installed: in the demo's folder, on a unix socket there, stopped when
//! this value is dropped.
//!
//! It is not durable (no fsync) and uses little memory. PostgreSQL refuses to run as root, so as root it runs as `postgres`
//! or `nobody`. Only the user who runs it can reach the socket, which lies in the data folder.

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_postgres::Config;

use super::scratch::Scratch;
use super::system;
use crate::postgres::session::Session;

/// The database, as the README names it.
const DATABASE: &str = "weather_db";
/// Longest wait for each step of the start.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Longest wait for the end; then it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);

/// Settings for a short life: not durable, no background helpers, little memory, no port.
const SETTINGS: [&str; 14] = [
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "shared_buffers=16MB",
    "max_connections=20",
    "max_wal_senders=0",
    "wal_level=minimal",
    "max_worker_processes=0",
    "jit=off",
    "logging_collector=off",
    "log_destination=stderr",
    "timezone=UTC",
];

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    server: Child,
    socket_folder: PathBuf,
    version: String,
}

impl Server {
    /// The folder with PostgreSQL's server programs, the newest first where there are several.
    pub(super) fn find() -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        for (parent, prefix, rest) in [
            ("/usr/lib/postgresql", "", "bin"),
            ("/usr", "pgsql-", "bin"),
            ("/opt/homebrew/opt", "postgresql", "bin"),
            ("/usr/local/opt", "postgresql", "bin"),
        ] {
            folders.extend(numbered(Path::new(parent), prefix).into_iter().map(|folder| folder.join(rest)));
        }
        folders.extend(["/opt/homebrew/bin", "/usr/local/bin", "/usr/local/pgsql/bin"].map(PathBuf::from));
        folders
            .into_iter()
            .find(|folder| ["initdb", "postgres"].iter().all(|name| folder.join(name).is_file()))
    }

    /// Creates a server in the demo's folder and starts it, or says why it cannot.
    pub(super) async fn start(programs: &Path, scratch: &Scratch) -> Result<Self, String> {
        let data = scratch.path().join("pg");
        fs::create_dir(&data).map_err(|e| format!("{}: {e}", data.display()))?;
        let user = if scratch.owner() == 0 { Some(unprivileged(&data)?) } else { None };
        let log = scratch.path().join("postgres.log");
        let output = || File::options().create(true).append(true).open(&log).map_err(|e| e.to_string());
        let command = |name: &str| -> Result<Command, String> {
            let mut command = Command::new(programs.join(name));
            command.arg("-D").arg(&data).current_dir(&data).env("LC_ALL", "C").env_remove("PGDATA");
            // Its own process group: Ctrl-C goes to the demo, which then ends it.
            command.process_group(0).stdin(Stdio::null()).stdout(output()?).stderr(output()?);
            if let Some((user, group)) = user {
                command.uid(user).gid(group);
            }
            Ok(command)
        };
        let failed = |what: &str| format!("{what}: {}", last_line(&log));

        let mut initdb = command("initdb")?;
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]);
        let mut initdb = Running(initdb.spawn().map_err(|e| format!("initdb: {e}"))?);
        scratch.note_process("initdb", initdb.0.id());
        if !initdb.succeeds().await {
            return Err(failed("initdb"));
        }
        let mut server = command("postgres")?;
        server.arg("-k").arg(&data);
        for setting in SETTINGS {
            server.args(["-c", setting]);
        }
        let server = server.spawn().map_err(|e| format!("postgres: {e}"))?;
        let mut started = Self { server, socket_folder: data, version: String::new() };
        started.make_database().await.map_err(|e| format!("{e}: {}", last_line(&log)))?;
        Ok(started)
    }

    async fn make_database(&mut self) -> Result<(), String> {
        let start = Instant::now();
        let session = loop {
            match Session::open(&self.to("postgres")).await {
                Ok(session) => break session,
                Err(e) if start.elapsed() > START_LIMIT => return Err(e.to_string()),
                Err(_) if !matches!(self.server.try_wait(), Ok(None)) => return Err("postgres ended".into()),
                Err(_) => sleep(POLL).await,
            }
        };
        let create = format!("CREATE DATABASE {DATABASE}");
        session.call(session.client.batch_execute(&create)).await.map_err(|e| e.to_string())?;
        let asked = session.call(session.client.query_one("SHOW server_version", &[])).await;
        let version: String = asked.and_then(|row| Ok(row.try_get(0)?)).map_err(|e| e.to_string())?;
        self.version = version.split(' ').next().unwrap_or_default().to_owned();
        Ok(())
    }

    /// How to connect to the demo's database.
    pub(super) fn config(&self) -> Config {
        self.to(DATABASE)
    }

    fn to(&self, database: &str) -> Config {
        let mut config = Config::new();
        config.host_path(&self.socket_folder).user("postgres").dbname(database);
        config
    }

    /// The same for `--database-url`.
    pub(super) fn url(&self) -> String {
        format!("host={} user=postgres dbname={DATABASE}", self.socket_folder.display())
    }

    /// The command to query the tables.
    pub(super) fn psql(&self) -> String {
        format!("psql -h {} -U postgres {DATABASE}", self.socket_folder.display())
    }

    /// Such as `17.2`.
    pub(super) fn version(&self) -> &str {
        &self.version
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // At once, but freeing its shared memory, which SIGKILL would leave behind.
        system::signal(self.server.id(), "QUIT");
        let start = Instant::now();
        while matches!(self.server.try_wait(), Ok(None)) {
            if start.elapsed() > STOP_LIMIT {
                let _ = self.server.kill();
                let _ = self.server.wait();
            }
            std::thread::sleep(POLL);
        }
    }
}

/// A program that is killed with this value if it has not ended.
struct Running(Child);

impl Running {
    async fn succeeds(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < START_LIMIT {
            match self.0.try_wait() {
                Ok(None) => sleep(POLL).await,
                Ok(Some(status)) => return status.success(),
                Err(_) => return false,
            }
        }
        false
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Gives the folder to the user that PostgreSQL runs as when root starts it; returns that user.
fn unprivileged(data: &Path) -> Result<(u32, u32), String> {
    let user =
        system::user(&["postgres", "nobody"]).ok_or("there is no user postgres or nobody to run it as")?;
    chown(data, Some(user.0), Some(user.1)).map_err(|e| format!("{}: {e}", data.display()))?;
    Ok(user)
}

/// Folders below `parent` whose name is this prefix and perhaps a number, the greatest first.
fn numbered(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let number = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?.strip_prefix(prefix)?;
        let version = name.trim_start_matches('@');
        if version.is_empty() { Some(0.0) } else { version.parse::<f64>().ok() }
    };
    let entries = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<(f64, PathBuf)> = entries.filter_map(|path| Some((number(&path)?, path))).collect();
    found.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The last output of a program.
fn last_line(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it printed nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_comes_first() {
        let base = std::env::temp_dir().join(format!("weather-numbered-{}", std::process::id()));
        for name in ["postgresql@9.6", "postgresql@17", "postgresql", "postgresql-client", "other@18"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        let found = numbered(&base, "postgresql");
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["postgresql@17", "postgresql@9.6", "postgresql"]);
        fs::remove_dir_all(&base).unwrap();
    }
}
