//! `aosk quota set`.
//!
//! What models, tenants and groups may use is the user's and stands in the settings. What an agent may
//! is part of it: its manifest says it first, then its journal, which every kernel that goes on with
//! its children reads.

use aosk_abi::{BlockedOn, Code, Limits, Manifest, Pid, ProcessState, QuotaOwner, Seq, Tenant};
use aosk_kernel::load;

use super::record;
use crate::args::{OwnerKind, QuotaSet};
use crate::config::{Edit, Folders, Settings};
use crate::daemon::{self, Hearer};
use crate::endpoints::Endpoints;
use crate::error::Error;
use crate::exit::Exit;
use crate::inbox;
use crate::print::Screen;
use crate::processes::{self, Processes};
use crate::reader::{self, Reading};
use crate::text::one_line;
use crate::wiring::kernel_error;

pub(super) async fn set(
    args: &QuotaSet,
    settings: &Settings,
    folders: &Folders,
    screen: &Screen,
) -> Result<Exit, Error> {
    let Some(owner) = owner(args)? else {
        return set_agent(args, settings, screen).await;
    };
    let mut edit = Edit::begin(folders)?;
    let before = edit.sharing()?.limits(&owner).copied().unwrap_or_default();
    let mut limits = before;
    change(&mut limits, args);
    edit.set_limits(&owner, &limits)?;
    let changed = Settings { sharing: edit.sharing()?, ..settings.clone() };
    Endpoints::load(folders)?.check_pools(&changed)?;
    let both = (&before, &limits);
    record::keep(folders, &owner, both, None)?;
    if let Err(error) = edit.save() {
        record::keep(folders, &owner, both, Some(&error))?;
        return Err(error);
    }
    let hearer = daemon::limit(&changed, (&owner, limits), screen).await.map_err(|error| {
        error.help("the limit stands in your config.toml: the next kernel has it")
    })?;
    let said = one_line(&owner.to_string());
    screen.out.line(&match &hearer {
        Hearer::Daemon(os_pid) => {
            format!("{said} has its limits, also in the daemon (process {os_pid})")
        }
        Hearer::Run(by) => format!(
            "{said} has its limits from the next run on; process {} ({}) keeps those that it \
             began with",
            by.os_pid,
            one_line(&by.command)
        ),
        Hearer::Node(_) | Hearer::Nobody => format!("{said} has its limits"),
    })?;
    if let Hearer::Run(_) = hearer {
        return Ok(Exit::Done);
    }
    ask_again(owner.to_string(), limits, &changed, screen).await
}

/// What an agent and all that descend from it may use.
async fn set_agent(args: &QuotaSet, settings: &Settings, screen: &Screen) -> Result<Exit, Error> {
    let (reader, pid) = processes::open_one(settings, &args.name).await?;
    let mut limits = limits_of(&*reader, pid).await?;
    drop(reader);
    change(&mut limits, args);
    let exit = inbox::limit(pid, limits, settings, screen).await?;
    Ok(exit.max(ask_again(BlockedOn::of_kin(pid), limits, settings, screen).await?))
}

/// What an agent may use now.
async fn limits_of(reader: &dyn Reading, pid: Pid) -> Result<Limits, Error> {
    let tenant = Tenant::local();
    let image = load(reader, &tenant, pid, None).await.map_err(kernel_error)?;
    if let Some(limits) = image.quota {
        return Ok(limits);
    }
    let wanted = [(Seq(0), image.spawned.manifest.hash)];
    let found = reader.contents(&tenant, pid, &wanted).await?;
    let manifest = found.first().and_then(|bytes| serde_json::from_slice::<Manifest>(bytes).ok());
    let manifest = manifest.ok_or_else(|| {
        let message = format!("the recorded manifest of process {pid} cannot be read");
        Error::new(Code::StoreCorrupt, message)
    })?;
    Ok(manifest.quota.limits())
}

/// Tells those who rest for a quota that it was changed.
async fn ask_again(
    owner: String,
    limits: Limits,
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    let waiting = waiting(&owner, settings).await?;
    if waiting.is_empty() {
        return Ok(Exit::Done);
    }
    inbox::limited(owner, limits, &waiting, settings, screen).await
}

/// Whose quota is meant; `None` for an agent's.
fn owner(args: &QuotaSet) -> Result<Option<QuotaOwner>, Error> {
    let name = args.name.clone();
    let wrong = |why: String| Error::new(Code::CliUsage, format!("{:?}: {why}", args.name));
    Ok(Some(match args.owner {
        OwnerKind::Agent => return Ok(None),
        OwnerKind::Pool => QuotaOwner::Pool(name),
        OwnerKind::Tenant => {
            QuotaOwner::Tenant(name.parse().map_err(|error: aosk_abi::IdError| {
                wrong(error.to_string()).help("on your own machine the tenant is `local`")
            })?)
        }
        OwnerKind::Group => match name.chars().count() {
            1..=64 => QuotaOwner::Group(Tenant::local(), name),
            _ => return Err(wrong("the name of a group has 1 to 64 characters".to_owned())),
        },
    }))
}

fn change(limits: &mut Limits, args: &QuotaSet) {
    let Limits { requests, input_tokens, output_tokens, calls_at_once, spend } = limits;
    if let Some(limit) = args.requests {
        *requests = limit.into_option();
    }
    if let Some(limit) = args.input_tokens {
        *input_tokens = limit.into_option();
    }
    if let Some(limit) = args.output_tokens {
        *output_tokens = limit.into_option();
    }
    if let Some(limit) = args.calls_at_once {
        *calls_at_once = limit.into_option();
    }
    if let Some(limit) = args.spend {
        *spend = limit.into_option();
    }
}

/// The agents whose journals say that they wait for that quota.
async fn waiting(named: &str, settings: &Settings) -> Result<Vec<String>, Error> {
    let Some(reader) = reader::open(settings)? else {
        return Ok(Vec::new());
    };
    let processes = Processes::read(&*reader).await?;
    let waits = processes.unfinished().filter(|receipt| {
        matches!(&receipt.row.state,
            ProcessState::Blocked { on: BlockedOn::Limit { owner, .. }, .. } if owner == named)
    });
    Ok(waits.map(|receipt| receipt.pid.to_string()).collect())
}
