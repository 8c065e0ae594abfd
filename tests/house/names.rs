//! One name, one meaning: no two types of the program have the same name, however few files may use them.

use std::collections::BTreeMap;

use super::sources::{Source, sources};

/// The words that a declaration of a type begins with, behind its visibility.
const KEYWORDS: [&str; 5] = ["struct ", "enum ", "trait ", "union ", "type "];

#[test]
fn no_two_types_have_the_same_name() {
    let sources = sources();
    let files_of = declared(&sources);
    assert!(files_of.len() > 400, "only {} types are seen", files_of.len());
    let repeated: Vec<String> = files_of
        .iter()
        .filter(|(_, files)| files.len() > 1)
        .map(|(name, files)| format!("{name} is declared in {}: rename all but one", files.join(", ")))
        .collect();
    assert!(repeated.is_empty(), "{}", repeated.join("\n"));
}

/// The files in which each type is declared.
fn declared(sources: &[Source]) -> BTreeMap<&str, Vec<&str>> {
    let mut files_of: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for source in sources {
        for name in source.text.lines().filter_map(declaration) {
            files_of.entry(name).or_default().push(&source.name);
        }
    }
    files_of
}

/// The name of the type that a line declares. A type within an `impl` or a trait belongs to that.
fn declaration(line: &str) -> Option<&str> {
    let is_within = line.starts_with(char::is_whitespace);
    let line = line.trim_start();
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')').map_or(rest, |(_, rest)| rest),
        Some(rest) => rest,
        None => line,
    };
    let line = line.trim_start();
    let rest = KEYWORDS.iter().find_map(|word| line.strip_prefix(word))?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    (!(is_within && line.starts_with("type "))).then_some(&rest[..end])
}

#[test]
fn declarations_are_seen() {
    for (line, name) in [
        ("pub struct State {", Some("State")),
        ("struct Batch<'a>(&'a [u8]);", Some("Batch")),
        ("pub(super) enum Found {", Some("Found")),
        ("pub(in crate::kafka) trait Call {", Some("Call")),
        ("    pub(crate) struct Inner;", Some("Inner")),
        ("type Order = (Command, u8);", Some("Order")),
        ("    type Answer = Vec<i64>;", None),
        ("public struct Thing;", None),
        ("let structure = 1;", None),
    ] {
        assert_eq!(declaration(line), name, "{line}");
    }
    let file = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
    let files = [file("a", "struct One;\nstruct Two;"), file("b", "pub enum One {}")];
    assert_eq!(declared(&files)["One"], ["a", "b"]);
    assert_eq!(declared(&files)["Two"], ["a"]);
}
