//! `weather demo`: the whole pipeline in one command, including the failures of real life.
//!
//! ```text
//! this process: producer ─▶ embedded broker ─▶ recount               child: weather process ─▶ PostgreSQL of its own
//!                           cuts connections now and then                   killed in the middle    or checkpoint files
//! ```
//!
//! Event time runs 1,200 times as fast as the clock, so an hour's window fills in 3 s. At the end the log has been
//! counted by other code (`recount`) and is compared with what the processor made of it (`results`).
//!
//! Invariants: only loopback and unix sockets; everything that is written is in one folder (`scratch`), and folder and
//! children are gone when [`run`] returns, however it does.

mod child;
mod feed;
mod outcome;
mod recount;
mod results;
mod scratch;
mod server;
mod system;
mod view;

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::config::Demo;
use crate::embedded::{Api, Broker, Fault, FaultRule, Options};
use crate::error::{Error, Result};
use crate::processor::checkpoints::store::CheckpointStore;
use crate::shutdown::Shutdown;
use crate::telemetry::human::Grouped;
use child::Processor;
use feed::ProducerTask;
use outcome::RecordFates;
use recount::Recount;
use results::ResultStore;
use scratch::Scratch;
use server::Server;
use view::{DemoView, Frame, Tone};

const TOPIC: &str = "weather_data";
const PARTITIONS: i32 = 4;
/// What the broker keeps: some minutes; the recount follows, so no more is needed.
const LOG_BYTES: usize = 12 << 20;
/// How often the result is read.
const TICK: Duration = Duration::from_millis(250);
/// How often an answer to the producer is lost, so that it sends a batch again.
const CUT_EVERY: Duration = Duration::from_millis(1_500);
/// When the processor is killed, or after a third of a shorter run.
const KILL_AT: Duration = Duration::from_secs(10);
/// Longest wait for the processor to read the rest at the end, or to come back.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);
/// Ticks over which the rate is averaged.
const RATE_TICKS: usize = 8;

/// Runs the demo for its duration, or until shutdown is requested.
///
/// # Errors
/// A part cannot be started or ends by itself, or the result differs from the log.
pub async fn run(config: Demo, mut shutdown: Shutdown) -> Result<()> {
    let played = tokio::select! {
        biased;
        () = shutdown.wait() => None,
        played = play(&config) => Some(played),
    };
    match played {
        None => {
            // Everything of the demo was dropped with its future: processes and folder are gone.
            let mut view = DemoView::new(Instant::now());
            view.say(Tone::Plain, "\nstopped; its processes and files are removed").or_else(gone)
        }
        Some(Err(EarlyEnd::Failed(error))) => Err(error),
        // The reader of the output has closed it.
        Some(Ok(()) | Err(EarlyEnd::Unread)) => Ok(()),
    }
}

/// Why the demo ends early.
enum EarlyEnd {
    Failed(Error),
    /// Standard output is closed.
    Unread,
}

impl From<Error> for EarlyEnd {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<io::Error> for EarlyEnd {
    fn from(_: io::Error) -> Self {
        Self::Unread
    }
}

/// A standard output that is closed is no failure.
fn gone(_: io::Error) -> Result<()> {
    Ok(())
}

async fn play(config: &Demo) -> Result<(), EarlyEnd> {
    let start = Instant::now();
    let mut view = DemoView::new(start);
    view.say(
        Tone::Plain,
        "weather demo: simulated stations send an hour of readings every 3 s. Ctrl-C stops it.",
    )?;
    let scratch = Scratch::create()?;
    let leftovers = scratch.remove_leftovers();
    if leftovers > 0 {
        view.say(Tone::Plain, &format!("  cleaned up after {leftovers} demo(s) that were killed"))?;
    }
    let options = Options { limit_bytes: LOG_BYTES, ..Options::default() };
    let broker = Broker::start(options).await;
    let broker = broker.map_err(|e| Error::failure(format!("cannot open a port on 127.0.0.1: {e}")))?;
    broker
        .create_topic(TOPIC, PARTITIONS)
        .map_err(|e| Error::failure(format!("cannot create the topic: {e:?}")))?;
    let brokers = broker.address().to_string();
    view.say(Tone::Plain, &format!("  Kafka       embedded in this process, {brokers}"))?;
    let feed = ProducerTask::start(&brokers);
    let recount = Recount::start(&brokers, TOPIC, PARTITIONS).await?;
    let server = postgres(config, &scratch, &broker, &mut view).await?;
    let processor = Processor::start(arguments(config, &brokers, server.as_ref(), scratch.path()), &scratch)?;
    let store = store(server.as_ref(), scratch.path())?;
    view.note(Tone::Plain, &format!("processor started (process {})", processor.id()))?;
    let mut stage = RunningDemo {
        view,
        feed,
        recount,
        processor,
        store,
        _server: server,
        broker,
        scratch,
        seen: RecordFates::default(),
        log: VecDeque::new(),
        cuts: 0,
        dashboard: config.listen.is_none(),
    };
    stage.show(start, config.duration).await?;
    stage.finish().await
}

/// Starts a PostgreSQL if one is installed; prints its address, or how to get one.
async fn postgres(
    config: &Demo,
    scratch: &Scratch,
    broker: &Broker,
    view: &mut DemoView,
) -> Result<Option<Server>, EarlyEnd> {
    let why = match Server::find() {
        _ if !config.postgres => "not started (--without-postgres)".to_owned(),
        None => {
            "not installed; to see the tables as well: apt install postgresql, or brew install postgresql"
                .to_owned()
        }
        Some(programs) => match shown(Server::start(&programs, scratch), broker, view).await? {
            Ok(server) => {
                let (version, psql) = (server.version(), server.psql());
                let text = format!(
                    "  PostgreSQL  {version}, for this demo only; to query it while it runs:\n    {psql}"
                );
                view.say(Tone::Plain, &text)?;
                return Ok(Some(server));
            }
            Err(why) => format!("cannot be started: {why}"),
        },
    };
    view.say(
        Tone::Plain,
        &format!("  PostgreSQL  {why}.\n              The rows go to this terminal only."),
    )?;
    Ok(None)
}

/// Shows the log growing until something else is done.
async fn shown<T>(
    work: impl Future<Output = T>,
    broker: &Broker,
    view: &mut DemoView,
) -> Result<T, EarlyEnd> {
    let mut work = std::pin::pin!(work);
    let start = Instant::now();
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            () = sleep(TICK) => {}
        }
        let logged = ends(broker)?.iter().sum::<i64>();
        let rate = logged as f64 / start.elapsed().as_secs_f64();
        view.draw(&Frame { outcome: &RecordFates::default(), logged, rate })?;
    }
}

/// Where each partition of the log ends.
fn ends(broker: &Broker) -> Result<Vec<i64>> {
    let end = |partition| broker.end_offset(TOPIC, partition);
    let ends = (0..PARTITIONS).map(end).collect::<std::result::Result<_, _>>();
    ends.map_err(|e| Error::failure(format!("the embedded broker lost its topic: {e:?}")))
}

/// The command line of the processor.
fn arguments(config: &Demo, brokers: &str, server: Option<&Server>, folder: &Path) -> Vec<String> {
    let database = server.map_or_else(|| "none".to_owned(), Server::url);
    let listen = config.listen.map_or_else(String::new, |address| address.to_string());
    let checkpoints = checkpoints(folder).display().to_string();
    // Without PostgreSQL the result is read from the files.
    let every = if server.is_some() { "1s" } else { "250ms" };
    let flags = [
        ("--brokers", brokers),
        ("--topic", TOPIC),
        ("--database-url", &database),
        ("--checkpoint-dir", &checkpoints),
        ("--checkpoint-interval", every),
        ("--by", "station"),
        ("--listen", &listen),
    ];
    let flags = flags.into_iter().flat_map(|(name, value)| [name, value]);
    std::iter::once("process").chain(flags).map(str::to_owned).collect()
}

fn checkpoints(folder: &Path) -> std::path::PathBuf {
    folder.join("checkpoint")
}

fn store(server: Option<&Server>, folder: &Path) -> Result<ResultStore> {
    Ok(match server {
        Some(server) => ResultStore::Postgres { config: Box::new(server.config()), session: None },
        None => ResultStore::Files(CheckpointStore::open(&checkpoints(folder), TOPIC)?, PARTITIONS),
    })
}

/// Everything that runs. Dropped from top to bottom.
struct RunningDemo {
    view: DemoView,
    feed: ProducerTask,
    recount: Recount,
    processor: Processor,
    store: ResultStore,
    _server: Option<Server>,
    broker: Broker,
    scratch: Scratch,
    /// The processor's result when last read.
    seen: RecordFates,
    /// Number of records in the log at some times.
    log: VecDeque<(Instant, i64)>,
    /// How often an answer to the producer was to be lost.
    cuts: usize,
    /// Whether the dashboard's address was printed, or there is none.
    dashboard: bool,
}

impl RunningDemo {
    /// Shows the progress until the time is over; kills the processor in between.
    async fn show(&mut self, start: Instant, duration: Duration) -> Result<(), EarlyEnd> {
        let kill_at = KILL_AT.min(duration / 3);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut cut, mut killed) = (None::<Instant>, false);
        while !killed || start.elapsed() < duration {
            ticks.tick().await;
            self.processor.check()?;
            self.look().await?;
            if cut.is_none_or(|cut| cut.elapsed() >= CUT_EVERY) {
                self.broker.faults().arm(FaultRule::next(Api::Produce, Fault::CutAfter));
                self.cuts += 1;
                cut = Some(Instant::now());
            }
            if !killed && start.elapsed() >= kill_at && !self.seen.windows.is_empty() {
                killed = true;
                self.kill_and_recover().await?;
            }
        }
        Ok(())
    }

    /// Reads and shows everything once.
    async fn look(&mut self) -> Result<(), EarlyEnd> {
        let ends = ends(&self.broker)?;
        self.recount.catch_up(&ends).await?;
        if let Some(seen) = self.store.look().await.filter(|seen| seen.read() >= self.seen.read()) {
            self.seen = seen;
        }
        if !self.dashboard
            && let Some(url) = self.processor.dashboard()
        {
            self.dashboard = true;
            self.view.say(Tone::Plain, &format!("  Dashboard   {url}"))?;
        }
        let logged = ends.iter().sum();
        self.log.push_back((Instant::now(), logged));
        if self.log.len() > RATE_TICKS {
            self.log.pop_front();
        }
        let rate = self.log.front().map_or(0.0, |(at, before)| {
            (logged - before) as f64 / at.elapsed().as_secs_f64().max(TICK.as_secs_f64())
        });
        Ok(self.view.draw(&Frame { outcome: &self.seen, logged, rate })?)
    }

    /// SIGKILL in the middle of the work, a restart, and the proof that nothing is lost or counted twice.
    async fn kill_and_recover(&mut self) -> Result<(), EarlyEnd> {
        let killed = self.processor.id();
        self.processor.kill();
        let at = ends(&self.broker)?.iter().sum::<i64>();
        self.view.note(Tone::Bad, &format!("sent SIGKILL to the processor (process {killed})"))?;
        // Long enough to be visible.
        for _ in 0..4 {
            sleep(TICK).await;
            self.look().await?;
        }
        self.processor.start_again(&self.scratch)?;
        let started = Instant::now();
        while self.seen.read() < at {
            sleep(TICK / 5).await;
            self.processor.check()?;
            self.look().await?;
            give_up_after(started, "did not come back after it was killed")?;
        }
        let text = format!(
            "restarted as process {}, caught up after {:.1} s: {} records read,",
            self.processor.id(),
            started.elapsed().as_secs_f64(),
            Grouped(self.seen.read())
        );
        self.view.note(Tone::Plain, &text)?;
        let (text, tone) = match self.seen.adds_up() {
            true => ("each counted once", Tone::Good),
            false => ("but the counts do not add up", Tone::Bad),
        };
        let counts = format!(
            "{text}: {} averaged, {} dead letters",
            Grouped(self.seen.in_windows()),
            Grouped(self.seen.dead_letters())
        );
        Ok(self.view.note(tone, &counts)?)
    }

    /// Reads everything to its end, and compares.
    async fn finish(mut self) -> Result<(), EarlyEnd> {
        self.view.note(Tone::Plain, "stations stopped; the processor reads the rest")?;
        let lost = self.cuts - self.broker.faults().armed();
        self.broker.faults().clear();
        self.feed.stop().await?;
        let ends = ends(&self.broker)?;
        let started = Instant::now();
        while self.seen.read() < ends.iter().sum() {
            self.look().await?;
            self.processor.check()?;
            give_up_after(started, "did not read the log to its end")?;
            sleep(TICK / 5).await;
        }
        self.processor.stop().await?;
        self.look().await?;
        self.seen.stations = self.store.stations().await.unwrap_or_default();
        self.recount.catch_up(&ends).await?;
        let expected = self.recount.outcome();
        let mut differences = self.seen.differences(&expected);
        let dead_letters = expected.dead_letters();
        if let Some(stored) = self.store.dead_letters().await.filter(|stored| *stored != dead_letters) {
            differences.push(format!("dead letters: {stored} in the table, expected {dead_letters}"));
        }
        self.view.table(&self.seen)?;
        let counts = format!(
            "{} records = {} averaged + {} dead letters\n  {} windows, {} of single stations; \
             {lost} acknowledgements dropped on purpose",
            Grouped(expected.read()),
            Grouped(expected.count("aggregated")),
            Grouped(expected.dead_letters()),
            expected.windows.len(),
            Grouped(expected.stations.len() as i64)
        );
        if differences.is_empty() {
            let text = format!("exact: an independent recomputation from the log agrees\n  {counts}");
            return Ok(self.view.say(Tone::Good, &text)?);
        }
        self.view.say(Tone::Bad, &format!("differs from an independent recomputation\n  {counts}"))?;
        Err(Error::failure(format!("the result is not exact: {}", differences.join("; "))).into())
    }
}

fn give_up_after(started: Instant, what: &str) -> Result<()> {
    if started.elapsed() < DRAIN_LIMIT {
        return Ok(());
    }
    Err(Error::failure(format!("weather process {what} within {} s", DRAIN_LIMIT.as_secs())))
}
