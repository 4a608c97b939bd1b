//! Keys and addresses of model endpoints: from the environment, else from the user's `keys.toml`.
//!
//! `keys.toml` holds the values of the variables that providers name, so there is one vocabulary:
//!
//! ```toml
//! OPENAI_API_KEY = "sk-…"
//! ```
//!
//! A key goes only to the host it was stored for. Where the environment sets a provider's address,
//! a key from the file stays in the file: it was stored for another host.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use aosk_abi::Code;
use aosk_kernel::Redactor;
use aosk_llm::Models;

use super::file::{read_text, strings};
use crate::error::{Error, nearest};

/// The ends of variables whose values are secrets, whatever they are for.
const SECRET_ENDS: &[&str] = &["_KEY", "_TOKEN", "_SECRET", "_PASSWORD"];

/// What variables say, with the user's file behind the environment.
#[derive(Clone, Default)]
pub(crate) struct Vault {
    stored: BTreeMap<String, String>,
    /// The variables that hold keys.
    keys: BTreeSet<String>,
    /// Which variable of an address stands beside which of a key.
    address_of: BTreeMap<String, String>,
}

/// Reads `keys.toml`; an absent file stores nothing.
///
/// # Errors
/// [`Error`] where others may read the file, and for a name that no provider of the table reads.
pub(crate) fn read_keys(path: &Path, models: &Models) -> Result<Vault, Error> {
    let mut vault = Vault::default();
    let mut names = BTreeSet::new();
    for name in models.names() {
        // A model that does not resolve is reported when it is asked for.
        let Ok(spec) = models.resolve(name) else { continue };
        let provider = spec.provider;
        for key in provider.key_env.into_iter().chain(provider.token_env) {
            if let Some(address) = &provider.base_url_env {
                vault.address_of.insert(key.clone(), address.clone());
            }
            vault.keys.insert(key.clone());
            names.insert(key);
        }
        names.extend(provider.base_url_env);
    }
    let Some(text) = read_text(path)? else {
        return Ok(vault);
    };
    let mode = std::fs::metadata(path).map(|metadata| metadata.permissions().mode() & 0o777);
    let mode =
        mode.map_err(|error| Error::new(Code::CliConfig, error.to_string()).at(path, None))?;
    if mode & 0o077 != 0 {
        return Err(Error::new(
            Code::CliConfig,
            format!("others may read this file of keys: its mode is {mode:04o}, not 0600"),
        )
        .at(path, None)
        .help(format!("chmod 600 {}", path.display())));
    }
    let stored = strings(&text)
        .map_err(|(message, line)| Error::new(Code::CliConfig, message).at(path, line))?;
    for (name, (value, line)) in stored {
        if !names.contains(&name) {
            let error = Error::new(
                Code::CliConfig,
                format!("no provider of the table of models reads `{name}`"),
            );
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            return Err(match nearest(&name, known.iter().copied()) {
                Some(near) => error.help(format!("did you mean `{near}`?")),
                None => error.help(format!("they read: {}", known.join(", "))),
            }
            .at(path, line));
        }
        vault.stored.insert(name, value);
    }
    Ok(vault)
}

impl Vault {
    /// What the variable says; an empty one says nothing.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.get_with(name, &|name| std::env::var(name).ok())
    }

    fn get_with(&self, name: &str, env: &dyn Fn(&str) -> Option<String>) -> Option<String> {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        if let Some(value) = set(name) {
            return Some(value);
        }
        if self.address_of.get(name).is_some_and(|address| set(address).is_some()) {
            return None;
        }
        self.stored.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// A redactor of every key: those that providers read, those that are stored, and whatever the
    /// environment calls a secret.
    pub(crate) fn redactor(&self) -> Redactor {
        let named = self.keys.iter().filter_map(|name| std::env::var(name).ok());
        let stored = self.keys.iter().filter_map(|name| self.stored.get(name).cloned());
        Redactor::new(named.chain(stored).chain(secret_variables()))
    }
}

/// The values of all variables whose names say that they are secrets, and the secrets of stores.
pub(crate) fn secret_variables() -> impl Iterator<Item = String> {
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.to_str()?.to_ascii_uppercase();
        SECRET_ENDS.iter().any(|end| name.ends_with(end)).then_some(())?;
        value.into_string().ok()
    });
    variables.chain(super::store::secrets())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_token_of_a_provider_stand_beside_its_address() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.toml");
        std::fs::write(&path, "ANTHROPIC_API_KEY = \"k\"\nANTHROPIC_AUTH_TOKEN = \"t\"\n")
            .expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("private");
        let vault = read_keys(&path, &Models::embedded()).expect("keys");
        for name in ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"] {
            assert!(vault.keys.contains(name), "redacted");
            assert!(vault.get_with(name, &|_| None).is_some());
            let moved = |variable: &str| {
                (variable == "ANTHROPIC_BASE_URL").then(|| "https://gateway.test".to_owned())
            };
            assert_eq!(vault.get_with(name, &moved), None, "{name} was stored for another host");
        }
    }

    #[test]
    fn a_stored_key_stays_where_the_environment_sets_another_host() {
        let vault = Vault {
            stored: BTreeMap::from([("P_KEY".into(), "stored".into())]),
            keys: BTreeSet::from(["P_KEY".into()]),
            address_of: BTreeMap::from([("P_KEY".into(), "P_URL".into())]),
        };
        let get = |env: &[(&str, &str)]| {
            vault.get_with("P_KEY", &|name| {
                env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(get(&[]).as_deref(), Some("stored"));
        assert_eq!(get(&[("P_URL", "http://127.0.0.1:1")]), None);
        assert_eq!(get(&[("P_URL", "http://x"), ("P_KEY", "own")]).as_deref(), Some("own"));
        assert_eq!(get(&[("P_URL", ""), ("P_KEY", "")]).as_deref(), Some("stored"));
    }
}
