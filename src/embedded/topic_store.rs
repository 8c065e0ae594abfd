//! All topics of the broker behind one lock, under one limit of bytes.
//!
//! The lock is held only for map look-ups and pushes, never during a checksum, a copy of a batch or an await, so one is
//! enough for the two or three cores that this broker is meant for. When a log changes, waiting fetches are notified after
//! the lock is released.
//!
//! Limit: while the stored batches of all partitions together (with their overhead) exceed it, the batch that was appended
//! first is deleted, in whichever partition it is. Only the newest batch of all is never deleted.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use super::batch::AppendedHeader;
use super::codes::ErrorCode;
use super::partition_log::{PartitionFetch, PartitionLog, Slice};

/// Longest name of a topic, in bytes.
const MAX_TOPIC_NAME: usize = 249;
/// Partitions of all topics together: keeps topics without writers within bounds as well.
const MAX_PARTITIONS: usize = 10_000;

/// The topics.
#[derive(Debug)]
pub(super) struct TopicStore {
    limit_bytes: usize,
    state: Mutex<StoredTopics>,
}

#[derive(Debug, Default)]
struct StoredTopics {
    topics: BTreeMap<String, StoredTopic>,
    /// Sum of the logs' sizes.
    bytes: usize,
    /// Batches appended so far.
    appended: u64,
}

/// Where an appended batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Appended {
    pub(super) base_offset: i64,
    pub(super) log_start_offset: i64,
    /// The newest timestamp of a batch that was stored before, since Kafka returns it for those only; else -1.
    pub(super) known_time_ms: i64,
}

/// A topic of the broker. Created again under its name, it has another id.
#[derive(Debug)]
struct StoredTopic {
    id: [u8; 16],
    logs: Vec<PartitionLog>,
}

/// What metadata has of a topic: its id, and the leaders' epochs by partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TopicInfo {
    pub(super) id: [u8; 16],
    pub(super) leader_epochs: Vec<i32>,
}

/// How a fetch names a topic.
#[derive(Debug, Clone, Copy)]
pub(super) enum TopicName<'a> {
    Name(&'a str),
    Id([u8; 16]),
}

/// The results of a fetch: one for each partition, in the order of the request.
#[derive(Debug, Default)]
pub(super) struct FetchResults {
    pub(super) slices: Vec<Result<Slice, ErrorCode>>,
    /// There are enough bytes, or an error, so the answer must not wait.
    pub(super) complete: bool,
}

impl StoredTopics {
    fn log(&mut self, topic: &str, partition: i32) -> Result<&mut PartitionLog, ErrorCode> {
        usize::try_from(partition)
            .ok()
            .and_then(|index| self.topics.get_mut(topic)?.logs.get_mut(index))
            .ok_or(ErrorCode::UnknownTopicOrPartition)
    }

    fn log_of(&mut self, topic: TopicName<'_>, partition: i32) -> Result<&mut PartitionLog, ErrorCode> {
        match topic {
            TopicName::Name(name) => self.log(name, partition),
            TopicName::Id(id) => {
                let topic = self.topics.values_mut().find(|topic| topic.id == id);
                let logs = &mut topic.ok_or(ErrorCode::UnknownTopicId)?.logs;
                let index = usize::try_from(partition).ok();
                index.and_then(|index| logs.get_mut(index)).ok_or(ErrorCode::UnknownTopicOrPartition)
            }
        }
    }

    fn partitions(&self) -> usize {
        self.topics.values().map(|topic| topic.logs.len()).sum()
    }

    /// Deletes the oldest batches until the limit holds.
    fn retain(&mut self, limit_bytes: usize) -> Vec<Weak<Notify>> {
        let mut waiters = Vec::new();
        while self.bytes > limit_bytes {
            let logs = self.topics.values_mut().flat_map(|topic| &mut topic.logs);
            let oldest = logs.filter_map(|log| Some((log.oldest()?, log))).min_by_key(|(order, _)| *order);
            match oldest {
                Some((order, log)) if order + 1 < self.appended => {
                    self.bytes -= log.drop_oldest();
                    waiters.append(&mut log.take_waiters());
                }
                _ => break,
            }
        }
        waiters
    }
}

fn notify(waiters: Vec<Weak<Notify>>) {
    for waiter in waiters {
        if let Some(waiter) = waiter.upgrade() {
            waiter.notify_one();
        }
    }
}

impl TopicStore {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, StoredTopics> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a topic, or only checks whether it could be created.
    pub(super) fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        only_check: bool,
    ) -> Result<(), ErrorCode> {
        if !is_valid_topic(name) {
            return Err(ErrorCode::InvalidTopic);
        }
        let mut state = self.lock();
        if state.topics.contains_key(name) {
            return Err(ErrorCode::TopicAlreadyExists);
        }
        let partitions = usize::try_from(partitions).map_err(|_| ErrorCode::InvalidPartitions)?;
        if partitions == 0 {
            return Err(ErrorCode::InvalidPartitions);
        }
        if state.partitions() + partitions > MAX_PARTITIONS {
            return Err(ErrorCode::PolicyViolation);
        }
        if !only_check {
            let logs = std::iter::repeat_with(PartitionLog::default).take(partitions).collect();
            state.topics.insert(name.to_owned(), StoredTopic { id: random_id(), logs });
        }
        Ok(())
    }

    /// Deletes a topic with all that is in it.
    pub(super) fn delete_topic(&self, name: &str) -> Result<(), ErrorCode> {
        let mut state = self.lock();
        let mut logs = state.topics.remove(name).ok_or(ErrorCode::UnknownTopicOrPartition)?.logs;
        state.bytes -= logs.iter().map(PartitionLog::size).sum::<usize>();
        drop(state);
        notify(logs.iter_mut().flat_map(PartitionLog::take_waiters).collect());
        Ok(())
    }

    /// Raises a topic's number of partitions to `total`.
    pub(super) fn add_partitions(&self, name: &str, total: i32) -> Result<(), ErrorCode> {
        let mut state = self.lock();
        let others = state.partitions();
        let logs = &mut state.topics.get_mut(name).ok_or(ErrorCode::UnknownTopicOrPartition)?.logs;
        let total = usize::try_from(total).map_err(|_| ErrorCode::InvalidPartitions)?;
        if total <= logs.len() {
            return Err(ErrorCode::InvalidPartitions);
        }
        if others - logs.len() + total > MAX_PARTITIONS {
            return Err(ErrorCode::PolicyViolation);
        }
        logs.resize_with(total, PartitionLog::default);
        Ok(())
    }

    /// Every topic.
    pub(super) fn topics(&self) -> Vec<(String, TopicInfo)> {
        self.lock().topics.iter().map(|(name, topic)| (name.clone(), topic.info())).collect()
    }

    /// A topic.
    pub(super) fn topic(&self, name: &str) -> Option<TopicInfo> {
        self.lock().topics.get(name).map(StoredTopic::info)
    }

    /// The epoch of a partition's leader.
    pub(super) fn leader_epoch(&self, topic: &str, partition: i32) -> Result<i32, ErrorCode> {
        self.lock().log(topic, partition).map(|log| log.leader_epoch())
    }

    /// Compares the epoch that a client knows with the leader's.
    pub(super) fn check_epoch(&self, topic: &str, partition: i32, known: i32) -> Result<(), ErrorCode> {
        self.lock().log(topic, partition)?.check_epoch(known)
    }

    /// Elects a partition's leader again: its epoch after that.
    pub(super) fn elect(&self, topic: &str, partition: i32) -> Result<i32, ErrorCode> {
        let mut state = self.lock();
        let log = state.log(topic, partition)?;
        log.elect();
        let (epoch, waiters) = (log.leader_epoch(), log.take_waiters());
        drop(state);
        notify(waiters);
        Ok(epoch)
    }

    /// Bytes that all logs take.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Log start offset and end offset.
    pub(super) fn bounds(&self, topic: &str, partition: i32) -> Result<(i64, i64), ErrorCode> {
        self.lock().log(topic, partition).map(|log| (log.start_offset(), log.end_offset()))
    }

    /// Appends a batch of a producer. If it was stored before, returns where.
    pub(super) fn append_once(
        &self,
        topic: &str,
        partition: i32,
        batch: Arc<[u8]>,
        header: AppendedHeader,
    ) -> Result<Appended, ErrorCode> {
        let mut state = self.lock();
        let log = state.log(topic, partition)?;
        if let Some(base_offset) = log.check_sequence(&header)? {
            let known_time_ms = header.max_timestamp_ms;
            return Ok(Appended { base_offset, log_start_offset: log.start_offset(), known_time_ms });
        }
        self.append_locked(state, topic, partition, batch, header)
    }

    /// Appends a batch without any check.
    pub(super) fn append(
        &self,
        topic: &str,
        partition: i32,
        batch: Arc<[u8]>,
        header: AppendedHeader,
    ) -> Result<Appended, ErrorCode> {
        self.append_locked(self.lock(), topic, partition, batch, header)
    }

    fn append_locked(
        &self,
        mut state: MutexGuard<'_, StoredTopics>,
        topic: &str,
        partition: i32,
        batch: Arc<[u8]>,
        header: AppendedHeader,
    ) -> Result<Appended, ErrorCode> {
        let order = state.appended;
        let log = state.log(topic, partition)?;
        let base_offset = log.end_offset();
        let size = log.append(batch, header, order);
        let mut waiters = log.take_waiters();
        state.bytes += size;
        state.appended += 1;
        waiters.append(&mut state.retain(self.limit_bytes));
        let log_start_offset = state.log(topic, partition)?.start_offset();
        drop(state);
        notify(waiters);
        Ok(Appended { base_offset, log_start_offset, known_time_ms: -1 })
    }

    /// Reads for a fetch. If the result is incomplete, `waiter` is notified when any of its partitions changes.
    ///
    /// All partitions together return at most `max_bytes`, but at least the first batch that is found.
    pub(super) fn read(
        &self,
        topics: &[(TopicName<'_>, Vec<PartitionFetch>)],
        min_bytes: usize,
        max_bytes: usize,
        waiter: &Arc<Notify>,
    ) -> FetchResults {
        let mut found = FetchResults::default();
        let mut bytes = 0;
        let mut state = self.lock();
        let wanted = || topics.iter().flat_map(|(topic, all)| all.iter().map(move |wanted| (*topic, wanted)));
        for (topic, wanted) in wanted() {
            let room = wanted.max_bytes.min(max_bytes.saturating_sub(bytes));
            let slice =
                state.log_of(topic, wanted.partition).and_then(|log| log.read(wanted, room, bytes == 0));
            match &slice {
                Ok(slice) => {
                    bytes += slice.bytes;
                    found.complete |= slice.diverged.is_some();
                }
                Err(_) => found.complete = true,
            }
            found.slices.push(slice);
        }
        found.complete |= bytes >= min_bytes || found.slices.is_empty();
        if !found.complete {
            for (topic, wanted) in wanted() {
                if let Ok(log) = state.log_of(topic, wanted.partition) {
                    log.wait(waiter);
                }
            }
        }
        found
    }

    /// Offset and timestamp of the first record at `timestamp_ms` or later; `None` if there is none.
    pub(super) fn first_since(
        &self,
        topic: &str,
        partition: i32,
        timestamp_ms: i64,
    ) -> Result<Option<(i64, i64)>, ErrorCode> {
        self.lock().log(topic, partition).map(|log| log.first_since(timestamp_ms))
    }

    /// Moves the log start offset up to `before` (-1: the end); the log start offset after that.
    pub(super) fn delete_before(&self, topic: &str, partition: i32, before: i64) -> Result<i64, ErrorCode> {
        self.shorten(topic, partition, |log| {
            let before = if before == -1 { log.end_offset() } else { before };
            if !(0..=log.end_offset()).contains(&before) {
                return Err(ErrorCode::OffsetOutOfRange);
            }
            let freed = log.delete_before(before);
            Ok((log.start_offset(), freed))
        })
    }

    /// Cuts a log so that it ends at `offset`; the end offset after that.
    pub(super) fn truncate(&self, topic: &str, partition: i32, offset: i64) -> Result<i64, ErrorCode> {
        self.shorten(topic, partition, |log| {
            let freed = log.truncate(offset);
            Ok((log.end_offset(), freed))
        })
    }

    /// Changes a log with `change`, which returns an offset and the bytes that it freed.
    fn shorten(
        &self,
        topic: &str,
        partition: i32,
        change: impl FnOnce(&mut PartitionLog) -> Result<(i64, usize), ErrorCode>,
    ) -> Result<i64, ErrorCode> {
        let mut state = self.lock();
        let log = state.log(topic, partition)?;
        let (offset, freed) = change(log)?;
        let waiters = log.take_waiters();
        state.bytes -= freed;
        drop(state);
        notify(waiters);
        Ok(offset)
    }
}

impl StoredTopic {
    fn info(&self) -> TopicInfo {
        TopicInfo { id: self.id, leader_epochs: self.logs.iter().map(PartitionLog::leader_epoch).collect() }
    }
}

/// An id that nothing else has.
pub(super) fn random_id() -> [u8; 16] {
    // Each of these hashers has its own random key.
    let half = || RandomState::new().build_hasher().finish().to_be_bytes();
    let mut id = [0; 16];
    id[..8].copy_from_slice(&half());
    id[8..].copy_from_slice(&half());
    id
}

/// Whether Kafka accepts the name for a topic.
pub(super) fn is_valid_topic(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX_TOPIC_NAME).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(legal)
}

#[cfg(test)]
mod tests;
