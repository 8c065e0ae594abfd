//! Each command of `weather` that a README shows exists, and takes the flags that are shown with it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What is in the text without being a flag of `weather`: another program's, and the pattern of all.
const OTHERS: [&str; 2] = ["--features", "--some-flag"];

type Flags = BTreeMap<String, BTreeSet<String>>;

fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_weather")).args(arguments).output();
    let output = output.expect("the program runs");
    assert!(output.status.success(), "weather {arguments:?}");
    String::from_utf8(output.stdout).expect("help is UTF-8")
}

/// The flags at the start of the lines of a help text.
fn flags_in(help: &str) -> BTreeSet<String> {
    let options = help.lines().filter_map(|line| line.strip_prefix("  "));
    let words = options
        .flat_map(|line| line.split([' ', ',']).take_while(|word| word.is_empty() || word.starts_with('-')));
    words.filter(|word| word.starts_with("--")).map(str::to_owned).collect()
}

/// The flags of each command, as the program prints them.
fn flags_of_commands() -> Flags {
    let overview = help(&["--help"]);
    let (_, list) = overview.split_once("Commands:\n").expect("the commands are listed");
    let names = list.lines().take_while(|line| line.starts_with("  "));
    let names: Vec<&str> = names.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() >= 4, "{names:?}");
    names.into_iter().map(|name| (name.to_owned(), flags_in(&help(&[name, "--help"])))).collect()
}

/// Code of a document: the lines of its blocks, continued ones as one, and what is in backticks.
fn code(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_block = false;
    let joined = text.replace("\\\n", " ");
    for line in joined.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            found.push(line.to_owned());
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// What is wrong with the commands in one piece of code.
fn faults(code: &str, flags: &Flags) -> Vec<String> {
    let code = code.split('#').next().unwrap_or_default();
    code.split(['|', ';', '&']).filter_map(|command| fault(command, flags)).collect()
}

fn fault(command: &str, flags: &Flags) -> Option<String> {
    let command = command.trim().trim_start_matches("$ ").replace("cargo run --release -- ", "weather ");
    let words: Vec<&str> = command.split_whitespace().collect();
    let is_flag =
        |word: &&&str| word.strip_prefix("--").is_some_and(|name| name.starts_with(char::is_alphabetic));
    let shown = words.iter().filter(is_flag);
    let shown = shown.map(|word| word.split(['=', ',', ')']).next().unwrap_or_default());
    let unknown =
        |known: &BTreeSet<String>| shown.clone().find(|flag| !known.contains(*flag)).map(str::to_owned);
    if words.first() == Some(&"weather") {
        let Some(name) = words.get(1).filter(|word| word.chars().all(|c| c.is_ascii_lowercase())) else {
            return unknown(&BTreeSet::from(["--help", "--version"].map(str::to_owned)));
        };
        match flags.get(*name) {
            Some(known) => unknown(known).map(|flag| format!("weather {name} has no {flag}")),
            None => Some(format!("there is no command weather {name}")),
        }
    } else if words.first()?.starts_with("--") {
        let known = flags.values().flatten().cloned().chain(OTHERS.map(str::to_owned)).collect();
        unknown(&known).map(|flag| format!("no command has {flag}"))
    } else {
        None
    }
}

#[test]
fn what_the_readmes_show_is_what_the_program_takes() {
    let flags = flags_of_commands();
    let mut found = Vec::new();
    let mut commands = 0;
    for file in super::readmes() {
        for code in code(&super::read(&file)) {
            commands += usize::from(code.contains("weather p") || code.starts_with("--"));
            found.extend(
                faults(&code, &flags).into_iter().map(|fault| format!("{}: {fault}: {code}", file.display())),
            );
        }
    }
    assert!(commands > 20, "{commands} commands");
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_wrong_command_or_flag_is_found() {
    let flags = Flags::from([("process".to_owned(), BTreeSet::from(["--from".to_owned()]))]);
    for right in [
        "weather process --from=earliest",
        "ls --all",
        "--from",
        "weather --help",
        "$ weather process # --no",
    ] {
        assert!(faults(right, &flags).is_empty(), "{right}");
    }
    for wrong in [
        "weather process --form x",
        "weather proces",
        "--form",
        "cat x | weather process --x",
        "weather --halp",
    ] {
        assert_eq!(faults(wrong, &flags).len(), 1, "{wrong}");
    }
}
