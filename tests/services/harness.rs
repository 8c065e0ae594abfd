//! The harness itself: processes that are stopped, continued and ended, and what they used.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use crate::support::{Process, poll, turn};

fn shell(script: &str) -> Process {
    Process::spawn(Command::new("sh").args(["-c", script]), "KILL")
}

fn is_stopped(id: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| stat.contains(") T "))
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn processes_stop_continue_and_end() {
    let _turn = turn::light().await;
    const LIMIT: Duration = Duration::from_secs(10);
    let process = shell("exec sleep 1000");
    process.signal("STOP");
    // Until it has stopped in fact, a second signal would still end it.
    poll(LIMIT, || is_stopped(process.id()).then_some(())).await.expect("it stops");
    process.signal("TERM");
    assert_eq!(process.wait(Duration::from_millis(200)).await, None, "it is stopped");
    process.signal("CONT");
    assert_eq!(process.wait(LIMIT).await.expect("it ends").signal(), Some(15));

    let endless = shell("exec sleep 1000");
    let is_there = format!("kill -0 {}", endless.id());
    drop(endless);
    let answer = shell(&format!("{is_there} 2>/dev/null")).wait(LIMIT).await;
    assert!(!answer.expect("it ends").success(), "a dropped process is gone");
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn usage_outlives_the_process() {
    let _turn = turn::light().await;
    let process = shell("i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done");
    assert!(process.wait(Duration::from_secs(30)).await.expect("it ends").success());
    let usage = process.usage();
    assert!(usage.cpu > Duration::from_millis(20), "{usage:?}");
    assert!((100_000..100_000_000).contains(&usage.peak_rss_bytes), "{usage:?}");
}
