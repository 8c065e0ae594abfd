//! `weather demo` and what it stands on: a result that is exact, an end that leaves nothing, and a start that cleans up.
//!
//! Each test gives the demo a folder of its own for temporary files, so that what is left can be seen.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::weather::Run;
use crate::support::{Folder, Process, Weather, turn};

/// The most that a demo of some seconds may take on a busy machine.
const RUN_LIMIT: Duration = Duration::from_secs(90);
/// A line of a window: nothing else has a metric's three columns and this word.
const ROW: &str = "  open";

/// `weather demo`, in a folder that cannot be written to.
fn demo(temporary: &Folder, arguments: &[&str]) -> Run {
    let folder = temporary.path().to_str().expect("the folder's name is UTF-8");
    let run = Weather::command(["demo"].iter().chain(arguments)).env("TMPDIR", folder);
    run.current_dir(Path::new("/proc"))
}

/// Fails if the demo has left a file or a process.
fn assert_nothing_is_left(temporary: &Folder) {
    let files: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().flatten().map(|e| e.path()).collect();
    assert!(files.is_empty(), "{files:?}");
    let processes = processes_in(temporary.path());
    assert!(processes.is_empty(), "{processes:?}");
}

/// Command lines that name the folder.
fn processes_in(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(folder)).collect()
}

/// Fails unless the demo has shown everything it should.
fn assert_shown(run: &Weather) {
    let text = run.stdout().join("\n");
    for words in ["Kafka       embedded", "SIGKILL to the processor", "each counted once", ROW, "\nexact: "] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    assert!(!text.contains('\x1b'), "a pipe is no terminal\n{text}");
    let cuts = run
        .stdout()
        .last()
        .is_some_and(|line| line.contains("acknowledgements") && !line.contains("; 0 acknowledgements"));
    assert!(cuts, "the broker has cut no connection\n{text}");
}

#[tokio::test]
async fn with_a_postgres_of_its_own() {
    let _turn = turn::light().await;
    let temporary = Folder::new("demo");
    let run = demo(&temporary, &["--duration", "6s"]).spawn();
    let psql = run.wait_for_line("psql -h ", RUN_LIMIT).await;
    let socket = psql.trim().split(' ').nth(2).unwrap().to_owned();
    assert!(Path::new(&socket).starts_with(temporary.path()), "{psql}");
    run.wait_for_line(ROW, RUN_LIMIT).await;
    let url = format!("host={socket} user=postgres dbname=weather_db");
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let rows = client.query("SELECT * FROM weather_summary", &[]).await.unwrap();
    assert!(!rows.is_empty(), "one can look inside");
    run.succeed(RUN_LIMIT).await;
    assert_shown(&run);
    assert_nothing_is_left(&temporary);
    let peak = run.usage().peak_rss_bytes;
    assert!(peak < 48 << 20, "{peak}");
}

#[tokio::test]
async fn without_postgres() {
    let _turn = turn::light().await;
    let temporary = Folder::new("demo");
    let start = Instant::now();
    let run = demo(&temporary, &["--duration", "5s", "--without-postgres"]).spawn();
    run.wait_for_line("weather demo", RUN_LIMIT).await;
    let first = start.elapsed();
    run.wait_for_line(ROW, RUN_LIMIT).await;
    println!("first line after {first:?}, first row after {:?}", start.elapsed());
    run.succeed(RUN_LIMIT).await;
    assert!(run.stdout().iter().any(|line| line.contains("rows go to this terminal only")));
    assert_shown(&run);
    assert_nothing_is_left(&temporary);
}

#[tokio::test]
async fn twice_at_once() {
    let _turn = turn::light().await;
    let temporary = Folder::new("demo");
    let runs = [0, 1].map(|_| demo(&temporary, &["--duration", "4s", "--without-postgres"]).spawn());
    for run in runs {
        run.succeed(RUN_LIMIT).await;
        assert_shown(&run);
    }
    assert_nothing_is_left(&temporary);
}

#[tokio::test]
async fn ctrl_c_ends_it_at_once() {
    let _turn = turn::alone().await;
    for (arguments, limit) in [(&["--without-postgres"][..], 1), (&[], 2)] {
        let temporary = Folder::new("demo");
        let run = demo(&temporary, arguments).spawn();
        run.wait_for_line(ROW, RUN_LIMIT).await;
        let start = Instant::now();
        run.sigint();
        run.succeed(RUN_LIMIT).await;
        println!("{arguments:?}: ended after {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(limit), "{:?}", start.elapsed());
        assert_nothing_is_left(&temporary);
    }
}

#[tokio::test]
async fn the_next_start_cleans_up_after_sigkill() {
    let _turn = turn::light().await;
    let temporary = Folder::new("demo");
    let killed = demo(&temporary, &[]).spawn();
    killed.wait_for_line(ROW, RUN_LIMIT).await;
    killed.kill9().await;
    assert!(processes_in(temporary.path()).len() >= 2, "processor and PostgreSQL continue");
    let next = demo(&temporary, &["--duration", "3s", "--without-postgres"]).spawn();
    next.wait_for_line("cleaned up after 1 demo", RUN_LIMIT).await;
    next.succeed(RUN_LIMIT).await;
    assert_nothing_is_left(&temporary);
}

#[tokio::test]
async fn a_reader_that_stops_ends_it() {
    let _turn = turn::light().await;
    let temporary = Folder::new("demo");
    let program = env!("CARGO_BIN_EXE_weather");
    let mut pipe = std::process::Command::new("bash");
    pipe.args(["-c", "\"$0\" demo --without-postgres | head -n 5; exit ${PIPESTATUS[0]}", program]);
    pipe.env("TMPDIR", temporary.path()).stdout(std::process::Stdio::null());
    let run = Process::spawn(&mut pipe, "KILL");
    let status = run.wait(RUN_LIMIT).await.expect("it ends long before its time");
    assert!(status.success(), "{status}");
    assert_nothing_is_left(&temporary);
}
