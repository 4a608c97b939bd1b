//! Changing one setting in the user's `config.toml` and nothing else of it.
//!
//! What a person wrote there, with its comments and order, is theirs: so the text is edited and not
//! made anew. The new file takes the place of the old one at once or not at all, and two who change
//! it wait for each other, so that neither change is lost.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use aosk_abi::{Code, Limits, PoolSpec, QuotaError, QuotaOwner, Sharing, TenantSpec};
use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;
use toml_edit::{DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::Folders;
use super::file::read_text;
use crate::error::Error;

/// The settings file of the user, held until the edit is dropped.
pub(crate) struct Edit {
    /// The file itself, where it is a link.
    path: PathBuf,
    document: DocumentMut,
    held: File,
}

/// What of the file a quota stands in.
#[derive(Deserialize)]
struct Shares {
    #[serde(default)]
    pools: BTreeMap<String, PoolSpec>,
    #[serde(default)]
    tenants: BTreeMap<String, TenantSpec>,
}

impl Edit {
    /// Opens the file to be changed; one that is not there begins empty.
    ///
    /// # Errors
    /// [`Error`] where it cannot be read or is no TOML.
    pub(crate) fn begin(folders: &Folders) -> Result<Self, Error> {
        let named = folders.settings();
        let path = std::fs::canonicalize(&named).unwrap_or(named);
        let failed = |error: std::io::Error| file_error(&path, &error);
        let folder = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(folder).map_err(failed)?;
        let held = File::open(folder).map_err(failed)?;
        flock(&held, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        let text = read_text(&path)?.unwrap_or_default();
        let document = text.parse::<DocumentMut>().map_err(|error| {
            Error::new(Code::CliConfig, error.message().to_owned()).at(&path, None)
        })?;
        Ok(Self { path, document, held })
    }

    /// What the file says of shares.
    ///
    /// # Errors
    /// [`Error`] where a value is wrong.
    pub(crate) fn sharing(&self) -> Result<Sharing, Error> {
        let wrong = |error: String| Error::new(Code::CliConfig, error).at(&self.path, None);
        let Shares { pools, tenants } =
            toml::from_str(&self.document.to_string()).map_err(|error| wrong(error.to_string()))?;
        let sharing = Sharing { pools, tenants };
        let said = sharing.check().map_err(|(way, error): (Vec<&str>, QuotaError)| {
            format!("`{}`: {error}", way.join("."))
        });
        said.map_err(wrong)?;
        Ok(sharing)
    }

    /// Says what an owner may use; a limit that is not set is taken out.
    ///
    /// # Errors
    /// [`Error`] where something else than a table stands in the way.
    pub(crate) fn set_limits(&mut self, owner: &QuotaOwner, limits: &Limits) -> Result<(), Error> {
        let way: Vec<&str> = match owner {
            QuotaOwner::Pool(name) => vec!["pools", name],
            QuotaOwner::Tenant(tenant) => vec!["tenants", tenant.as_str()],
            QuotaOwner::Group(tenant, group) => vec!["tenants", tenant.as_str(), "groups", group],
        };
        let path = self.path.clone();
        let blocked = |key: &str| {
            let message = format!("`{key}` of {} is no table", way.join("."));
            Error::new(Code::CliConfig, message).at(&path, None)
        };
        let mut at: &mut dyn TableLike = self.document.as_table_mut();
        for (depth, key) in way.iter().enumerate() {
            let fresh = || {
                let mut table = Table::new();
                // Only the last of them needs a heading.
                table.set_implicit(depth + 1 < way.len());
                Item::Table(table)
            };
            at = at
                .entry(key)
                .or_insert_with(fresh)
                .as_table_like_mut()
                .ok_or_else(|| blocked(key))?;
        }
        let fresh = || Item::Value(Value::InlineTable(InlineTable::new()));
        let quota = at.entry("quota").or_insert_with(fresh);
        let quota = quota.as_table_like_mut().ok_or_else(|| blocked("quota"))?;
        let text = |value: String| Value::from(value);
        let values = [
            ("requests", limits.requests.map(|rate| text(rate.to_string()))),
            ("input_tokens", limits.input_tokens.map(|rate| text(rate.to_string()))),
            ("output_tokens", limits.output_tokens.map(|rate| text(rate.to_string()))),
            ("calls_at_once", limits.calls_at_once.map(|calls| Value::from(i64::from(calls)))),
            ("spend", limits.spend.map(|spend| text(spend.to_string()))),
        ];
        for (key, value) in values {
            match value {
                None => drop(quota.remove(key)),
                Some(value) => match quota.get_mut(key) {
                    // What stands around it stays: a comment, its place.
                    Some(Item::Value(known)) => {
                        let decor = known.decor().clone();
                        *known = value;
                        *known.decor_mut() = decor;
                    }
                    _ => drop(quota.insert(key, Item::Value(value))),
                },
            }
        }
        Ok(())
    }

    /// Puts the changed file into the place of the old one, durably.
    ///
    /// # Errors
    /// [`Error`] where it cannot be written: the old one is there as it was.
    pub(crate) fn save(self) -> Result<(), Error> {
        let failed = |error: std::io::Error| file_error(&self.path, &error);
        let beside = self.path.with_extension(format!("toml.{}", std::process::id()));
        let written = self.write(&beside).and_then(|()| std::fs::rename(&beside, &self.path));
        if let Err(error) = written {
            // It may not be there.
            let _ = std::fs::remove_file(&beside);
            return Err(failed(error));
        }
        self.held.sync_all().map_err(failed)
    }

    fn write(&self, beside: &Path) -> std::io::Result<()> {
        let mut file = File::create(beside)?;
        if let Ok(known) = std::fs::metadata(&self.path) {
            file.set_permissions(known.permissions())?;
        }
        file.write_all(self.document.to_string().as_bytes())?;
        file.sync_all()
    }
}

fn file_error(path: &Path, error: &std::io::Error) -> Error {
    Error::new(Code::CliConfig, format!("cannot be changed: {error}")).at(path, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str, owner: &QuotaOwner, limits: &str) -> Result<String, Error> {
        let dir = tempfile::tempdir().expect("a folder");
        let home = dir.path().as_os_str().to_owned();
        let folders = Folders::from_env(&|_| Some(home.clone())).expect("folders");
        std::fs::create_dir_all(folders.settings().parent().expect("a folder")).expect("made");
        std::fs::write(folders.settings(), text).expect("written");
        let mut edit = Edit::begin(&folders)?;
        edit.set_limits(owner, &toml::from_str(limits).expect("limits"))?;
        let sharing = edit.sharing()?;
        assert_eq!(sharing.limits(owner).copied(), toml::from_str(limits).ok(), "{text}");
        edit.save()?;
        let left = std::fs::read_dir(dir.path().join("aosk")).expect("a folder").count();
        assert_eq!(left, 1, "no other file is left behind");
        Ok(std::fs::read_to_string(folders.settings()).expect("read"))
    }

    #[test]
    fn one_limit_is_changed_and_all_else_of_the_file_stays() {
        let pool = QuotaOwner::Pool("m".into());
        let text = "# mine\nmodel = \"m\" # the best\n\n[pools.m] # pool\nquota.spend = \"5/day\" # a day\nquota.requests = \"9/minute\"\n";
        let limits = "spend = \"7/day\"\nrequests = \"9/minute\"";
        let changed = edited(text, &pool, limits).expect("edited");
        assert_eq!(changed, text.replace("\"5/day\"", "\"7.00/day\""));
        let lifted = edited(text, &pool, "requests = \"9/minute\"").expect("edited");
        assert!(lifted.contains("# mine") && !lifted.contains("spend"), "{lifted}");
    }

    #[test]
    fn a_quota_is_set_wherever_and_however_its_owner_stands() {
        let tenant = aosk_abi::Tenant::local();
        let owners = [
            QuotaOwner::Pool("a.b".into()),
            QuotaOwner::Tenant(tenant.clone()),
            QuotaOwner::Group(tenant, "g".into()),
        ];
        for text in [
            "",
            "color = \"never\"\n",
            "[tenants.local]\nweight = 3\n",
            "[tenants.local.groups.g]\nquota = { calls_at_once = 2 }\n",
            "[tenants]\nlocal = { quota = { requests = \"1/day\" } }\n",
            "tenants.local.quota.spend = \"1\"\n",
            "[pools.\"a.b\".quota]\nspend = \"1\"\n",
        ] {
            for owner in &owners {
                let limits = "calls_at_once = 4\nspend = \"0.000001/month\"";
                edited(text, owner, limits).expect(text);
            }
        }
        let wrong = edited("pools = 3\n", &owners[0], "calls_at_once = 1").expect_err("no table");
        assert!(wrong.said().contains("no table"), "{wrong:?}");
        assert!(edited("x = [", &owners[0], "").is_err());
    }
}
