//! Values that are not readings.

use super::*;

/// Separated by `|`.
const NO_OBJECTS: &str = r#"
    || |x|null|true|5|-|"text"|"|\|[]|{|}|[|]|{]|[}|:|,|{}{}|{},|{} x|{/**/}|{"a"}|{"a":}|{"a":1,}|{,}|{a:1}
    |{'a':1}|{1:1}|{"a" 1}|{"a":1 "b":2}|{"a":01}|{"a":+1}|{"a":1.}|{"a":.5}|{"a":1e}|{"a":0x1}|{"a":nan}
    |{"a":Nan}|{"a":Inf}|{"a":+Infinity}|{"a":NaNs}|{"a":"NaN}|{"a":nul}|{"a":nulll}|{"a":True}|{"a":1e400}|{"a":-1e400}
    |{"a":"\x"}|{"a":"\u12"}|{"a":"\ud800"}
    |{"a":"\udc00"}|{"a":"}|{"a":"\"}"#;

#[test]
fn anything_but_an_object_is_malformed() {
    let mut values: Vec<Vec<u8>> = NO_OBJECTS.split('|').map(|text| text.as_bytes().to_vec()).collect();
    values.extend(
        ["{}\0", "\0", "\0\0\0\0\x07Obj", "{}\u{feff}", "{\"a\":\"\n\"}"]
            .map(|text| text.as_bytes().to_vec()),
    );
    values.extend([
        b"{\"a\":\"\xff\"}".to_vec(),
        b"{\"\xc3\":1}".to_vec(),
        b"\xed\xa0\x80{}".to_vec(),
        vec![0xff; 300],
    ]);
    values.push(format!("{{\"a\":{}}}", "9".repeat(400)).into_bytes());
    values.push(vec![b'['; 100_000]);
    values.push(b"{\"a\":".repeat(100_000));
    values.push([vec![b'['; 100_000], vec![b']'; 100_000]].concat());
    for value in values {
        check(value, Err(Malformed));
    }
}

#[test]
fn every_prefix_of_a_reading_is_malformed() {
    let value =
        r#"{"station":"S\u0031","timestamp":"2023-11-14T22:13:20.123Z","temperature":1,"x":[{"y":null}]}"#;
    let mut parser = Parser::default();
    assert!(parser.parse(value.as_bytes(), None).is_ok());
    for length in 0..value.len() {
        assert_eq!(parser.parse(&value.as_bytes()[..length], None), Err(Malformed), "{}", &value[..length]);
    }
    check(value, reading([Some(SCALE), None, None]));
}
