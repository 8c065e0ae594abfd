//! Everything that the program prints: log lines, `Sent: {...}` lines, batches, the live block at a terminal's bottom.
//!
//! Callers only put their text into a bounded queue; a thread for each stream (`writer`) writes it. So a
//! terminal, pipe or disk that blocks never holds up the work: what no longer fits is dropped and counted,
//! and the log reports the number once the stream accepts text again. Standard output and standard error have a queue each,
//! unless both are the same terminal, pipe or file: then one queue keeps their lines in order.
//!
//! A closed stream is ignored and the work continues; [`closed`] is for callers that want to end then.

mod writer;

use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::shutdown::Shutdown;

use writer::{OutputTarget, OutputWriter};

/// A stream that has accepted nothing for this long is no longer waited for.
const STALLED: Duration = Duration::from_secs(1);
/// Longest wait at the end for a stream that takes its text slowly.
const LAST_LINES: Duration = Duration::from_secs(3);

static OUTPUT: LazyLock<Output> = LazyLock::new(Output::start);

struct Output {
    out: Arc<OutputWriter>,
    log: Arc<OutputWriter>,
}

impl Output {
    fn start() -> Self {
        let out = OutputWriter::start("standard output", Box::new(io::stdout()), Box::new(io::stderr()));
        let log = if is_same_stream() {
            Arc::clone(&out)
        } else {
            OutputWriter::start("standard error", Box::new(io::sink()), Box::new(io::stderr()))
        };
        Self { out, log }
    }
}

/// Whether both streams lead to the same place.
fn is_same_stream() -> bool {
    let place = |fd: u8| std::fs::metadata(format!("/dev/fd/{fd}")).ok().map(|at| (at.dev(), at.ino()));
    let both_are_terminals = || io::stdout().is_terminal() && io::stderr().is_terminal();
    both_are_terminals() || place(1).is_some_and(|stdout| place(2) == Some(stdout))
}

/// Prints whole lines to standard output, above the live block; drops them if too much is waiting there.
pub fn print(lines: impl Into<Vec<u8>>) {
    OUTPUT.out.push(OutputTarget::Out, lines.into());
}

/// Prints whole lines to standard error, likewise.
pub fn print_log(lines: impl Into<Vec<u8>>) {
    OUTPUT.log.push(OutputTarget::Log, lines.into());
}

/// Shows this block, some lines at the bottom of the terminal, in place of the one before; empty = none.
///
/// Only for a standard output that is a terminal which can do it (`terminal::is_live`).
pub fn show_live(block: String) {
    OUTPUT.out.show_live(block);
}

/// Prints the answer of a command that has nothing else to do: waits until all of it is taken, however long a pager
/// takes, or the stream is closed.
pub async fn deliver(text: impl Into<Vec<u8>>) {
    OUTPUT.out.push_always(OutputTarget::Out, text.into());
    OUTPUT.out.wait(OutputWriter::is_idle).await;
}

/// The same, but a signal ends the wait for a reader that does not read.
pub async fn deliver_until(shutdown: &mut Shutdown, text: impl Into<Vec<u8>>) {
    tokio::select! {
        () = deliver(text) => {}
        () = shutdown.wait() => {}
    }
}

/// Returns when standard output has taken all that was printed, or takes nothing.
pub async fn room() {
    while !OUTPUT.out.is_idle() && !OUTPUT.out.is_stalled(STALLED) {
        // Either way it is time to look again.
        let _ = timeout(STALLED, OUTPUT.out.wait(OutputWriter::is_idle)).await;
    }
}

/// Whether standard output has taken all that was printed.
pub fn is_idle() -> bool {
    OUTPUT.out.is_idle()
}

/// Whether the reader of standard output has gone.
pub fn is_closed() -> bool {
    OUTPUT.out.is_closed()
}

/// Returns when the reader of standard output has gone.
pub async fn closed() {
    OUTPUT.out.wait(OutputWriter::is_closed).await;
}

/// The end of the program: takes the live block away, prints the last line of the log, if any, and waits for both
/// streams, but not for one that blocks.
pub async fn finish(last: Option<String>) {
    OUTPUT.out.show_live(String::new());
    if let Some(line) = last {
        OUTPUT.log.push_always(OutputTarget::Log, line.into());
    }
    let end = Instant::now() + LAST_LINES;
    for writer in [&OUTPUT.out, &OUTPUT.log] {
        while !writer.is_idle() && !writer.is_stalled(STALLED) && Instant::now() < end {
            // As above; often, so that a stall is seen soon after it becomes one.
            let _ = timeout(STALLED / 10, writer.wait(OutputWriter::is_idle)).await;
        }
    }
}
