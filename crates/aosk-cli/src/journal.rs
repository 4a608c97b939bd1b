//! A journal as commands read it: its events, their texts, and their lines of JSON.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use aosk_abi::{
    Code, ContentRef, Event, Exit, Hash, Pid, Recalled, Record, ReplyPart, Seq, Tenant, Timestamp,
    What,
};
use aosk_kernel::Image;
use aosk_ports::Journal;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::Error;
use crate::processes;

/// How many events are read at once, about 300 KB.
const CHUNK: usize = 1024;

/// A record with its event.
pub(crate) struct Entry {
    pub(crate) record: Record,
    pub(crate) event: Event,
}

/// Reads the events from `from` on, up to the end. The store verifies their chain.
pub(crate) async fn read(journal: &dyn Journal, pid: Pid, from: Seq) -> Result<Vec<Entry>, Error> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut next = from;
    loop {
        let some = read_some(journal, pid, next).await?;
        let Some(last) = some.last() else {
            return Ok(entries);
        };
        next = last.record.seq.next();
        entries.extend(some);
    }
}

/// Reads some events from `from` on; none past the end.
pub(crate) async fn read_some(
    journal: &dyn Journal,
    pid: Pid,
    from: Seq,
) -> Result<Vec<Entry>, Error> {
    decoded(pid, journal.read(&Tenant::local(), pid, from, CHUNK).await?)
}

/// Reads the events within the times.
pub(crate) async fn between(
    journal: &dyn Journal,
    pid: Pid,
    times: Range<Timestamp>,
) -> Result<Vec<Entry>, Error> {
    let (from, until) = (times.start, times.end);
    let all = journal.events_between(&Tenant::local(), pid, from, until, usize::MAX);
    decoded(pid, all.await?)
}

fn decoded(pid: Pid, records: Vec<Record>) -> Result<Vec<Entry>, Error> {
    let decoded = records.into_iter().map(|record| {
        let event = record.decode().map_err(|error| {
            let code = match &error {
                aosk_abi::DecodeError::Body { .. } => Code::EventDamaged,
                _ => Code::EventNewer,
            };
            Error::new(code, format!("process {pid}: {error}"))
        })?;
        Ok(Entry { record, event })
    });
    decoded.collect()
}

/// Folds a journal, given from its first event, and checks every link of its chain on the way.
///
/// # Errors
/// [`Error`] where the chain is broken or the journal does not fold.
pub(crate) fn fold(pid: Pid, entries: &[Entry]) -> Result<Image, Error> {
    let tenant = Tenant::local();
    let broken = |code, message: String| Error::new(code, format!("process {pid}: {message}"));
    let mut image: Option<Image> = None;
    for Entry { record, .. } in entries {
        let prev = image.as_ref().map_or(Hash::ZERO, |image| image.head);
        record
            .verify(&tenant, pid, prev)
            .map_err(|error| broken(Code::ChainBroken, error.to_string()))?;
        match &mut image {
            Some(image) => image.apply(record),
            None => Image::begin(&tenant, pid, record).map(|first| image = Some(first)),
        }
        .map_err(|error| broken(error.code(), error.to_string()))?;
    }
    image.ok_or_else(|| processes::unknown(&pid.to_string()))
}

/// The contents that an event names and people want to see, each with what it is.
pub(crate) fn named(what: &What) -> Vec<(String, ContentRef)> {
    let one = |name: &str, content: &ContentRef| vec![(name.to_owned(), *content)];
    match what {
        What::Spawned(spawned) => vec![
            ("system".into(), spawned.system),
            ("tools".into(), spawned.tools),
            ("task".into(), spawned.task),
        ],
        What::MessageReceived(message) => one("message", &message.content),
        What::Told(told) => one("message", &told.content),
        What::ChildEnded(ended) => {
            ended.answer.iter().map(|content| ("answer".to_owned(), *content)).collect()
        }
        What::LlmReturned(returned) => returned
            .parts
            .iter()
            .map(|part| match part {
                ReplyPart::Text { content } => ("text".to_owned(), *content),
                ReplyPart::Opaque { format, content } => (format.clone(), *content),
                ReplyPart::ToolCall { name, arguments, .. } => {
                    (format!("call of {name}"), *arguments)
                }
            })
            .collect(),
        What::LlmFailed(failed) => one("message", &failed.message),
        What::ToolReturned(returned) => one("result", &returned.result),
        What::Interrupted(interrupted) => one("result", &interrupted.result),
        What::Crashed(crashed) => one("message", &crashed.message),
        What::Recalled(Recalled { search: Some(search), .. }) => one("query", &search.query),
        What::Exited(exited) => match &exited.exit {
            Exit::Completed { answer: Some(content) } => one("answer", content),
            Exit::Refused { message: Some(content) } | Exit::Failed { message: content, .. } => {
                one("message", content)
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// All contents that an event names. Beside what people want to see these are the manifest and the
/// reply as it came over the wire, which say the same again.
pub(crate) fn all_named(what: &What) -> Vec<ContentRef> {
    let more = match what {
        What::Spawned(spawned) => Some(spawned.manifest),
        What::LlmReturned(returned) => returned.raw,
        _ => None,
    };
    named(what).into_iter().map(|(_, content)| content).chain(more).collect()
}

/// The texts of a process's events. What is not UTF-8 is shown with U+FFFD.
#[derive(Default)]
pub(crate) struct Texts {
    /// The event that brought each content; later ones may only name it again.
    first: HashMap<Hash, Seq>,
    known: HashMap<Hash, Arc<str>>,
}

impl Texts {
    /// Reads the texts that `entries` name. Entries must come in the order of the journal.
    pub(crate) async fn load(
        &mut self,
        journal: &dyn Journal,
        pid: Pid,
        entries: &[Entry],
    ) -> Result<(), Error> {
        let mut wanted = Vec::new();
        for entry in entries {
            for content in all_named(&entry.event.what) {
                let first = *self.first.entry(content.hash).or_insert(entry.record.seq);
                if !self.known.contains_key(&content.hash) {
                    wanted.push((first, content.hash));
                }
            }
        }
        let found = journal.contents(&Tenant::local(), pid, &wanted).await?;
        for ((_, hash), bytes) in wanted.into_iter().zip(found) {
            self.known.insert(hash, String::from_utf8_lossy(&bytes).into());
        }
        Ok(())
    }

    /// Reads the texts that the last of `entries` names, which must be the whole journal.
    pub(crate) async fn load_last(
        &mut self,
        journal: &dyn Journal,
        pid: Pid,
        entries: &[Entry],
    ) -> Result<(), Error> {
        for entry in entries {
            for content in all_named(&entry.event.what) {
                self.first.entry(content.hash).or_insert(entry.record.seq);
            }
        }
        let last = entries.len().saturating_sub(1);
        self.load(journal, pid, &entries[last..]).await
    }

    /// The text, if it was loaded.
    pub(crate) fn get(&self, content: &ContentRef) -> Option<&Arc<str>> {
        self.known.get(&content.hash)
    }
}

/// An event as a line of JSON. The body is the very bytes that the chain covers.
#[derive(Serialize)]
struct Line<'a> {
    pid: String,
    seq: u64,
    epoch: u64,
    kind: &'static str,
    version: u16,
    hash: String,
    body: &'a RawValue,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    contents: BTreeMap<String, &'a str>,
}

/// The entry as a line of JSON, with those of its texts that are loaded.
///
/// # Errors
/// [`Error`] for a body that is no JSON, which a store never hands out.
pub(crate) fn json(pid: Pid, entry: &Entry, texts: &Texts) -> Result<String, Error> {
    let broken = |problem: String| {
        let seq = entry.record.seq;
        Error::new(Code::EventDamaged, format!("process {pid}, event {seq}: {problem}"))
    };
    let body = std::str::from_utf8(&entry.record.body).map_err(|e| broken(e.to_string()))?;
    let contents = all_named(&entry.event.what)
        .iter()
        .filter_map(|content| Some((content.hash.to_string(), texts.get(content)?.as_ref())))
        .collect();
    let line = Line {
        pid: pid.to_string(),
        seq: entry.record.seq.0,
        epoch: entry.record.epoch.0,
        kind: entry.event.kind().name(),
        version: entry.record.version,
        hash: entry.record.hash.to_string(),
        body: serde_json::from_str(body).map_err(|e| broken(e.to_string()))?,
        contents,
    };
    serde_json::to_string(&line).map_err(|e| broken(e.to_string()))
}
