//! What the README on operating quotes is so: messages of the program in its table of symptoms, and names of metrics.

use std::path::Path;

/// Quotes of what is not the program's own words.
const OF_OTHERS: [&str; 5] =
    ["NoBrokersAvailable", "Jar missing", "PYTHONPATH", "password authentication failed", "is_final = false"];
/// A part of a message between two values has to be so long to say anything.
const MIN_DEAD_LETTERS: usize = 10;

/// All of the program's source in one text.
fn source(folder: &Path) -> String {
    let mut text = String::new();
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            text.push_str(&source(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&super::read(&path));
        }
    }
    text
}

/// The same with strings that continue on the next line joined, and without indentation.
fn joined(source: &str) -> String {
    let mut text = String::new();
    for line in source.lines() {
        match line.strip_suffix('\\') {
            Some(start) => text.push_str(start.trim_start()),
            None => text.push_str(&format!("{}\n", line.trim_start())),
        }
    }
    text
}

/// The quotes in the first column, in parts: `…` and `N` stand for values.
fn parts(document: &str) -> Vec<String> {
    let (_, table) = document.split_once("\n| you see |").expect("the table of symptoms");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(1)).map(|cell| cell.replace(" N ", " … "));
    let quotes: Vec<String> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let parts = quotes.iter().flat_map(|quote| quote.split(['…', '"', ';', ':']));
    let parts = parts.map(|part| part.trim().to_owned()).filter(|part| part.len() >= MIN_DEAD_LETTERS);
    parts.filter(|part| !OF_OTHERS.contains(&part.as_str())).collect()
}

#[test]
fn quoted_messages_are_written_by_the_program() {
    let source = joined(&source(&super::root().join("src")));
    let parts = parts(&super::read(&super::root().join("src/telemetry/README.md")));
    assert!(parts.len() > 12, "{parts:?}");
    let missing: Vec<&String> = parts.iter().filter(|part| !source.contains(part.as_str())).collect();
    assert!(missing.is_empty(), "no source has {missing:#?}");
}

#[test]
fn documented_metrics_are_exported() {
    let source = source(&super::root().join("src"));
    let document = super::read(&super::root().join("src/telemetry/README.md"));
    let quoted = document.split('`').skip(1).step_by(2);
    let metrics: Vec<&str> = quoted.filter(|name| is_metric(name)).collect();
    assert!(metrics.len() > 30, "{metrics:?}");
    let missing: Vec<&&str> =
        metrics.iter().filter(|name| !source.contains(&format!("\"{name}\""))).collect();
    assert!(missing.is_empty(), "no source has {missing:#?}");
}

/// Not the name of a table or of a topic: those have one underscore and no unit.
fn is_metric(name: &str) -> bool {
    name.starts_with("weather_")
        && name.bytes().all(|b| b == b'_' || b.is_ascii_lowercase())
        && !["summary", "partial", "partition", "dead_letter", "process", "pipeline", "data", "db"]
            .contains(&name.trim_start_matches("weather_"))
}
