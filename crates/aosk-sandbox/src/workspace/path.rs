//! Paths as models write them.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use aosk_ports::SandboxError;

/// The path below the root that `path` stands for.
///
/// A relative path stands for itself: what `..` and links in it mean is the host's to say when the
/// path is opened. An absolute path is accepted where it begins with one of the names of the root,
/// because models repeat the absolute paths that they read in their task.
///
/// # Errors
/// [`SandboxError::Invalid`] for an empty path or one with U+0000; [`SandboxError::Outside`] for
/// any other absolute path.
pub fn below(path: &Path, roots: &[PathBuf]) -> Result<PathBuf, SandboxError> {
    let shown = || path.display().to_string();
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() {
        return Err(SandboxError::Invalid { path: shown(), reason: "is empty" });
    }
    if bytes.contains(&0) {
        return Err(SandboxError::Invalid { path: shown(), reason: "holds U+0000" });
    }
    if !path.is_absolute() {
        return Ok(path.to_owned());
    }
    let rest = roots.iter().find_map(|root| path.strip_prefix(root).ok());
    match rest {
        Some(rest) if rest.as_os_str().is_empty() => Ok(PathBuf::from(".")),
        Some(rest) => Ok(rest.to_owned()),
        None => Err(SandboxError::Outside { path: shown() }),
    }
}

/// The folder and the name of a file that is to be written.
///
/// # Errors
/// [`SandboxError::WrongKind`] for a path that can only be a folder: one that ends with `/`, `.`
/// or `..`.
pub fn parent_and_name<'a>(
    given: &Path,
    relative: &'a Path,
) -> Result<(&'a Path, &'a std::ffi::OsStr), SandboxError> {
    let last = given.as_os_str().as_bytes().rsplit(|&byte| byte == b'/').next();
    let is_folder = matches!(last, None | Some(b"" | b"." | b".."));
    match (relative.parent(), relative.file_name()) {
        (Some(parent), Some(name)) if !is_folder => Ok((parent, name)),
        _ => Err(SandboxError::WrongKind {
            path: given.display().to_string(),
            expected: "regular file",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots() -> [PathBuf; 2] {
        [PathBuf::from("/home/me/link"), PathBuf::from("/srv/work")]
    }

    #[test]
    fn an_absolute_path_below_a_name_of_the_root_is_relative_to_it() {
        let relative = |path: &str| below(Path::new(path), &roots()).expect("inside");
        assert_eq!(relative("/srv/work/a/b"), Path::new("a/b"));
        assert_eq!(relative("/home/me/link/./a"), Path::new("a"));
        assert_eq!(relative("/srv/work"), Path::new("."));
        assert_eq!(relative("a/../b"), Path::new("a/../b"));
        // Still to be resolved below the root, where the host refuses it.
        assert_eq!(relative("/srv/work/../secret"), Path::new("../secret"));
    }

    #[test]
    fn every_other_absolute_path_is_outside() {
        for path in ["/", "/etc/passwd", "/srv", "/srv/workshop/a", "/home/me"] {
            let refused = below(Path::new(path), &roots());
            assert!(matches!(refused, Err(SandboxError::Outside { .. })), "{path}");
        }
    }

    #[test]
    fn a_path_without_a_file_name_cannot_be_written() {
        for path in ["a/", "a/.", "a/..", ".", ".."] {
            let path = Path::new(path);
            let refused = parent_and_name(path, path);
            assert!(matches!(refused, Err(SandboxError::WrongKind { .. })), "{path:?}");
        }
        let path = Path::new("a/b");
        let (parent, name) = parent_and_name(path, path).expect("a file");
        assert_eq!((parent, name), (Path::new("a"), "b".as_ref()));
    }
}
