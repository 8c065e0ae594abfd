//! What snappy and lz4 have in common: a block is literals and copies of what came before, each of any length.
//!
//! Either may be longer than there is room for in the window, so what is left of it is kept for the next time.

use super::sliding_window::SlidingWindow;

pub(super) const ENDS_EARLY: &str = "it ends early";

/// A literal or copy that is being written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pending {
    literal: usize,
    copy: usize,
    distance: usize,
}

impl Pending {
    pub(super) fn literal(length: usize) -> Self {
        Self { literal: length, ..Self::default() }
    }

    pub(super) fn copy(distance: usize, length: usize) -> Self {
        Self { copy: length, distance, ..Self::default() }
    }

    /// Whether something is left to write.
    pub(super) fn is_some(self) -> bool {
        self.literal + self.copy > 0
    }

    /// Writes as much as there is room for. Literals are taken from `input` at `at`.
    #[inline]
    pub(super) fn write(
        &mut self,
        input: &[u8],
        at: &mut usize,
        window: &mut SlidingWindow,
    ) -> Result<usize, &'static str> {
        if self.literal > 0 {
            let count = self.literal.min(window.room());
            window.extend(input.get(*at..).and_then(|rest| rest.get(..count)).ok_or(ENDS_EARLY)?);
            *at += count;
            self.literal -= count;
            Ok(count)
        } else {
            let count = self.copy.min(window.room());
            if count > 0 {
                window.repeat(self.distance, count)?;
            }
            self.copy -= count;
            Ok(count)
        }
    }
}

/// `N` bytes of `input` from `at` on, which moves behind them.
#[inline]
pub(super) fn take<const N: usize>(input: &[u8], at: &mut usize) -> Result<[u8; N], &'static str> {
    let bytes = input.get(*at..).and_then(|rest| rest.first_chunk()).ok_or(ENDS_EARLY)?;
    *at += N;
    Ok(*bytes)
}
