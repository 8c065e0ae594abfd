//! Which batches of a fetch answer belong to transactions that were aborted.
//!
//! With read_committed a broker sends everything up to the first open transaction, and with it the list of the aborted
//! ones that the answer touches, each by its producer and first offset. It ends where that producer's next control
//! batch says "abort". So the list is walked along with the batches, as Java's consumer does.

/// A transaction that was aborted, as a fetch answer names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// The producer's id.
    pub producer_id: i64,
    /// Offset of the transaction's first record.
    pub first_offset: i64,
}

/// The aborted transactions of one answer, walked from its first batch to its last.
#[derive(Debug)]
pub(super) struct Aborted {
    /// Not begun yet, the next one last.
    ahead: Vec<AbortedTransaction>,
    /// Producers in the middle of one.
    open: Vec<i64>,
}

impl Aborted {
    pub(super) fn new(mut list: Vec<AbortedTransaction>) -> Self {
        list.sort_unstable_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Self { ahead: list, open: Vec::new() }
    }

    /// Follows a batch of records: whether it belongs to an aborted transaction.
    pub(super) fn holds(&mut self, producer_id: i64, last_offset: i64) -> bool {
        self.begin_up_to(last_offset);
        self.open.contains(&producer_id)
    }

    /// Follows a control batch that says "abort".
    pub(super) fn end(&mut self, producer_id: i64, last_offset: i64) {
        self.begin_up_to(last_offset);
        self.open.retain(|open| *open != producer_id);
    }

    fn begin_up_to(&mut self, last_offset: i64) {
        while let Some(next) = self.ahead.pop_if(|next| next.first_offset <= last_offset) {
            self.open.push(next.producer_id);
        }
    }
}
