//! `aosk demo`: real agents on the real kernel, with replies that were recorded.
//!
//! It is `aosk run` with three manifests and a cassette, all of which stand in the binary: 5 KB
//! that make a first look possible before there is a model, a key or a network. The cassette is
//! found by the hashes of the prompts, so it plays only as long as the kernel tells the agents
//! byte for byte what it told them when a model answered: `demo/record.sh` records it anew.
//!
//! None of the user's settings plays a part, so the demo works the same in every folder and for
//! everyone. Only where it is asked to in so many words, with `--store`, it uses a server.

mod folder;
mod story;

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use aosk_abi::{Code, MicroDollars, Sharing};

use crate::args::{Global, Run};
use crate::config::{Flags, Folders, Settings, StoreAt, same_store};
use crate::error::Error;
use crate::exit::Exit;
use crate::print::{Ink, Screen};
use crate::run;
use crate::text::shell_word;
use folder::Folder;

/// What the model said to the agents.
const CASSETTE: &str = include_str!("../../demo/replies.jsonl");

pub(crate) async fn demo(global: &Global, screen: &Screen) -> Result<Exit, Error> {
    let folder = match &global.data_dir {
        Some(dir) => Folder::at(dir)?,
        None => Folder::temporary()?,
    };
    let flags = Flags {
        data_dir: Some(folder.root().to_owned()),
        store: global.store.clone(),
        ..Flags::default()
    };
    let same_store = same_store(&flags);
    introduce(folder.root(), screen)?;

    let color = global.color.unwrap_or_default();
    let store = match &global.store {
        Some(store) => StoreAt::of_server(store)?,
        None => StoreAt::Folder,
    };
    let settings = Settings {
        model: None,
        max_spend: MicroDollars::ZERO,
        max_spend_from: "nobody is asked".to_owned(),
        data_dir: store.local(folder.root().to_owned()),
        base_dir: folder.root().to_owned(),
        store,
        retention: None,
        same_store: same_store.clone(),
        color,
        embedder: None,
        sharing: Sharing::default(),
    };
    // Below the demo's own folder there are no tables of models and no keys.
    let own = folder.root().as_os_str().to_owned();
    let folders = Folders::from_env(&|_| Some(OsString::from(&own)))?;
    let [first, others @ ..] = folder.agents();
    let run = Run {
        agent: Some(first.into()),
        task: None,
        with: others.into(),
        resume: false,
        model: None,
        max_spend_usd: None,
        allow_workspace: Vec::new(),
        cassette: Some(folder.cassette()),
        record: None,
        json: false,
    };
    let before = story::processes(&settings).await?;
    let exit = run::run(&run, &settings, &folders, &Arc::new(Screen::new(color))).await?;
    if exit != Exit::Done {
        return Ok(exit);
    }
    let ran = story::tell(&settings, &before, screen).await?;
    next(&folder, &same_store, ran.as_deref(), screen)?;
    Ok(exit)
}

/// The model that was asked when the cassette was recorded.
fn recorded_model() -> Result<String, Error> {
    let header = CASSETTE.lines().next().unwrap_or_default();
    let header: serde_json::Value = serde_json::from_str(header).map_err(|error| {
        Error::new(Code::LlmCassette, format!("the demo's cassette is damaged: {error}"))
    })?;
    Ok(header["model"].as_str().unwrap_or("an unnamed model").to_owned())
}

fn introduce(root: &Path, screen: &Screen) -> Result<(), Error> {
    let out = &screen.out;
    out.line(&out.paint(Ink::Strong, "Three agents, with recorded replies"))?;
    let model = recorded_model()?;
    out.line(&format!("What the model says is recorded: {model} said it before."))?;
    out.line("Nobody is asked now: no network, no key, no cost. All else is real and happens")?;
    out.line("now: kernel, journal, tools, store.")?;
    out.line(&format!("Everything is kept in {}\n", root.display()))
}

fn next(
    folder: &Folder,
    same_store: &str,
    pid: Option<&str>,
    screen: &Screen,
) -> Result<(), Error> {
    let out = &screen.out;
    let pid = pid.unwrap_or("PID");
    let files = folder.files().display().to_string();
    let mut commands = vec![
        (
            "every event of one of them, with its texts",
            format!("logs --contents {pid}{same_store}"),
        ),
        ("its state, account and answer; verifies its chain", format!("show {pid}{same_store}")),
        ("what is set up here for agents of your own", "doctor".to_owned()),
        ("an agent of your own", "init".to_owned()),
    ]
    .into_iter()
    .map(|(what, command)| (what, format!("aosk {command}")))
    .collect::<Vec<_>>();
    commands.insert(0, ("what the writer wrote", format!("cat {}/list.txt", shell_word(&files))));
    if folder.is_temporary() {
        let root = folder.root().display().to_string();
        commands.push(("removes all that the demo made", format!("rm -r {}", shell_word(&root))));
    }
    out.line(&format!("\n{}", out.paint(Ink::Strong, "Next")))?;
    for (what, command) in commands {
        out.line(&format!("  {}", out.paint(Ink::Quiet, &format!("# {what}"))))?;
        out.line(&format!("  {command}"))?;
    }
    Ok(())
}
