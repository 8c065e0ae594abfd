//! The house keeps its order: no room depends on one above it, and no two files lead back to each other.
//!
//! It reads the paths in the sources (`use` lines and `crate::` in code) and follows each to the file that it names.

use std::collections::{BTreeMap, BTreeSet};

use super::sources::{Source, sources};

/// The rooms from the ground up; rooms of one floor know nothing of each other.
const FLOORS: [&[&str]; 9] = [
    &["error", "time", "retry", "shutdown", "reading"],
    &["config", "engine"],
    &["cli", "telemetry"],
    &["kafka", "postgres"],
    &["embedded"],
    &["processor", "producer"],
    &["inspect", "verify", "readmit", "demo"],
    &["lib"],
    &["main"],
];

#[test]
fn no_room_depends_on_one_above_it() {
    let floor_of = |room: &str| {
        FLOORS
            .iter()
            .position(|rooms| rooms.contains(&room))
            .unwrap_or_else(|| panic!("{room}: on which floor is it?"))
    };
    let sources = sources();
    let mut wrong = BTreeSet::new();
    for (from, to) in arrows(&sources) {
        let (room, used) = (room_of(&from), room_of(&to));
        if room != used && floor_of(room) <= floor_of(used) {
            wrong.insert(format!("{from} uses {to}, but {room} stands below {used} or beside it"));
        }
    }
    assert!(wrong.is_empty(), "{}", Vec::from_iter(wrong).join("\n"));
}

#[test]
fn no_file_leads_back_to_itself() {
    let sources = sources();
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    // The file that a folder begins with may use what is in the folder, and the other way round: they are one.
    for (from, to) in arrows(&sources).into_iter().filter(|(from, to)| !to.starts_with(&format!("{from}::")))
    {
        uses.entry(from).or_default().insert(to);
    }
    let circles: BTreeSet<String> = uses.keys().filter_map(|file| circle(file, &uses)).collect();
    assert!(circles.is_empty(), "files in a circle:\n{}", Vec::from_iter(circles).join("\n"));
}

#[test]
fn the_engine_knows_only_reading_and_error() {
    let foreign: Vec<String> = arrows(&sources())
        .into_iter()
        .filter(|(from, to)| {
            room_of(from) == "engine" && !["engine", "reading", "error"].contains(&room_of(to))
        })
        .map(|(from, to)| format!("{from} uses {to}"))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    for source in sources().iter().filter(|source| room_of(&source.name) == "engine") {
        for word in
            ["std::fs", "std::net", "tokio", "Instant", "SystemTime", "now_ms()", "RandomState", "thread"]
        {
            assert!(
                !source.text.contains(word),
                "{} mentions {word}: the engine has no I/O, clock or chance",
                source.name
            );
        }
    }
}

#[test]
fn the_arrows_are_seen() {
    let arrows = arrows(&sources());
    for (from, to) in [
        ("main", "cli"),
        ("processor", "processor::flusher"),
        ("processor::partition::task", "engine::partition"),
        ("kafka::fetcher::broker", "kafka::connection"),
        ("inspect::problems", "inspect::report"),
        ("embedded::api::produce", "embedded::topic_store"),
    ] {
        assert!(arrows.contains(&(from.to_owned(), to.to_owned())), "{from} → {to}");
    }
    assert_eq!(expand("a::{b, c::{d, e}, self} f"), ["a::b", "a::c::d", "a::c::e", "a::self"]);
    assert_eq!(expand("a::b::C, d"), ["a::b::C"]);
    let uses = [("a", "b"), ("b", "c"), ("c", "b")]
        .map(|(from, to)| (from.to_owned(), BTreeSet::from([to.to_owned()])));
    let circles: Vec<String> =
        ["a", "b", "c"].iter().filter_map(|file| circle(file, &BTreeMap::from(uses.clone()))).collect();
    assert_eq!(circles, ["b → c → b"]);
}

fn room_of(file: &str) -> &str {
    file.split("::").next().unwrap_or(file)
}

/// The shortest way from a file back to itself, told from its first file by name, so that each circle is told once.
fn circle(start: &str, uses: &BTreeMap<String, BTreeSet<String>>) -> Option<String> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut next: Vec<&str> = vec![start];
    while !next.is_empty() {
        for file in std::mem::take(&mut next) {
            for used in uses.get(file).into_iter().flatten().map(String::as_str) {
                if used == start {
                    let mut way = vec![start, file];
                    while way[way.len() - 1] != start {
                        way.push(came_from[way[way.len() - 1]]);
                    }
                    way.reverse();
                    return (way.iter().min() == Some(&start)).then(|| way.join(" → "));
                }
                if !came_from.contains_key(used) {
                    came_from.insert(used, file);
                    next.push(used);
                }
            }
        }
    }
    None
}

/// Which file uses which.
fn arrows(sources: &[Source]) -> BTreeSet<(String, String)> {
    let names: BTreeSet<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    let mut arrows = BTreeSet::new();
    for source in sources {
        for path in paths(source, &names) {
            // The file that the path leads into: the longest beginning that is a file's name.
            let ends = path.match_indices("::").map(|(end, _)| end).chain([path.len()]);
            let file = ends.map(|end| &path[..end]).filter(|file| names.contains(file)).last();
            if let Some(file) = file.filter(|file| *file != source.name) {
                arrows.insert((source.name.clone(), file.to_owned()));
            }
        }
    }
    arrows
}

/// Every path of the crate that a file mentions, from the crate's root.
fn paths(source: &Source, names: &BTreeSet<&str>) -> Vec<String> {
    let mut found = Vec::new();
    let root = if source.name == "main" { "weather::" } else { "crate::" };
    for (at, word) in source.text.match_indices(root) {
        // A visibility is no use; `$crate::` in a macro is expanded elsewhere, but names the same file.
        if !source.text[..at].ends_with("in ") {
            found.extend(expand(&source.text[at + word.len()..]));
        }
    }
    for (at, _) in
        source.text.match_indices("super::").filter(|(at, _)| !source.text[..*at].ends_with("super::"))
    {
        let (mut above, mut rest) = (source.name.as_str(), &source.text[at..]);
        while let Some(further) = rest.strip_prefix("super::") {
            above = above.rsplit_once("::").map_or("", |(parent, _)| parent);
            rest = further;
        }
        found.extend(expand(rest).iter().map(|path| join(above, path)));
    }
    let beneath = if ["lib", "main"].contains(&source.name.as_str()) { "" } else { &source.name };
    for (at, _) in source.text.match_indices("::") {
        let word =
            source.text[..at].rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        // A path that starts with the name of a child.
        let child = join(beneath, word);
        if names.contains(child.as_str()) && !source.text[..at - word.len()].ends_with("::") {
            found.push(child);
        }
    }
    found
}

fn join(parent: &str, path: &str) -> String {
    if parent.is_empty() { path.to_owned() } else { format!("{parent}::{path}") }
}

/// `a::{b, c::d}` as `a::b` and `a::c::d`; a path ends where no path continues.
fn expand(text: &str) -> Vec<String> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(text.len());
    let (head, rest) = (&text[..end], &text[end..]);
    let Some(list) = rest.strip_prefix('{').filter(|_| head.is_empty() || head.ends_with("::")) else {
        return vec![head.trim_end_matches(':').to_owned()];
    };
    let head = head.trim_end_matches("::");
    let (mut paths, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                paths.extend(expand(list[from..at].trim()).iter().map(|tail| join(head, tail)));
                from = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    paths
}
