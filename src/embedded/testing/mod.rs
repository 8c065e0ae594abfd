//! What tests do to a running broker: faults at chosen requests, and what happens to logs, leaders and connections in an
//! unhealthy cluster.

mod faults;

use std::sync::Arc;

use super::listener::ListenerCommand;
use super::{Broker, ErrorCode, batch, wire};

pub use faults::{Fault, FaultRule, Faults};

impl Broker {
    /// Loses the records from `offset` on, as an unclean election does; whole batches are removed. Returns the end offset.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn truncate(&self, topic: &str, partition: i32, offset: i64) -> Result<i64, ErrorCode> {
        self.shared.store.truncate(topic, partition, offset)
    }

    /// Elects the leader of a partition again: the broker stays, its epoch rises, and requests with the old one are refused.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn elect(&self, topic: &str, partition: i32) -> Result<i32, ErrorCode> {
        self.shared.store.elect(topic, partition)
    }

    /// Appends a batch without the checks that a producer's batches go through: markers, other codecs, corrupt ones.
    /// Returns its base offset.
    ///
    /// # Errors
    /// There is no such partition, or the bytes are too few for a batch's header.
    pub fn append_unchecked(&self, topic: &str, partition: i32, batch: &[u8]) -> Result<i64, ErrorCode> {
        let header =
            batch::AppendedHeader::read(batch).map_err(|wire::MalformedRequest| ErrorCode::CorruptMessage)?;
        self.shared
            .store
            .append(topic, partition, Arc::from(batch), header)
            .map(|appended| appended.base_offset)
    }

    /// The faults to arm.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Closes all connections; returns when they are closed. New ones are accepted.
    pub async fn drop_connections(&self) {
        self.order(ListenerCommand::DropConnections).await;
    }

    /// From now on new connections open but are not served, as when the broker's process is suspended.
    pub async fn pause_accepting(&self) {
        self.order(ListenerCommand::Pause).await;
    }

    /// Serves new connections again, including those that were opened meanwhile.
    pub async fn resume_accepting(&self) {
        self.order(ListenerCommand::Resume).await;
    }
}
