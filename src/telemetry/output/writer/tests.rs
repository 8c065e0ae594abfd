//! Streams that take everything, nothing, or fail.

use std::io::{BufRead, BufReader, PipeReader, pipe};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

/// Gives what is written to it to the test; fails with the error that the test sends it.
struct Recorder(Sender<Vec<u8>>, Option<ErrorKind>);

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.1.take() {
            Some(kind) => Err(kind.into()),
            None => {
                let _ = self.0.send(bytes.to_vec());
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn recorder(error: Option<ErrorKind>) -> (Arc<OutputWriter>, Receiver<Vec<u8>>) {
    let (sender, written) = channel();
    let log = Recorder(sender.clone(), None);
    (OutputWriter::start("test", Box::new(Recorder(sender, error)), Box::new(log)), written)
}

fn stalled() -> (Arc<OutputWriter>, PipeReader) {
    let (reader, stream) = pipe().unwrap();
    (OutputWriter::start("test", Box::new(stream), Box::new(io::sink())), reader)
}

fn text_of(written: &Receiver<Vec<u8>>) -> String {
    String::from_utf8(written.try_iter().flatten().collect()).unwrap()
}

#[tokio::test]
async fn a_stream_that_takes_nothing_costs_bounded_memory_and_nobodys_time() {
    let (writer, mut reader) = stalled();
    for i in 0..100_000 {
        writer.push(OutputTarget::Out, format!("{i:>99}\n").into_bytes());
    }
    let waiting = writer.lock().waiting_bytes;
    assert!(waiting <= MAX_WAITING, "{waiting}");
    assert!(!writer.is_idle());
    writer.push_always(OutputTarget::Out, b"end\n".to_vec());
    // Once it is read, what waited comes whole and in order, and the rest is missing.
    let mut lines = BufReader::new(&mut reader).lines().map(Result::unwrap);
    let kept: Vec<usize> =
        lines.by_ref().take_while(|line| line != "end").map(|line| line.trim().parse().unwrap()).collect();
    assert!(kept.is_sorted() && kept[0] == 0 && kept.len() < 10_000, "{} lines", kept.len());
    writer.wait(OutputWriter::is_idle).await;
}

#[tokio::test]
async fn a_closed_stream_is_known_and_takes_nothing_more() {
    let (writer, reader) = stalled();
    drop(reader);
    writer.push(OutputTarget::Out, b"x\n".to_vec());
    writer.wait(OutputWriter::is_closed).await;
    writer.push(OutputTarget::Out, vec![b'x'; 10 * MAX_WAITING]);
    writer.push_always(OutputTarget::Out, b"x\n".to_vec());
    writer.show_live("x".into());
    assert!(writer.is_idle());
}

#[tokio::test]
async fn what_a_full_disk_does_not_take_is_counted() {
    let (writer, written) = recorder(Some(ErrorKind::StorageFull));
    writer.push(OutputTarget::Out, b"1\n2\n".to_vec());
    writer.wait(OutputWriter::is_idle).await;
    assert_eq!(writer.take_dropped(), 2);
    writer.push(OutputTarget::Out, b"3\n".to_vec());
    writer.wait(OutputWriter::is_idle).await;
    assert_eq!((writer.take_dropped(), text_of(&written).as_str()), (0, "3\n"));
}

#[tokio::test]
async fn a_pipe_made_non_blocking_loses_nothing() {
    let (writer, written) = recorder(Some(ErrorKind::WouldBlock));
    writer.push(OutputTarget::Out, b"1\n".to_vec());
    writer.wait(OutputWriter::is_idle).await;
    assert_eq!((writer.take_dropped(), text_of(&written).as_str()), (0, "1\n"));
}

#[tokio::test]
async fn the_live_block_stays_below_what_is_printed() {
    let (writer, written) = recorder(None);
    let step = async |what: &dyn Fn(&OutputWriter)| {
        what(&writer);
        writer.wait(OutputWriter::is_idle).await;
        text_of(&written)
    };
    assert_eq!(step(&|w| w.show_live(String::new())).await, "");
    assert_eq!(step(&|w| w.show_live("a".into())).await, "\x1b[?7la\x1b[?7h");
    let line = step(&|w| w.push(OutputTarget::Log, b"line\n".to_vec())).await;
    assert_eq!(line, "\r\x1b[Jline\n\x1b[?7la\x1b[?7h");
    assert_eq!(step(&|w| w.show_live("b\nc".into())).await, "\r\x1b[J\x1b[?7lb\nc\x1b[?7h");
    assert_eq!(step(&|w| w.show_live(String::new())).await, "\x1b[1F\x1b[J");
    assert_eq!(step(&|w| w.push(OutputTarget::Out, b"line\n".to_vec())).await, "line\n");
}
