//! Where one record ends and the next begins in piped text: lines, pretty-printed JSON, arrays of records.
//!
//! It only counts brackets and quotes; what is in a record is for the reading format to decide. Broken lines pass
//! unchanged: judging them is the processor's work.

/// The outermost objects in a text: one, an array of them, or one after the other.
pub(super) fn objects(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.iter().position(|byte| *byte == b'{')?;
        let from = rest.get(start..)?;
        let (object, after) = from.split_at(length(from).unwrap_or(from.len()));
        rest = after;
        Some(object)
    })
}

/// A record on one line, as Kafka's tools show it: line breaks, which JSON has only between fields, become blanks.
pub(super) fn one_line(record: &[u8]) -> Vec<u8> {
    record.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
}

/// Length of the object or array at the start; `None` if it does not end.
fn length(value: &[u8]) -> Option<usize> {
    let (mut depth, mut in_text, mut is_escaped) = (0usize, false, false);
    for (at, byte) in value.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_text => is_escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Joins what was printed over several lines, and splits arrays of records.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    /// Lines of an object or array that has not ended.
    open: Vec<Vec<u8>>,
    open_bytes: usize,
}

impl Joiner {
    /// The records that are whole with this line.
    pub(super) fn push(&mut self, line: &[u8]) -> Vec<Vec<u8>> {
        let begins = line.first().is_some_and(|byte| matches!(byte, b'{' | b'['));
        let mut records = Vec::new();
        if self.open.is_empty() || (begins && line.first() == Some(&b'{')) {
            // An object in the first column is a new one: what was open is broken, not pretty-printed.
            records = self.end();
            if !begins || length(line).is_some() {
                records.extend(whole(line));
                return records;
            }
        }
        self.open_bytes += line.len() + 1;
        self.open.push(line.to_vec());
        let joined = self.open.join(&b'\n');
        if length(&joined).is_some() {
            self.open.clear();
            self.open_bytes = 0;
            records.extend(whole(&joined));
        } else if self.open_bytes > MAX_LINE_BYTES || self.open.len() > MAX_LINES {
            records.extend(self.end());
        }
        records
    }

    /// What is left at the end of the input, as it came.
    pub(super) fn end(&mut self) -> Vec<Vec<u8>> {
        self.open_bytes = 0;
        std::mem::take(&mut self.open)
    }
}

/// The longest line that is passed on, and the most that is joined to one value.
pub(super) const MAX_LINE_BYTES: usize = 1024 * 1024;
/// Nothing that is printed for people has more lines.
const MAX_LINES: usize = 5_000;

/// A whole record; of an array of objects each by itself.
fn whole(record: &[u8]) -> Vec<Vec<u8>> {
    let is_array_of_objects = record.first() == Some(&b'[')
        && record.get(1..).is_some_and(|rest| rest.trim_ascii_start().first() == Some(&b'{'))
        && length(record).is_some_and(|length| record[length..].trim_ascii().is_empty());
    if is_array_of_objects {
        return objects(record).map(one_line).collect();
    }
    vec![one_line(record)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_in_any_wrapping() {
        let found = |text: &str| objects(text.as_bytes()).map(<[u8]>::len).collect::<Vec<_>>();
        assert_eq!(found(r#"{"a":1}"#), [7]);
        assert_eq!(found("[{\"a\":1}, {\"b\":[{}]} ]"), [7, 10]);
        assert_eq!(found("{\"a\":1}\n{\"a\":\"}\"}\r\n\n{}"), [7, 9, 2]);
        assert_eq!(found("no json"), [0usize; 0]);
        assert_eq!(found("{\"a\":1"), [6], "an unfinished one is passed on as it is");
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(found(&deep), [deep.len()]);
    }

    fn joined(text: &str) -> Vec<String> {
        let mut joiner = Joiner::default();
        let mut records: Vec<Vec<u8>> = text.lines().flat_map(|line| joiner.push(line.as_bytes())).collect();
        records.extend(joiner.end());
        records.into_iter().map(|record| String::from_utf8(record).unwrap()).collect()
    }

    #[test]
    fn lines_pass_and_what_spans_several_is_put_together() {
        assert_eq!(joined("{\"a\":1}\nnot json\n{\"b\":[2]}\n"), ["{\"a\":1}", "not json", "{\"b\":[2]}"]);
        assert_eq!(
            joined("{\n  \"a\": {\n    \"b\": \"}\"\n  }\n}\n{\"c\":1}"),
            ["{   \"a\": {     \"b\": \"}\"   } }", "{\"c\":1}"]
        );
        assert_eq!(joined("[{\"a\":1},{\"b\":2}]"), ["{\"a\":1}", "{\"b\":2}"]);
        assert_eq!(joined("[\n  {\"a\": 1},\n  {\"b\": 2}\n]"), ["{\"a\": 1}", "{\"b\": 2}"]);
        assert_eq!(joined("[1,2]\n[]"), ["[1,2]", "[]"]);
        // A line that was cut off takes none of the next with it.
        assert_eq!(joined("{\"a\":\n{\"b\":1}\n{\"c\":[1"), ["{\"a\":", "{\"b\":1}", "{\"c\":[1"]);
        let endless = "{\n".to_owned() + &"x\n".repeat(2 * MAX_LINES);
        assert_eq!(joined(&endless).len(), 2 * MAX_LINES + 1);
    }
}
