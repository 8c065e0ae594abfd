//! Faults that a test arms: what goes wrong in a broker, a network or a cluster, at a request that the test chooses.
//!
//! Nothing here is random. A [`FaultRule`] names an api and perhaps a partition, lets some requests pass, applies to the next
//! ones, and is then used up. Rules are tried in the order in which they were armed; only the first that matches applies to
//! a request. While no rule is armed, a request costs one atomic load.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::SharedBroker;
use super::super::api::{AnswerHead, Api, ParsedRequest};
use super::super::codes::ErrorCode;
use super::super::wire::AnswerWriter;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed before the request is handled.
    CutBefore,
    /// The request is handled (a batch is stored), then the connection is closed without an answer.
    CutAfter,
    /// The request is read and never handled; the connection stays open and silent until the broker drops it.
    StallBefore,
    /// The request is handled and never answered; the connection stays open and silent until the broker drops it.
    StallAfter,
    /// The request is handled this much later.
    Delay(Duration),
    /// The request is answered with this code for each of its partitions or topics, and nothing is done.
    Error(ErrorCode),
    /// The request is handled (a batch is stored), but answered with this code.
    ErrorAfter(ErrorCode),
    /// The request is handled and answered, with a throttle time of this many milliseconds in the answer.
    Throttle(i32),
}

/// Which requests a fault applies to.
#[derive(Debug, Clone)]
pub struct FaultRule {
    api: Api,
    fault: Fault,
    partition: Option<i32>,
    skip: u32,
    times: Option<u32>,
}

impl FaultRule {
    /// The next request of this api.
    pub fn next(api: Api, fault: Fault) -> Self {
        Self { api, fault, partition: None, skip: 0, times: Some(1) }
    }

    /// Only requests that touch this partition, of any topic. Requests that name no partition never match.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Lets this many matching requests pass first.
    pub fn skip(mut self, count: u32) -> Self {
        self.skip = count;
        self
    }

    /// Applies to this many matching requests instead of one.
    pub fn times(mut self, count: u32) -> Self {
        self.times = Some(count);
        self
    }

    /// Applies to every matching request until the faults are cleared.
    pub fn always(mut self) -> Self {
        self.times = None;
        self
    }

    fn matches(&self, request: &ParsedRequest<'_>) -> bool {
        self.api == request.api() && self.partition.is_none_or(|partition| request.touches(partition))
    }

    /// Counts down the requests to let pass.
    fn lets_pass(&mut self) -> bool {
        let passes = self.skip > 0;
        self.skip = self.skip.saturating_sub(1);
        passes
    }
}

/// The armed rules of a broker.
#[derive(Debug, Default)]
pub struct Faults {
    /// How many rules are armed: read without the lock.
    armed: AtomicUsize,
    rules: Mutex<Vec<FaultRule>>,
}

impl Faults {
    fn rules(&self) -> MutexGuard<'_, Vec<FaultRule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a rule behind those that are armed.
    pub fn arm(&self, rule: FaultRule) {
        let mut rules = self.rules();
        rules.push(rule);
        self.armed.store(rules.len(), Ordering::Release);
    }

    /// Removes all rules. A fault that already applies to a request stays in effect.
    pub fn clear(&self) {
        self.rules().clear();
        self.armed.store(0, Ordering::Release);
    }

    /// How many rules have not yet been used up: 0 tells a test that its faults really happened.
    pub fn armed(&self) -> usize {
        self.armed.load(Ordering::Acquire)
    }

    /// Answers a request according to the armed rules; `None`: close the connection.
    pub(in super::super) async fn answer(
        &self,
        request: &ParsedRequest<'_>,
        broker: &SharedBroker,
    ) -> Option<AnswerWriter> {
        let usual = request.head();
        match self.strike(request) {
            None => Some(request.answer(broker, usual).await),
            Some(fault) => fault.answer(request, broker, usual).await,
        }
    }

    /// The fault that applies to this request.
    fn strike(&self, request: &ParsedRequest<'_>) -> Option<Fault> {
        // Acquire pairs with the Release in `arm`: a request sent after `arm` returned sees the rule.
        if self.armed.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut rules = self.rules();
        let index = rules.iter_mut().position(|rule| rule.matches(request) && !rule.lets_pass())?;
        let rule = rules.get_mut(index)?;
        let fault = rule.fault;
        rule.times = rule.times.map(|times| times.saturating_sub(1));
        if rule.times == Some(0) {
            rules.remove(index);
            self.armed.store(rules.len(), Ordering::Release);
        }
        Some(fault)
    }
}

impl Fault {
    async fn answer(
        self,
        request: &ParsedRequest<'_>,
        broker: &SharedBroker,
        usual: AnswerHead,
    ) -> Option<AnswerWriter> {
        match self {
            Self::CutBefore => None,
            Self::CutAfter => {
                request.answer(broker, usual).await;
                None
            }
            Self::StallBefore => std::future::pending().await,
            Self::StallAfter => {
                request.answer(broker, usual).await;
                std::future::pending().await
            }
            Self::Delay(time) => {
                tokio::time::sleep(time).await;
                Some(request.answer(broker, usual).await)
            }
            Self::Error(error) => {
                Some(request.answer(broker, AnswerHead { error: Some(error), ..usual }).await)
            }
            Self::ErrorAfter(error) => {
                request.answer(broker, usual).await;
                Some(request.answer(broker, AnswerHead { error: Some(error), ..usual }).await)
            }
            Self::Throttle(throttle_ms) => {
                Some(request.answer(broker, AnswerHead { throttle_ms, ..usual }).await)
            }
        }
    }
}
