//! `aosk store check`: nothing is taken on trust.
//!
//! SQLite looks at its pages, then every journal is read from its first event: the chain is
//! computed anew, the events are folded, the fold is compared with what the checkpoint gives, and
//! every content that an event names is read and hashed. What is wrong with one process does not
//! keep the others from being looked at.

use std::collections::HashMap;
use std::path::Path;

use aosk_abi::{ChunkList, Code, ContentKey, Hash, Pid, Seq, Tenant};
use aosk_kernel::{Image, load};
use aosk_ports::ContentReader;
use aosk_store::{PostgresReader, SqliteReader, StorePlace, integrity, prunings};
use serde::Serialize;

use super::content::Contents;
use super::copy::aside;
use super::{open, whole};
use crate::args::StoreCheck;
use crate::config::{Settings, StoreAt};
use crate::error::Error;
use crate::exit::Exit;
use crate::figures::bytes;
use crate::journal::{self, Entry};
use crate::print::{Screen, json};
use crate::processes::{DATABASE, Processes};

/// How many contents are read at once.
const CONTENTS: usize = 64;

/// How many findings are listed; a damaged file may have one for each row.
const LISTED: usize = 100;

/// What was looked at, and what was found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) processes: u64,
    pub(super) events: u64,
    pub(super) contents: u64,
    pub(super) content_bytes: u64,
    pub(super) damage: Vec<Damage>,
}

/// Something that is wrong.
#[derive(Debug, Serialize)]
pub(super) struct Damage {
    /// The process; none where it is the file itself.
    pid: Option<Pid>,
    code: String,
    message: String,
}

impl Report {
    fn found(&mut self, pid: Option<Pid>, error: &Error) {
        if self.damage.len() < LISTED {
            let (code, message) = (error.code.as_str().to_owned(), error.said());
            self.damage.push(Damage { pid, code, message });
        }
    }
}

pub(super) async fn check(
    args: &StoreCheck,
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    let dir = &settings.data_dir;
    let store = whole(settings, "aosk store check");
    let place = args.file.clone().map_or(store, StorePlace::Backup);
    let mut report = match (&args.file, &settings.store) {
        (Some(file), _) => look(&SqliteReader::open_backup(file)?, file).await,
        (None, StoreAt::Folder) => look(&open(dir)?, &dir.join(DATABASE)).await,
        // The server looks after its own pages: data_checksums and amcheck.
        (None, StoreAt::Server(options)) => {
            let mut report = Report::default();
            look_through(&PostgresReader::open(options)?, &mut report).await;
            report
        }
    };
    if let Err(error) = aside(move || prunings(&place)).await {
        report.found(None, &error);
    }
    if args.format.json {
        screen.out.line(&json(&report)?)?;
    } else {
        screen.out.line(&said(&report))?;
        for Damage { pid, code, message } in &report.damage {
            let whose = pid.map(|pid| format!("{pid}: ")).unwrap_or_default();
            screen.out.line(&format!("{whose}{code}: {message}"))?;
        }
    }
    match report.damage.first() {
        None => Ok(Exit::Done),
        Some(first) => Ok(Exit::of(&first.code)),
    }
}

/// What was found, in a sentence.
pub(super) fn said(report: &Report) -> String {
    let Report { processes, events, contents, content_bytes, damage } = report;
    let size = bytes(*content_bytes);
    let looked = format!("{processes} processes, {events} events, {contents} contents ({size})");
    match damage.len() {
        0 => format!("{looked}: all sound"),
        LISTED.. => format!("{looked}: {LISTED} or more are damaged"),
        damaged => format!("{looked}: {damaged} damaged"),
    }
}

/// Looks at all of the store behind the reader, whose file is `database`.
pub(super) async fn look(reader: &dyn Contents, database: &Path) -> Report {
    let mut report = Report::default();
    match integrity(database) {
        Ok(lines) => {
            for line in lines {
                report.found(None, &Error::new(Code::StoreCorrupt, line).at(database, None));
            }
        }
        Err(error) => report.found(None, &error.into()),
    }
    look_through(reader, &mut report).await;
    report
}

/// Looks at every process.
async fn look_through(reader: &dyn Contents, report: &mut Report) {
    let processes = match Processes::read(reader).await {
        Ok(processes) => processes,
        Err(error) => return report.found(None, &error),
    };
    for receipt in processes.all() {
        report.processes += 1;
        if let Err(error) = look_at(reader, receipt.pid, receipt.head, report).await {
            report.found(Some(receipt.pid), &error);
        }
    }
}

async fn look_at(
    reader: &dyn Contents,
    pid: Pid,
    head: Hash,
    report: &mut Report,
) -> Result<(), Error> {
    let tenant = Tenant::local();
    let key = reader.content_key(&tenant).await?;
    let mut image: Option<Image> = None;
    let mut first: HashMap<Hash, Seq> = HashMap::new();
    let mut next = Seq(0);
    loop {
        let entries = journal::read_some(reader, pid, next).await?;
        let Some(last) = entries.last() else {
            break;
        };
        next = last.record.seq.next();
        report.events += entries.len() as u64;
        let (mut wanted, mut long) = (Vec::new(), Vec::new());
        for Entry { record, event } in &entries {
            match &mut image {
                Some(image) => image.apply(record),
                None => Image::begin(&tenant, pid, record).map(|begun| image = Some(begun)),
            }
            .map_err(|error| Error::new(error.code(), error.to_string()))?;
            for content in journal::all_named(&event.what) {
                if let std::collections::hash_map::Entry::Vacant(entry) = first.entry(content.hash)
                {
                    entry.insert(record.seq);
                    if content.len > ChunkList::CHUNK as u64 {
                        long.push(content.hash);
                    } else {
                        wanted.push((record.seq, content.hash));
                    }
                }
            }
        }
        for wanted in wanted.chunks(CONTENTS) {
            for bytes in reader.contents(&tenant, pid, wanted).await? {
                report.contents += 1;
                report.content_bytes += bytes.len() as u64;
            }
        }
        for address in long {
            report.contents += 1;
            report.content_bytes += read_through(reader, &tenant, key, address).await?;
        }
    }
    let folded = image.ok_or_else(|| {
        Error::new(Code::StoreCorrupt, "it is listed and has no events: restore the store")
    })?;
    if folded.head != head {
        let message = format!(
            "the list says that the chain ends with {head}, and it ends with {}",
            folded.head
        );
        return Err(Error::new(Code::ChainBroken, message));
    }
    let from_checkpoint = load(reader, &tenant, pid, None)
        .await
        .map_err(|error| Error::new(error.code(), error.to_string()))?;
    if from_checkpoint != folded {
        let message = "its checkpoint gives another state than its events";
        return Err(Error::new(Code::StoreCorrupt, message));
    }
    Ok(())
}

/// Reads a long content, and answers how many bytes it has.
async fn read_through(
    reader: &dyn Contents,
    tenant: &Tenant,
    key: ContentKey,
    address: Hash,
) -> Result<u64, Error> {
    let mut content = ContentReader::open(reader, tenant, key, address).await?;
    let mut bytes = 0;
    while let Some(chunk) = content.next().await? {
        bytes += chunk.len() as u64;
    }
    Ok(bytes)
}
