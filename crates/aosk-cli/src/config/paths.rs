//! Where the user's own files are, after the XDG base directory specification.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use aosk_abi::Code;

use crate::error::Error;

/// The user's folders. Nothing is made by looking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folders {
    config: PathBuf,
    data: PathBuf,
}

impl Folders {
    /// The folders as the environment says. A relative path in an XDG variable counts as unset,
    /// which the specification demands.
    ///
    /// # Errors
    /// [`Error`] where neither the XDG variables nor `HOME` tell.
    pub(crate) fn from_env(env: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let folder = |variable: &str, below_home: &str| {
            absolute(variable)
                .or_else(|| absolute("HOME").map(|home| home.join(below_home)))
                .map(|base| base.join("aosk"))
                .ok_or_else(|| {
                    Error::new(
                        Code::CliConfig,
                        format!("neither {variable} nor HOME is an absolute path"),
                    )
                    .help("set HOME to your home folder")
                })
        };
        Ok(Self {
            config: folder("XDG_CONFIG_HOME", ".config")?,
            data: folder("XDG_DATA_HOME", ".local/share")?,
        })
    }

    /// The user's settings.
    pub(crate) fn settings(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// Who set which quota, and when.
    pub(crate) fn quota_changes(&self) -> PathBuf {
        self.config.join("quota-changes.ndjson")
    }

    /// The user's table of models.
    pub(crate) fn models(&self) -> PathBuf {
        self.config.join("models.toml")
    }

    /// The user's endpoints and keys.
    pub(crate) fn keys(&self) -> PathBuf {
        self.config.join("keys.toml")
    }

    /// Where journals are kept unless a setting says otherwise.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(env: &[(&str, &str)]) -> Result<Folders, Error> {
        Folders::from_env(&|name| {
            env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn xdg_variables_win_and_relative_ones_are_ignored() {
        let found = folders(&[("HOME", "/h"), ("XDG_DATA_HOME", "/d"), ("XDG_CONFIG_HOME", "c")]);
        let found = found.expect("folders");
        assert_eq!(found.settings(), Path::new("/h/.config/aosk/config.toml"));
        assert_eq!(found.data(), Path::new("/d/aosk"));
        assert!(folders(&[("HOME", "")]).is_err());
    }
}
