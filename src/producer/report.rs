//! What the user sees on standard output: `Sent: {...}` lines and the summary.
//!
//! A line is printed for what Kafka has acknowledged, not for what was handed over. Senders only leave their lines here;
//! one task prints them. What waits to be printed is bounded: [`SentLines::room`] makes the source as slow as a reader that is
//! slow, but not as one that blocks: its lines are dropped and counted. When the reader of standard output has
//! gone, [`SentLines::print`] returns early, and the run ends quietly.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::config::LogSent;
use crate::kafka::sink::{Acknowledged, SendTotals};
use crate::telemetry::output;

/// More than this waiting to be written makes the source wait.
const MAX_WAITING_BYTES: usize = 1024 * 1024;
/// What a line shows of a reading at most.
const MAX_SHOWN_BYTES: usize = 4096;
const SAMPLE_PERIOD: Duration = Duration::from_secs(1);

/// The `Sent:` lines of a run.
#[derive(Debug)]
pub(super) struct SentLines {
    which: LogSent,
    /// Whether there is a live line, which then shows the newest reading instead of the samples.
    live: bool,
    state: Mutex<WaitingLines>,
    /// For the printer: there is something to write.
    lines: Notify,
    /// For the source: lines were written.
    written: Notify,
}

#[derive(Debug, Default)]
struct WaitingLines {
    /// Lines to be written.
    text: Vec<u8>,
    /// The last acknowledged reading, and how many since the last sample.
    sample: Vec<u8>,
    since_sample: u64,
    total: u64,
    /// The last line; after it the printer ends.
    summary: Option<String>,
}

impl SentLines {
    /// Nothing sent yet.
    pub(super) fn new(which: LogSent, live: bool) -> Arc<Self> {
        Arc::new(Self { which, live, state: Mutex::default(), lines: Notify::new(), written: Notify::new() })
    }

    /// What the sink calls.
    pub(super) fn acknowledged(self: &Arc<Self>) -> Option<Acknowledged> {
        let sent = Arc::clone(self);
        match self.which {
            LogSent::None | LogSent::Silent => None,
            LogSent::Sample => Some(Arc::new(move |batch| {
                let count = batch.len() as u64;
                let mut state = sent.state();
                if let Some(last) = batch.values().next_back() {
                    last.clone_into(&mut state.sample);
                }
                state.since_sample += count;
                state.total += count;
            })),
            LogSent::All => Some(Arc::new(move |batch| {
                let mut state = sent.state();
                for value in batch.values() {
                    push_line(&mut state.text, value, "");
                }
                sent.lines.notify_one();
            })),
        }
    }

    /// Waits while too many lines are queued.
    pub(super) async fn room(&self) {
        while self.which == LogSent::All && self.state().text.len() > MAX_WAITING_BYTES {
            self.written.notified().await;
        }
    }

    /// Writes lines as they come; returns after the summary, or when standard output is closed.
    pub(super) async fn print(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SAMPLE_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick(), if self.which == LogSent::Sample => {}
                () = self.lines.notified() => {}
                () = output::closed() => return,
            }
            let (text, last) = self.take();
            if !text.is_empty() {
                output::room().await;
                output::print(text);
            }
            if last {
                return;
            }
            self.written.notify_one();
        }
    }

    /// The newest acknowledged reading, as one printable line; empty if there was none, or none is wanted.
    pub(super) fn newest(&self) -> String {
        printable(&self.state().sample).into_owned()
    }

    /// Ends the printer once everything and this line are written.
    pub(super) fn close(&self, summary: String) {
        self.state().summary = Some(if self.which == LogSent::Silent { String::new() } else { summary });
        self.lines.notify_one();
    }

    /// What is to be written, and whether it is the last.
    fn take(&self) -> (Vec<u8>, bool) {
        let mut state = self.state();
        let mut text = std::mem::take(&mut state.text);
        if state.since_sample > 0 && !self.live {
            let more = format!(" and {} more, {} in all", state.since_sample - 1, state.total);
            push_line(&mut text, &state.sample, &more);
            state.since_sample = 0;
        }
        let summary = state.summary.take();
        text.extend_from_slice(summary.as_deref().unwrap_or_default().as_bytes());
        (text, summary.is_some())
    }

    fn state(&self) -> MutexGuard<'_, WaitingLines> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends a line; a reading may come from outside, so it stays one line without terminal control sequences.
fn push_line(text: &mut Vec<u8>, value: &[u8], more: &str) {
    text.extend_from_slice(b"Sent: ");
    let (shown, rest) = value.split_at(value.len().min(MAX_SHOWN_BYTES));
    text.extend_from_slice(printable(shown).as_bytes());
    if !rest.is_empty() {
        text.extend_from_slice("…".as_bytes());
    }
    text.extend_from_slice(more.as_bytes());
    text.push(b'\n');
}

fn printable(value: &[u8]) -> Cow<'_, str> {
    match String::from_utf8_lossy(value) {
        text if text.contains(char::is_control) => Cow::Owned(text.replace(char::is_control, " ")),
        text => text,
    }
}

/// The last line of a run.
pub(super) fn summary(totals: SendTotals, latency_us: &Histogram<u64>, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    let rate = totals.acknowledged as f64 / seconds.max(1e-9);
    let mut line = format!(
        "Summary: sent={} acknowledged={} retried={} dropped={} seconds={seconds:.3} per_second={rate:.0}",
        totals.accepted, totals.acknowledged, totals.retried, totals.dropped
    );
    if !latency_us.is_empty() {
        line.push_str(" latency_ms:");
        for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)] {
            line.push_str(&format!(" {name}={:.2}", ms(latency_us.value_at_quantile(quantile))));
        }
        line.push_str(&format!(" max={:.2}", ms(latency_us.max())));
    }
    line.push('\n');
    line
}

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_printable_line() {
        let line = |value: &[u8]| {
            let mut text = Vec::new();
            push_line(&mut text, value, " and 1 more");
            String::from_utf8(text).unwrap()
        };
        assert_eq!(line(b"{\"a\":1}"), "Sent: {\"a\":1} and 1 more\n");
        assert_eq!(line(b"a\x1b[31m\nb\xff"), "Sent: a [31m b\u{fffd} and 1 more\n");
        assert_eq!(line("Hà Nội".as_bytes()), "Sent: Hà Nội and 1 more\n");
        assert!(line(&[b'x'; 10_000]).len() < 5000);
    }

    #[test]
    fn a_sample_counts_what_came_since_the_last() {
        let sent = SentLines::new(LogSent::Sample, false);
        let take = || String::from_utf8(sent.take().0).unwrap();
        assert_eq!(take(), "");
        {
            let mut state = sent.state();
            state.sample = b"{}".to_vec();
            (state.since_sample, state.total) = (167, 200);
        }
        assert_eq!(take(), "Sent: {} and 166 more, 200 in all\n");
        assert_eq!(take(), "", "nothing new, nothing said");
        sent.close("end\n".into());
        assert_eq!(sent.take(), (b"end\n".to_vec(), true));
    }

    #[test]
    fn the_summary_is_one_line() {
        let totals = SendTotals { accepted: 10, acknowledged: 9, retried: 3, dropped: 1 };
        let mut latency = Histogram::new(3).unwrap();
        let nothing = summary(totals, &latency, Duration::from_secs(3));
        assert_eq!(
            nothing,
            "Summary: sent=10 acknowledged=9 retried=3 dropped=1 seconds=3.000 per_second=3\n"
        );
        latency.record_n(1500, 9).unwrap();
        assert!(summary(totals, &latency, Duration::ZERO).contains("latency_ms: p50=1.50 p90=1.50"));
    }
}
