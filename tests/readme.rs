//! What the README says about the command line is what the program says.

use std::process::Command;

fn help(command: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_weather")).args([command, "--help"]).output();
    let output = output.expect("the program runs");
    assert!(output.status.success(), "weather {command} --help");
    String::from_utf8(output.stdout).expect("help is UTF-8")
}

#[test]
fn flags_stand_in_the_readme_as_help_prints_them() {
    let readme = include_str!("../README.md");
    for command in ["producer", "process", "demo", "inspect"] {
        let help = help(command);
        assert!(readme.contains(help.trim()), "README.md shall have `weather {command} --help`:\n{help}");
    }
}
