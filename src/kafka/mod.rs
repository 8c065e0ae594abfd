//! Kafka at the level of its protocol, through rskafka's messenger.
//!
//! rskafka's public client has no time-outs, fetches one partition per connection, copies every record, cannot read what
//! transactions leave behind and reports errors as text. The level below it, which its feature `unstable-fuzzing` opens,
//! frames, numbers and negotiates, and accepts our own request types. The version is pinned, as that level is not a
//! stable interface; `connection`, `message` and what encodes batches, in `sink` and `embedded`, are all that touch it.
//!
//! - [`connection`]: one connection, with time-outs, login and errors that name the address (`socket`: checks its first bytes).
//! - [`message`]: the calls, by the primitive types of `wire`; [`error`]: what can go wrong, as types.
//! - [`cluster`]: brokers, which of them leads a partition, and short calls; [`topic`]: whether the topic exists, its partitions and ends.
//! - [`fetcher`]: the records of all partitions over one connection per broker; [`batch`]: record batches, checked and decoded in place (`crc32c`).
//! - [`sink`]: batches to partitions, sent until acknowledged and stored once.
//! - [`group`]: offsets, so that Kafka's own tools show the lag.
//! - [`partitioner`]: which partition a key belongs to, as Java's client decides it.

pub mod batch;
pub mod cluster;
pub mod connection;
pub(crate) mod crc32c;
pub mod error;
pub mod fetcher;
pub mod group;
pub mod message;
pub mod partitioner;
pub mod sink;
mod socket;
pub mod topic;
mod wire;
