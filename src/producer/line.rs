//! The live line of `weather producer`, and how much of the run is done, if that is known.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Producer, ReadingSource};
use crate::kafka::cluster::Cluster;
use crate::kafka::sink::Monitor;
use crate::producer::event_time::{self, CatchingUp};
use crate::producer::report::SentLines;
use crate::telemetry::human::Grouped;
use crate::telemetry::terminal::{Colour, Live, per_second, progress_bar};

/// Where the run ends, or its history does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Goal {
    Count(u64),
    History(u64),
    Duration(Duration),
    None,
}

impl Goal {
    /// The nearest end that is known.
    fn of(config: &Producer) -> Self {
        let is_synthetic = config.source == ReadingSource::Synthetic;
        match (config.count, config.duration) {
            (Some(count), _) => Goal::Count(count),
            (None, Some(duration)) => Goal::Duration(duration),
            (None, None) if is_synthetic => match event_time::catching_up(config) {
                Some(CatchingUp::Readings(count)) => Goal::History(count),
                Some(CatchingUp::Time(time)) => Goal::Duration(time),
                None => Goal::None,
            },
            (None, None) => Goal::None,
        }
    }

    /// The share that is done; None if there is no end, or history is over.
    fn done(self, acknowledged: u64, elapsed: Duration) -> Option<f64> {
        let done = match self {
            Goal::Count(count) | Goal::History(count) => Some(acknowledged as f64 / count.max(1) as f64),
            Goal::Duration(duration) => Some(elapsed.as_secs_f64() / duration.as_secs_f64().max(1e-9)),
            Goal::None => None,
        };
        // History is not the end: after it, there is none.
        done.filter(|done| *done < 1.0 || matches!(self, Goal::Count(_)))
    }
}

/// Shows the line until dropped, if there is a terminal.
pub(super) fn start(
    config: &Producer,
    cluster: &Arc<Cluster>,
    monitor: Monitor,
    sent: Arc<SentLines>,
) -> Option<Live> {
    let (goal, cluster, started) = (Goal::of(config), Arc::clone(cluster), Instant::now());
    let mut before = (started, 0);
    Live::start(move || {
        let (now, acknowledged) = (Instant::now(), monitor.acknowledged());
        let seconds = now.duration_since(before.0).as_secs_f64();
        let rate = if seconds < 0.1 { 0.0 } else { (acknowledged - before.1) as f64 / seconds };
        before = (now, acknowledged);
        let mut parts = Vec::new();
        if let Some(done) = goal.done(acknowledged, now.duration_since(started)) {
            parts.push(progress_bar(done, now.duration_since(started)));
        }
        if let Some(problem) = cluster.problem().or_else(|| monitor.problem()) {
            parts.push(Colour::Red.paint(&problem).into_owned());
        }
        let grouped = |count: u64| Grouped(i64::try_from(count).unwrap_or(i64::MAX));
        parts.push(format!("{} sent", per_second(rate)));
        parts.push(format!("{} in all", grouped(acknowledged)));
        parts.push(format!("{} waiting", grouped(monitor.waiting() as u64)));
        let newest = sent.newest();
        if !newest.is_empty() {
            parts.push(Colour::Dim.paint(&newest).into_owned());
        }
        parts.join(&Colour::Dim.paint(" | "))
    })
}
