//! A proxy on loopback between `weather` and a service, which imitates bad networks and dying servers on demand.
//!
//! It knows just enough of both protocols to tell where a message ends, so that a fault can strike at a message of the
//! test's choosing: PostgreSQL's COMMIT of a flush or its answer, Kafka's produce request or its answer. Kafka tells its
//! clients where to connect to, so the broker's port in the answers to metadata requests is replaced by the proxy's, or by
//! another that a test wants to be told.
//!
//! Invariant: what passes, passes unchanged (but for that port) and in order.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Kafka's numbers of requests.
const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
/// The host that the brokers of the tests advertise; how its length is written depends on the version of the answer.
const ADVERTISED: &[u8] = b"127.0.0.1";

/// The protocol that passes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Apache Kafka's.
    Kafka,
    /// The same, but clients hear of the broker's own address: after the first question they go round the proxy.
    KafkaAsItIs,
    /// PostgreSQL's, version 3, without encryption.
    Postgres,
}

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Everything passes.
    Well,
    /// Connections are reset, new ones at once.
    Cut,
    /// Connections stay and new ones are accepted, but nothing passes until this is over.
    Stalled,
    /// The server is gone without a word: open connections and new ones stay silent.
    HalfOpen,
    /// Everything arrives this much later.
    Slow(Duration),
}

/// The message that a fault strikes at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A flush's COMMIT on its way to PostgreSQL, which never receives it.
    Commit,
    /// PostgreSQL's answer to a flush's COMMIT: done, but the client never receives the answer.
    CommitAnswer,
    /// A produce request on its way to Kafka, which never receives it.
    Produce,
    /// Kafka's answer to a produce request: appended, but the client never receives the answer.
    ProduceAnswer,
}

/// What happens to the connection of that message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Reset.
    Cut,
    /// Silent from here on, as if the message never arrived.
    Hold,
}

/// A running proxy. Dropping it closes its socket and all connections.
pub struct Proxy {
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    network: Network,
    /// Connections older than the last cut are to go.
    cuts: u64,
}

struct Shared {
    protocol: Protocol,
    port: u16,
    server_port: AtomicU16,
    /// What clients are told of the broker's port.
    told_port: AtomicU16,
    state: watch::Sender<State>,
    /// Which message to strike, how, and how many more times.
    armed: Mutex<Vec<(Moment, Fault, u32)>>,
    struck: watch::Sender<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

/// How a connection ends.
enum End {
    Closed,
    Reset,
    HalfOpen,
}

/// What is remembered of a connection.
#[derive(Default)]
struct Talk {
    /// Kafka: the kinds of requests not answered yet. It answers in order.
    asked: VecDeque<i16>,
    /// PostgreSQL: the client's first message has come, and the transaction is a flush.
    begun: bool,
    flushing: bool,
}

impl Proxy {
    /// A proxy before the service on this port of loopback.
    pub async fn start(protocol: Protocol, server_port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let state = State { network: Network::Well, cuts: 0 };
        let shared = Arc::new(Shared {
            protocol,
            port,
            server_port: AtomicU16::new(server_port),
            told_port: AtomicU16::new(port),
            state: watch::Sender::new(state),
            armed: Mutex::default(),
            struck: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { shared, accepting }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.shared.port
    }

    /// From now on connects to another port: the service has moved.
    pub fn connect_to(&self, server_port: u16) {
        self.shared.server_port.store(server_port, Ordering::Relaxed);
    }

    /// From now on tells Kafka's clients that the broker is at this port.
    pub fn advertise(&self, port: u16) {
        self.shared.told_port.store(port, Ordering::Relaxed);
    }

    /// From now on the network is so, for connections that are there and new ones.
    pub fn set(&self, network: Network) {
        self.shared.state.send_modify(|state| state.network = network);
    }

    /// Resets all connections once; new ones are as the network is.
    pub fn cut(&self) {
        self.shared.state.send_modify(|state| state.cuts += 1);
    }

    /// The network is so for a while, then well.
    pub async fn for_a_while(&self, network: Network, time: Duration) {
        self.set(network);
        tokio::time::sleep(time).await;
        self.set(Network::Well);
    }

    /// Lets a fault strike the next `times` messages of a kind.
    pub fn arm(&self, moment: Moment, fault: Fault, times: u32) {
        self.shared.armed().push((moment, fault, times));
    }

    /// Returns when `count` faults have struck since the start.
    pub async fn wait_for_strikes(&self, count: u64) {
        let mut struck = self.shared.struck.subscribe();
        let waited = struck.wait_for(|struck| *struck >= count);
        super::within(Duration::from_secs(60), "a fault that strikes", waited).await.expect("it runs");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        if let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client, Arc::clone(&shared)));
        }
    }
}

async fn serve(mut client: TcpStream, shared: Arc<Shared>) {
    let mut state = shared.state.subscribe();
    let begun = *state.borrow_and_update();
    match begun.network {
        Network::Cut => return reset(client),
        Network::HalfOpen => return swallow(client).await,
        _ => {}
    }
    let server_port = shared.server_port.load(Ordering::Relaxed);
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server_port)).await else {
        return reset(client);
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let talk = Mutex::default();
    let end = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            biased;
            end = broken(&mut state, begun.cuts) => end,
            end = shared.pump(Direction::ToServer, from_client, to_server, &talk) => end,
            end = shared.pump(Direction::ToClient, from_server, to_client, &talk) => end,
        }
    };
    match end {
        End::Closed => {}
        End::Reset => {
            reset(client);
            reset(server);
        }
        End::HalfOpen => {
            drop(server);
            swallow(client).await;
        }
    }
}

/// Returns when the connections of before are to go.
async fn broken(state: &mut watch::Receiver<State>, cuts: u64) -> End {
    let is_broken =
        |state: &State| state.cuts != cuts || matches!(state.network, Network::Cut | Network::HalfOpen);
    match state.wait_for(is_broken).await.map(|state| state.network) {
        Ok(Network::HalfOpen) => End::HalfOpen,
        _ => End::Reset,
    }
}

fn reset(stream: TcpStream) {
    // With nothing to linger for, closing sends RST.
    let _ = stream.set_zero_linger();
}

/// Keeps a connection open, reads and never answers.
async fn swallow(mut client: TcpStream) {
    let mut bytes = [0; 4096];
    while client.read(&mut bytes).await.is_ok_and(|length| length > 0) {}
}

impl Shared {
    fn armed(&self) -> MutexGuard<'_, Vec<(Moment, Fault, u32)>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes messages on in one direction until the connection ends.
    async fn pump(
        &self,
        direction: Direction,
        from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        talk: &Mutex<Talk>,
    ) -> End {
        let mut from = BufReader::with_capacity(64 * 1024, from);
        let mut state = self.state.subscribe();
        loop {
            // Messages that came together are late together.
            let is_fresh = from.buffer().is_empty();
            let Some(mut message) = self.read(direction, &mut from, talk).await else { return End::Closed };
            let network = state.borrow_and_update().network;
            if let Network::Slow(time) = network
                && is_fresh
            {
                tokio::time::sleep(time).await;
            }
            if state.wait_for(|state| state.network != Network::Stalled).await.is_err() {
                return End::Closed;
            }
            match self.look_at(direction, &mut message, talk) {
                Some(Fault::Cut) => return End::Reset,
                Some(Fault::Hold) => std::future::pending::<()>().await,
                None => {}
            }
            if to.write_all(&message).await.is_err() {
                return End::Closed;
            }
        }
    }

    /// The next message; `None` at the connection's end.
    async fn read(
        &self,
        direction: Direction,
        from: &mut BufReader<ReadHalf<'_>>,
        talk: &Mutex<Talk>,
    ) -> Option<Vec<u8>> {
        // Kafka's length counts what follows it, PostgreSQL's also itself; before it is a letter, but in the first message.
        let has_letter = self.protocol == Protocol::Postgres
            && (direction == Direction::ToClient || std::mem::replace(&mut lock(talk).begun, true));
        let mut message = vec![0; if has_letter { 5 } else { 4 }];
        from.read_exact(&mut message).await.ok()?;
        let length = u32::from_be_bytes(*message.last_chunk().expect("at least 4 bytes")) as usize;
        let rest = if self.protocol == Protocol::Postgres { length.checked_sub(4)? } else { length };
        let head = message.len();
        message.resize(head + rest, 0);
        from.read_exact(&mut message[head..]).await.ok()?;
        Some(message)
    }

    /// Notes what a message means, and whether a fault strikes it.
    fn look_at(&self, direction: Direction, message: &mut [u8], talk: &Mutex<Talk>) -> Option<Fault> {
        let moment = match self.protocol {
            Protocol::Kafka | Protocol::KafkaAsItIs => self.kafka_moment(direction, message, &mut lock(talk)),
            Protocol::Postgres => postgres_moment(direction, message, &mut lock(talk)),
        }?;
        let mut armed = self.armed();
        let index = armed.iter().position(|(wanted, ..)| *wanted == moment)?;
        let (_, fault, times) = &mut armed[index];
        let fault = *fault;
        *times -= 1;
        if *times == 0 {
            armed.remove(index);
        }
        self.struck.send_modify(|struck| *struck += 1);
        Some(fault)
    }

    fn kafka_moment(&self, direction: Direction, message: &mut [u8], talk: &mut Talk) -> Option<Moment> {
        if direction == Direction::ToServer {
            let kind = i16::from_be_bytes(*message.get(4..)?.first_chunk()?);
            talk.asked.push_back(kind);
            return (kind == PRODUCE).then_some(Moment::Produce);
        }
        match talk.asked.pop_front()? {
            PRODUCE => Some(Moment::ProduceAnswer),
            METADATA if self.protocol == Protocol::Kafka => {
                self.replace_port(message);
                None
            }
            _ => None,
        }
    }

    /// Puts what clients are to be told in the place of the broker's port.
    fn replace_port(&self, metadata: &mut [u8]) {
        let server_port = u32::from(self.server_port.load(Ordering::Relaxed)).to_be_bytes();
        let broker = [ADVERTISED, &server_port].concat();
        let places: Vec<usize> = metadata
            .windows(broker.len())
            .enumerate()
            .filter(|(_, w)| *w == broker)
            .map(|(at, _)| at)
            .collect();
        let told_port = u32::from(self.told_port.load(Ordering::Relaxed)).to_be_bytes();
        for place in places {
            let port = place + ADVERTISED.len();
            metadata[port..port + 4].copy_from_slice(&told_port);
        }
    }
}

fn postgres_moment(direction: Direction, message: &[u8], talk: &mut Talk) -> Option<Moment> {
    let text = message.get(5..).unwrap_or_default();
    match (direction, message.first()?) {
        (Direction::ToServer, b'Q') if text.starts_with(b"BEGIN") => {
            // The one transaction that states its isolation is the flush's.
            talk.flushing = text.starts_with(b"BEGIN ISOLATION");
            None
        }
        (Direction::ToServer, b'Q') if text == b"COMMIT\0" => talk.flushing.then_some(Moment::Commit),
        (Direction::ToClient, b'C') if text == b"COMMIT\0" => talk.flushing.then_some(Moment::CommitAnswer),
        _ => None,
    }
}

fn lock(talk: &Mutex<Talk>) -> MutexGuard<'_, Talk> {
    talk.lock().unwrap_or_else(PoisonError::into_inner)
}
