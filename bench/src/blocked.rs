//! Blocked processes: how they are made, and what the system says that they take.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{Manifest, Pid};
use aosk_kernel::{Kernel, Observer, Spawn};

use crate::report::Failure;
use crate::steps::open_watched;
use crate::waiter::{MANIFEST, Waiter};

/// Calls that are made at once: enough to keep the disk busy.
const SLOTS: usize = 256;

/// A kernel whose processes come to block with `pages` pages each.
pub fn kernel(dir: &Path, pages: usize, observer: Arc<dyn Observer>) -> Result<Kernel, Failure> {
    open_watched(dir, Arc::new(Waiter::new(pages, SLOTS)), observer)
}

/// Spawns that many processes and waits until none of them is in memory.
pub async fn fill(kernel: &Kernel, processes: usize) -> Result<Vec<Pid>, Failure> {
    let manifest = Manifest::from_toml(MANIFEST)?;
    let mut pids = Vec::with_capacity(processes);
    for _ in 0..processes {
        let (manifest, model) = (manifest.clone(), "waiter".to_owned());
        let task = "Go on.".to_owned();
        pids.push(kernel.spawn(Spawn { manifest, model, task, alias: None, parent: None }).await?);
    }
    while kernel.residents() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(pids)
}

/// The memory of this process that is in RAM, in bytes; an error where the system does not tell.
pub fn resident_bytes() -> Result<u64, Failure> {
    Ok(1024 * status("VmRSS:")?)
}

/// How often this process's threads have gone to sleep by themselves: each time something woke
/// them before.
pub fn wake_ups() -> Result<u64, Failure> {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let status = std::fs::read_to_string(task?.path().join("status"))?;
        sum += field(&status, "voluntary_ctxt_switches:")?;
    }
    Ok(sum)
}

fn status(name: &str) -> Result<u64, Failure> {
    field(&std::fs::read_to_string("/proc/self/status")?, name)
}

fn field(status: &str, name: &str) -> Result<u64, Failure> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|rest| rest.split_whitespace().next());
    Ok(value.ok_or("this system does not tell what a process uses")?.parse()?)
}
