//! Where a server is, and how to say so without a password.

use std::fmt::Write as _;
use std::time::Duration;

use postgres::Config;
use postgres::config::{Host, SslMode};

use crate::error::StoreError;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a server that has vanished without a word is waited for.
const SILENCE: Duration = Duration::from_secs(20);

/// A database on a server.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) config: Config,
    /// The address as messages show it.
    pub(super) shown: String,
}

impl Address {
    /// Reads `postgres://USER:PASSWORD@HOST:PORT/DATABASE?OPTION=VALUE`. Errors do not repeat it. A password that
    /// it leaves out is the one of `PGPASSWORD`, as for PostgreSQL's own programs.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let invalid = |what: &str| {
            StoreError::Invalid(format!(
                "the address of a PostgreSQL store is \
                 postgres://USER:PASSWORD@HOST:PORT/DATABASE; {what}"
            ))
        };
        let mut config: Config = url.parse().map_err(|error: postgres::Error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            invalid(&format!("this one cannot be read: {}", cause.unwrap_or_default()))
        })?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(invalid(
                "TLS is not built in: leave out sslmode=require and connect on the same machine or \
                 through a tunnel",
            ));
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(invalid("this one names no host"));
        }
        if config.get_password().is_none()
            && let Some(password) = std::env::var("PGPASSWORD").ok().filter(|it| !it.is_empty())
        {
            config.password(password);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENCE);
        }
        if config.get_application_name().is_none() {
            config.application_name("hearken");
        }
        Ok(Self { shown: show(&config), config })
    }
}

fn show(config: &Config) -> String {
    let mut shown = String::from("postgres://");
    if let Some(user) = config.get_user() {
        let _ = write!(shown, "{user}@");
    }
    for (index, host) in config.get_hosts().iter().enumerate() {
        let separator = if index == 0 { "" } else { "," };
        let _ = match host {
            Host::Tcp(name) => write!(shown, "{separator}{name}"),
            #[cfg(unix)]
            Host::Unix(path) => write!(shown, "{separator}{}", path.display()),
        };
        let ports = config.get_ports();
        if let Some(port) = ports.get(index).or(ports.first()) {
            let _ = write!(shown, ":{port}");
        }
    }
    let _ = write!(shown, "/{}", config.get_dbname().unwrap_or_default());
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_shown() {
        for url in [
            "postgres://ada:s3cret@db.example:5433/labels",
            "postgresql://ada:s3cret@db.example:5433/labels?connect_timeout=3",
            "postgres://ada@db.example:5433/labels?password=s3cret",
        ] {
            let address = Address::parse(url).unwrap();
            assert_eq!(address.shown, "postgres://ada@db.example:5433/labels");
            assert_eq!(address.config.get_password(), Some(&b"s3cret"[..]));
        }
        for url in [
            "postgres://ada:s3cret@db.example:port/labels",
            "postgres://ada:s3cret@db.example/labels?sslmode=require",
            "postgres://ada:s3cret@db.example/labels?unknown=s3cret",
            "postgres://ada:s3cret@/labels",
        ] {
            let Err(error) = Address::parse(url) else { panic!("{url} was accepted") };
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}
