//! Links between documents lead somewhere, and paths of the project that they name are there.

use std::path::Path;

/// Folders of the project whose paths are recognised in text.
const ROOMS: [&str; 7] = ["src/", "tests/", "benches/", "terraform/", "k8s/", "nix/", ".ci/"];
/// Files that the reader makes, by the commands shown beside them.
const MADE: [&str; 2] = ["postgres-password", "kafka-password"];

/// The targets of `[text](target)` that are files.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    let all = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    all.filter(|target| !target.contains("://")).map(|target| target.split('#').next().unwrap_or_default())
}

/// Paths of the project in backticks, without what a colon appends.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2).filter(|code| !code.contains(char::is_whitespace));
    let paths = quoted.filter(|code| ROOMS.iter().any(|room| code.starts_with(room)));
    paths.map(|path| path.split(':').next().unwrap_or_default())
}

fn is_pattern(path: &str) -> bool {
    path.contains(['*', '{', '<', '…']) || MADE.iter().any(|name| path.ends_with(name))
}

#[test]
fn links_and_paths_are_there() {
    let mut missing = Vec::new();
    for file in super::readmes() {
        let text = super::read(&file);
        let folder = file.parent().unwrap_or(Path::new(""));
        let links = targets(&text).filter(|target| !target.is_empty() && !folder.join(target).exists());
        missing.extend(links.map(|target| format!("{}: {target}", file.display())));
        let paths = paths(&text).filter(|path| !is_pattern(path) && !super::root().join(path).exists());
        missing.extend(paths.map(|path| format!("{}: {path}", file.display())));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
