//! What of the host a process may reach.
//!
//! 1. **The kernel of the host decides, not a check of strings.** Every path is resolved by one
//!    `openat2` call below a folder that is held open, so that nobody can change a path between
//!    its check and its use. See [`Workspace`].
//! 2. **Nothing runs unconfined.** Where the host cannot confine, [`Workspace::open`] fails with
//!    [`Unsupported`](aosk_ports::SandboxError::Unsupported); there is no weaker second way.
//! 3. **No files unless granted.** A process without a workspace gets [`NoFiles`].
//!
//! ```
//! # #[cfg(target_os = "linux")] {
//! use std::path::Path;
//!
//! use aosk_ports::{Sandbox, SandboxError};
//! use aosk_sandbox::Workspace;
//!
//! let folder = tempfile::tempdir()?;
//! let workspace = Workspace::open(folder.path())?;
//! workspace.write(Path::new("notes/today.md"), b"milk")?;
//! assert_eq!(std::fs::read(folder.path().join("notes/today.md"))?, b"milk");
//!
//! let escape = workspace.open(Path::new("../../etc/passwd"));
//! assert!(matches!(escape, Err(SandboxError::Outside { .. })));
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod no_files;
#[cfg(not(target_os = "linux"))]
mod unsupported;
#[cfg(target_os = "linux")]
mod workspace;

pub use no_files::NoFiles;
#[cfg(not(target_os = "linux"))]
pub use unsupported::Workspace;
#[cfg(target_os = "linux")]
pub use workspace::Workspace;
