//! A bounded queue of text and the thread that writes it.
//!
//! Only the thread touches the stream, and it holds no lock while it writes; so everybody else only ever waits for a
//! queue to be changed. The live block is no text in the queue but the newest of its kind: a slow terminal skips some.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Text that waits for a stream, in bytes. A longer text is still taken while none waits.
const MAX_WAITING: usize = 256 * 1024;
/// Written at once; after each it is known that the stream still takes text.
const CHUNK: usize = 4096;
/// Between attempts on a pipe that was made non-blocking.
const RETRY: Duration = Duration::from_millis(20);
/// Between two lines about text that was dropped.
const REPORT_EVERY: Duration = Duration::from_secs(1);

const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// Where a text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputTarget {
    /// Standard output.
    Out,
    /// Standard error.
    Log,
}

type OutputStream = Box<dyn Write + Send>;

/// The queue, for all callers that print.
#[derive(Debug)]
pub(super) struct OutputWriter {
    state: Mutex<OutputState>,
    /// For the thread: there is something to write.
    filled: Condvar,
    /// For waiting callers: something was written, or never will be.
    moved: Notify,
}

#[derive(Debug)]
struct OutputState {
    texts: VecDeque<(OutputTarget, Vec<u8>)>,
    /// Of the texts and of the one being written.
    waiting_bytes: usize,
    /// A block to be shown in place of the one that is.
    live: Option<String>,
    is_writing: bool,
    dropped_lines: u64,
    is_closed: bool,
    /// When the stream last took something, or the first text began to wait.
    moved: Instant,
}

impl OutputState {
    fn is_idle(&self) -> bool {
        self.is_closed || (self.texts.is_empty() && self.live.is_none() && !self.is_writing)
    }

    fn accept(&mut self, target: OutputTarget, text: Vec<u8>) {
        if self.is_idle() {
            self.moved = Instant::now();
        }
        self.waiting_bytes += text.len();
        self.texts.push_back((target, text));
    }
}

/// What the thread does next.
enum Job {
    Write(OutputTarget, Vec<u8>),
    ShowLive(String),
}

impl OutputWriter {
    /// Starts the thread; the stream is called this in the log.
    pub(super) fn start(name: &'static str, out: OutputStream, log: OutputStream) -> Arc<Self> {
        let writer = Arc::new(Self::new());
        let screen = Screen { writer: Arc::clone(&writer), out, log, block: String::new() };
        if thread::Builder::new().name(name.to_owned()).spawn(move || screen.run(name)).is_err() {
            // Without a thread nothing can be written; the work continues as with a closed stream.
            writer.close();
        }
        writer
    }

    fn new() -> Self {
        let state = OutputState {
            texts: VecDeque::new(),
            waiting_bytes: 0,
            live: None,
            is_writing: false,
            dropped_lines: 0,
            is_closed: false,
            moved: Instant::now(),
        };
        Self { state: Mutex::new(state), filled: Condvar::new(), moved: Notify::new() }
    }

    /// Takes whole lines to be written, or drops and counts them if too much is waiting.
    pub(super) fn push(&self, target: OutputTarget, text: Vec<u8>) {
        let mut state = self.lock();
        if state.is_closed || text.is_empty() {
            return;
        }
        if state.waiting_bytes > 0 && state.waiting_bytes + text.len() > MAX_WAITING {
            state.dropped_lines += lines(&text);
            return;
        }
        state.accept(target, text);
        self.filled.notify_one();
    }

    /// As [`Self::push`], however much is waiting: for the last of it.
    pub(super) fn push_always(&self, target: OutputTarget, text: Vec<u8>) {
        let mut state = self.lock();
        if !state.is_closed && !text.is_empty() {
            state.accept(target, text);
            self.filled.notify_one();
        }
    }

    /// Shows this block from now on.
    pub(super) fn show_live(&self, block: String) {
        let mut state = self.lock();
        if !state.is_closed {
            if state.is_idle() {
                state.moved = Instant::now();
            }
            state.live = Some(block);
            self.filled.notify_one();
        }
    }

    /// Whether all is written, or the stream is closed.
    pub(super) fn is_idle(&self) -> bool {
        self.lock().is_idle()
    }

    /// Whether the stream's reader has gone.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Whether text has been waiting and none was accepted for this long.
    pub(super) fn is_stalled(&self, time: Duration) -> bool {
        let state = self.lock();
        !state.is_idle() && state.moved.elapsed() >= time
    }

    /// Returns when this holds.
    pub(super) async fn wait(&self, holds: fn(&Self) -> bool) {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            // From here on no change is missed.
            moved.as_mut().enable();
            if holds(self) {
                return;
            }
            moved.await;
        }
    }

    fn next(&self) -> Job {
        let mut state = self.lock();
        loop {
            if let Some((target, text)) = state.texts.pop_front() {
                state.is_writing = true;
                return Job::Write(target, text);
            }
            if let Some(block) = state.live.take() {
                state.is_writing = true;
                return Job::ShowLive(block);
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The stream has taken something.
    fn progressed(&self) {
        self.lock().moved = Instant::now();
    }

    /// A text of this length is done; `dropped_lines` of its lines were not written.
    fn done(&self, bytes: usize, dropped_lines: u64) {
        let mut state = self.lock();
        state.is_writing = false;
        state.waiting_bytes = state.waiting_bytes.saturating_sub(bytes);
        state.dropped_lines += dropped_lines;
        drop(state);
        self.moved.notify_waiters();
    }

    fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.texts = VecDeque::new();
        state.live = None;
        drop(state);
        self.moved.notify_waiters();
    }

    fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.lock().dropped_lines)
    }

    fn lock(&self) -> MutexGuard<'_, OutputState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lines(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// The thread's own: the streams, and what is on the terminal.
struct Screen {
    writer: Arc<OutputWriter>,
    out: OutputStream,
    log: OutputStream,
    /// The live block as it is displayed; empty = none.
    block: String,
}

impl Screen {
    fn run(mut self, name: &str) {
        let mut reported: Option<Instant> = None;
        loop {
            let (written, bytes, lines) = match self.writer.next() {
                Job::Write(target, text) => (self.write(target, &text), text.len(), lines(&text)),
                Job::ShowLive(block) => (self.replace(block), 0, 0),
            };
            match written {
                Ok(()) => self.writer.done(bytes, 0),
                Err(e) if e.kind() == ErrorKind::BrokenPipe => return self.writer.close(),
                // A full disk, for example: it may have room again.
                Err(_) => {
                    self.writer.done(bytes, lines);
                    continue;
                }
            }
            if reported.is_none_or(|at| at.elapsed() >= REPORT_EVERY) {
                let dropped = self.writer.take_dropped();
                if dropped > 0 {
                    reported = Some(Instant::now());
                    crate::warn!(format_args!("{dropped} lines dropped; {name} did not accept them in time"));
                }
            }
        }
    }

    /// Writes lines above the live block.
    fn write(&mut self, target: OutputTarget, text: &[u8]) -> io::Result<()> {
        let framed = match self.block.is_empty() {
            true => Cow::Borrowed(text),
            false => Cow::Owned([self.erase().as_bytes(), text, shown(&self.block).as_bytes()].concat()),
        };
        let stream = if target == OutputTarget::Out { &mut self.out } else { &mut self.log };
        write_all(&self.writer, stream, &framed)
    }

    fn replace(&mut self, block: String) -> io::Result<()> {
        if self.block.is_empty() && block.is_empty() {
            return Ok(());
        }
        let text = self.erase() + &shown(&block);
        self.block = block;
        write_all(&self.writer, &mut self.out, text.as_bytes())
    }

    /// What takes the live block off the terminal.
    fn erase(&self) -> String {
        match self.block.lines().count() {
            0 => String::new(),
            1 => "\r\x1b[J".to_owned(),
            lines => format!("\x1b[{}F\x1b[J", lines - 1),
        }
    }
}

/// A block as it is written: the terminal cuts lines at its edge, so its width need not be known.
fn shown(block: &str) -> String {
    if block.is_empty() { String::new() } else { format!("{NO_WRAP}{block}{WRAP}") }
}

fn write_all(writer: &OutputWriter, stream: &mut OutputStream, mut text: &[u8]) -> io::Result<()> {
    while !text.is_empty() {
        match stream.write(&text[..text.len().min(CHUNK)]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                text = &text[written..];
                writer.progressed();
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(e) => return Err(e),
        }
    }
    flush(stream)
}

/// What standard output still holds back of a text without a line's end.
fn flush(stream: &mut OutputStream) -> io::Result<()> {
    loop {
        match stream.flush() {
            Err(e) if e.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            flushed => return flushed,
        }
    }
}

#[cfg(test)]
mod tests;
