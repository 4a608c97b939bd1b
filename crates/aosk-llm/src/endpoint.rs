//! Endpoints: an address and the key that goes there and nowhere else.
//!
//! Address and key come from the environment or from the user's own settings, never from a file
//! of a project: a cloned folder must not be able to send a key to its author. A key belongs to
//! the variable of one provider. It leaves for that provider's address, or for the address that
//! the user put beside it in that provider's own variable (`OPENAI_BASE_URL` with
//! `OPENAI_API_KEY`): whoever sets both means both. Redirects are never followed, and a key
//! leaves only encrypted or to this machine.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

use crate::error::Error;
use crate::models::{ModelSpec, Provider};
use crate::secret::Secret;
use crate::table::Dialect;

/// Something below a base, to tell whether two of them mean the same address.
const ANY: &str = "v1/any";

/// Where a model is asked.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    base: Url,
    key: Option<Secret>,
    sent: Sent,
    dialect: Dialect,
}

/// The header that a key is sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// `Authorization: Bearer`.
    Bearer,
    /// `x-api-key`.
    ApiKey,
}

impl Endpoint {
    /// The endpoint at `base`, for example `https://api.openai.com/v1`, which speaks OpenAI's chat
    /// completions. `origin` says in errors where the address comes from.
    ///
    /// # Errors
    /// [`Error::BadEndpoint`] for what is no plain `http` or `https` address, and for a key that
    /// would leave this machine unencrypted.
    pub fn new(origin: &str, base: &str, key: Option<Secret>) -> Result<Self, Error> {
        let bad = |problem: &str, url: &str| Error::BadEndpoint {
            origin: origin.to_owned(),
            url: url.to_owned(),
            problem: problem.to_owned(),
        };
        let mut url = Url::parse(base).map_err(|error| {
            // What cannot be parsed cannot be shown without its password either.
            let shown = if base.contains('@') { "not shown: it may hold a password" } else { base };
            bad(&format!("{error}; give a URL such as http://127.0.0.1:8080/v1"), shown)
        })?;
        if !url.username().is_empty() || url.password().is_some() {
            // Neither setter fails on a URL that has a user name.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            return Err(bad(
                "a user name or password stands in it; give the key by itself",
                url.as_str(),
            ));
        }
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(bad("give an http or https address", url.as_str()));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad(
                "a query or fragment stands in it; give the address up to /v1",
                url.as_str(),
            ));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        let (sent, dialect) = (Sent::Bearer, Dialect::Openai);
        let endpoint = Self { base: url, key, sent, dialect };
        if endpoint.key.is_some() && endpoint.base.scheme() == "http" && !endpoint.is_loopback() {
            return Err(bad(
                "the key would leave this machine unencrypted; use https, or unset the key if the \
                 server needs none",
                endpoint.base.as_str(),
            ));
        }
        Ok(endpoint)
    }

    /// The endpoint of a model's provider as `env` says it; an empty variable counts as unset.
    ///
    /// # Errors
    /// [`Error::NoEndpoint`] or [`Error::NoKey`] with the variable to set, and
    /// [`Error::BadEndpoint`].
    pub fn from_env(spec: &ModelSpec, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Error> {
        Self::of_provider(&spec.name, &spec.provider, env)
    }

    /// The same for whatever the provider serves under `model`.
    pub(crate) fn of_provider(
        model: &str,
        provider: &Provider,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Error> {
        let read = |name: &Option<String>| {
            let name = name.clone()?;
            env(&name).filter(|value| !value.is_empty()).map(|value| (name, value))
        };
        let (origin, base) = match (read(&provider.base_url_env), &provider.base_url) {
            (Some(set), _) => set,
            (None, Some(base)) => (format!("providers.{:?}.base_url", provider.name), base.clone()),
            (None, None) => {
                let variable = provider.base_url_env.as_deref();
                return Err(Error::NoEndpoint {
                    model: model.to_owned(),
                    hint: match variable {
                        Some(name) => format!(
                            "set {name} to its address, for example http://127.0.0.1:8080/v1"
                        ),
                        None => format!("give `base_url` in [providers.{:?}]", provider.name),
                    },
                });
            }
        };
        // A token goes as a bearer in every dialect; a key as the dialect wants it.
        let (key, sent) = match (read(&provider.key_env), provider.dialect) {
            (None, _) => (read(&provider.token_env), Sent::Bearer),
            (key, Dialect::Openai) => (key, Sent::Bearer),
            (key, Dialect::Anthropic) => (key, Sent::ApiKey),
        };
        let key = match key {
            None => None,
            Some((name, value)) => Some(Secret::new(&value).ok_or_else(|| Error::NoKey {
                host: provider.name.clone(),
                hint: format!(
                    "{name} holds a blank, a quote, a line break or a character that is not ASCII; \
                     set it to the key alone"
                ),
            })?),
        };
        let keyless = key.is_none();
        let endpoint = Self { sent, ..Self::new(&origin, &base, key)? }.speaking(provider.dialect);
        if provider.loopback && !endpoint.is_loopback() {
            return Err(Error::NoEndpoint {
                model: model.to_owned(),
                hint: format!(
                    "it stands for a server on this machine, but {origin} is {}; name one of the \
                     priced models of the table instead",
                    endpoint.base
                ),
            });
        }
        if keyless && endpoint.base.scheme() == "https" && !endpoint.is_loopback() {
            return Err(Error::NoKey {
                host: endpoint.host(),
                hint: match &provider.key_env {
                    Some(name) => format!("set {name}"),
                    None => format!("give `key_env` in [providers.{:?}]", provider.name),
                },
            });
        }
        Ok(endpoint)
    }

    /// The same endpoint, which speaks `dialect`.
    #[must_use]
    pub fn speaking(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }

    /// The address, without a slash at its end.
    #[must_use]
    pub fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Whether it is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.base.host_str().is_some_and(|host| {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            host == "localhost"
                || host.ends_with(".localhost")
                || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        })
    }

    /// Whether it is the address that the table has for that provider, and not one that stands in its
    /// place.
    pub(crate) fn is_of(&self, provider: &Provider) -> bool {
        let own = provider.base_url.as_deref().map(|own| Self::new(&provider.name, own, None));
        own.is_some_and(|own| own.is_ok_and(|own| own.below(ANY) == self.below(ANY)))
    }

    /// Host and port, for messages.
    pub(crate) fn host(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        match self.base.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// The address of something below the base. Anthropic's base ends before the version and
    /// OpenAI's behind it; whoever gives the one like the other means the same address.
    pub(crate) fn below(&self, path: &str) -> String {
        let base = self.base();
        let versioned = base.strip_suffix("/v1").filter(|_| path.starts_with("v1/"));
        let base = versioned.unwrap_or(base);
        format!("{base}/{path}")
    }

    /// The path of the list of models below the base.
    pub(crate) const fn models(&self) -> &'static str {
        match self.dialect {
            Dialect::Openai => "models",
            Dialect::Anthropic => "v1/models",
        }
    }

    /// The address of something at the root of the server.
    pub(crate) fn at_root(&self, path: &str) -> String {
        let mut url = self.base.clone();
        url.set_path(path);
        url.into()
    }

    /// The key, and how it is sent.
    pub(crate) fn key(&self) -> Option<(&Secret, Sent)> {
        self.key.as_ref().map(|key| (key, self.sent))
    }

    /// Whether it is reached without encryption.
    pub(crate) fn is_plain(&self) -> bool {
        self.base.scheme() == "http"
    }

    /// `text` without the key.
    pub(crate) fn mask(&self, text: &str) -> String {
        self.key.as_ref().map_or_else(|| text.to_owned(), |key| key.mask(text))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("base", &self.base())
            .field("key", &self.key.is_some())
            .finish()
    }
}
