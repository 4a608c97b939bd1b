//! `aosk show`: one process, in full. The whole journal is folded from its first event, so that
//! what is shown is what the chain vouches for.

use aosk_abi::{Exit as Ended, Hash, Pid, ProcessState, Seq, Tenant, What};
use aosk_kernel::{Account, Image};
use aosk_ports::{Journal, Receipt};
use serde::Serialize;

use crate::args::Show;
use crate::config::Settings;
use crate::error::Error;
use crate::exit::Exit;
use crate::figures::{cached, duration, moment, tokens};
use crate::journal::{self, Texts};
use crate::print::{Ink, Screen};
use crate::processes::{self, Works, state, state_name};
use crate::text::{self, one_line, plain};

/// A process, folded and with its texts.
struct Shown {
    receipt: Receipt,
    image: Image,
    events: u64,
    task: Option<String>,
    answer: Option<String>,
    error: Option<Failure>,
}

/// Why a process ended otherwise than by completing.
#[derive(Serialize)]
struct Failure {
    code: Option<String>,
    message: Option<String>,
}

/// A process as one JSON object.
#[derive(Serialize)]
struct Object<'a> {
    pid: String,
    name: &'a str,
    alias: Option<&'a str>,
    program: &'a str,
    model: &'a str,
    priority: u8,
    state: &'static str,
    detail: &'a ProcessState,
    steps: u64,
    max_steps: u64,
    account: &'a Account,
    spent_microdollars: u64,
    created: u64,
    updated: u64,
    events: u64,
    head: Hash,
    chain_verified: bool,
    context: Context,
    task: Option<&'a str>,
    answer: Option<&'a str>,
    error: Option<&'a Failure>,
}

#[derive(Serialize)]
struct Context {
    pages: usize,
    resident: usize,
    tokens: u64,
    generation: u64,
}

pub(crate) async fn show(args: &Show, settings: &Settings, screen: &Screen) -> Result<Exit, Error> {
    let (reader, pid) = processes::open_one(settings, &args.pid).await?;
    let works = Works::ask(settings, &*reader).await?;
    let shown = read(&*reader, pid).await?;
    if args.json {
        screen.out.line(&json(&shown, &works)?)?;
    } else {
        print(&shown, &works, screen)?;
    }
    Ok(Exit::Done)
}

async fn read(reader: &dyn Journal, pid: Pid) -> Result<Shown, Error> {
    let receipt = reader.process(&Tenant::local(), pid).await?;
    let receipt = receipt.ok_or_else(|| processes::unknown(&pid.to_string()))?;
    let entries = journal::read(reader, pid, Seq(0)).await?;
    let mut texts = Texts::default();
    texts.load(reader, pid, &entries).await?;
    let image = journal::fold(pid, &entries)?;
    let text = |content| texts.get(content).map(|text| text.to_string());
    let (answer, error) = match &image.state {
        ProcessState::Exited { exit } => match exit {
            Ended::Completed { answer } => (answer.as_ref().and_then(text), None),
            Ended::Refused { message } => {
                (None, Some(Failure { code: None, message: message.as_ref().and_then(text) }))
            }
            Ended::Failed { code, message } => {
                (None, Some(Failure { code: Some(code.clone()), message: text(message) }))
            }
            Ended::StepLimit { .. } | Ended::Killed => (None, None),
        },
        _ => (None, None),
    };
    let task = entries.first().and_then(|first| match &first.event.what {
        What::Spawned(spawned) => text(&spawned.task),
        _ => None,
    });
    Ok(Shown { receipt, image, events: entries.len() as u64, task, answer, error })
}

fn context(image: &Image) -> Context {
    Context {
        pages: image.pages.pages().len(),
        resident: image.pages.resident().count(),
        tokens: image.pages.tokens().0,
        generation: image.pages.generation(),
    }
}

fn print(shown: &Shown, works: &Works, screen: &Screen) -> Result<(), Error> {
    let (out, image) = (&screen.out, &shown.image);
    let (spawned, account) = (&image.spawned, &image.account);
    let context = context(image);
    let usage = &account.usage;
    let limit = account.limit.map(|limit| format!(" of {limit}")).unwrap_or_default();
    let ran = duration(image.updated.millis_since(image.created));
    let mut rows = vec![
        ("pid", image.pid.to_string()),
        ("name", one_line(&spawned.name)),
        ("model", one_line(&spawned.model)),
        ("state", state(&shown.receipt, works)),
        ("steps", format!("{} of at most {}", image.step, spawned.max_steps)),
        (
            "tokens",
            format!(
                "{} in ({} cached), {} out",
                tokens(usage.input),
                cached(usage),
                tokens(usage.output)
            ),
        ),
        ("cost", format!("{}{limit}", account.spent())),
        ("spawned", moment(image.created)),
        ("last event", format!("{}, {ran} later", moment(image.updated))),
        (
            "context",
            format!(
                "{} of {} pages resident, {} tokens, generation {}",
                context.resident, context.pages, context.tokens, context.generation
            ),
        ),
        ("journal", format!("{} events, chain verified", shown.events)),
    ];
    if let Some(alias) = &spawned.alias {
        rows.insert(1, ("alias", one_line(alias)));
    }
    let indent = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in rows {
        let name = out.paint(Ink::Quiet, &text::left(name, indent));
        out.line(&format!("{name}  {value}"))?;
    }
    let heading = |name: &str| format!("\n{}", out.paint(Ink::Strong, name));
    if let Some(task) = &shown.task {
        out.line(&heading("Task"))?;
        out.line(plain(task).trim_end())?;
    }
    if let Some(answer) = &shown.answer {
        out.line(&heading("Answer"))?;
        out.line(plain(answer).trim_end())?;
    }
    if let Some(failure) = &shown.error {
        let code = failure.code.as_ref().map(|code| format!("[{}]", one_line(code)));
        let code = code.unwrap_or_default();
        out.line(&format!("\n{}", out.paint(Ink::Error, &format!("Error{code}"))))?;
        out.line(plain(failure.message.as_deref().unwrap_or("no message")).trim_end())?;
    }
    Ok(())
}

fn json(shown: &Shown, works: &Works) -> Result<String, Error> {
    let image = &shown.image;
    let spawned = &image.spawned;
    crate::print::json(&Object {
        pid: image.pid.to_string(),
        name: &spawned.name,
        alias: spawned.alias.as_deref(),
        program: &spawned.program,
        model: &spawned.model,
        priority: spawned.priority.get(),
        state: state_name(&shown.receipt, works),
        detail: &image.state,
        steps: image.step.0,
        max_steps: spawned.max_steps,
        account: &image.account,
        spent_microdollars: image.account.spent().0,
        created: image.created.as_millis(),
        updated: image.updated.as_millis(),
        events: shown.events,
        head: image.head,
        chain_verified: true,
        context: context(image),
        task: shown.task.as_deref(),
        answer: shown.answer.as_deref(),
        error: shown.error.as_ref(),
    })
}
