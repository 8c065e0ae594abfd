//! The task of `src/processor/partition/task.rs`: it holds one partition's state, and is its only writer.
//!
//! The flush runs on another thread, so each store that it can see is a step of its own: dead letters into the outbox, then the
//! state that counts them; and on a confirmation the state, then the outbox, then what is published.

use std::rc::Rc;

use weather::engine::checkpoint::Checkpoint;
use weather::engine::dead_letter::{DeadLetter, Outbox};
use weather::engine::partition::{Confirmation, Incoming, Partition, WindowSettings};
use weather::engine::silence::Silence;
use weather::engine::state::{LogIdentity, PartitionState, Position};
use weather::engine::stations::{StationRow, Stations};
use weather::processor::partition::snapshot::{self, SnapshotReader, SnapshotWriter};

use super::source::Source;
use crate::env::{Env, NEVER};
use crate::kafka::Records;
use crate::ledger::{Judging, Ledger};
use crate::plan::Plan;
use crate::trace::{Checked, Violation, ensure};

/// What a source tells, in the order of its log.
#[derive(Debug)]
pub enum Event {
    Records {
        records: Records,
        /// Behind the last offset that was read.
        next: i64,
        high_watermark: i64,
    },
    CaughtUp,
    Lost {
        to: i64,
    },
    StartedOver {
        at: i64,
        /// The offset after the newest record that the log has now.
        end: i64,
    },
    /// The log is the one that was read before, or what came of it was told; told after each new connection.
    Recognised {
        topic_id: [u8; 16],
    },
}

/// An event, and which log it is of.
#[derive(Debug)]
pub struct Read {
    pub generation: i64,
    pub event: Event,
}

/// A checkpoint to be written.
#[derive(Debug)]
pub struct Image {
    pub bytes: Vec<u8>,
    pub positions: (Position, Position),
}

/// What a flush takes where stations are kept apart.
#[derive(Debug)]
pub struct FlushImage {
    pub state: PartitionState,
    pub dead_letters: Vec<DeadLetter>,
    pub stations: Vec<StationRow>,
    pub ledger: Rc<Ledger>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Start,
    Select,
    /// The batch is applied; its dead letters go into the outbox.
    DeadLetters,
    /// Then others may see the state, and the flush hears of it.
    Publish {
        notify: bool,
    },
    /// The state has let go of what is confirmed; the outbox does now.
    ConfirmOutbox(Confirmation),
}

/// What a partition is taken with.
#[derive(Debug)]
pub struct Taken {
    pub partition: i32,
    pub epoch: i64,
    pub state: PartitionState,
    pub pending: Vec<DeadLetter>,
    pub stations: Option<Stations>,
    pub ledger: Rc<Ledger>,
    pub end_offset: Option<i64>,
}

/// One partition that a process owns: the worker, and what it shares with the other tasks.
pub struct Unit {
    pub partition: i32,
    pub epoch: i64,
    settings: WindowSettings,
    end_offset: Option<i64>,
    core: Partition,
    ledger: Rc<Ledger>,
    writer: SnapshotWriter,
    dead_letters: Vec<DeadLetter>,
    silence: Silence,
    /// When the ledger had its last record in a window.
    aggregated_ms: i64,
    reading: bool,
    recognised: bool,
    step: Step,
    // Seen by the other tasks.
    pub published: SnapshotReader,
    pub published_ledger: Rc<Ledger>,
    pub outbox: Outbox,
    /// What the flush told last, until the worker hears of it.
    confirmed: Option<Confirmation>,
    /// Where a bounded run has come to this partition's end, once it has.
    pub reached: Option<Position>,
    pub asked: bool,
    pub image: Option<Image>,
    pub asked_for_flush: bool,
    pub flush_image: Option<FlushImage>,
    /// None once the unit is paused.
    pub source: Option<Source>,
    /// The channel of one from the source.
    pub event: Option<Read>,
}

impl Unit {
    pub fn new(taken: Taken, settings: WindowSettings, plan: &Plan, now_ms: i64) -> Checked<Self> {
        let Taken { partition, epoch, state, pending, stations, ledger, end_offset } = taken;
        ledger.agrees(&state, settings.window_ms)?;
        if let Some(stations) = &stations {
            ledger.agrees_by_station(stations, &state)?;
        }
        let source = Source::new(partition, state.progress.next_offset, state.log);
        let (writer, published) = snapshot::channel(&state);
        let mut core = Partition::new(settings, state).by_station(stations);
        if !plan.changing_delay {
            let before = core.state().clone();
            core.settle();
            ensure!(*core.state() == before, "taken up as {:?}, not as {before:?}", core.state());
        }
        let mut outbox = Outbox::default();
        outbox.extend(pending);
        Ok(Self {
            partition,
            epoch,
            settings,
            end_offset,
            writer,
            dead_letters: Vec::new(),
            silence: Silence::new(plan.idle_timeout_ms, &core, now_ms),
            aggregated_ms: now_ms,
            reading: true,
            recognised: false,
            step: Step::Start,
            published,
            published_ledger: Rc::clone(&ledger),
            outbox,
            confirmed: None,
            reached: None,
            asked: false,
            image: None,
            asked_for_flush: false,
            flush_image: None,
            source: Some(source),
            event: None,
            core,
            ledger,
        })
    }

    /// Takes no more records; the state stays.
    pub fn pause(&mut self) {
        self.source = None;
    }

    /// The flush tells what PostgreSQL has.
    pub fn confirm(&mut self, confirmation: Confirmation) {
        self.confirmed = Some(confirmation);
    }

    /// Whether the worker has something to do.
    pub fn is_ready(&self) -> bool {
        let takes = self.reading && !self.outbox.is_full();
        let news = self.confirmed.is_some() || self.asked || self.asked_for_flush;
        !matches!(self.step, Step::Select) || news || takes && (self.event.is_some() || self.source.is_none())
    }

    /// When the source has something to do.
    pub fn source_due_ms(&self, env: &Env) -> i64 {
        self.source.as_ref().map_or(NEVER, |source| source.due_ms(self.event.is_none(), env))
    }

    pub fn source_step(&mut self, env: &mut Env) {
        if let Some(source) = &mut self.source {
            source.step(&mut self.event, env);
        }
    }

    /// One step of the worker; whether the flush is to hear of it.
    pub fn step(&mut self, clock_ms: i64, env: &mut Env) -> Checked<bool> {
        match self.step {
            Step::Start => self.step = Step::DeadLetters,
            Step::Select => self.select(clock_ms, env)?,
            Step::DeadLetters => {
                self.outbox.extend(self.dead_letters.drain(..));
                self.step = Step::Publish { notify: true };
            }
            Step::Publish { notify } => {
                let changed_from = self.core.take_changed().map_err(Violation)?;
                self.writer.publish(self.core.state(), changed_from);
                self.published_ledger = Rc::clone(&self.ledger);
                ensure!(self.published.read() == *self.core.state(), "what is published is not the state");
                self.step = Step::Select;
                return Ok(notify);
            }
            Step::ConfirmOutbox(confirmation) => {
                self.outbox.confirm(confirmation.position);
                self.step = Step::Publish { notify: false };
            }
        }
        Ok(false)
    }

    fn select(&mut self, clock_ms: i64, env: &mut Env) -> Checked {
        if let Some(confirmation) = self.confirmed.take() {
            self.core.confirm(confirmation);
            self.step = Step::ConfirmOutbox(confirmation);
        } else if self.asked {
            self.asked = false;
            self.image = Some(self.checkpoint(clock_ms, env));
        } else if self.asked_for_flush {
            self.asked_for_flush = false;
            self.flush_image = Some(self.flush_image());
        } else if let Some(read) = self.event.take() {
            self.handle(read, clock_ms, env)?;
            self.ledger.agrees(self.core.state(), self.settings.window_ms)?;
            if let Some(stations) = self.core.stations() {
                self.ledger.agrees_by_station(stations, self.core.state())?;
            }
            self.check_idle(env)?;
        } else {
            self.reading = false;
        }
        Ok(())
    }

    fn handle(&mut self, read: Read, clock_ms: i64, env: &mut Env) -> Checked {
        let Read { generation, event } = read;
        let log = env.kafka.log(self.partition);
        match event {
            Event::Records { records, next, high_watermark } => {
                self.apply(&records, next, clock_ms);
                self.silence.on_records(&mut self.core, high_watermark, env.now_ms());
                let (settings, max_stations) = (self.settings, env.plan.max_stations);
                let judging = Judging { settings, now_ms: clock_ms, max_stations, kept: &self.dead_letters };
                let before = self.ledger.aggregated();
                Rc::make_mut(&mut self.ledger).apply(log, generation, &records, judging)?;
                Rc::make_mut(&mut self.ledger).skip_to(log, generation, next)?;
                if self.ledger.aggregated() > before {
                    self.aggregated_ms = env.trace.now_ms;
                }
            }
            Event::CaughtUp => {
                if !self.silence.on_caught_up(&mut self.core, env.now_ms()) {
                    return Ok(());
                }
            }
            Event::Lost { to } => {
                self.core.lose_to(to);
                Rc::make_mut(&mut self.ledger).lose_to(log, generation, to)?;
            }
            Event::StartedOver { at, end } => {
                self.core.start_over(at);
                self.end_offset = self.end_offset.map(|_| end);
                Rc::make_mut(&mut self.ledger).start_over(generation, at)?;
            }
            Event::Recognised { topic_id } => {
                self.core.remember(LogIdentity { topic_id, ..LogIdentity::UNKNOWN });
                self.recognised = true;
            }
        }
        let progress = &self.core.state().progress;
        env.trace
            .note("handled", &[i64::from(self.partition), self.epoch, progress.next_offset, progress.idle]);
        self.end_if_done();
        self.step = Step::DeadLetters;
        Ok(())
    }

    fn apply(&mut self, records: &Records, next: i64, clock_ms: i64) {
        let incoming = records.iter().map(|(offset, record)| Incoming {
            offset: *offset,
            timestamp_ms: -1,
            append_time_ms: None,
            bytes: record.value.as_ref().map_or(0, |value| value.len()),
            value: record.value.as_deref(),
        });
        self.core.apply(incoming, clock_ms);
        self.core.skip_to(next);
        self.dead_letters.extend(self.core.take_rejected());
    }

    /// Idle is who has been silent for the time-out, or has reached the end of its work.
    fn check_idle(&self, env: &Env) -> Checked {
        let progress = &self.core.state().progress;
        let silent = env.now_ms() - self.aggregated_ms >= env.plan.idle_timeout_ms;
        let ended = self.end_offset.is_some_and(|end| progress.next_offset >= end);
        let (partition, at) = (self.partition, progress.next_offset);
        ensure!(
            progress.idle == 0 || silent || ended,
            "partition {partition} is idle at {at}, but not silent"
        );
        Ok(())
    }

    fn end_if_done(&mut self) {
        let position = self.core.state().progress.position();
        if self.recognised && self.end_offset.is_some_and(|end| position.offset >= end) {
            self.core.set_idle(true);
            // Only the first time counts; what comes later is behind the end.
            self.reached.get_or_insert(position);
        }
    }

    fn flush_image(&mut self) -> FlushImage {
        let stations = self.core.take_changed_stations();
        let state = self.core.state().clone();
        let dead_letters = self.outbox.before(state.progress.position());
        FlushImage { state, dead_letters, stations, ledger: Rc::clone(&self.ledger) }
    }

    fn checkpoint(&self, clock_ms: i64, env: &mut Env) -> Image {
        let state = self.core.state();
        let positions = (state.progress.position(), state.progress.flushed());
        let checkpoint = Checkpoint {
            topic: "t".to_owned(),
            cluster_id: String::new(),
            partition: self.partition,
            epoch: self.epoch,
            window_ms: self.settings.window_ms,
            written_ms: clock_ms,
            pending: self.outbox.before(positions.0),
            stations: self.core.stations().map(Stations::changed).unwrap_or_default(),
            state: state.clone(),
        };
        let bytes = checkpoint.encode();
        env.remember_image(&bytes, Rc::clone(&self.ledger));
        Image { bytes, positions }
    }
}
