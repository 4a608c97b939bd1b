//! One settings file: its keys checked, each with its line.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use aosk_abi::Code;
use toml::de::{DeTable, DeValue};

use crate::error::{Error, nearest};

/// The keys of a settings file.
pub(super) const KEYS: &[&str] =
    &["model", "max_spend_usd", "data_dir", "store", "lease_seconds", "retention", "color"];

/// Those that are tables and have no variable.
const TABLES: &[&str] = &["pools", "tenants", "memory"];

/// Those that say where data go, which go for good, or what all may use: only the user's own file may
/// set them.
const OWN: &[&str] =
    &["data_dir", "store", "lease_seconds", "retention", "pools", "tenants", "memory"];

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// The user's own.
    User,
    /// That of the folder one stands in.
    Project,
}

/// A value with its line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) value: toml::Value,
    pub(super) line: usize,
}

/// A settings file that was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) text: String,
}

impl File {
    /// Reads the file; an absent one has no entries.
    ///
    /// # Errors
    /// [`Error`] for what is no TOML, and for a key that does not belong there.
    pub(super) fn read(path: &Path, level: Level) -> Result<Self, Error> {
        let (entries, text) = (BTreeMap::new(), String::new());
        let mut file = Self { path: path.to_owned(), entries, text };
        let Some(text) = read_text(path)? else {
            return Ok(file);
        };
        let values: toml::Table = toml::from_str(&text).map_err(|error| {
            let line = error.span().map(|span| line_of(&text, span.start));
            Error::new(Code::CliConfig, error.message()).at(path, line)
        })?;
        for (key, line) in lines(&text) {
            check(&key, level).map_err(|error| error.at(path, line))?;
            let value = values.get(&key).cloned().unwrap_or(toml::Value::Boolean(false));
            file.entries.insert(key, Entry { value, line });
        }
        file.text = text;
        Ok(file)
    }

    /// The line of a key, given by its way through the tables, or of what of the way there is.
    pub(super) fn line(&self, way: &[&str]) -> Option<usize> {
        (1..=way.len())
            .rev()
            .find_map(|length| crate::manifest::line_of(&self.text, &way[..length]))
    }
}

/// The file as text; `None` where it is not there.
///
/// # Errors
/// [`Error`] where it cannot be read or is not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>, Error> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(
                Error::new(Code::CliConfig, format!("cannot be read: {error}")).at(path, None)
            );
        }
    };
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..valid].iter().filter(|&&byte| byte == b'\n').count();
        Error::new(Code::CliConfig, "is not UTF-8").at(path, line)
    })
}

/// The top-level keys of a TOML text with their lines. Empty where it is no TOML.
pub(super) fn lines(text: &str) -> Vec<(String, usize)> {
    let Ok(table) = DeTable::parse(text) else {
        return Vec::new();
    };
    let mut lines: Vec<_> = table
        .get_ref()
        .iter()
        .map(|(key, _)| (key.get_ref().clone().into_owned(), line_of(text, key.span().start)))
        .collect();
    lines.sort_by_key(|(_, line)| *line);
    lines
}

/// The strings of a TOML text that is a flat table of strings; the name and line of what is none.
pub(super) fn strings(text: &str) -> Result<BTreeMap<String, (String, usize)>, (String, usize)> {
    let table = DeTable::parse(text).map_err(|error| {
        // The parser's words never quote the line.
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        (error.message().to_owned(), line)
    })?;
    let mut strings = BTreeMap::new();
    for (key, value) in table.get_ref() {
        let line = line_of(text, key.span().start);
        let DeValue::String(value) = value.get_ref() else {
            let kind = value.get_ref().type_str();
            return Err((format!("`{}` is of type {kind}: give a string", key.get_ref()), line));
        };
        strings.insert(key.get_ref().clone().into_owned(), (value.clone().into_owned(), line));
    }
    Ok(strings)
}

/// The line, from 1, of a byte of `text`.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count()
}

fn check(key: &str, level: Level) -> Result<(), Error> {
    let is_known = KEYS.contains(&key) || TABLES.contains(&key);
    if is_known && (level == Level::User || !OWN.contains(&key)) {
        return Ok(());
    }
    if let Some(home) = home_of(key) {
        let whose = match level {
            Level::User => "does not belong into config.toml",
            Level::Project => {
                "may not stand in a project's aosk.toml, which anyone may have written"
            }
        };
        return Err(Error::new(Code::CliConfig, format!("`{key}` {whose}")).help(home));
    }
    let error = Error::new(Code::CliConfig, format!("there is no setting `{key}`"));
    let all = || KEYS.iter().chain(TABLES).copied();
    Err(match nearest(key, all()) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error.help(format!("the settings are: {}", all().collect::<Vec<_>>().join(", "))),
    })
}

/// Where a key belongs that stands in the wrong file.
fn home_of(key: &str) -> Option<&'static str> {
    let key = key.to_ascii_lowercase();
    let ends = |ends: &[&str]| ends.iter().any(|end| key.ends_with(end));
    if key == "data_dir" {
        Some("give --data-dir, set AOSK_DATA_DIR, or put it into your own config.toml")
    } else if key == "store" {
        Some("give --store, set AOSK_STORE, or put it into your own config.toml")
    } else if key == "lease_seconds" {
        Some("set AOSK_LEASE_SECONDS, or put it into your own config.toml")
    } else if key == "retention" {
        Some("set AOSK_RETENTION, or put it into your own config.toml")
    } else if key == "memory" {
        Some("what makes vectors reads all that agents read: put it into your own config.toml")
    } else if TABLES.contains(&key.as_str()) {
        Some("quotas and shares hold for all that you run: put them into your own config.toml")
    } else if ends(&["key", "keys", "token", "secret", "password"]) {
        Some("set the provider's variable, such as OPENAI_API_KEY, or put it into your keys.toml")
    } else if ends(&["url", "endpoint", "endpoints", "host"]) {
        Some("set the provider's variable, such as OPENAI_BASE_URL, or put it into your keys.toml")
    } else if ["models", "providers", "prices"].contains(&key.as_str()) {
        Some("put it into your models.toml, which extends the table of models")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_may_not_set_what_moves_data_money_or_keys() {
        for key in [
            "data_dir",
            "store",
            "lease_seconds",
            "retention",
            "base_url",
            "api_key",
            "OPENAI_API_KEY",
            "models",
            "providers",
            "pools",
            "tenants",
            "memory",
        ] {
            let error = check(key, Level::Project).expect_err(key);
            assert!(format!("{error:?}").contains("may not stand"), "{error:?}");
        }
        assert!(check("data_dir", Level::User).is_ok());
        assert!(check("models", Level::User).is_err());
        assert!(check("model", Level::Project).is_ok());
    }

    #[test]
    fn keys_are_found_with_their_lines_in_any_form() {
        let text = "# c\nmodel = \"a\"\n\n\"color\" = 'never'\n[models.x]\na = 1\n";
        let found = lines(text);
        assert_eq!(found, [("model".into(), 2), ("color".into(), 4), ("models".into(), 5)]);
    }

    #[test]
    fn a_value_that_is_no_string_is_named_and_never_quoted() {
        let (message, line) = strings("A = \"x\"\nB_KEY = 12345\n").expect_err("a number");
        assert_eq!((line, message.contains("12345")), (2, false));
    }
}
