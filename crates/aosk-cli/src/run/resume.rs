//! Unfinished agents: taken up where they stand.

use aosk_abi::{Code, MicroDollars, Pid, ProcessState, Tenant};
use aosk_kernel::{Image, load};
use aosk_ports::Receipt;

use super::{Beginning, Machine};
use crate::error::Error;
use crate::processes::{Processes, Works};
use crate::reader;
use crate::wiring::kernel_error;

/// An agent to be taken up.
struct Unfinished {
    pid: Pid,
    image: Image,
    raise: Option<MicroDollars>,
}

/// Connects the models that the agents ask, starts a kernel and takes the agents up. One that
/// cannot be taken up does not keep the others from it.
pub(super) async fn start(beginning: &Beginning<'_>) -> Result<Option<Machine>, Error> {
    let Beginning { args, settings, endpoints, screen, .. } = beginning;
    let named = args.agent.as_ref().map(|named| named.to_string_lossy());
    // A store is not made for asking.
    let reader = reader::open(settings)?;
    let chosen: Vec<Receipt> = match (&reader, &named) {
        (Some(reader), None) => {
            let works = Works::ask(settings, &**reader).await?;
            // What a node of a server has goes on there.
            let is_free = |receipt: &&Receipt| works.node(receipt.pid).is_none();
            let processes = Processes::read(&**reader).await?;
            processes.unfinished().filter(is_free).cloned().collect()
        }
        (Some(reader), Some(named)) => {
            let found = Processes::read(&**reader).await?.find(named)?.clone();
            refuse_ended(&found, &settings.same_store)?;
            vec![found]
        }
        (None, None) => Vec::new(),
        (None, Some(named)) => return Err(crate::processes::unknown(named)),
    };
    drop(reader);
    if chosen.is_empty() {
        screen.err.wrapped("Nothing is unfinished.");
        return Ok(None);
    }
    let owned = beginning.own_store("--resume")?;
    let mut refused = Vec::new();
    let mut agents = Vec::new();
    for receipt in &chosen {
        match load(owned.store.as_ref(), &Tenant::local(), receipt.pid, None).await {
            Ok(image) => {
                let raise = raised(&image, args.max_spend_usd);
                agents.push(Unfinished { pid: receipt.pid, image, raise });
            }
            Err(error) => refused.push(kernel_error(error)),
        }
    }
    let models = agents.iter().map(|agent| agent.image.spawned.model.as_str());
    let connected = endpoints.connect(models, args).await?;
    let (kernel, memory, board, watch) = beginning.start(&owned, connected.models)?;
    let mut pids = Vec::new();
    for Unfinished { pid, image, raise } in agents {
        let spawned = &image.spawned;
        if let Some(error) = connected.failed.get(&spawned.model) {
            refused.push(error.clone());
            continue;
        }
        board.introduce(pid, &spawned.name, spawned.max_steps);
        board.begins_at(pid, image.next);
        match kernel.resume(pid, raise).await {
            Ok(()) => pids.push(pid),
            Err(error) => {
                board.forget(pid);
                refused.push(kernel_error(error));
            }
        }
    }
    // Agents that share a broken endpoint have one error.
    refused.dedup();
    if pids.is_empty()
        && let Some(first) = refused.pop()
    {
        for error in refused {
            error.print(&screen.err);
        }
        return Err(first);
    }
    Ok(Some(Machine { kernel, owned, board, watch, pids, memory, refused }))
}

/// Refuses a process that has ended, before anything that going on would need is asked for.
fn refuse_ended(found: &Receipt, same_store: &str) -> Result<(), Error> {
    let ProcessState::Exited { exit } = &found.row.state else {
        return Ok(());
    };
    let pid = found.pid;
    Err(Error::new(
        Code::KernelNotResumable,
        format!("process {pid} has ended ({}); start a new one", exit.name()),
    )
    .help(format!(
        "`aosk show {pid}{same_store}` shows what came of it, `aosk send{same_store} {pid} \"…\"` \
         goes on with its conversation"
    )))
}

/// The limit that the agent gets: what was asked for, where that is above the limit of its own.
fn raised(image: &Image, asked: Option<MicroDollars>) -> Option<MicroDollars> {
    let (limit, asked) = (image.account.limit?, asked?);
    (asked > limit).then_some(asked)
}
