//! The socket of a daemon: where it is, how it comes there and how it stays.
//!
//! It stands beside the store, so that whoever finds the store finds its daemon, and it is made
//! only by the owner of the store: what stands in its place is therefore stale, whoever left it.
//! It gets its mode before it gets its name, so nobody else can come in between. Somebody may
//! remove or replace it while the daemon runs: its folder is watched for that, or looked at every
//! [`LOOK`] where the system cannot watch it, and where the socket could not be made again.

use std::ffi::CStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aosk_abi::Code;
use aosk_store::Watch;
use tokio::net::{UnixListener, UnixStream};

use crate::error::Error;

/// The socket's name in the data folder.
const NAME: &str = "aosk.sock";

/// The same, as the system tells it.
const NAME_TOLD: &CStr = c"aosk.sock";

/// Its name until it has its mode. Not longer, or it could be too long alone.
const NEW_NAME: &str = "aosk.new";

/// The longest path that the address of a socket holds, in bytes.
const PATH_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// How often a daemon that cannot watch its folder looks whether its socket is still there.
pub(super) const LOOK: Duration = Duration::from_secs(5);

/// Where the socket of a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place(PathBuf);

impl Place {
    /// The place in the data folder.
    ///
    /// # Errors
    /// [`Error`] where the path is longer than the address of a socket can be.
    pub(super) fn of(data_dir: &Path) -> Result<Self, Error> {
        let path = data_dir.join(NAME);
        let bytes = path.as_os_str().as_bytes().len();
        if bytes > PATH_MAX {
            return Err(Error::new(
                Code::CliConfig,
                format!(
                    "no daemon can be reached in this data folder: the path of its socket has \
                     {bytes} bytes, and the system takes at most {PATH_MAX}"
                ),
            )
            .at(path, None)
            .help(format!(
                "choose a folder whose path is {} bytes shorter: --data-dir DIR, or AOSK_DATA_DIR",
                bytes - PATH_MAX
            ))
            .help("`aosk run` works in this one"));
        }
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Connects to whoever listens there; `None` where nobody does.
    ///
    /// # Errors
    /// [`Error`] where somebody may but cannot be reached.
    pub(super) async fn connect(&self) -> Result<Option<UnixStream>, Error> {
        match UnixStream::connect(&self.0).await {
            Ok(stream) => Ok(Some(stream)),
            // So many wait to be accepted that no more are taken: as good as nobody for a moment.
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Err(error) => Err(Error::new(
                Code::CliDaemon,
                format!("the daemon's socket cannot be used: {error}"),
            )
            .at(&self.0, None)
            .help("it belongs to the user who started the daemon; see: ls -l")),
        }
    }
}

/// A socket that listens, and is removed when it is dropped.
pub(super) struct Socket {
    place: Place,
    listener: UnixListener,
    /// Device and number of its file.
    identity: (u64, u64),
    /// Tells when it may have been removed.
    watch: Option<Watch>,
}

impl Socket {
    /// Listens there, in place of a stale socket. Only the owner of the store may call this.
    ///
    /// # Errors
    /// [`Error`] where something else than a socket is in its place, or none can be made.
    pub(super) fn bind(place: Place) -> Result<Self, Error> {
        let path = place.path();
        let failed = |error: std::io::Error| {
            Error::new(Code::CliDaemon, format!("cannot make the daemon's socket: {error}"))
                .at(path, None)
        };
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(Error::new(
                    Code::CliDaemon,
                    "this is in the place of the daemon's socket",
                )
                .at(path, None)
                .help("move it away; nothing of aosk's has that name"));
            }
            _ => {}
        }
        let new = path.with_file_name(NEW_NAME);
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&new).map_err(failed)?;
        // Before it has its name: what happens to it from then on is told.
        let folder = path.parent().unwrap_or(Path::new("/"));
        let watch = Watch::removal(folder, NAME_TOLD)
            .inspect_err(|error| tracing::warn!("cannot watch {}: {error}", folder.display()))
            .ok();
        let listening = std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))
            .and_then(|()| std::fs::rename(&new, path))
            .and_then(|()| identity(path));
        let identity = listening.map_err(failed)?;
        Ok(Self { place, listener, identity, watch })
    }

    /// The next one who comes.
    pub(super) async fn accept(&self) -> std::io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Resolves when somebody may have removed it, and again and again while it is gone.
    pub(super) async fn touched(&self) {
        match &self.watch {
            Some(watch) if !self.is_gone() => watch.changed().await,
            Some(watch) => drop(tokio::time::timeout(LOOK, watch.changed()).await),
            None => tokio::time::sleep(LOOK).await,
        }
    }

    /// Whether nobody can find it any more.
    pub(super) fn is_gone(&self) -> bool {
        identity(self.place.path()).ok() != Some(self.identity)
    }

    pub(super) const fn place(&self) -> &Place {
        &self.place
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if !self.is_gone() {
            // One that stays behind is stale, which everybody copes with.
            let _ = std::fs::remove_file(self.place.path());
        }
    }
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_path_below_at_and_above_the_longest() {
        let root = tempfile::tempdir().expect("folder");
        let used = root.path().as_os_str().len() + "/".len() + "/".len() + NAME.len();
        for (bytes, fits) in [(PATH_MAX - 1, true), (PATH_MAX, true), (PATH_MAX + 1, false)] {
            let dir = root.path().join("d".repeat(bytes - used));
            std::fs::create_dir(&dir).expect("folder");
            let place = Place::of(&dir);
            assert_eq!(place.is_ok(), fits, "{bytes}");
            if let Ok(place) = place {
                let socket = Socket::bind(place.clone()).expect("the system takes it");
                assert!(place.connect().await.expect("reached").is_some());
                drop(socket);
                assert!(place.connect().await.expect("gone").is_none());
            }
        }
    }

    #[tokio::test]
    async fn a_socket_is_private_replaces_a_stale_one_and_removes_only_itself() {
        let dir = tempfile::tempdir().expect("folder");
        let place = Place::of(dir.path()).expect("short");
        drop(std::os::unix::net::UnixListener::bind(place.path()).expect("stale"));
        let first = Socket::bind(place.clone()).expect("in its place");
        let mode = place.path().metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::remove_file(place.path()).expect("there");
        assert!(first.is_gone());
        let second = Socket::bind(place.clone()).expect("made again");
        drop(first);
        assert!(!second.is_gone(), "the first removed only its own");
        drop(second);
        std::fs::write(place.path(), "mine").expect("a file");
        let error = Socket::bind(place.clone()).err().expect("refused");
        assert_eq!(error.code, Code::CliDaemon);
        assert_eq!(std::fs::read(place.path()).expect("kept"), b"mine");
    }
}
