//! The one error type that reaches `main`: a message for the user and the exit code that goes with it.
//!
//! Modules keep errors of their own where a caller decides by them (`kafka::KafkaError`, `postgres::Failure`,
//! `engine::checkpoint::CheckpointError`); what the user must know ends up here. The message says what went wrong, where,
//! and what to do, on one line; `main` prints it and nothing else.

use std::fmt;

/// Result of everything that can end the program.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of error ends the program, as its exit code shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitKind {
    /// Wrong command line, environment or setup: exit code 2; trying again without a change is useless.
    Usage,
    /// Everything else that ends a run: exit code 1.
    Failure,
    /// A question that cannot be answered, or not in full: exit code 3.
    Unknown,
}

/// An error as the user reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ExitKind,
    message: String,
}

impl Error {
    /// The user has to change the command, the environment or the setup (exit code 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self { kind: ExitKind::Usage, message: message.into() }
    }

    /// The run cannot continue (exit code 1).
    pub fn failure(message: impl Into<String>) -> Self {
        Self { kind: ExitKind::Failure, message: message.into() }
    }

    /// Not everything could be checked (exit code 3).
    pub fn unknown(message: impl Into<String>) -> Self {
        Self { kind: ExitKind::Unknown, message: message.into() }
    }

    /// What kind of error this is.
    pub fn kind(&self) -> ExitKind {
        self.kind
    }

    /// The process exit code: 2 for usage and configuration, 3 for what cannot be checked, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            ExitKind::Usage => 2,
            ExitKind::Failure => 1,
            ExitKind::Unknown => 3,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line whatever a lower layer put into its message.
        for (i, line) in self.message.lines().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            f.write_str(line.trim())?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_one_line_and_code_follows_kind() {
        let e = Error::usage("first\n  second\n");
        assert_eq!(e.to_string(), "first; second");
        assert_eq!(e.exit_code(), 2);
        assert_eq!(Error::failure("x").exit_code(), 1);
        assert_eq!(Error::unknown("x").exit_code(), 3);
    }
}
