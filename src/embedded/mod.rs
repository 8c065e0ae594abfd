//! A Kafka broker inside the process: for `weather demo`, for trying things out and for tests. It does not persist data:
//! everything is in memory, the oldest records are deleted when the limit is reached, and all is gone when it stops.
//!
//! Why: the producer and the processor run against it unchanged, over a real socket and Kafka's own protocol. It starts
//! within milliseconds, without a JVM, and can fail on demand ([`Faults`]).
//!
//! ```text
//! listener    accepts, owns the connections      testing/       faults, and changes of its logs, for tests
//! connection  frames in, answers out, in order   topic_store    all topics under one lock and one limit
//! api/        the requests, a file per kind      partition_log  one partition: whole batches
//! wire        primitive types                    sequence       the last batches of idempotent producers
//! groups      offsets of consumer groups         batch          the header of a record batch, its checksum
//! ```
//!
//! Invariants
//! - Loopback only. No bytes from a socket make it panic. The memory of a connection is limited: one request of
//!   `max_request_bytes`, and the batches of one answer until the client has read them.
//! - It advertises exactly the requests and versions that are implemented.
//! - A batch is stored as it came, except for base offset and leader epoch, only if its checksum is right, and only once
//!   if an idempotent producer sends it again. Offsets are assigned at append, without gaps. The high watermark is the end
//!   of the log.
//!
//! Absent on purpose: replicas, members of consumer groups, transactions, fetch sessions, SASL and TLS, topic
//! configurations, retention by time, disk.

mod api;
mod batch;
mod codes;
mod connection;
mod groups;
mod listener;
mod partition_log;
mod sequence;
mod testing;
#[cfg(test)]
mod tests;
mod topic_store;
mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU16, Ordering};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub use api::Api;
pub use batch::{NO_PRODUCER, RawBatch};
pub use codes::ErrorCode;
use listener::{ListenerCommand, ListenerOrder};
pub use testing::{Fault, FaultRule, Faults};

/// The broker's number in the cluster.
const NODE_ID: i32 = 1;

/// The settings of a broker.
#[derive(Debug, Clone)]
pub struct Options {
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// The address that clients are told to connect to, if not the broker's own: that of a proxy before it.
    pub advertised: Option<SocketAddr>,
    /// Maximum bytes of the stored batches of all partitions, with their overhead. The newest batch is kept even if it
    /// alone is larger.
    pub limit_bytes: usize,
    /// Largest batch, as Kafka's `max.message.bytes`.
    pub max_message_bytes: usize,
    /// Largest request; a connection that announces a larger one is closed.
    pub max_request_bytes: usize,
    /// Connections at the same time; further ones are closed at once.
    pub max_connections: usize,
    /// Partitions of a topic that is created by a request for it; `None`: requests create no topics.
    pub auto_create_partitions: Option<i32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            advertised: None,
            limit_bytes: 32 << 20,
            max_message_bytes: (1 << 20) + 12,
            max_request_bytes: 16 << 20,
            max_connections: 1_000,
            auto_create_partitions: None,
        }
    }
}

/// What all tasks of a broker share.
#[derive(Debug)]
struct SharedBroker {
    options: Options,
    /// Where it listens now. Relaxed: callers that need a new port learn of it after the move is done.
    port: AtomicU16,
    store: topic_store::TopicStore,
    groups: groups::Groups,
    /// Identifies this broker's cluster.
    cluster_id: String,
    /// Relaxed: the names only have to differ.
    next_producer_id: AtomicI64,
    faults: Faults,
    counters: connection::Counters,
}

impl SharedBroker {
    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.load(Ordering::Relaxed)).into()
    }

    /// A name for an idempotent producer.
    fn next_producer_id(&self) -> i64 {
        self.next_producer_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Where clients are told to connect to.
    fn advertised(&self) -> SocketAddr {
        self.options.advertised.unwrap_or_else(|| self.address())
    }
}

/// A running broker. Dropping it closes its socket and all connections, and frees the records.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<SharedBroker>,
    orders: mpsc::Sender<ListenerOrder>,
    task: JoinHandle<()>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Broker {
    /// Starts a broker on the current tokio runtime.
    ///
    /// # Errors
    /// The port is taken, or no socket is available.
    pub async fn start(options: Options) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
        let shared = Arc::new(SharedBroker {
            port: AtomicU16::new(listener.local_addr()?.port()),
            store: topic_store::TopicStore::new(options.limit_bytes),
            groups: groups::Groups::default(),
            cluster_id: format!("embedded-{:032x}", u128::from_be_bytes(topic_store::random_id())),
            next_producer_id: AtomicI64::new(0),
            faults: Faults::default(),
            counters: connection::Counters::default(),
            options,
        });
        let (orders, receiver) = mpsc::channel(1);
        let task = tokio::spawn(listener::run(listener, Arc::clone(&shared), receiver));
        Ok(Self { shared, orders, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.shared.address()
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// It exists, or Kafka would not accept the name or the number of partitions.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), ErrorCode> {
        self.shared.store.create_topic(name, partitions, false)
    }

    /// Deletes a topic and its records. If it is created again, it begins at offset 0.
    ///
    /// # Errors
    /// There is no such topic.
    pub fn delete_topic(&self, name: &str) -> Result<(), ErrorCode> {
        self.shared.store.delete_topic(name)
    }

    /// Raises a topic's number of partitions to `total`.
    ///
    /// # Errors
    /// There is no such topic, or it has at least as many.
    pub fn add_partitions(&self, name: &str, total: i32) -> Result<(), ErrorCode> {
        self.shared.store.add_partitions(name, total)
    }

    /// The offset of the oldest record kept.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn log_start_offset(&self, topic: &str, partition: i32) -> Result<i64, ErrorCode> {
        self.shared.store.bounds(topic, partition).map(|(start, _)| start)
    }

    /// The offset that the next record will get.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn end_offset(&self, topic: &str, partition: i32) -> Result<i64, ErrorCode> {
        self.shared.store.bounds(topic, partition).map(|(_, end)| end)
    }

    /// Deletes the records below `before`, as retention does. Returns the log start offset.
    ///
    /// # Errors
    /// There is no such partition, or `before` lies beyond its end.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) -> Result<i64, ErrorCode> {
        self.shared.store.delete_before(topic, partition, before)
    }

    /// Bytes that the stored batches take, as [`Options::limit_bytes`] counts them.
    pub fn stored_bytes(&self) -> usize {
        self.shared.store.bytes()
    }

    /// How many requests of this kind arrived so far.
    pub fn requests(&self, api: Api) -> u64 {
        self.shared.counters.requests(api)
    }

    /// Returns when `count` requests of this kind have arrived since the start.
    pub async fn wait_for_requests(&self, api: Api, count: u64) {
        self.shared.counters.wait(api, count).await;
    }

    /// How many connections were accepted so far.
    pub fn connections_accepted(&self) -> u64 {
        self.shared.counters.accepted()
    }

    /// How many connections are open.
    pub fn connections_open(&self) -> usize {
        self.shared.counters.open()
    }

    /// Closes the socket and all connections, as when the broker's process is killed: new connections are refused. The
    /// records stay, and the port is free for [`restart`](Self::restart) or for another broker.
    pub async fn stop(&self) {
        self.order(ListenerCommand::Close).await;
    }

    /// Listens again on the same port after [`stop`](Self::stop).
    ///
    /// # Errors
    /// Another program has the port now.
    pub async fn restart(&self) -> std::io::Result<()> {
        self.listen(self.address()).await
    }

    /// Listens on another, free port after [`stop`](Self::stop), with the same records: the broker has moved.
    ///
    /// # Errors
    /// No socket is available.
    pub async fn restart_elsewhere(&self) -> std::io::Result<()> {
        self.listen((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    async fn listen(&self, address: SocketAddr) -> std::io::Result<()> {
        let listener = TcpListener::bind(address).await?;
        self.shared.port.store(listener.local_addr()?.port(), Ordering::Relaxed);
        self.order(ListenerCommand::Listen(listener)).await;
        Ok(())
    }

    /// Returns when the task has done it.
    async fn order(&self, command: ListenerCommand) {
        let (done, wait) = oneshot::channel();
        // Both fail only if the task has ended, because the runtime shuts down.
        if self.orders.send((command, done)).await.is_ok() {
            let _ = wait.await;
        }
    }
}
