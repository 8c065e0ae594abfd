//! Readings as lines: standard input or a file, each line passed on as it is.
//!
//! Whether a line is a good reading is for the processor to judge, which keeps the bad ones; only blank lines are
//! skipped, and lines longer than [`MAX_LINE_BYTES`], which no broker accepts by default: they are counted and logged.
//! That bounds memory, whatever the input. JSON that was printed over several lines is joined. A byte order mark at the
//! start is skipped; UTF-16, which looks like text and never is JSON, is refused.

use std::collections::VecDeque;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::records::{Joiner, MAX_LINE_BYTES};
use crate::error::{Error, Result};

const READ_BYTES: usize = 64 * 1024;

/// Lines of a stream.
pub(super) struct LineReader {
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
    joiner: Joiner,
    /// Records that are whole, to be handed out.
    records: VecDeque<Vec<u8>>,
    has_begun: bool,
}

impl LineReader {
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
            joiner: Joiner::default(),
            records: VecDeque::new(),
            has_begun: false,
        }
    }

    /// The next record: a line that is not blank, without its end, or what belongs together of several; None at the end
    /// of the input.
    ///
    /// Cancelling loses nothing that was read.
    ///
    /// # Errors
    /// Reading failed, or the input is UTF-16.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(record) = self.records.pop_front() {
                return Ok(Some(record));
            }
            while let Some(line) = self.buffered_line() {
                if !self.buffer[line.clone()].trim_ascii().is_empty() {
                    self.records.extend(self.joiner.push(&self.buffer[line]));
                    break;
                }
            }
            if self.records.is_empty() && self.ended && self.start == self.buffer.len() {
                self.records.extend(self.joiner.end());
                if self.records.is_empty() {
                    return Ok(None);
                }
            } else if self.records.is_empty() && !self.has_line() {
                self.fill().await?;
            }
        }
    }

    fn has_line(&self) -> bool {
        self.ended || self.buffer[self.searched..].contains(&b'\n')
    }

    /// Looks at the first bytes of the input.
    fn begin(&mut self) -> Result<()> {
        let is_utf16 = matches!(self.buffer.as_slice(), [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'{', 0, ..]);
        if is_utf16 {
            return Err(Error::usage(format!(
                "{} is UTF-16, and JSON must be UTF-8; convert it: iconv -f UTF-16 -t UTF-8, or in PowerShell \
                 Out-File -Encoding utf8",
                self.name
            )));
        }
        if self.buffer.starts_with(b"\xef\xbb\xbf") {
            self.buffer.drain(..3);
        }
        Ok(())
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

    /// Drops the unfinished line when it is too long already.
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
        // The first, and then less and less often.
        if self.too_long.is_power_of_two() {
            crate::warn!(
                format_args!("Skipped a line of {} that is longer than {MAX_LINE_BYTES} bytes", self.name),
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
        if !self.has_begun && (self.buffer.len() >= 3 || self.ended) {
            self.has_begun = true;
            self.begin()?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for LineReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineReader").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(input: Vec<u8>) -> (Vec<Vec<u8>>, u64) {
        let (mut writer, reader) = tokio::io::duplex(1000);
        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut writer, &input).await });
        let mut lines = LineReader::new(Box::new(reader), "test".into());
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(line);
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
    async fn a_byte_order_mark_is_skipped_and_utf_16_refused() {
        let bom = read("\u{feff}{\"a\":1}\n{\"b\":2}".as_bytes().to_vec()).await.0;
        assert_eq!(bom, [&b"{\"a\":1}"[..], b"{\"b\":2}"]);
        for order in [u16::to_le_bytes, u16::to_be_bytes] {
            let utf16: Vec<u8> = "\u{feff}{\"a\":1}\n".encode_utf16().flat_map(order).collect();
            let mut lines = LineReader::new(Box::new(std::io::Cursor::new(utf16)), "test".into());
            let refused = lines.next().await.unwrap_err();
            assert!(refused.exit_code() == 2 && refused.to_string().contains("UTF-16"), "{refused}");
        }
    }

    #[tokio::test]
    async fn what_was_printed_over_several_lines_is_one_record() {
        let (records, _) = read(b"{\n  \"a\": 1\n}\n\n{\"b\":2}\n{\n\"c\":3".to_vec()).await;
        assert_eq!(records, [&b"{   \"a\": 1 }"[..], b"{\"b\":2}", b"{", b"\"c\":3"]);
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
        let gone = LineReader::file(Path::new("/nonexistent/x")).await.unwrap_err();
        assert!(gone.exit_code() == 2 && gone.to_string().contains("/nonexistent/x"), "{gone}");
        let folder = LineReader::file(&std::env::temp_dir()).await.unwrap_err();
        assert!(folder.to_string().contains("folder"), "{folder}");
    }
}
