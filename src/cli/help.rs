//! Help, printed from the table of flags; no line is wider than 80 columns.

use std::fmt::Write as _;

use super::table::{Flag, SUBCOMMANDS, Subcommand, flags_of};

const WIDTH: usize = 80;
/// Where descriptions start.
const COLUMN: usize = 26;

/// `weather --help`.
pub(super) fn program() -> String {
    let mut out = format!(
        "weather {} - realtime weather averages from Kafka to PostgreSQL\n\n\
         Usage: weather <command> [options]\n\nCommands:\n",
        env!("CARGO_PKG_VERSION")
    );
    for command in SUBCOMMANDS {
        // Writing to a String cannot fail; the same below.
        let _ = writeln!(out, "  {:10} {}", command.word, command.summary);
    }
    out.push_str(
        "\nOptions:\n  -h, --help     Print help; after a command, its options\n  -V, --version  Print the version\n\n\
         Exit codes: 0 success, 1 failure, 2 wrong command line, environment or setup,\n3 verify: not everything could be checked.\n",
    );
    out
}

/// `weather <command> --help`.
pub(super) fn command(command: &Subcommand) -> String {
    let mut out = format!("{}\n\nUsage: weather {} [options]\n\n", command.summary, command.word);
    out.push_str(
        "Every option --some-flag can also be set as the variable WEATHER_SOME_FLAG; the\n\
         option takes precedence. Durations: 500us, 6ms, 10s, 5m, 1.5h, 7d.\n\nOptions:\n",
    );
    for flag in flags_of(command.name) {
        push_flag(&mut out, flag);
    }
    push_item(&mut out, "  -h, --help", "Print help.");
    push_secrets(&mut out, command);
    out
}

/// The service's flag, the variable of its password, and the service.
const SECRETS: [(&str, &str, &str); 2] =
    [("sasl-mechanism", "WEATHER_SASL_PASSWORD", "Kafka"), ("database-url", "PGPASSWORD", "PostgreSQL")];

/// The variables of passwords that a command takes.
fn push_secrets(out: &mut String, command: &Subcommand) {
    let has = |name: &str| flags_of(command.name).any(|flag| flag.name == name);
    let secrets: Vec<_> = SECRETS.iter().filter(|(flag, ..)| has(flag)).collect();
    if !secrets.is_empty() {
        out.push_str("\nEnvironment only, since other users can read a command line:\n");
    }
    for (_, variable, service) in secrets {
        let text = format!("Password for {service}. Or {variable}_FILE: a file that contains it.");
        push_item(out, &format!("  {variable}"), &text);
    }
}

fn push_flag(out: &mut String, flag: &Flag) {
    let name = format!("  --{} {}", flag.name, flag.metavar);
    let default = match flag.default {
        Some(default) if !default.is_empty() && !flag.is_switch() => format!(" [default: {default}]"),
        _ => String::new(),
    };
    push_item(out, name.trim_end(), &format!("{}{default}", flag.help));
}

/// A name and its description next to it, the description wrapped.
fn push_item(out: &mut String, name: &str, description: &str) {
    let mut line = name.to_owned();
    // A long name is on its own line, its description below it.
    if line.chars().count() >= COLUMN {
        out.push_str(&line);
        out.push('\n');
        line.clear();
    }
    pad(&mut line);
    for word in description.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            line.clear();
            pad(&mut line);
        }
        if !line.ends_with(' ') {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}

fn pad(line: &mut String) {
    while line.chars().count() < COLUMN {
        line.push(' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_a_terminal_and_names_every_flag() {
        let check_width = |text: &str| {
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH, "{line}");
                assert_eq!(line, line.trim_end(), "trailing space");
            }
        };
        check_width(&program());
        for subcommand in SUBCOMMANDS {
            assert!(program().contains(subcommand.word), "{}", subcommand.word);
            let text = command(subcommand);
            check_width(&text);
            for flag in flags_of(subcommand.name) {
                assert!(text.contains(&format!("--{}", flag.name)), "{}", flag.name);
            }
            assert_eq!(text.contains("PASSWORD "), text.contains("Environment only"), "{}", subcommand.word);
        }
    }
}
