//! The task of one partition: batches out, several requests at once, each sent until it is acknowledged or refused.
//!
//! Every batch carries the producer's id and a sequence number, which every retry keeps: a broker that has it already
//! says so, and one that lacks the batch before it refuses it. So requests cannot overtake each other, and nothing is
//! stored twice. After any failure the requests in flight are awaited, and what is left of them is sent again one by one;
//! only when all of it is acknowledged are several sent at once again.
//!
//! A batch that the broker refuses as a whole leaves a gap in the numbers: what is encoded from then on gets a new
//! producer's id. What is in flight with the old one keeps it, because it may have been stored; the broker does, and
//! tells one that was by its number, while one that was not is refused for the gap and takes a new number.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::batch::UnsentBatch;
use super::encode::{BatchSequence, Encoded, encode};
use super::{SharedSink, SinkLane};
use crate::kafka::error::{ErrorKind, KafkaError};
use crate::kafka::message::produce::ProducerId;
use crate::time::now_ms;

/// A broker remembers this many batches of a producer, by which it knows one again.
const IN_FLIGHT: usize = 5;
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
/// A batch that could not be stored for so long is reported; partitions of a new topic, and those that move, take less.
const REPORTED_AFTER: Duration = Duration::from_millis(700);

/// A request under way.
pub(super) type Acknowledgement = Pin<Box<dyn Future<Output = Result<(), KafkaError>> + Send>>;

/// Where the batches of one partition go. Kafka, or a test.
pub(super) trait Destination: Send + 'static {
    /// Makes sure that there is a connection to the leader.
    fn connect(&mut self) -> impl Future<Output = Result<(), KafkaError>> + Send;

    /// A new producer's id; None if the broker gives none.
    fn producer_id(&mut self) -> impl Future<Output = Result<Option<ProducerId>, KafkaError>> + Send;

    /// Appends a batch and waits until all replicas have it; an error leaves open whether it was appended. Requests are
    /// made in the order in which they are first polled.
    fn append(&mut self, batch: Arc<Encoded>) -> Acknowledgement;

    /// The leader is another one, or its connection is of no more use.
    fn lost(&mut self);

    /// Whether the cluster as a whole is known to be away.
    fn is_away(&self) -> bool;
}

/// A batch, or a part of one, on its way.
struct SentPart {
    batch: Arc<UnsentBatch>,
    /// None: to be numbered and encoded yet.
    encoded: Option<(Arc<Encoded>, BatchSequence)>,
    /// When it was to be sent first.
    since: Option<Instant>,
    /// None: not sent.
    answer: Option<Acknowledgement>,
    result: Option<Result<(), KafkaError>>,
}

impl SentPart {
    fn new(batch: UnsentBatch) -> Self {
        Self { batch: Arc::new(batch), encoded: None, since: None, answer: None, result: None }
    }
}

/// How batches are numbered.
#[derive(Clone, Copy)]
enum Numbering {
    /// By an id that is to be requested.
    Unknown,
    /// By this id, from this sequence number on. Until a batch with it is acknowledged, the broker knows nothing of the id,
    /// and would take a later batch without the one before it.
    By { id: ProducerId, next: i32, known: bool },
    /// Not at all: the broker gives no ids.
    None,
}

/// Sends the batches of one partition.
pub(super) struct Sender<D> {
    lane: Arc<SinkLane>,
    shared: Arc<SharedSink>,
    destination: D,
    numbering: Numbering,
    /// In the order of the log.
    parts: VecDeque<SentPart>,
    /// Something failed: one request at a time.
    careful: bool,
    backoff: Duration,
    /// This partition was reported as one that cannot be written to.
    in_trouble: bool,
}

/// The sink has failed, or is gone.
struct SinkEnded;

impl<D: Destination> Sender<D> {
    pub(super) fn new(lane: Arc<SinkLane>, shared: Arc<SharedSink>, destination: D) -> Self {
        Self {
            lane,
            shared,
            destination,
            numbering: Numbering::Unknown,
            parts: VecDeque::new(),
            careful: false,
            backoff: FIRST_BACKOFF,
            in_trouble: false,
        }
    }

    /// Works until the sink fails.
    pub(super) async fn run(mut self) {
        while self.step().await.is_ok() {}
    }

    async fn step(&mut self) -> Result<(), SinkEnded> {
        let several = matches!(self.numbering, Numbering::By { known: true, .. });
        let room = !self.careful && self.parts.len() < if several { IN_FLIGHT } else { 1 };
        let under_way = !self.parts.is_empty();
        tokio::select! {
            biased;
            () = front_answered(&mut self.parts), if under_way => self.take_answers().await,
            batch = self.lane.next_batch(), if room => {
                self.parts.push_back(SentPart::new(batch));
                self.send_last().await
            }
        }
    }

    /// Sends the part that came last, if all before it are under way.
    async fn send_last(&mut self) -> Result<(), SinkEnded> {
        let last = self.parts.len() - 1;
        match self.send(last).await {
            Ok(()) => Ok(()),
            Err(error) => self.failed(error).await,
        }
    }

    /// Numbers and encodes a part if it is not yet, and sends it.
    async fn send(&mut self, index: usize) -> Result<(), KafkaError> {
        self.parts[index].since.get_or_insert_with(Instant::now);
        self.destination.connect().await?;
        let is_new = self.parts[index].encoded.is_none();
        if is_new {
            let number = self.number(self.parts[index].batch.len()).await?;
            let part = &mut self.parts[index];
            // Stamped with the time of sending: it is the clock of the topic's retention.
            let compression = self.shared.options.compression;
            let encoded = encode(&part.batch, number, now_ms(), compression)?;
            part.encoded = Some((Arc::new(encoded), number));
        } else {
            let again = self.parts[index].batch.len() as u64;
            self.shared.retried.fetch_add(again, Ordering::Relaxed);
        }
        let part = &mut self.parts[index];
        if let Some((encoded, _)) = &part.encoded {
            part.answer = Some(self.destination.append(Arc::clone(encoded)));
            part.result = None;
        }
        // The first poll writes the request: in this order, whatever is polled later.
        poll_all(&mut self.parts).await;
        Ok(())
    }

    /// The sequence number of the next batch, which has `records` records.
    async fn number(&mut self, records: usize) -> Result<BatchSequence, KafkaError> {
        if let Numbering::Unknown = self.numbering {
            self.numbering = match self.destination.producer_id().await? {
                Some(id) => Numbering::By { id, next: 0, known: false },
                None => {
                    self.shared.say_unnumbered();
                    Numbering::None
                }
            };
        }
        let Numbering::By { id, next, .. } = &mut self.numbering else { return Ok(BatchSequence::NONE) };
        let number = BatchSequence { producer_id: id.id, epoch: id.epoch, sequence: *next };
        // Sequence numbers wrap to 0 after the greatest.
        let count = i32::try_from(records).unwrap_or(i32::MAX);
        *next = next.checked_add(count).unwrap_or_else(|| count - (i32::MAX - *next) - 1);
        Ok(number)
    }

    /// Takes the answers that are there, in order, up to the first failure.
    async fn take_answers(&mut self) -> Result<(), SinkEnded> {
        while let Some(result) = self.parts.front_mut().and_then(|part| part.result.take()) {
            match result {
                Ok(()) => self.appended(),
                Err(error) if error.kind == ErrorKind::Duplicate => self.appended(),
                Err(error) => return self.failed(error).await,
            }
        }
        Ok(())
    }

    /// The first part is in the log.
    fn appended(&mut self) {
        self.backoff = FIRST_BACKOFF;
        if std::mem::take(&mut self.in_trouble) {
            self.shared.trouble_ended();
        }
        if let Some(part) = self.parts.pop_front() {
            let number = part.encoded.as_ref().map(|(_, number)| *number);
            if let Numbering::By { id, known, .. } = &mut self.numbering {
                *known |= number.is_some_and(|number| number.is_of(*id));
            }
            self.shared.acknowledge(&part.batch);
            self.done_with(part);
        }
        // What failed is behind us only when nothing is left of it.
        self.careful &= !self.parts.is_empty();
    }

    fn done_with(&self, part: SentPart) {
        let SentPart { batch, encoded, answer, .. } = part;
        // They share the batch.
        drop((encoded, answer));
        if let Some(batch) = Arc::into_inner(batch) {
            self.lane.buffer().release(batch);
            self.shared.progress.notify_one();
        }
    }

    /// The first part that is not acknowledged was refused, or its result is unknown: brings it and all behind it to an
    /// end, one by one.
    async fn failed(&mut self, error: KafkaError) -> Result<(), SinkEnded> {
        self.careful = true;
        self.settle_others().await;
        let mut error = Some(error);
        while !self.parts.is_empty() {
            match error.take() {
                None => {}
                Some(error) if error.kind == ErrorKind::Duplicate => {
                    self.appended();
                    continue;
                }
                Some(error) => self.deal_with(error).await?,
            }
            if self.parts.is_empty() {
                break;
            }
            error = match self.send(0).await {
                Err(error) => Some(error),
                Ok(()) => {
                    front_answered(&mut self.parts).await;
                    self.parts[0].result.take().and_then(Result::err)
                }
            };
            if error.is_none() {
                self.appended();
            }
        }
        Ok(())
    }

    /// Waits for the requests behind the first, and takes those out that were acknowledged.
    async fn settle_others(&mut self) {
        if let Some(front) = self.parts.front_mut() {
            (front.answer, front.result) = (None, None);
        }
        poll_fn(|context| {
            let mut waits = false;
            for part in &mut self.parts {
                waits |= poll_part(part, context);
            }
            if waits { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        let (mut index, mut left) = (0, VecDeque::new());
        while let Some(mut part) = self.parts.pop_front() {
            let stored = match part.result.take() {
                Some(Ok(())) => true,
                Some(Err(error)) => error.kind == ErrorKind::Duplicate,
                None => false,
            };
            if stored && index > 0 {
                self.shared.acknowledge(&part.batch);
                self.done_with(part);
            } else {
                left.push_back(part);
            }
            index += 1;
        }
        self.parts = left;
    }

    /// Does what an error of the first part asks for, so that it can be sent again; it may be split or dropped.
    async fn deal_with(&mut self, error: KafkaError) -> Result<(), SinkEnded> {
        match error.kind {
            ErrorKind::TooLarge | ErrorKind::Rejected => {
                self.split_or_drop(&error);
                self.numbering = Numbering::Unknown;
                return Ok(());
            }
            // It was not stored, and is not with this number.
            ErrorKind::Sequence => {
                self.renumber_front();
            }
            kind if kind.asks_for_metadata() => self.destination.lost(),
            _ => {}
        }
        if self.shared.is_fatal(&error) {
            self.shared.fail(error);
            return Err(SinkEnded);
        }
        // A broker that cannot be reached is reported by the cluster. What lasts although the cluster is there is reported
        // here: for example too few replicas.
        let since = self.parts.front().and_then(|part| part.since);
        let lasts = since.is_some_and(|since| since.elapsed() >= REPORTED_AFTER);
        if lasts && !self.destination.is_away() {
            self.shared.trouble(&error, !std::mem::replace(&mut self.in_trouble, true));
        }
        tokio::time::sleep(self.backoff).await;
        self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
        Ok(())
    }

    /// Gives the first part a new number, of a new producer if its own is the one that does not fit.
    fn renumber_front(&mut self) {
        let Some(front) = self.parts.front_mut() else { return };
        let Some((_, number)) = front.encoded.take() else { return };
        if let Numbering::By { id, .. } = self.numbering
            && number.is_of(id)
        {
            self.numbering = Numbering::Unknown;
        }
    }

    /// Makes two of the first part, or drops it if it is one record.
    fn split_or_drop(&mut self, error: &KafkaError) {
        let Some(part) = self.parts.pop_front() else { return };
        if part.batch.len() == 1 {
            self.shared.drop_record(part.batch.bytes().len(), error);
            self.done_with(part);
            self.careful &= !self.parts.is_empty();
            return;
        }
        let halves = part.batch.halves();
        let mut buffer = self.lane.buffer();
        if error.kind == ErrorKind::TooLarge {
            buffer.shrink_batches(part.batch.bytes().len());
        }
        buffer.divided(&part.batch, &halves);
        drop(buffer);
        for half in halves.into_iter().rev() {
            self.parts.push_front(SentPart::new(half));
        }
    }
}

/// Polls a part's request; whether it is still under way.
fn poll_part(part: &mut SentPart, context: &mut std::task::Context<'_>) -> bool {
    if let Some(answer) = &mut part.answer
        && let Poll::Ready(result) = answer.as_mut().poll(context)
    {
        (part.answer, part.result) = (None, Some(result));
    }
    part.answer.is_some()
}

/// Polls every request once, in order.
async fn poll_all(parts: &mut VecDeque<SentPart>) {
    poll_fn(|context| {
        for part in parts.iter_mut() {
            poll_part(part, context);
        }
        Poll::Ready(())
    })
    .await;
}

/// Waits for the answer to the first part, and keeps all others going.
async fn front_answered(parts: &mut VecDeque<SentPart>) {
    poll_fn(|context| {
        for part in parts.iter_mut() {
            poll_part(part, context);
        }
        match parts.front() {
            Some(front) if front.result.is_none() && front.answer.is_some() => Poll::Pending,
            _ => Poll::Ready(()),
        }
    })
    .await;
}
