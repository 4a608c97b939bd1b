//! Where the database is, and what its address means.
//!
//! The address is a URL as every PostgreSQL tool takes it. Two of its settings are read here and
//! not by the driver, which does not know them: `sslmode` with the values that check the server's
//! certificate, and `sslrootcert`.

use std::fmt;
use std::time::Duration;

use aosk_abi::Code;
use aosk_ports::StoreError;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::tls::Trust;

/// Where a store is in PostgreSQL, and who opens it.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…&sslrootcert=…`. It holds a secret, so
    /// it is never printed whole.
    pub url: String,
    /// The schema that the store has for itself, 1 to 63 bytes; it is made if it is not there.
    pub schema: String,
    /// What this node calls itself, for people who look at the table of nodes.
    pub label: String,
    /// How long the node owns its processes without a sign of life: 1 s to 1 hour. Others take them
    /// over that much after it died, and it stops acting a fifth of it before they may.
    pub lease: Duration,
}

impl PostgresOptions {
    /// The schema unless another is asked for.
    pub const SCHEMA: &'static str = "aosk";

    /// The lease unless another is asked for: five renewals may be late before anybody takes over,
    /// and an agent whose node died waits 15 s.
    pub const LEASE: Duration = Duration::from_secs(15);

    /// The store at `url`, in the usual schema, with the usual lease.
    #[must_use]
    pub fn new(url: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            schema: Self::SCHEMA.to_owned(),
            label: label.into(),
            lease: Self::LEASE,
        }
    }

    /// The address without its secret, for people.
    ///
    /// # Errors
    /// [`Code::StoreAddress`] with what is wrong with the options.
    pub fn shown(&self) -> Result<String, StoreError> {
        Ok(self.read()?.shown)
    }

    /// The secret in the address, as it is written there and as it is meant, to be kept out of
    /// whatever is said. Empty where there is none, or the address cannot be read.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        let written = self.url.split_once("://").map_or("", |(_, rest)| rest);
        let written = written.split(['/', '?']).next().unwrap_or_default();
        let user = written.rsplit_once('@').map_or("", |(user, _)| user);
        let mut secrets: Vec<String> =
            user.split_once(':').map(|(_, secret)| secret.to_owned()).into_iter().collect();
        if let Ok(address) = self.read()
            && let Some(secret) = address.config.get_password()
        {
            secrets.push(String::from_utf8_lossy(secret).into_owned());
        }
        secrets.retain(|secret| !secret.is_empty());
        secrets.dedup();
        secrets
    }

    /// What the options mean.
    ///
    /// # Errors
    /// [`Code::StoreAddress`] with what is wrong.
    pub(super) fn read(&self) -> Result<Address, StoreError> {
        let (url, security) = security(&self.url)?;
        let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            let reason = std::error::Error::source(&error).map(ToString::to_string);
            malformed(&reason.unwrap_or_else(|| error.to_string()))
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(malformed("it names no host"));
        }
        let schema_fits = (1..=63).contains(&self.schema.len());
        if !schema_fits || self.schema.contains('\0') || self.schema.starts_with("pg_") {
            return Err(StoreError::new(
                Code::StoreAddress,
                format!(
                    "{:?} cannot be the schema of a store: use 1 to 63 bytes that do not begin \
                     with pg_",
                    self.schema
                ),
            ));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&self.lease) {
            return Err(StoreError::new(
                Code::StoreAddress,
                format!("a lease of {:?} is not between 1 second and 1 hour", self.lease),
            ));
        }
        let (mode, trust) = security;
        config.ssl_mode(mode);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        if config.get_application_name().is_none() {
            config.application_name("aosk");
        }
        // A server whose machine is gone sends no end: without these a commit would wait for hours.
        config.keepalives_idle(Duration::from_secs(10));
        config.keepalives_interval(Duration::from_secs(3));
        config.keepalives_retries(3);
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(Duration::from_secs(20));
        }
        let shown = shown(&config);
        Ok(Address { config, trust, shown, schema: self.schema.clone(), lease: self.lease })
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("url", &self.shown())
            .field("schema", &self.schema)
            .field("label", &self.label)
            .field("lease", &self.lease)
            .finish()
    }
}

/// What the options mean.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) config: Config,
    pub(super) trust: Trust,
    /// The address without its secret.
    pub(super) shown: String,
    pub(super) schema: String,
    pub(super) lease: Duration,
}

fn malformed(reason: &str) -> StoreError {
    StoreError::new(
        Code::StoreAddress,
        format!(
            "the address of the database cannot be read: {reason}; write it as \
             postgres://USER:PASSWORD@HOST:PORT/DATABASE, with %40 for an @ in the password"
        ),
    )
}

/// Takes what the driver does not know out of the URL.
fn security(url: &str) -> Result<(String, (SslMode, Trust)), StoreError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(malformed("it does not begin with postgres://"));
    }
    let (front, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut rest, mut mode, mut roots) = (Vec::new(), "prefer".to_owned(), None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", value)) => value.clone_into(&mut mode),
            Some(("sslrootcert", value)) => roots = Some(decoded(value)?),
            _ => rest.push(pair),
        }
    }
    let trust = match (mode.as_str(), roots) {
        ("disable", _) => (SslMode::Disable, Trust::Anyone),
        ("prefer", None) => (SslMode::Prefer, Trust::Anyone),
        ("require", None) => (SslMode::Require, Trust::Anyone),
        ("prefer", Some(file)) => (SslMode::Prefer, Trust::File(file.into())),
        ("require" | "verify-full", Some(file)) if file != "system" => {
            (SslMode::Require, Trust::File(file.into()))
        }
        ("require" | "verify-full", _) => (SslMode::Require, Trust::System),
        (other, _) => {
            return Err(malformed(&format!(
                "sslmode={other} is not one of disable, prefer, require and verify-full"
            )));
        }
    };
    let url =
        if rest.is_empty() { front.to_owned() } else { format!("{front}?{}", rest.join("&")) };
    Ok((url, trust))
}

fn decoded(value: &str) -> Result<String, StoreError> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(malformed("a % stands without two hexadecimal digits"));
        };
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| malformed("the path of sslrootcert is not UTF-8"))
}

fn shown(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        #[cfg(unix)]
        Some(Host::Unix(path)) => path.display().to_string(),
        None => config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("postgres://{host}:{port}/{database}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Address, StoreError> {
        PostgresOptions::new(url, "a test").read()
    }

    #[test]
    fn a_malformed_address_says_what_is_wrong_and_never_the_password() {
        for (url, reason) in [
            ("mysql://a@b/c", "does not begin with postgres://"),
            ("host=a password=hunter2", "does not begin with postgres://"),
            ("postgres://a:hunter2@b:port/c", "invalid"),
            ("postgres://a:hunter2@b/c?sslmode=verify-ca", "sslmode=verify-ca"),
            ("postgres://a:hunter2@b/c?sslmode=sure", "sslmode=sure"),
            ("postgres://a:hunter2@b/c?sslrootcert=%4", "two hexadecimal digits"),
            ("postgres://a:hunter2@b/c?what=ever", "what"),
            ("postgres:///c", "names no host"),
        ] {
            let error = read(url).err().expect(url);
            assert_eq!(error.code, Code::StoreAddress);
            assert!(error.message.contains(reason), "{url}: {error}");
            assert!(!error.message.contains("hunter2"), "{error}");
        }
        let options = PostgresOptions::new("postgres://a:hunter2@b:1/c", "a test");
        assert!(format!("{options:?}").contains("postgres://b:1/c"));
        assert!(!format!("{options:?}").contains("hunter2"));
    }

    #[test]
    fn a_secret_is_known_as_it_is_written_and_as_it_is_meant() {
        let secrets = |url: &str| PostgresOptions::new(url, "a test").secrets();
        assert_eq!(secrets("postgres://a:p%40ss@b/c"), ["p%40ss", "p@ss"]);
        assert_eq!(secrets("postgres://a:plain@b/c"), ["plain"]);
        assert_eq!(secrets("postgres://a:hunter2@b:port/c"), ["hunter2"]);
        assert_eq!(secrets("postgres://a@b/c?password=hidden"), ["hidden"]);
        assert_eq!(secrets("postgres://a@b:5432/c"), [""; 0]);
    }

    #[test]
    fn each_mode_asks_for_the_trust_that_it_names() {
        let trust = |settings: &str| {
            let address = read(&format!("postgres://a@b/c?{settings}")).expect(settings);
            (address.config.get_ssl_mode(), address.trust)
        };
        assert_eq!(trust(""), (SslMode::Prefer, Trust::Anyone));
        assert_eq!(trust("sslmode=disable"), (SslMode::Disable, Trust::Anyone));
        assert_eq!(trust("sslmode=require"), (SslMode::Require, Trust::Anyone));
        assert_eq!(trust("sslmode=verify-full"), (SslMode::Require, Trust::System));
        assert_eq!(
            trust("sslrootcert=system&sslmode=verify-full"),
            (SslMode::Require, Trust::System)
        );
        for mode in ["require", "verify-full"] {
            assert_eq!(
                trust(&format!("sslmode={mode}&connect_timeout=3&sslrootcert=/a%20b/ca.pem")),
                (SslMode::Require, Trust::File("/a b/ca.pem".into()))
            );
        }
    }

    #[test]
    fn schemas_and_leases_below_at_and_above_their_bounds() {
        let with = |schema: &str, lease: Duration| {
            let url = "postgres://a@b/c".to_owned();
            let label = String::new();
            PostgresOptions { url, schema: schema.to_owned(), label, lease }.read().is_ok()
        };
        let usual = PostgresOptions::LEASE;
        for (schema, fits) in [
            (String::new(), false),
            ("a".to_owned(), true),
            ("a".repeat(63), true),
            ("a".repeat(64), false),
            ("\"; DROP".to_owned(), true),
            ("pg_mine".to_owned(), false),
            ("a\0".to_owned(), false),
        ] {
            assert_eq!(with(&schema, usual), fits, "{schema:?}");
        }
        for (millis, fits) in [(999, false), (1000, true), (3_600_000, true), (3_600_001, false)] {
            assert_eq!(with("a", Duration::from_millis(millis)), fits, "{millis}");
        }
    }
}
