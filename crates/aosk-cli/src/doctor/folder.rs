//! The data folder and the store in it. Looking takes nothing over and makes nothing.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aosk_abi::Code;
use aosk_ports::Journal;
use aosk_store::{Owner, SCHEMA, owner};
use rustix::fs::{Access, access, statvfs};

use super::{Check, server};
use crate::config::{Settings, StoreAt};
use crate::daemon::is_daemon;
use crate::diagnostics;
use crate::error::Error;
use crate::figures::{bytes, moment};
use crate::processes::{Processes, refuse_file};
use crate::reader;

/// Below this much free space a warning is due: it holds about 90,000 steps of 2 KiB.
const LOW_SPACE: u64 = 256 << 20;

/// Looks at the folder and the store; says who owns it.
pub(super) async fn look(settings: &Settings, checks: &mut Vec<Check>) -> Option<Owner> {
    let dir = &settings.data_dir;
    let there = match folder(dir) {
        Ok(check) => {
            checks.push(check);
            dir.is_dir()
        }
        Err(error) => {
            checks.push(Check::missing("data folder", &error));
            return None;
        }
    };
    if let StoreAt::Server(options) = &settings.store {
        checks.extend(server::look(options).await);
        return None;
    }
    checks.extend(disk(&nearest_there(dir)));
    if !there {
        return None;
    }
    let owned = owner(dir).map_err(Error::from);
    checks.push(store(settings).await.unwrap_or_else(|error| {
        // One of an older schema: the next run migrates it.
        let can_run = error.code == Code::StoreOpen;
        Check::missing("store", &error).or_warn(can_run)
    }));
    let owner = match owned {
        Ok(owner) => owner,
        Err(error) => {
            checks.push(Check::missing("owner", &error));
            return None;
        }
    };
    checks.push(match &owner {
        None => Check::ok("owner", "nobody runs agents on it now"),
        Some(daemon @ Owner { os_pid, since, .. }) if is_daemon(daemon) => {
            Check::ok("owner", format!("the daemon (process {os_pid}) since {}", moment(*since)))
        }
        Some(Owner { os_pid, command, since }) => Check::warn(
            "owner",
            format!("process {os_pid} ({command}) since {}", moment(*since)),
            "a second `aosk run` has to wait for its end; several agents can share one: `--with`",
        ),
    });
    checks.push(log(&diagnostics::folder(dir)));
    owner
}

/// The folder: there or can be made, writable, private.
fn folder(dir: &Path) -> Result<Check, Error> {
    refuse_file(dir)?;
    let nearest = nearest_there(dir);
    refuse_file(&nearest)?;
    access(&nearest, Access::WRITE_OK | Access::EXEC_OK).map_err(|errno| {
        Error::new(Code::StoreOpen, format!("{errno}"))
            .at(&nearest, None)
            .help("make it writable for you, or choose another folder: --data-dir DIR")
    })?;
    if nearest != dir {
        return Ok(Check::ok("data folder", format!("{}, made when needed", dir.display())));
    }
    let metadata = std::fs::metadata(dir)
        .map_err(|error| Error::new(Code::StoreOpen, error.to_string()).at(dir, None))?;
    let mode = metadata.permissions().mode() & 0o777;
    let said = format!("{}, mode {mode:04o}", dir.display());
    Ok(if mode & 0o077 == 0 {
        Check::ok("data folder", said)
    } else {
        let next = format!("others may look into it: `chmod 700 {}`", dir.display());
        Check::warn("data folder", said, next)
    })
}

/// The nearest folder above that is there, or `dir` itself.
fn nearest_there(dir: &Path) -> PathBuf {
    let there = dir.ancestors().find(|path| path.exists());
    there.unwrap_or_else(|| Path::new("/")).to_owned()
}

/// The file system and what is free on it; nothing where the system does not tell.
fn disk(dir: &Path) -> Option<Check> {
    let found = statvfs(dir).ok()?;
    Some(room(found.f_bavail.saturating_mul(found.f_frsize), file_system(dir)))
}

fn room(free: u64, kind: Option<FileSystem>) -> Check {
    const ELSEWHERE: &str = "choose a folder on a local disk: `--data-dir DIR`";

    let name = kind.map(|kind| format!("{}, ", kind.name)).unwrap_or_default();
    let said = format!("{name}{} free", bytes(free));
    match kind.and_then(|kind| kind.trouble) {
        Some(trouble) => Check::warn("disk", format!("{said}: {trouble}"), ELSEWHERE),
        None if free < LOW_SPACE => Check::warn("disk", said, format!("make room, or {ELSEWHERE}")),
        None => Check::ok("disk", said),
    }
}

/// A kind of file system, and what is wrong with a store on it.
#[derive(Debug, Clone, Copy)]
struct FileSystem {
    name: &'static str,
    trouble: Option<&'static str>,
}

/// The kind that `dir` is on, where it is a known one. The numbers are those of Linux.
#[cfg(target_os = "linux")]
fn file_system(dir: &Path) -> Option<FileSystem> {
    const REMOTE: Option<&str> =
        Some("a network file system does not keep the promises that a store is built on");
    const GONE: Option<&str> = Some("what is on it is gone after a restart of the machine");
    let magic = rustix::fs::statfs(dir).ok()?.f_type;
    let (name, trouble) = match u32::try_from(magic).ok()? {
        0xef53 => ("ext4", None),
        0x5846_5342 => ("xfs", None),
        0x9123_683e => ("btrfs", None),
        0x2fc1_2fc1 => ("zfs", None),
        0xf2f5_2010 => ("f2fs", None),
        0x794c_7630 => ("overlayfs", None),
        0x0102_1994 => ("tmpfs", GONE),
        0x6969 => ("nfs", REMOTE),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => ("smb", REMOTE),
        0x0102_1997 => ("9p", REMOTE),
        _ => return None,
    };
    Some(FileSystem { name, trouble })
}

#[cfg(not(target_os = "linux"))]
const fn file_system(_: &Path) -> Option<FileSystem> {
    None
}

/// The store: opens, and how much is in it.
async fn store(settings: &Settings) -> Result<Check, Error> {
    let Some(reader) = reader::open(settings)? else {
        return Ok(Check::ok("store", "none yet; the first run makes it"));
    };
    holds(&*reader, SCHEMA).await
}

/// What is in a store of that schema.
pub(super) async fn holds(journal: &dyn Journal, schema: usize) -> Result<Check, Error> {
    let processes = Processes::read(journal).await?;
    let (all, unfinished) = (processes.all().count(), processes.unfinished().count());
    let agents = if all == 1 { "1 agent" } else { &format!("{all} agents") };
    Ok(Check::ok("store", format!("opens, schema {schema}; {agents}, {unfinished} unfinished")))
}

fn log(folder: &Path) -> Check {
    let files = std::fs::read_dir(folder).map(|entries| {
        entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|found| found.len()).sum()
    });
    Check::ok(
        "log",
        match files {
            Ok(size) => format!("{}, {}", folder.join("aosk.log").display(), bytes(size)),
            Err(_) => "none yet; the first run makes it".to_owned(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_space_below_at_and_above_what_is_low() {
        for (free, is_ok) in [(LOW_SPACE - 1, false), (LOW_SPACE, true), (LOW_SPACE + 1, true)] {
            assert_eq!(room(free, None).is_ok(), is_ok, "{free}");
        }
        let remote = FileSystem { name: "nfs", trouble: Some("is remote") };
        assert!(!room(u64::MAX, Some(remote)).is_ok());
    }
}
