//! The command line: arguments and environment in, a checked configuration out.
//!
//! One table (`table`) names every flag once; parsing, `WEATHER_…` variables, defaults and help follow from it. This
//! file reads the arguments and decides between flag, variable and default; `resolve` checks values against each other
//! and fills the types of `config`. Every error is one line that names where the value came from, the value, and what is
//! expected.
//!
//! Passwords are never flags: other users of a machine can read a command line.

mod database;
mod environment;
mod help;
mod resolve;
mod table;
mod value;

use std::collections::HashMap;
use std::ffi::OsString;

use crate::config;
use crate::error::{Error, Result};
pub use environment::Environment;
use table::{Flag, FlagValues, SUBCOMMANDS, Subcommand, flags_of};

/// What to do, by the command line.
#[derive(Debug)]
pub enum Invocation {
    /// Run a subcommand.
    Run(Box<Run>),
    /// Print this to standard output and exit with 0.
    Print(String),
    /// No subcommand was named: print this help to standard error and exit with 2.
    NoCommand(String),
}

/// A subcommand with its configuration.
#[derive(Debug)]
pub struct Run {
    /// What to run.
    pub command: Command,
    /// The settings as they were resolved, for the log; secrets masked.
    pub settings: Vec<(&'static str, String)>,
}

/// The subcommands.
#[derive(Debug)]
pub enum Command {
    /// `weather producer`.
    Producer(config::Producer),
    /// `weather process`.
    Process(Box<config::Process>),
    /// `weather demo`.
    Demo(config::Demo),
    /// `weather inspect`.
    Inspect(config::Inspect),
    /// `weather verify`.
    Verify(Box<config::Verify>),
    /// `weather readmit`.
    Readmit(Box<config::Readmit>),
}

impl Command {
    /// The word on the command line.
    pub fn word(&self) -> &'static str {
        match self {
            Command::Producer(_) => "producer",
            Command::Process(_) => "process",
            Command::Demo(_) => "demo",
            Command::Inspect(_) => "inspect",
            Command::Verify(_) => "verify",
            Command::Readmit(_) => "readmit",
        }
    }

    /// How this command logs.
    pub fn log(&self) -> config::LogSettings {
        match self {
            Command::Producer(c) => c.log,
            Command::Process(c) => c.log,
            Command::Demo(c) => c.log,
            Command::Inspect(c) => c.log,
            Command::Verify(c) => c.log,
            Command::Readmit(c) => c.log,
        }
    }
}

/// Where a value came from; a later origin overrides an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ValueOrigin {
    Default,
    OldVariable,
    Variable,
    Flag,
}

/// A flag's value as text, and where it came from.
#[derive(Debug, Clone)]
struct GivenValue {
    flag: &'static str,
    text: String,
    origin: ValueOrigin,
}

impl GivenValue {
    /// What the user wrote it as.
    fn name(&self, flag: &Flag) -> String {
        match self.origin {
            ValueOrigin::Variable => flag.variable(),
            ValueOrigin::OldVariable => flag.old_variable().unwrap_or_default().to_owned(),
            ValueOrigin::Flag | ValueOrigin::Default => format!("--{}", flag.name),
        }
    }
}

/// Reads the command line (without the program's name) and the environment.
///
/// # Errors
/// [`crate::error::ExitKind::Usage`] for everything that the user has to change.
pub fn parse(arguments: impl IntoIterator<Item = OsString>, env: &Environment<'_>) -> Result<Invocation> {
    let arguments = arguments.into_iter().map(utf8).collect::<Result<Vec<String>>>()?;
    let Some((first, rest)) = arguments.split_first() else {
        return Ok(Invocation::NoCommand(help::program()));
    };
    match (first.as_str(), rest) {
        ("--version" | "-V", _) => Ok(Invocation::Print(format!("weather {}\n", env!("CARGO_PKG_VERSION")))),
        ("--help" | "-h", _) | ("help", []) => Ok(Invocation::Print(help::program())),
        ("help", [word, ..]) => Ok(Invocation::Print(help::command(subcommand(word)?))),
        (word, rest) => {
            let command = subcommand(word)?;
            if rest.iter().any(|argument| argument == "--help" || argument == "-h") {
                return Ok(Invocation::Print(help::command(command)));
            }
            Ok(Invocation::Run(Box::new(configure(command, rest, env)?)))
        }
    }
}

fn utf8(argument: OsString) -> Result<String> {
    argument
        .into_string()
        .map_err(|bad| Error::usage(format!("argument {:?} is not valid UTF-8", bad.to_string_lossy())))
}

fn subcommand(word: &str) -> Result<&'static Subcommand> {
    if let Some(command) = SUBCOMMANDS.iter().find(|command| command.word == word) {
        return Ok(command);
    }
    if word.starts_with('-') {
        return Err(Error::usage(format!("put the command before {word}; see weather --help")));
    }
    let hint = nearest(word, SUBCOMMANDS.iter().map(|command| command.word))
        .map_or_else(|| String::from("."), |near| format!("; did you mean {near}?"));
    Err(Error::usage(format!("unknown command {word:?}{hint} See weather --help")))
}

/// Finds the value of every flag of a command, parses it and builds the configuration.
fn configure(command: &'static Subcommand, arguments: &[String], env: &Environment<'_>) -> Result<Run> {
    let mut flags = read_flags(command, arguments)?;
    let mut options = FlagValues::default();
    let mut given = Vec::new();
    for flag in flags_of(command.name) {
        let Some(value) = settle(flag, flags.remove(flag.name), env)? else { continue };
        (flag.set)(&mut options, &value.text).map_err(|expected| refuse(flag, &value, &expected))?;
        given.push(value);
    }
    resolve::run(command.name, options, &given, env)
}

/// The flags on the command line, by name.
fn read_flags(command: &Subcommand, arguments: &[String]) -> Result<HashMap<&'static str, String>> {
    let mut flags = HashMap::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let Some(body) = argument.strip_prefix("--").filter(|body| !body.is_empty()) else {
            return Err(unexpected(command, argument));
        };
        let (name, inline) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        let flag = flags_of(command.name).find(|flag| flag.name == name);
        let flag = flag.ok_or_else(|| unknown(command, name))?;
        let value = match inline {
            Some(value) => value,
            None if flag.is_switch() => String::from("true"),
            None => match rest.next() {
                Some(value) if !value.starts_with("--") => value.clone(),
                _ => return Err(Error::usage(format!("--{name} needs a value: --{name} {}", flag.metavar))),
            },
        };
        if flags.insert(flag.name, value).is_some() {
            return Err(Error::usage(format!("--{name} is given twice; remove one of them")));
        }
    }
    Ok(flags)
}

fn unexpected(command: &Subcommand, argument: &str) -> Error {
    let hint = match argument.trim_start_matches('-') {
        name if argument.starts_with('-') && flags_of(command.name).any(|flag| flag.name == name) => {
            format!("; did you mean --{name}?")
        }
        _ => String::from("; options start with --."),
    };
    Error::usage(format!("unexpected argument {argument:?}{hint} See weather {} --help", command.word))
}

fn unknown(command: &Subcommand, name: &str) -> Error {
    let hint = nearest(name, flags_of(command.name).map(|flag| flag.name))
        .map_or_else(|| String::from("."), |near| format!("; did you mean --{near}?"));
    Error::usage(format!("unknown option --{name}{hint} See weather {} --help", command.word))
}

/// Flag before variable before default. An empty variable counts only where empty means something (`--listen`).
fn settle(flag: &Flag, on_command_line: Option<String>, env: &Environment<'_>) -> Result<Option<GivenValue>> {
    if let Some(text) = on_command_line {
        return Ok(Some(GivenValue { flag: flag.name, text, origin: ValueOrigin::Flag }));
    }
    let takes_empty = (flag.set)(&mut FlagValues::default(), "").is_ok();
    let is_given = |text: &String| takes_empty || !text.is_empty();
    let variable = environment::raw_text(env, &flag.variable())?.filter(is_given);
    if variable.is_none()
        && let Some(old) = flag.old_variable()
        && let Some(text) = environment::raw_text(env, old)?.filter(is_given)
    {
        return Ok(Some(GivenValue { flag: flag.name, text, origin: ValueOrigin::OldVariable }));
    }
    Ok(match (variable, flag.default) {
        (Some(text), _) => Some(GivenValue { flag: flag.name, text, origin: ValueOrigin::Variable }),
        (None, Some(text)) => {
            Some(GivenValue { flag: flag.name, text: text.to_owned(), origin: ValueOrigin::Default })
        }
        (None, None) => None,
    })
}

fn refuse(flag: &Flag, given: &GivenValue, expected: &str) -> Error {
    // Quoted and escaped, so that a strange value is still one readable line.
    let shown: String = value::masked(&given.text).chars().take(100).collect();
    Error::usage(format!("{}: {shown:?} is not valid; expected {expected}", given.name(flag)))
}

/// The most similar word, if one is similar enough.
fn nearest<'a>(written: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (written.chars().count() / 3).max(2);
    let written: Vec<char> = written.chars().take(64).collect();
    words
        .map(|word| (edits(&written, word), word))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Levenshtein distance: insertions, deletions and replacements that make one word the other.
fn edits(from: &[char], to: &str) -> usize {
    let mut row: Vec<usize> = (0..=from.len()).collect();
    for (i, to_char) in to.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, from_char) in from.iter().enumerate() {
            let replaced = diagonal + usize::from(*from_char != to_char);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[from.len()]
}

#[cfg(test)]
mod tests;
