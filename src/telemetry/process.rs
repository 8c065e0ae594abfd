//! CPU time and memory of this process, as the kernel counts them; nothing where there is no `/proc`.

use std::fs;
use std::sync::OnceLock;

/// `/proc` counts time in these: `USER_HZ`, 100 on every platform of Linux that Rust has.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the process uses.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Usage {
    /// User and system time, in seconds.
    pub cpu_seconds: f64,
    /// Memory that is not paged out, in bytes.
    pub resident_bytes: u64,
    /// When it was started, in seconds since 1970.
    pub started_seconds: f64,
    /// Open file descriptors.
    pub open_fds: usize,
    /// Threads of the operating system.
    pub threads: u64,
}

/// What this process uses now.
pub fn usage() -> Option<Usage> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in brackets, and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // Numbered from 3 in proc(5): utime 14, stime 15, num_threads 20, starttime 22.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident_kib: u64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Usage {
        cpu_seconds: (field(14)? + field(15)?) as f64 / TICKS_PER_SECOND,
        resident_bytes: resident_kib * 1024,
        started_seconds: booted_seconds()? + field(22)? as f64 / TICKS_PER_SECOND,
        // One of them is the folder that is read here.
        open_fds: fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1),
        threads: field(20)?,
    })
}

/// When the machine was started, in seconds since 1970.
fn booted_seconds() -> Option<f64> {
    static BOOTED: OnceLock<Option<f64>> = OnceLock::new();
    *BOOTED.get_or_init(|| {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_something() {
        let usage = usage().unwrap();
        assert!(usage.resident_bytes > 100_000 && usage.open_fds > 2 && usage.threads > 0, "{usage:?}");
        let now = crate::time::now_ms() as f64 / 1000.0;
        assert!((now - 3600.0..=now + 2.0).contains(&usage.started_seconds), "{usage:?} {now}");
    }
}
