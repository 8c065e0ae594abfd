//! Readings as lines: standard input or a file, each line passed on as it is.
//!
//! Whether a line is a good reading is for the processor to judge, which keeps the bad ones; only blank lines are left
//! out, and lines longer than [`MAX_LINE_BYTES`], which no broker takes by default: they are counted and said. Memory
//! is bounded by that, whatever comes in.

use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::error::{Error, Result};

/// The longest line that is passed on.
pub(super) const MAX_LINE_BYTES: usize = 1024 * 1024;
const READ_BYTES: usize = 64 * 1024;

/// Lines of a stream.
pub(super) struct Lines {
    input: Box<dyn AsyncRead + Send + Unpin>,
    /// How messages call the input.
    name: String,
    /// What was read; lines up to `start` are handed out, up to `searched` there is no newline.
    buffer: Vec<u8>,
    start: usize,
    searched: usize,
    /// The line that is being read is too long: drop it to its end.
    skipping: bool,
    ended: bool,
    too_long: u64,
}

impl Lines {
    /// Lines of standard input.
    pub(super) fn stdin() -> Self {
        Self::new(Box::new(tokio::io::stdin()), "standard input".into())
    }

    /// Lines of a file.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(super) async fn file(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let refused = |why: String| Error::usage(format!("--source {name}: {why}"));
        let file = tokio::fs::File::open(path).await.map_err(|e| refused(e.to_string()))?;
        let metadata = file.metadata().await.map_err(|e| refused(e.to_string()))?;
        if metadata.is_dir() {
            return Err(refused("is a folder; expected a file with one JSON reading a line".into()));
        }
        Ok(Self::new(Box::new(file), name))
    }

    fn new(input: Box<dyn AsyncRead + Send + Unpin>, name: String) -> Self {
        Self {
            input,
            name,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            skipping: false,
            ended: false,
            too_long: 0,
        }
    }

    /// The next line that is not blank, without its end; None at the end of the input.
    ///
    /// Cancelling loses nothing that was read.
    ///
    /// # Errors
    /// Reading failed.
    pub(super) async fn next(&mut self) -> Result<Option<&[u8]>> {
        loop {
            while let Some(line) = self.buffered_line() {
                if !self.buffer[line.clone()].trim_ascii().is_empty() {
                    return Ok(Some(&self.buffer[line]));
                }
            }
            if self.ended {
                return Ok(None);
            }
            self.fill().await?;
        }
    }

    /// Takes a line out of the buffer, if a whole one is in it.
    fn buffered_line(&mut self) -> Option<std::ops::Range<usize>> {
        loop {
            let start = self.start;
            let newline = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            let end = match newline {
                Some(at) => self.searched + at,
                None if self.ended && start < self.buffer.len() => self.buffer.len(),
                None => {
                    self.searched = self.buffer.len();
                    self.bound_line();
                    return None;
                }
            };
            self.start = (end + 1).min(self.buffer.len());
            self.searched = self.start;
            if !std::mem::take(&mut self.skipping) {
                let carriage_return = self.buffer[start..end].ends_with(b"\r");
                return Some(start..end - usize::from(carriage_return));
            }
        }
    }

    /// Gives up the unfinished line when it is too long already.
    fn bound_line(&mut self) {
        if self.skipping || self.buffer.len() - self.start > MAX_LINE_BYTES {
            if !self.skipping {
                self.skipping = true;
                self.say_too_long();
            }
            self.buffer.clear();
            (self.start, self.searched) = (0, 0);
        }
    }

    fn say_too_long(&mut self) {
        self.too_long += 1;
        // The first, and then ever more rarely.
        if self.too_long.is_power_of_two() {
            crate::warn!(
                format_args!("Left out a line of {} that is longer than {MAX_LINE_BYTES} bytes", self.name),
                "lines" => self.too_long
            );
        }
    }

    async fn fill(&mut self) -> Result<()> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        self.buffer.reserve(READ_BYTES);
        let read = self.input.read_buf(&mut self.buffer).await;
        let read = read.map_err(|e| Error::failure(format!("cannot read {}: {e}", self.name)))?;
        self.ended = read == 0;
        Ok(())
    }
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(input: Vec<u8>) -> (Vec<Vec<u8>>, u64) {
        let (mut writer, reader) = tokio::io::duplex(1000);
        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut writer, &input).await });
        let mut lines = Lines::new(Box::new(reader), "test".into());
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(line.to_vec());
        }
        (all, lines.too_long)
    }

    #[tokio::test]
    async fn lines_pass_unchanged_and_blank_ones_are_left_out() {
        let (lines, _) = read(b"{\"a\": 1}\r\n\n  \t\n not json \xff\nlast".to_vec()).await;
        assert_eq!(lines, [&b"{\"a\": 1}"[..], b" not json \xff", b"last"]);
        assert_eq!(read(Vec::new()).await.0.len(), 0);
        assert_eq!(read(b"\n\n".to_vec()).await.0.len(), 0);
    }

    #[tokio::test]
    async fn a_line_without_end_takes_no_memory() {
        let mut input = b"first\n".to_vec();
        input.extend(std::iter::repeat_n(b'x', 3 * MAX_LINE_BYTES));
        input.extend_from_slice(b"\nsecond\n");
        let (lines, too_long) = read(input).await;
        assert_eq!((lines, too_long), (vec![b"first".to_vec(), b"second".to_vec()], 1));
        let (lines, too_long) = read(vec![b'x'; 2 * MAX_LINE_BYTES]).await;
        assert_eq!((lines.len(), too_long), (0, 1));
    }

    #[tokio::test]
    async fn many_lines_across_reads() {
        let input: String = (0..20_000).map(|i| format!("{i}\n")).collect();
        let (lines, _) = read(input.into_bytes()).await;
        assert_eq!(lines.len(), 20_000);
        assert!(lines.iter().zip(0..).all(|(line, i)| *line == i.to_string().as_bytes()));
    }

    #[tokio::test]
    async fn what_cannot_be_opened_is_said() {
        let gone = Lines::file(Path::new("/nonexistent/x")).await.unwrap_err();
        assert!(gone.exit_code() == 2 && gone.to_string().contains("/nonexistent/x"), "{gone}");
        let folder = Lines::file(&std::env::temp_dir()).await.unwrap_err();
        assert!(folder.to_string().contains("folder"), "{folder}");
    }
}
