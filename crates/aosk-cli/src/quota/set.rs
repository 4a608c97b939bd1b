//! `aosk quota set`.

use aosk_abi::{BlockedOn, Code, Limits, ProcessState, QuotaOwner, Tenant};

use super::record;
use crate::args::{OwnerKind, QuotaSet};
use crate::config::{Edit, Folders, Settings};
use crate::daemon::{self, Hearer};
use crate::endpoints::Endpoints;
use crate::error::Error;
use crate::exit::Exit;
use crate::inbox;
use crate::print::Screen;
use crate::processes::Processes;
use crate::reader;
use crate::text::one_line;

pub(super) async fn set(
    args: &QuotaSet,
    settings: &Settings,
    folders: &Folders,
    screen: &Screen,
) -> Result<Exit, Error> {
    let owner = owner(args)?;
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
    let waiting = waiting(&owner, &changed).await?;
    if waiting.is_empty() {
        return Ok(Exit::Done);
    }
    inbox::limited(&owner, limits, &waiting, &changed, screen).await
}

fn owner(args: &QuotaSet) -> Result<QuotaOwner, Error> {
    let name = args.name.clone();
    let wrong = |why: String| Error::new(Code::CliUsage, format!("{:?}: {why}", args.name));
    Ok(match args.owner {
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
    })
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
async fn waiting(owner: &QuotaOwner, settings: &Settings) -> Result<Vec<String>, Error> {
    let Some(reader) = reader::open(settings)? else {
        return Ok(Vec::new());
    };
    let named = owner.to_string();
    let processes = Processes::read(&*reader).await?;
    let waits = processes.unfinished().filter(|receipt| {
        matches!(&receipt.row.state,
            ProcessState::Blocked { on: BlockedOn::Limit { owner, .. }, .. } if *owner == named)
    });
    Ok(waits.map(|receipt| receipt.pid.to_string()).collect())
}
