//! A value → its parsed nodes, by simd-json, in buffers that are kept from value to value.
//!
//! simd-json works in place, so the value is copied first. Memory that a huge value needed is freed before the call
//! returns; while it is parsed, it may take 36 bytes for each of its own.

use simd_json::{Buffers, Node, Tape};

/// After a longer value the buffers are dropped and start small again.
const KEPT_VALUE_BYTES: usize = 16 * 1024;
/// After a value with more brackets, commas, colons, strings and scalars than this, too.
const KEPT_STRUCTURALS: usize = 4 * 1024;

/// The buffers.
pub(super) struct Json {
    buffers: Buffers,
    /// The value that simd-json works on.
    scratch: Vec<u8>,
    /// Empty between calls: only its allocation is kept.
    tape: Tape<'static>,
}

impl Default for Json {
    fn default() -> Self {
        Self { buffers: Buffers::default(), scratch: Vec::new(), tape: Tape(Vec::new()) }
    }
}

impl Json {
    /// Calls `use_nodes` with the value's nodes, none if it is not JSON, and with whether it is strictly JSON: Python's `NaN`
    /// and `Infinity` are accepted.
    pub(super) fn parse<R>(&mut self, body: &[u8], use_nodes: impl FnOnce(&[Node<'_>], bool) -> R) -> R {
        self.scratch.clear();
        self.scratch.extend_from_slice(body);
        // The tape borrows the value while it is filled. It is emptied afterwards, so that its allocation outlives the
        // borrow.
        let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let mut is_json = simd_json::fill_tape(&mut self.scratch, &mut self.buffers, &mut tape).is_ok();
        let is_repaired = !is_json && may_have_python_words(body);
        if is_repaired {
            let mut emptied = tape.reset();
            self.scratch.clear();
            self.scratch.extend_from_slice(body);
            blank_python_words(&mut self.scratch);
            is_json = simd_json::fill_tape(&mut self.scratch, &mut self.buffers, &mut emptied).is_ok();
            tape = emptied;
        }
        let nodes = if is_json { tape.0.as_slice() } else { &[] };
        let result = use_nodes(nodes, !is_repaired);
        self.tape = tape.reset();
        if body.len() > KEPT_VALUE_BYTES || self.buffers.structural_indexes().len() > KEPT_STRUCTURALS {
            *self = Self::default();
        }
        result
    }
}

/// Whether a value that is not JSON might be, except for Python's `NaN` and `Infinity`.
fn may_have_python_words(body: &[u8]) -> bool {
    matches!(body.first(), Some(b'{' | b'[')) && body.iter().any(|byte| matches!(byte, b'N' | b'I'))
}

/// Replaces each `NaN`, `Infinity` and `-Infinity` outside of strings with an empty string, which is a missing value.
pub(super) fn blank_python_words(value: &mut [u8]) {
    let mut at = 0;
    while let Some(byte) = value.get(at) {
        let rest = value.get(at..).unwrap_or_default();
        let length = match byte {
            b'"' => {
                let mut escaped = false;
                let is_end = |byte: &u8| {
                    let ends = *byte == b'"' && !escaped;
                    escaped = *byte == b'\\' && !escaped;
                    ends
                };
                at += 2 + rest.iter().skip(1).position(is_end).unwrap_or(rest.len());
                continue;
            }
            b'N' if rest.starts_with(b"NaN") => 3,
            b'I' if rest.starts_with(b"Infinity") => 8,
            b'-' if rest.starts_with(b"-Infinity") => 9,
            _ => {
                at += 1;
                continue;
            }
        };
        if let Some(word) = value.get_mut(at..at + length) {
            word.fill(b' ');
            word[..2].fill(b'"');
        }
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Parser;
    use crate::reading::Reason::Malformed;

    #[test]
    fn memory_that_a_hostile_value_took_is_given_back() {
        let mut parser = Parser::default();
        let good = r#"{"timestamp":1,"temperature":1}"#;
        let mebibyte = 1 << 20;
        let hostile = [
            vec![b'['; mebibyte],
            vec![b'"'; mebibyte + 1],
            vec![b' '; mebibyte],
            [b"[".to_vec(), b"1,".repeat(mebibyte / 2), b"1]".to_vec()].concat(),
            vec![b'['; KEPT_VALUE_BYTES],
            vec![b'{'; KEPT_STRUCTURALS],
        ];
        for value in hostile {
            assert_eq!(parser.parse(&value, None), Err(Malformed));
            assert!(parser.json().tape.0.is_empty());
            assert!(
                parser.json().tape.0.capacity() <= 2 * KEPT_STRUCTURALS,
                "{}",
                parser.json().tape.0.capacity()
            );
            assert!(parser.json().buffers.structural_indexes().len() <= KEPT_STRUCTURALS);
            assert!(parser.json().scratch.capacity() <= KEPT_VALUE_BYTES);
            assert!(parser.parse(good.as_bytes(), None).is_ok());
        }
    }
}
