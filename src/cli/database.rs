//! Where PostgreSQL is: a connection string, filled up from PostgreSQL's own variables, then from defaults.
//!
//! Order: `--database-url`, `WEATHER_DATABASE_URL`, `DATABASE_URL`, and the `JDBC_URL` with the `JDBC_USER` of the
//! replaced system's container; what the string leaves open comes from `PGHOST`, `PGPORT`, `PGUSER`, `PGDATABASE` and
//! `PGPASSWORD[_FILE]`, as in libpq. Of several hosts, the one that can be written to is used.
//!
//! No message here shows the string: it may hold a password. Nothing in it is resolved before it is certain that a
//! password with unescaped characters has not spilt into the host or the database.

use std::error::Error as _;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::environment::{Environment, secret, text};
use super::value;
use crate::error::{Error, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for each of several hosts: a dead one must not hold up the next for long.
const CONNECT_TIMEOUT_EACH: Duration = Duration::from_secs(3);
/// A dead peer shows within a minute instead of the two hours of the default.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const TWO_HOURS: Duration = Duration::from_secs(2 * 60 * 60);

const ESCAPE_SENTENCE: &str = "has an unescaped character in its user name or password: write @ as %40, / as %2F, \
     ? as %3F and : as %3A, or put the password in PGPASSWORD";

const JDBC_SENTENCE: &str =
    "is a JDBC URL: give it as JDBC_URL instead, with the user in JDBC_USER, or leave out its jdbc:";

const TLS_SENTENCE: &str = "asks for TLS, which weather does not support: use a service mesh or stunnel, and \
                            leave sslmode unset";

/// The connection's configuration; `given` is the connection string and where it was given.
pub(super) fn config(given: Option<(&str, &str)>, env: &Environment<'_>) -> Result<Config> {
    let fallback = text(env, "DATABASE_URL")?;
    let jdbc = text(env, "JDBC_URL")?;
    let given = given
        .or(fallback.as_deref().map(|url| ("DATABASE_URL", url)))
        .or(jdbc.as_deref().map(|url| ("JDBC_URL", url.strip_prefix("jdbc:").unwrap_or(url))));
    let is_jdbc = given.is_some_and(|(origin, _)| origin == "JDBC_URL");
    let mut config = match given {
        Some((origin, url)) => parse(origin, url)?,
        None => Config::new(),
    };
    if let Some(mode) = text(env, "PGSSLMODE")?.filter(|mode| mode.starts_with("verify") || mode == "require")
    {
        return Err(Error::usage(format!("PGSSLMODE={mode} {TLS_SENTENCE}")));
    }
    config.ssl_mode(SslMode::Disable);
    fill_address(&mut config, env)?;
    if is_jdbc
        && config.get_user().is_none()
        && let Some(user) = text(env, "JDBC_USER")?
    {
        config.user(user);
    }
    if config.get_user().is_none() {
        config.user(text(env, "PGUSER")?.unwrap_or_else(|| "postgres".to_owned()));
    }
    if config.get_dbname().is_none() {
        config.dbname(text(env, "PGDATABASE")?.unwrap_or_else(|| "weather_db".to_owned()));
    }
    if config.get_password().is_none()
        && let Some(password) = secret(env, "PGPASSWORD")?
    {
        config.password(password.expose());
    }
    if config.get_application_name().is_none() {
        config.application_name("weather");
    }
    let several = config.get_hosts().len().max(config.get_hostaddrs().len()) > 1;
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(if several { CONNECT_TIMEOUT_EACH } else { CONNECT_TIMEOUT });
    }
    if several {
        // Connect to the current primary: a standby is of no use to this program.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    if config.get_keepalives_idle() == TWO_HOURS {
        config.keepalives_idle(KEEPALIVE_IDLE);
    }
    Ok(config)
}

fn parse(origin: &str, url: &str) -> Result<Config> {
    let wrong = |what: &str| Error::usage(format!("{origin} {what}"));
    if url.starts_with("jdbc:") {
        return Err(wrong(JDBC_SENTENCE));
    }
    if let Some(rest) = url.split_once("://").map(|(_, rest)| rest)
        && has_unescaped(rest)
    {
        return Err(wrong(ESCAPE_SENTENCE));
    }
    let config = url.parse::<Config>().map_err(|e| {
        let cause = e.source().map(ToString::to_string).unwrap_or_default();
        if cause.contains("`sslmode`") && url.contains("verify") {
            return wrong(TLS_SENTENCE);
        }
        // Only these causes are known not to repeat a value of the string.
        let known =
            ["invalid value for option", "unknown option"].iter().any(|known| cause.starts_with(known));
        let detail = if known { cause } else { String::from("unreadable") };
        wrong(&format!(
            "is not a connection string ({detail}); expected postgres://user@host:5432/weather_db or \
             \"host=… user=… dbname=…\", with the options of libpq"
        ))
    })?;
    if config.get_ssl_mode() == SslMode::Require {
        return Err(wrong(TLS_SENTENCE));
    }
    Ok(config)
}

/// Whether a URL without its scheme has a separator in its user name or password: then a part of the password would be
/// read as the host, the database or an option.
fn has_unescaped(url: &str) -> bool {
    let Some((credentials, rest)) = url.split_once('@') else { return false };
    let option = credentials.split_once('?').is_some_and(|(_, option)| option.contains('='));
    rest.contains('@') || credentials.contains('/') || option
}

/// Host and port, where the connection string has none.
fn fill_address(config: &mut Config, env: &Environment<'_>) -> Result<()> {
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        let hosts = text(env, "PGHOST")?.unwrap_or_else(|| "127.0.0.1".to_owned());
        for host in hosts.split(',') {
            config.host(host);
        }
    }
    if config.get_ports().is_empty()
        && let Some(port) = text(env, "PGPORT")?
    {
        let number = value::integer(&port, 1, u16::MAX).map_err(|expected| {
            Error::usage(format!("PGPORT: {port:?} is not valid; expected {expected}"))
        })?;
        config.port(number);
    }
    Ok(())
}

/// The connection's configuration as the log shows it: no password.
pub(super) fn describe(config: &Config) -> String {
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        })
        .chain(
            config.get_hostaddrs().iter().filter(|_| config.get_hosts().is_empty()).map(ToString::to_string),
        )
        .collect();
    let ports = config.get_ports();
    let ports: Vec<String> =
        if ports.is_empty() { vec!["5432".into()] } else { ports.iter().map(ToString::to_string).collect() };
    let (user, name) = (config.get_user().unwrap_or_default(), config.get_dbname().unwrap_or_default());
    format!("postgres://{user}@{}:{}/{name}", hosts.join(","), ports.join(","))
}

#[cfg(test)]
mod tests {
    use super::super::environment::tests::fake;
    use super::*;

    /// Connection string, environment, what is expected.
    type Case = (Option<&'static str>, &'static [(&'static str, &'static str)], &'static str);

    fn resolve(url: Option<&str>, env: &[(&str, &str)]) -> Result<Config> {
        let env = fake(env);
        config(url.map(|url| ("--database-url", url)), &env)
    }

    #[test]
    fn order_of_sources() {
        let cases: [Case; 7] = [
            (None, &[], "postgres://postgres@127.0.0.1:5432/weather_db"),
            (Some("postgres://u:p@h:1/d"), &[("DATABASE_URL", "postgres://x@y/z")], "postgres://u@h:1/d"),
            (None, &[("DATABASE_URL", "postgresql://x@y/z"), ("PGHOST", "no")], "postgres://x@y:5432/z"),
            (Some("postgres://h"), &[("PGUSER", "me"), ("PGDATABASE", "mine")], "postgres://me@h:5432/mine"),
            (Some("host=h dbname=d"), &[("PGPORT", "5433")], "postgres://postgres@h:5433/d"),
            (None, &[("PGHOST", "/run/postgresql")], "postgres://postgres@/run/postgresql:5432/weather_db"),
            (None, &[("PGHOST", ""), ("PGUSER", "")], "postgres://postgres@127.0.0.1:5432/weather_db"),
        ];
        for (url, env, expected) in cases {
            assert_eq!(describe(&resolve(url, env).unwrap()), expected, "{url:?} {env:?}");
        }
    }

    #[test]
    fn password_and_timeouts_fill_gaps() {
        let config = resolve(Some("postgres://u@h/d"), &[("PGPASSWORD", "s3cret")]).unwrap();
        assert_eq!(config.get_password(), Some("s3cret".as_bytes()));
        assert_eq!(config.get_connect_timeout(), Some(&CONNECT_TIMEOUT));
        assert_eq!(config.get_keepalives_idle(), KEEPALIVE_IDLE);
        assert_eq!(config.get_application_name(), Some("weather"));
        let url = "postgres://u:mine@h/d?application_name=x&connect_timeout=3";
        let config = resolve(Some(url), &[("PGPASSWORD", "s3cret")]).unwrap();
        assert_eq!(config.get_password(), Some("mine".as_bytes()));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(config.get_application_name(), Some("x"));
    }

    #[test]
    fn what_a_password_may_hold_unescaped() {
        for (url, password) in [
            ("postgres://u:p#2@h/d", "p#2"),
            ("postgres://u:p?2@h/d", "p?2"),
            ("postgres://u:p:2@h/d", "p:2"),
            ("postgres://u:p%402@h/d", "p@2"),
        ] {
            let config = resolve(Some(url), &[]).unwrap();
            assert_eq!(config.get_password(), Some(password.as_bytes()), "{url}");
        }
    }

    #[test]
    fn of_several_hosts_the_writable_one_is_taken() {
        let several = resolve(Some("postgres://u@a,b:5433/d"), &[]).unwrap();
        assert_eq!(several.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        assert_eq!(several.get_connect_timeout(), Some(&CONNECT_TIMEOUT_EACH));
        let named = resolve(None, &[("PGHOST", "a,b")]).unwrap();
        assert_eq!(named.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        let one = resolve(Some("postgres://u@a/d"), &[]).unwrap();
        assert_eq!(one.get_target_session_attrs(), TargetSessionAttrs::Any);
    }

    #[test]
    fn refusals_say_why_and_never_show_the_password() {
        let cases: [Case; 15] = [
            (
                Some("jdbc:postgresql://h:5432/s3cret"),
                &[],
                "--database-url is a JDBC URL: give it as JDBC_URL",
            ),
            (None, &[("DATABASE_URL", "jdbc:postgresql://h/d?password=s3cret")], "leave out its jdbc:"),
            (Some("postgres://u:s3cret@h/d?sslmode=require"), &[], "stunnel"),
            (Some("host=h password=s3cret sslmode=verify-full"), &[], "stunnel"),
            (None, &[("PGSSLMODE", "require")], "stunnel"),
            (Some("s3cret"), &[], "expected postgres://user@host"),
            (Some("host=h port=x password=s3cret"), &[], "`port`"),
            (Some("postgres://u:p@s3cret@h/d"), &[], "%40"),
            (Some("postgres://u:p@h.invalid/s3cret@127.0.0.1:1/d"), &[], "%2F"),
            (Some("postgresql://u:p/s3cret@h/d"), &[], "%2F"),
            (Some("postgres://h:5432/d?user=u&password=p@s3cret"), &[], "%40"),
            (Some("postgres://u:p@h/d?password=p@s3cret"), &[], "%40"),
            (Some("postgres://u:s3cret@h/d?currentSchema=s3cret"), &[], "unknown option `currentSchema`"),
            (Some("postgres://u:s3cret/d"), &[], "`port`"),
            (None, &[("PGPORT", "x")], "PGPORT"),
        ];
        for (url, env, expected) in cases {
            let message = resolve(url, env).unwrap_err().to_string();
            assert!(message.contains(expected) && !message.contains("s3cret"), "{url:?}: {message}");
        }
    }
}
