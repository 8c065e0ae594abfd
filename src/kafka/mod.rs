//! Kafka through rskafka, with the client's traps kept inside this folder.
//!
//! - [`client`]: one shared connection set to the cluster; every call under a time-out, the whole client rebuilt when a
//!   call expires or fails, errors sorted by what the caller must do.
//! - [`source`]: records of one partition from an offset on, with the next fetch under way while this one is used.
//! - [`sink`]: batches to partitions, retried until acknowledged, with the header that lets duplicates be dropped.
//! - [`topic`]: whether the topic exists, which partitions it has, where they end.
//! - [`batch`]: the record batches of a fetch answer, decoded where they are.
//! - [`partitioner`]: which partition a key belongs to, as Java's client decides it.

pub mod batch;
pub mod client;
pub(crate) mod crc32c;
pub mod partitioner;
pub mod sequence;
pub mod sink;
pub mod source;
pub mod topic;
