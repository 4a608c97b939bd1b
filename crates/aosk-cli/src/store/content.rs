//! `aosk store put` and `aosk store get`: contents of any length, with a chunk of them in memory.
//!
//! A file is stored as it is: to take a secret out of it would make it another file, so one that holds a
//! secret is refused.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aosk_abi::{Code, Tenant};
use aosk_kernel::Redactor;
use aosk_ports::{ContentReader, ContentStore, ContentWriter, Journal};
use aosk_store::PostgresReader;
use serde::Serialize;

use super::open;
use crate::args::{StoreGet, StorePut};
use crate::config::{self, Settings, StoreAt};
use crate::error::Error;
use crate::exit::Exit;
use crate::print::{Screen, json};

/// How much of a file is read at once.
const PIECE: usize = 256 << 10;

/// How much of the piece before is looked through again for a secret that stands across two; longer
/// ones than that are no keys.
const OVERLAP: usize = 8 << 10;

/// A store that gives contents out and takes them in.
pub(super) trait Contents: Journal + ContentStore {}

impl<T: Journal + ContentStore> Contents for T {}

/// What `aosk store put --json` prints.
#[derive(Serialize)]
struct Report {
    address: String,
    bytes: u64,
}

pub(super) async fn put(
    args: &StorePut,
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    let cannot = |error: std::io::Error| {
        Error::new(Code::CliFile, format!("cannot be read: {error}")).at(&args.file, None)
    };
    let mut file: Box<dyn Read + Send> = if args.file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(&args.file).map_err(cannot)?)
    };
    let store = reader(settings)?;
    let (tenant, secrets) = (Tenant::local(), Redactor::new(config::secret_variables()));
    let key = store.content_key(&tenant).await?;
    let mut writer = ContentWriter::new(&*store, &tenant, key);
    let (mut buffer, mut kept) = (vec![0; OVERLAP + PIECE], 0);
    loop {
        let read = match file.read(&mut buffer[kept..kept + PIECE]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.map_err(cannot)?,
        };
        let end = kept + read;
        if read == 0 {
            break;
        }
        if secrets.finds(&buffer[..end]) {
            let what = "it holds a secret of your settings, which is never stored";
            return Err(Error::new(Code::CliFile, what)
                .at(&args.file, None)
                .help("take the secret out of the file"));
        }
        writer.write(&buffer[kept..end]).await?;
        let from = end.saturating_sub(OVERLAP);
        buffer.copy_within(from..end, 0);
        kept = end - from;
    }
    let stored = writer.finish().await?;
    let (address, bytes) = (stored.hash.to_string(), stored.len);
    if args.format.json {
        screen.out.line(&json(&Report { address, bytes })?)?;
    } else {
        screen.out.line(&address)?;
    }
    Ok(Exit::Done)
}

pub(super) async fn get(args: &StoreGet, settings: &Settings) -> Result<Exit, Error> {
    if args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(Error::new(
            Code::CliUsage,
            "a content may be anything, and this is a terminal",
        )
        .help("say where to with --output FILE, or hand it on: aosk store get … | less"));
    }
    let store = reader(settings)?;
    let tenant = Tenant::local();
    let key = store.content_key(&tenant).await?;
    let mut reader = ContentReader::open(&*store, &tenant, key, args.address).await?;
    let Some(path) = &args.output else {
        write_out(&mut reader, &mut std::io::stdout()).await?;
        return Ok(Exit::Done);
    };
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = opened.map_err(|error| {
        Error::new(Code::CliFile, format!("cannot be made: {error}")).at(path, None)
    })?;
    match write_out(&mut reader, &mut file).await {
        Ok(()) => Ok(Exit::Done),
        Err(error) => {
            // What is cut off must not be taken for the content.
            let _ = std::fs::remove_file(path);
            Err(error.at(path, None))
        }
    }
}

/// Writes a content; whoever reads it may go away before its end.
async fn write_out(reader: &mut ContentReader<'_>, out: &mut dyn Write) -> Result<(), Error> {
    while let Some(bytes) = reader.next().await? {
        match out.write_all(&bytes).and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            written => written.map_err(|error| {
                Error::new(Code::CliFile, format!("the content cannot be written: {error}"))
            })?,
        }
    }
    Ok(())
}

/// The store of the settings, which must be there.
fn reader(settings: &Settings) -> Result<Box<dyn Contents>, Error> {
    Ok(match &settings.store {
        StoreAt::Folder => Box::new(open(&settings.data_dir)?),
        StoreAt::Server(options) => Box::new(PostgresReader::open(options)?),
    })
}
