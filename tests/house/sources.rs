//! The program's sources, as the other tests read them: without comments, and without code that only tests use.

use std::fs;
use std::path::{Path, PathBuf};

/// A source file: `kafka::sink::buffer`, and what it says.
pub struct Source {
    pub name: String,
    pub text: String,
}

/// All of them.
pub fn sources() -> Vec<Source> {
    let root = super::root().join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.iter().filter_map(|file| source(&root, file)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// None for what is only there for tests.
fn source(root: &Path, file: &Path) -> Option<Source> {
    let path = file.strip_prefix(root).expect("below the root").with_extension("");
    let name = path.to_str().expect("an ordinary name").replace('/', "::");
    let name = name.strip_suffix("::mod").unwrap_or(&name).to_owned();
    if name.split("::").any(|part| ["tests", "fuzz", "testing"].contains(&part)) {
        return None;
    }
    let text = fs::read_to_string(file).expect("a file of text");
    // Tests within a file are the last of it.
    let tests = text.match_indices("#[cfg(test)]\n").map(|(at, _)| at).find(|at| {
        text[*at..].lines().nth(1).is_some_and(|line| line.contains("mod ") && line.ends_with('{'))
    });
    let code = &text[..tests.unwrap_or(text.len())];
    let text =
        code.lines().map(|line| line.split("//").next().unwrap_or(line)).collect::<Vec<_>>().join("\n");
    Some(Source { name, text })
}
