//! Just enough JSON to send a reading on unchanged: where objects begin and end, and the fields of one.
//!
//! Lines and API answers pass through as they are, broken ones too: judging them is the processor's work. What is needed
//! here is the station for the partition key and a few numbers of well-known APIs. So this reads bytes forward, keeps
//! a depth counter instead of a stack (no nesting can exhaust it), allocates nothing, and gives up quietly on
//! what is not JSON.

use std::borrow::Cow;

/// The fields of a flat view of an object: `(key without quotes, value as written)`, nested values whole.
pub(super) fn fields(object: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let start = object.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(object.len());
    let mut rest = object[start..].strip_prefix(b"{").unwrap_or_default();
    std::iter::from_fn(move || {
        let (key, after) = string(trim_start(rest))?;
        let after = trim_start(after).strip_prefix(b":")?;
        let value = trim_start(after);
        let (value, after) = value.split_at(value_len(value));
        // What follows is a comma and the next field, or the end.
        rest = trim_start(after).strip_prefix(b",").unwrap_or_default();
        Some((key, value.trim_ascii_end()))
    })
}

/// The value of a field as written, the first if there are several.
pub(super) fn get<'a>(object: &'a [u8], key: &str) -> Option<&'a [u8]> {
    fields(object).find(|(name, _)| *name == key.as_bytes()).map(|(_, value)| value)
}

/// A value as text: a string without its quotes and escapes. None for anything else.
pub(super) fn text(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let (inner, _) = string(value)?;
    if !inner.contains(&b'\\') {
        return Some(Cow::Borrowed(inner));
    }
    // Escapes are rare: leave them to the real parser, which works in place and so needs a copy.
    let mut copy = value.to_vec();
    let text = simd_json::from_slice::<String>(&mut copy).ok()?;
    Some(Cow::Owned(text.into_bytes()))
}

/// A value as a finite number.
pub(super) fn number(value: &[u8]) -> Option<f64> {
    let number = std::str::from_utf8(value).ok()?.parse::<f64>().ok()?;
    number.is_finite().then_some(number)
}

/// The outermost objects in a text: one, an array of them, or one after the other.
pub(super) fn objects(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.iter().position(|byte| *byte == b'{')?;
        let from = &rest[start..];
        let (object, after) = from.split_at(value_len(from));
        rest = after;
        Some(object)
    })
}

/// Length of the value at the start: to its closing bracket, or to the comma or bracket that ends a plain value.
fn value_len(value: &[u8]) -> usize {
    let mut depth = 0usize;
    let mut i = 0;
    while let Some(byte) = value.get(i) {
        match byte {
            b'"' => match string(&value[i..]) {
                Some((_, after)) => {
                    i = value.len() - after.len();
                    if depth == 0 {
                        return i;
                    }
                    continue;
                }
                None => return value.len(),
            },
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return if depth == 0 { i } else { i + 1 },
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => return i,
            _ => {}
        }
        i += 1;
    }
    value.len()
}

/// A string at the start: what is between the quotes, escapes as written, and what follows.
fn string(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let body = value.strip_prefix(b"\"")?;
    let mut i = 0;
    loop {
        match body.get(i)? {
            b'"' => return Some((&body[..i], &body[i + 1..])),
            b'\\' => i += 2,
            _ => i += 1,
        }
    }
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii_start()
}

/// The name of a reading's station, if it has one: what keeps a station's readings in one partition.
pub(super) fn station(reading: &[u8]) -> Option<Cow<'_, [u8]>> {
    const NAMES: [&[u8]; 3] = [b"station", b"city", b"location"];
    let mut best: Option<(usize, &[u8])> = None;
    for (key, value) in fields(reading) {
        let Some(rank) = NAMES.iter().position(|name| *name == key) else { continue };
        if best.is_none_or(|(best_rank, _)| rank < best_rank) {
            best = Some((rank, value));
        }
        if rank == 0 {
            break;
        }
    }
    let name = best.and_then(|(_, value)| text(value))?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(object: &str) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        fields(object.as_bytes()).map(|(key, value)| (text(key), text(value))).collect()
    }

    #[test]
    fn fields_of_an_object() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let object = r#" { "a" : 1 , "b":"x,}\"y","c":{"d":[1,{"e":"]"}]}, "f":null}"#;
        let expected = [
            pair("a", "1"),
            pair("b", r#""x,}\"y""#),
            pair("c", r#"{"d":[1,{"e":"]"}]}"#),
            pair("f", "null"),
        ];
        assert_eq!(shown(object), expected);
        for nothing in ["", "{}", "[1]", "x", "{", "{\"a", "{\"a\"", "{\"a\\", "{1:2}"] {
            assert_eq!(shown(nothing), [], "{nothing}");
        }
        assert_eq!(shown("{\"a\":"), [pair("a", "")]);
        assert_eq!(shown("{\"a\":\"x"), [pair("a", "\"x")]);
    }

    #[test]
    fn deep_nesting_is_only_a_number() {
        let deep = format!("{{\"a\":{}1{},\"city\":\"x\"}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(station(deep.as_bytes()).as_deref(), Some(&b"x"[..]));
    }

    #[test]
    fn objects_in_any_wrapping() {
        let found = |text: &str| objects(text.as_bytes()).map(<[u8]>::len).collect::<Vec<_>>();
        assert_eq!(found(r#"{"a":1}"#), [7]);
        assert_eq!(found("[{\"a\":1}, {\"b\":[{}]} ]"), [7, 10]);
        assert_eq!(found("{\"a\":1}\n{\"a\":\"}\"}\r\n\n{}"), [7, 9, 2]);
        assert_eq!(found("no json"), [0usize; 0]);
        assert_eq!(found("{\"a\":1"), [6], "an unfinished one is passed on as it is");
    }

    #[test]
    fn station_by_its_three_names() {
        let cases: [(&str, Option<&str>); 9] = [
            (r#"{"station":"s-1","temperature":1}"#, Some("s-1")),
            (r#"{"location":"l","city":"c"}"#, Some("c")),
            (r#"{"city":"c","station":"s"}"#, Some("s")),
            (r#"{"city":"H\u00e0 N\u1ed9i"}"#, Some("Hà Nội")),
            (r#"{"station":17}"#, None),
            (r#"{"station":""}"#, None),
            (r#"{"nested":{"station":"s"}}"#, None),
            (r#"{"city":"\u12"}"#, None),
            ("garbage", None),
        ];
        for (reading, expected) in cases {
            assert_eq!(station(reading.as_bytes()).as_deref(), expected.map(str::as_bytes), "{reading}");
        }
    }

    #[test]
    fn numbers_are_finite() {
        assert_eq!(number(b"-3.5e1"), Some(-35.0));
        assert!(
            [&b"1e999"[..], b"NaN", b"inf", b"\"1\"", b"", b"null"].iter().all(|text| number(text).is_none())
        );
    }
}
