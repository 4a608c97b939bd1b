//! Which store: a folder with a file, or a schema on a server.
//!
//! The address of a server holds a password, so it comes only from the user's own file, variable or
//! flag, it is handed on in the environment and never in arguments, which every user of a machine
//! may read, and its secret is kept out of whatever is said or logged from the moment it is known.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aosk_abi::{Code, Hash};
use aosk_store::PostgresOptions;

use crate::error::Error;
use crate::text::shell_word;

/// The setting of the URL that names the schema; all others are the server's or the driver's.
const SCHEMA: &str = "schema";

/// How many hexadecimal digits tell the folders of two servers apart.
const DIGITS: usize = 12;

/// Which store.
#[derive(Debug, Clone)]
pub(crate) enum StoreAt {
    /// The file in the data folder.
    Folder,
    /// A schema on a server. The data folder holds what belongs to this machine: the daemon's
    /// socket, the log.
    Server(Box<PostgresOptions>),
}

impl StoreAt {
    /// What the setting means: the store, and the data folder where that is chosen by it.
    ///
    /// # Errors
    /// [`Error`] for an address that cannot be read.
    pub(super) fn parse(setting: &str, lease: Duration) -> Result<(Self, Option<PathBuf>), Error> {
        if !is_address(setting) {
            return Ok((Self::Folder, Some(setting.into())));
        }
        let (url, schema) = split(setting);
        let mut options = PostgresOptions::new(url, String::new());
        keep_secret(options.secrets());
        if let Some(schema) = schema {
            options.schema = schema;
        }
        options.lease = lease;
        // Where it cannot be read, that is said before anything else is done.
        options.shown().map_err(Error::from)?;
        Ok((Self::Server(Box::new(options)), None))
    }

    /// The server of that address, with the usual lease.
    ///
    /// # Errors
    /// [`Error`] for a folder, and for an address that cannot be read.
    pub(crate) fn of_server(setting: &str) -> Result<Self, Error> {
        match Self::parse(setting, PostgresOptions::LEASE)? {
            (store, None) => Ok(store),
            (_, Some(_)) => Err(Error::new(Code::CliUsage, "`--store` is a folder here")
                .help("give the folder with --data-dir, or the address of a server")),
        }
    }

    /// Where this machine keeps what belongs to the store, below the data folder of the settings.
    pub(crate) fn local(&self, data_dir: PathBuf) -> PathBuf {
        match self {
            Self::Folder => data_dir,
            Self::Server(options) => {
                // Two servers have two daemons, and neither is taken for that of a file.
                let shown = options.shown().unwrap_or_default();
                let name = Hash::of(format!("{shown} {}", options.schema).as_bytes()).to_string();
                data_dir.join(format!("server-{}", &name[..DIGITS]))
            }
        }
    }

    /// Where it is, for people.
    pub(crate) fn shown(&self, data_dir: &Path) -> String {
        match self {
            Self::Folder => data_dir.display().to_string(),
            Self::Server(options) => {
                let shown = options.shown().unwrap_or_default();
                format!("{shown}, schema {}", options.schema)
            }
        }
    }

    /// The value of `AOSK_STORE` by which another program finds it, secret included; a file is in
    /// `dir`.
    pub(crate) fn variable(&self, dir: &Path) -> OsString {
        match self {
            Self::Folder => dir.into(),
            Self::Server(options) => {
                let join = if options.url.contains('?') { '&' } else { '?' };
                format!("{}{join}{SCHEMA}={}", options.url, options.schema).into()
            }
        }
    }
}

/// Equal settings lead to the same store.
impl PartialEq for StoreAt {
    fn eq(&self, other: &Self) -> bool {
        self.variable(Path::new("")) == other.variable(Path::new(""))
    }
}

/// What a command that is suggested repeats of the flag, without its secret.
pub(super) fn repeated(setting: &str) -> String {
    let mut shown = setting.to_owned();
    if is_address(setting) {
        for secret in PostgresOptions::new(split(setting).0, String::new()).secrets() {
            shown = shown.replace(&secret, "PASSWORD");
        }
    }
    format!(" --store {}", shell_word(&shown))
}

/// Whether the setting is an address and no folder.
fn is_address(setting: &str) -> bool {
    setting.contains("://")
}

/// The address as the driver takes it, and the schema that it names.
fn split(setting: &str) -> (String, Option<String>) {
    let Some((front, query)) = setting.split_once('?') else {
        return (setting.to_owned(), None);
    };
    let mut schema = None;
    let rest: Vec<&str> = query
        .split('&')
        .filter(|pair| match pair.split_once('=') {
            Some((SCHEMA, name)) => {
                schema = Some(name.to_owned());
                false
            }
            _ => true,
        })
        .collect();
    let url =
        if rest.is_empty() { front.to_owned() } else { format!("{front}?{}", rest.join("&")) };
    (url, schema)
}

/// The secrets of addresses that are known by now.
static SECRETS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn keep_secret(secrets: impl IntoIterator<Item = String>) {
    let mut known = SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
    for secret in secrets {
        if !known.contains(&secret) {
            known.push(secret);
        }
    }
}

/// The secrets of the addresses that were given in arguments, the environment and settings.
pub(super) fn secrets() -> Vec<String> {
    let given = std::env::args_os().skip(1).chain(std::env::var_os("AOSK_STORE"));
    // What is not UTF-8 is no address.
    for text in given.filter_map(|text| text.into_string().ok()).filter(|text| is_address(text)) {
        let address = text.strip_prefix("--store=").unwrap_or(&text);
        keep_secret(PostgresOptions::new(split(address).0, String::new()).secrets());
    }
    SECRETS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(setting: &str) -> Result<(StoreAt, Option<PathBuf>), Error> {
        StoreAt::parse(setting, PostgresOptions::LEASE)
    }

    #[test]
    fn a_path_is_a_folder_and_an_address_a_server() {
        assert_eq!(parse("./x").expect("a path"), (StoreAt::Folder, Some("./x".into())));
        let (store, dir) = parse("postgres://a:b@c/d?sslmode=require&schema=team").expect("a URL");
        let StoreAt::Server(options) = &store else { panic!("{store:?}") };
        assert_eq!(options.url, "postgres://a:b@c/d?sslmode=require");
        assert_eq!((options.schema.as_str(), dir), ("team", None));
        let variable = store.variable(Path::new("")).into_string().expect("UTF-8");
        let again = parse(&variable).expect("the same").0;
        assert_eq!(again, store);
        for wrong in ["mysql://a@b/c", "postgres://a@b:port/c", "postgres://a@b/c?schema=pg_x"] {
            assert_eq!(parse(wrong).expect_err(wrong).code, Code::StoreAddress);
        }
    }

    #[test]
    fn every_server_and_schema_has_a_folder_of_its_own() {
        let local = |setting: &str| parse(setting).expect("a URL").0.local("/d".into());
        let first = local("postgres://a:one@h/d");
        assert!(first.starts_with("/d") && first != Path::new("/d"));
        assert_eq!(local("postgres://a:two@h/d"), first, "another password is no other store");
        assert_ne!(local("postgres://a@h/e"), first);
        assert_ne!(local("postgres://a@h/d?schema=x"), first);
        assert_eq!(StoreAt::Folder.local("/d".into()), Path::new("/d"));
    }

    #[test]
    fn what_is_suggested_holds_no_secret() {
        let shown = repeated("postgres://a:hunter2@h/d?schema=x");
        assert!(shown.contains("a:PASSWORD@h/d?schema=x"), "{shown}");
        assert_eq!(repeated("data"), " --store data");
    }
}
