//! The environment as a function, so that tests can pass their own, and secrets from it or from files that it names.

use std::ffi::OsString;

use crate::config::Secret;
use crate::error::{Error, Result};

/// The value of a variable, if it is set.
pub type Environment<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

/// A longer file than this is not a password.
const MAX_SECRET_BYTES: usize = 64 * 1024;

/// The text of a variable; None also if it is empty, which is how a manifest says "not given".
pub(super) fn text(env: &Environment<'_>, name: &str) -> Result<Option<String>> {
    Ok(raw_text(env, name)?.filter(|value| !value.is_empty()))
}

/// The text of a variable, empty or not.
pub(super) fn raw_text(env: &Environment<'_>, name: &str) -> Result<Option<String>> {
    match env(name).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(_)) => Err(Error::usage(format!("{name} is not valid UTF-8"))),
    }
}

/// The secret in a variable, or in the file that the variable with `_FILE` behind its name points to.
pub(super) fn secret(env: &Environment<'_>, name: &str) -> Result<Option<Secret>> {
    let file_variable = format!("{name}_FILE");
    let (value, file) = (text(env, name)?, text(env, &file_variable)?);
    let path = match (value, file) {
        (Some(_), Some(_)) => {
            return Err(Error::usage(format!("{name} and {file_variable} are both set; remove one of them")));
        }
        (Some(value), None) => return Ok(Some(Secret::new(value))),
        (None, None) => return Ok(None),
        (None, Some(path)) => path,
    };
    let wrong =
        |why: &str| Error::usage(format!("{file_variable}: cannot read a password from {path:?}: {why}"));
    let content = std::fs::read_to_string(&path).map_err(|e| wrong(&e.to_string()))?;
    // Editors and `echo` end a file with a newline; no password does.
    let secret = content.strip_suffix('\n').unwrap_or(&content);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    match secret.len() {
        0 => Err(wrong("the file is empty")),
        n if n > MAX_SECRET_BYTES => Err(wrong("the file is too long for a password")),
        _ => Ok(Some(Secret::new(secret))),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An environment of these variables alone.
    pub(crate) fn fake(variables: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        let variables: Vec<(String, OsString)> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        move |wanted| variables.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
    }

    #[test]
    fn secrets_from_files() {
        let path = std::env::temp_dir().join(format!("weather-secret-{}", std::process::id()));
        let path_text = path.display().to_string();
        let read = |content: &str| {
            std::fs::write(&path, content).unwrap();
            secret(&fake(&[("P_FILE", &path_text)]), "P").map(|s| s.map(|s| s.expose().to_owned()))
        };
        assert_eq!(read("pass word\n").unwrap().as_deref(), Some("pass word"));
        assert_eq!(read("x\r\n").unwrap().as_deref(), Some("x"));
        assert_eq!(read("x\n\n").unwrap().as_deref(), Some("x\n"));
        assert!(read("\n").unwrap_err().to_string().contains("empty"));
        std::fs::remove_file(&path).unwrap();
        let gone = secret(&fake(&[("P_FILE", &path_text)]), "P").unwrap_err().to_string();
        assert!(gone.contains("P_FILE") && gone.contains(&path_text), "{gone}");
        let both = secret(&fake(&[("P", "a"), ("P_FILE", &path_text)]), "P").unwrap_err().to_string();
        assert!(both.contains("both"), "{both}");
        assert_eq!(secret(&fake(&[("P", "")]), "P").unwrap(), None);
    }
}
