//! How many tests run at once: many, since most of them wait most of the time, but only few that keep a core busy.
//!
//! `tests/run` lets the test program start many tests; each begins by taking its turn. Turns are given in the order in
//! which they are requested, so that a test that must run alone gets its turn too.

use tokio::sync::{Semaphore, SemaphorePermit};

/// What runs at once at most, in the units below: four heavy tests or twelve light ones, for a machine of two cores.
const UNITS: u32 = 12;
const LIGHT: u32 = 1;
const HEAVY: u32 = 3;

static TURNS: Semaphore = Semaphore::const_new(UNITS as usize);

/// A turn, over when it is dropped.
pub type Turn = SemaphorePermit<'static>;

/// For a test on the shared services with a small load.
pub async fn light() -> Turn {
    take(LIGHT).await
}

/// For a test that starts a service of its own, or sends and recomputes a large load.
pub async fn heavy() -> Turn {
    take(HEAVY).await
}

/// For a test that measures time: nothing else runs beside it.
pub async fn alone() -> Turn {
    take(UNITS).await
}

async fn take(units: u32) -> Turn {
    TURNS.acquire_many(units).await.expect("the turns are never closed")
}
