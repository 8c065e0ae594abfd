//! The figures of one benchmark, printed and kept.
//!
//! Times go into an HdrHistogram in nanoseconds, to three digits. Each benchmark leaves a `.hgrm` file, which HdrHistogram's
//! plotter reads (values in µs), in cargo's folder for temporary files; the one of the previous run is kept as
//! `.previous.hgrm`, and what has changed since is said.
//!
//! Coordinated omission: where work has a schedule (latency from append to row), a time counts from when the work was
//! due, not from when a late sender came to it. The other benchmarks repeat one piece of work without a schedule; their
//! times are of the work alone and say nothing about waiting.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Steps of the `.hgrm` file for each halving of the distance to 100 %.
const STEPS_PER_HALVING: u32 = 5;

/// An hour: what takes longer counts as that.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// What one benchmark measured.
#[derive(Debug)]
pub struct Figures {
    /// Group and case, as in `parsing/epoch`.
    pub name: String,
    /// What one value of the histogram is the time of.
    pub unit: &'static str,
    /// In ns.
    pub times: Histogram<u64>,
    /// Readings (or operations) in all.
    pub items: u64,
    /// Wall time in all.
    pub elapsed: Duration,
    /// User and system time in all.
    pub cpu: Duration,
    /// Most memory that was resident.
    pub peak_rss_bytes: u64,
}

impl Figures {
    /// Nothing measured yet.
    pub fn new(name: impl Into<String>, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            unit,
            times: Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are in order"),
            items: 0,
            elapsed: Duration::ZERO,
            cpu: Duration::ZERO,
            peak_rss_bytes: 0,
        }
    }

    /// Notes one time.
    pub fn record(&mut self, time: Duration) {
        self.times.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Readings a second.
    pub fn throughput(&self) -> f64 {
        self.items as f64 / self.elapsed.as_secs_f64()
    }

    /// Reports work in this process that began then.
    pub fn finish(&mut self, start: Instant, cpu_before: Duration) {
        self.elapsed = start.elapsed();
        // A thread that has ended takes its time with it.
        self.cpu = cpu_time().saturating_sub(cpu_before);
        self.peak_rss_bytes = peak_rss_bytes();
        self.report();
    }

    /// Prints two lines, and keeps the files.
    pub fn report(&self) {
        let quantile = |q: f64| time(self.times.value_at_quantile(q) as f64);
        println!(
            "{:<34} p50 {}  p90 {}  p99 {}  p99.9 {}  max {}  a {}",
            self.name,
            quantile(0.5),
            quantile(0.9),
            quantile(0.99),
            quantile(0.999),
            time(self.times.max() as f64),
            self.unit
        );
        println!(
            "{:<34} {:.0}/s  {:.2} CPU-s ({} each)  {:.1} MB peak{}",
            "",
            self.throughput(),
            self.cpu.as_secs_f64(),
            time(self.cpu.as_nanos() as f64 / self.items.max(1) as f64),
            self.peak_rss_bytes as f64 / 1e6,
            self.keep()
        );
    }

    /// Writes the files; what has changed since the last run.
    fn keep(&self) -> String {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("benches");
        let path = folder.join(format!("{}.hgrm", self.name.replace(['/', ' '], "-")));
        let before = std::fs::read_to_string(&path).ok();
        std::fs::create_dir_all(&folder).expect("cargo's folder for temporary files can be written");
        if before.is_some() {
            std::fs::rename(&path, path.with_extension("previous.hgrm")).expect("the file can be renamed");
        }
        std::fs::write(&path, self.hgrm()).expect("cargo's folder for temporary files can be written");
        let change = before.as_deref().and_then(kept).map(|(p50, throughput)| {
            let p50 = self.times.value_at_quantile(0.5) as f64 / p50;
            format!("  (last run: p50 × {p50:.2}, throughput × {:.2})", self.throughput() / throughput)
        });
        change.unwrap_or_default()
    }

    /// The percentile distribution as HdrHistogram writes it, values in µs.
    fn hgrm(&self) -> String {
        let mut text = format!(
            "{:>12} {:>14} {:>10} {:>14}\n\n",
            "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
        );
        let mut count = 0;
        for step in self.times.iter_quantiles(STEPS_PER_HALVING) {
            count += step.count_since_last_iteration();
            let (value, quantile) = (step.value_iterated_to() as f64 / 1e3, step.quantile_iterated_to());
            let _ = match quantile < 1.0 {
                true => {
                    writeln!(text, "{value:12.3} {quantile:14.12} {count:10} {:14.2}", 1.0 / (1.0 - quantile))
                }
                false => writeln!(text, "{value:12.3} {quantile:14.12} {count:10}"),
            };
        }
        let (mean, deviation) = (self.times.mean() / 1e3, self.times.stdev() / 1e3);
        let _ = writeln!(text, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]");
        let (max, total) = (self.times.max() as f64 / 1e3, self.times.len());
        let _ = writeln!(text, "#[Max     = {max:12.3}, Total count    = {total:12}]");
        let (p50, throughput) = (self.times.value_at_quantile(0.5), self.throughput());
        let _ = writeln!(text, "#[p50 in ns = {p50}, items a second = {throughput:.3}]");
        text
    }
}

/// The median and the throughput that such a file holds.
fn kept(hgrm: &str) -> Option<(f64, f64)> {
    let line = hgrm.lines().last()?.strip_prefix("#[p50 in ns = ")?.strip_suffix(']')?;
    let (p50, throughput) = line.split_once(", items a second = ")?;
    Some((p50.parse().ok()?, throughput.parse().ok()?))
}

/// A time for people: three digits and a unit.
fn time(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
        ns if ns < 1e9 => format!("{:.1} ms", ns / 1e6),
        ns => format!("{:.2} s", ns / 1e9),
    }
}

/// Measures work in this process: repeats it for about `length`, after a tenth of that to warm up.
///
/// `work` does one unit of `items` readings and is timed as a whole.
pub fn repeat(name: &str, unit: &'static str, items: u64, length: Duration, mut work: impl FnMut()) {
    if !super::wanted(name) {
        return;
    }
    let mut figures = Figures::new(name, unit);
    let warm = Instant::now();
    while warm.elapsed() < length / 10 {
        work();
    }
    forget_peak();
    let (start, cpu) = (Instant::now(), cpu_time());
    let mut now = start;
    while now - start < length {
        work();
        let end = Instant::now();
        figures.record(end - now);
        figures.items += items;
        now = end;
    }
    figures.finish(start, cpu);
}

/// CPU time of the threads that this process has now.
pub fn cpu_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of = |task: std::fs::DirEntry| -> Option<u64> {
        std::fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    Duration::from_nanos(tasks.filter_map(of).sum())
}

/// Resets the peak.
fn forget_peak() {
    // Refused in some containers: the peak is then that of the whole process.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB")?.trim().parse().ok());
    kib.map_or(0, |kib: u64| kib * 1024)
}
