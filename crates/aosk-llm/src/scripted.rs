//! Devices without a model: one that plays what was recorded, and one that records.
//!
//! A played device renders requests exactly as the recorded one did, so that the prompt's hash
//! finds the reply and every part of the kernel above the wire runs as it does with a model. It
//! bears `scripted:` in its name wherever that appears, since nothing it says was thought of now.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aosk_abi::{Code, FailureKind, Hash};
use aosk_ports::{
    CallError, Delta, Demand, Device, DeviceInfo, Part, Progress, RenderError, Rendered, Reply,
    Request, ServerLoad,
};
use futures::future::BoxFuture;

use crate::cassette::{Header, Outcome, read_line, write_line};
use crate::error::Error;
use crate::failure::unbilled;
use crate::http::Options;
use crate::quirks::Quirks;
use crate::remote::Remote;
use crate::speech::Speech;
use crate::table::Dialect;

/// How much of the last message an error quotes, in characters.
const QUOTE_MAX: usize = 200;

/// A device that plays replies.
#[derive(Debug)]
pub struct Scripted {
    info: DeviceInfo,
    speech: Speech,
    script: Mutex<Script>,
}

#[derive(Debug)]
enum Script {
    InOrder(VecDeque<Outcome>),
    ByPrompt(HashMap<Hash, VecDeque<Outcome>>),
}

impl Scripted {
    /// Plays the cassette at `path`, each recorded reply once.
    ///
    /// # Errors
    /// [`Error::Cassette`] with the line that cannot be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bad =
            |line, message| Error::Cassette { path: path.display().to_string(), line, message };
        let text = std::fs::read_to_string(path).map_err(|e| bad(None, e.to_string()))?;
        let mut lines = text.lines().enumerate();
        let (_, first) = lines.next().ok_or_else(|| bad(None, "it is empty".to_owned()))?;
        let header = Header::read(first).map_err(|message| bad(Some(1), message))?;
        let mut replies: HashMap<Hash, VecDeque<Outcome>> = HashMap::new();
        for (index, line) in lines {
            let (prompt, outcome) =
                read_line(line).map_err(|message| bad(Some(index + 1), message))?;
            replies.entry(prompt).or_default().push_back(outcome);
        }
        let script = Script::ByPrompt(replies);
        Ok(Self::new(header.info(), header.dialect, header.quirks(), script))
    }

    /// Plays `outcomes` in their order, whatever is asked.
    #[must_use]
    pub fn in_order(
        info: DeviceInfo,
        outcomes: impl IntoIterator<Item = Result<Reply, CallError>>,
    ) -> Self {
        let script = Script::InOrder(outcomes.into_iter().collect());
        Self::new(info, Dialect::default(), Quirks::default(), script)
    }

    fn new(mut info: DeviceInfo, dialect: Dialect, quirks: Quirks, script: Script) -> Self {
        info.name = format!("scripted:{}", info.name);
        let (model, timeout) = (info.model.clone(), Options::default().total);
        let speech = Speech { dialect, model, quirks, timeout };
        Self { info, speech, script: Mutex::new(script) }
    }

    fn next(&self, rendered: &Rendered, request: &Request) -> Outcome {
        let (found, left) = match &mut *lock(&self.script) {
            Script::InOrder(outcomes) => (outcomes.pop_front(), 0),
            Script::ByPrompt(replies) => {
                let found = replies.get_mut(&rendered.prompt).and_then(VecDeque::pop_front);
                (found, replies.values().map(VecDeque::len).sum())
            }
        };
        found.unwrap_or_else(|| {
            Err(unbilled(
                FailureKind::Fatal,
                Code::LlmCassette,
                format!(
                    "{} has no reply for the prompt {} of {} bytes ({left} replies are left, for \
                     other prompts); its last message is {:?}: record the run anew",
                    self.info.name,
                    rendered.prompt,
                    rendered.prompt_len,
                    last_words(request)
                ),
            ))
        })
    }
}

impl Device for Scripted {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn accepts(&self, demand: &Demand<'_>) -> Result<(), RenderError> {
        self.speech.accepts(demand)
    }

    fn render(&self, request: &Request) -> Result<Rendered, RenderError> {
        self.speech.render(request)
    }

    fn call<'a>(
        &'a self,
        rendered: &'a Rendered,
        request: &'a Request,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<Reply, CallError>> {
        Box::pin(async move {
            let reply = self.next(rendered, request)?;
            progress.delta(Delta::FirstByte);
            for part in &reply.parts {
                match part {
                    Part::Text(text) => {
                        progress.delta(Delta::Text { chars: text.chars().count() });
                    }
                    Part::ToolCall { name, .. } => {
                        progress.delta(Delta::ToolCall { name: name.to_string() });
                    }
                    Part::Opaque { .. } | Part::ToolResult { .. } => {}
                }
            }
            Ok(reply)
        })
    }
}

/// A device that asks a real one and records what it answers.
#[derive(Debug)]
pub struct Recorder {
    device: Remote,
    path: String,
    file: Mutex<File>,
}

impl Recorder {
    /// Records what `device` answers into a new file at `path`.
    ///
    /// # Errors
    /// [`Error::Cassette`] where the file is there already or cannot be written.
    pub fn create(device: Remote, path: &Path) -> Result<Self, Error> {
        let bad =
            |message| Error::Cassette { path: path.display().to_string(), line: None, message };
        let header = Header::new(device.info(), device.speech());
        let header = serde_json::to_string(&header).map_err(|e| bad(e.to_string()))?;
        let mut file = File::create_new(path).map_err(|e| bad(e.to_string()))?;
        file.write_all(format!("{header}\n").as_bytes()).map_err(|e| bad(e.to_string()))?;
        Ok(Self { device, path: path.display().to_string(), file: Mutex::new(file) })
    }

    fn record(&self, prompt: Hash, outcome: &Outcome) -> Result<(), String> {
        let line = write_line(prompt, outcome)?;
        lock(&self.file).write_all(line.as_bytes()).map_err(|e| e.to_string())
    }
}

impl Device for Recorder {
    fn info(&self) -> &DeviceInfo {
        self.device.info()
    }

    fn accepts(&self, demand: &Demand<'_>) -> Result<(), RenderError> {
        self.device.accepts(demand)
    }

    fn render(&self, request: &Request) -> Result<Rendered, RenderError> {
        self.device.render(request)
    }

    fn call<'a>(
        &'a self,
        rendered: &'a Rendered,
        request: &'a Request,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<Reply, CallError>> {
        Box::pin(async move {
            let outcome = self.device.call(rendered, request, progress).await;
            if let Err(problem) = self.record(rendered.prompt, &outcome) {
                let usage = match &outcome {
                    Ok(reply) => reply.usage,
                    Err(failure) => failure.usage,
                };
                let message = format!("cannot record to {}: {problem}", self.path);
                let failure = unbilled(FailureKind::Fatal, Code::LlmCassette, message);
                return Err(CallError { usage, ..failure });
            }
            outcome
        })
    }

    fn kv_slots(&self) -> Option<usize> {
        self.device.kv_slots()
    }

    fn load(&self) -> Option<BoxFuture<'_, Option<ServerLoad>>> {
        self.device.load()
    }
}

/// A panic elsewhere leaves a queue or a file whole, so a poisoned lock is as good as another.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn last_words(request: &Request) -> String {
    let part = request.messages.last().and_then(|message| message.parts.last());
    match part {
        Some(Part::Text(text) | Part::ToolResult { text, .. }) => {
            text.chars().take(QUOTE_MAX).collect()
        }
        Some(Part::ToolCall { name, .. }) => format!("a call of {name}"),
        Some(Part::Opaque { format, .. }) => format!("a block of format {format}"),
        None => String::new(),
    }
}
