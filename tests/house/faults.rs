//! `faults.md` names, for everything that may go wrong, the tests that make it go wrong; and what it names is there.

use std::path::{Path, PathBuf};

use super::root;

fn list() -> String {
    super::read(&root().join("tests/faults.md"))
}

/// The names in backticks of the form `FILE.rs::NAME`: the file, and the name.
fn named(text: &str) -> Vec<(PathBuf, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    let parts = quoted.filter_map(|quoted| quoted.split_once(".rs::"));
    let file = |file: &str| {
        if file.starts_with("src/") { root().to_owned() } else { root().join("tests") }.join(file)
    };
    parts.map(|(stem, name)| (file(&format!("{stem}.rs")), name)).collect()
}

/// The names of the tests in a file.
fn tests_in(file: &Path) -> Vec<String> {
    let source = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut tests = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(name) = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn ")) {
            if std::mem::take(&mut is_test) {
                tests.push(name.split('(').next().unwrap_or_default().to_owned());
            }
        } else if line.starts_with("#[ignore") {
            is_test = false;
        }
    }
    tests
}

/// Whether the name is that of a test, or `Fault::X` that of a fault of the simulation.
fn exists(file: &Path, name: &str) -> bool {
    match name.strip_prefix("Fault::") {
        None => tests_in(file).iter().any(|test| test == name),
        Some(fault) => {
            std::fs::read_to_string(file).is_ok_and(|source| source.contains(&format!("\n    {fault},\n")))
        }
    }
}

#[test]
fn every_test_that_is_named_exists() {
    let list = list();
    let named = named(&list);
    assert!(named.len() > 80, "{} names", named.len());
    let missing: Vec<_> = named.iter().filter(|(file, name)| !exists(file, name)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_case_names_a_test() {
    let list = list();
    let cases = list.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what"));
    let bare: Vec<&str> = cases.filter(|line| named(line).is_empty()).collect();
    assert!(bare.is_empty(), "{bare:#?}");
}

/// The rooms of `services` whose every test makes something go wrong.
const ROOMS: [&str; 15] = [
    "bounded", "clusters", "crashes", "network", "outages", "owners", "readmit", "scale", "set_back",
    "tables", "topics", "upgrade", "verify", "volume", "windows",
];

#[test]
fn every_test_that_makes_something_go_wrong_is_named() {
    let list = list();
    let named = named(&list);
    for room in ROOMS {
        let file = root().join("tests/services").join(room).with_extension("rs");
        for test in tests_in(&file) {
            assert!(named.iter().any(|(f, name)| *f == file && *name == test), "{}: {test}", file.display());
        }
    }
}
