//! One client's connection: frames in, answers out, one after the other.
//!
//! Like Kafka, this broker handles the requests of a connection one at a time: a client that sends several gets the answers
//! in order, and a waiting fetch delays the requests after it. Memory for a request is allocated as its bytes arrive, not
//! by its length field; a frame that is too long or malformed ends the connection.

use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::Notify;

use super::SharedBroker;
use super::api::{Api, ParsedRequest};

/// Maximum frame of a request without batches.
const MAX_PLAIN_BYTES: usize = 1 << 20;
/// Buffer that a connection keeps between requests.
const KEEP_BYTES: usize = 256 << 10;
/// Answers are buffered up to this size; larger batches go to the socket without a copy.
const WRITE_BYTES: usize = 16 << 10;

/// What the broker has seen; tests assert on it.
#[derive(Debug, Default)]
pub(super) struct Counters {
    requests: [AtomicU64; Api::ALL.len()],
    accepted: AtomicU64,
    open: AtomicUsize,
    /// A test waits for a number of requests.
    arrived: Notify,
}

impl Counters {
    fn slot(&self, api: Api) -> Option<&AtomicU64> {
        Api::ALL.iter().position(|other| *other == api).and_then(|index| self.requests.get(index))
    }

    fn count(&self, api: Api) {
        if let Some(count) = self.slot(api) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.arrived.notify_waiters();
    }

    /// Returns when this many requests of this kind have arrived.
    pub(super) async fn wait(&self, api: Api, count: u64) {
        loop {
            // Created before the count is read, so that no arrival in between is missed.
            let arrival = self.arrived.notified();
            if self.requests(api) >= count {
                return;
            }
            arrival.await;
        }
    }

    /// Requests of this kind that arrived whole. Relaxed, as all of these are counts alone and order nothing.
    pub(super) fn requests(&self, api: Api) -> u64 {
        self.slot(api).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// Counts a connection for as long as it is open.
struct Open(Arc<SharedBroker>);

impl Open {
    fn new(broker: Arc<SharedBroker>) -> Self {
        broker.counters.accepted.fetch_add(1, Ordering::Relaxed);
        broker.counters.open.fetch_add(1, Ordering::Relaxed);
        Self(broker)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves a client until it disconnects, violates the protocol, or a fault ends it.
pub(super) async fn serve(stream: TcpStream, broker: Arc<SharedBroker>) {
    let open = Open::new(broker);
    // In every case the client sees a closed connection; nobody else needs to know.
    let _ = converse(stream, &open.0).await;
}

async fn converse(stream: TcpStream, broker: &SharedBroker) -> Result<()> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut writer = BufWriter::with_capacity(WRITE_BYTES, writer);
    let mut frame = Vec::new();
    loop {
        read_frame(&mut reader, &mut frame, broker.options.max_request_bytes).await?;
        let Ok(request) = ParsedRequest::parse(&frame) else { return Err(ErrorKind::InvalidData.into()) };
        broker.counters.count(request.api());
        let answer = tokio::select! {
            biased;
            answer = broker.faults.answer(&request, broker) => answer,
            () = hung_up(reader.get_mut()) => None,
        };
        let Some(answer) = answer else { return Ok(()) };
        answer.write(&mut writer).await?;
        writer.flush().await?;
        frame.clear();
        frame.shrink_to(KEEP_BYTES);
    }
}

/// Reads a request without its length field. An error also stands for the end of the connection.
async fn read_frame(
    reader: &mut BufReader<OwnedReadHalf>,
    frame: &mut Vec<u8>,
    max_bytes: usize,
) -> Result<()> {
    let length = usize::try_from(reader.read_i32().await?).map_err(Error::other)?;
    let rest = length.checked_sub(size_of::<i16>()).ok_or(ErrorKind::InvalidData)?;
    let api = reader.read_i16().await?;
    let limit = if api == Api::Produce.key() { max_bytes } else { MAX_PLAIN_BYTES.min(max_bytes) };
    if length > limit {
        return Err(ErrorKind::InvalidData.into());
    }
    frame.extend_from_slice(&api.to_be_bytes());
    reader.take(rest as u64).read_to_end(frame).await?;
    if frame.len() < length {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// Returns when the client closes the connection, while an answer is withheld.
async fn hung_up(reader: &mut OwnedReadHalf) {
    if let Ok(1..) = reader.peek(&mut [0]).await {
        // The next request has already arrived, so a close behind it cannot be seen yet.
        std::future::pending::<()>().await;
    }
}
