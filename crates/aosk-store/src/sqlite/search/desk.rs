//! The threads of an index: one that writes, two that read.
//!
//! Damage is met where it is read. Whoever meets it throws the file away and makes a new one; the
//! other threads notice by a number that grew and open the new one before they go on.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use aosk_abi::Code;
use aosk_ports::StoreError;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use super::super::fault::{Fault, file as file_error};
use super::super::reader::heard;
use super::nearest::Sketches;
use super::schema::Place;
use crate::search::index::Model;

/// How many reads run at once.
const READERS: usize = 2;

type Job = Box<dyn FnOnce(&mut Seat) + Send>;

/// What the threads share.
struct Room {
    place: Place,
    model: Option<Model>,
    sketches: Arc<Sketches>,
    /// Which file it is: grows each time one is thrown away.
    edition: AtomicU64,
    remaking: Mutex<()>,
    /// `None` where another program may have it, which then looks after it.
    lock: Option<File>,
}

impl Room {
    fn lost(&self, fault: Fault) -> StoreError {
        fault.at(&self.place.database)
    }

    /// Throws the file away that a thread met damaged, unless another thread did already.
    fn begin_anew(&self, edition: u64) -> Result<(), StoreError> {
        let _alone = self.remaking.lock().unwrap_or_else(PoisonError::into_inner);
        if self.edition.load(Ordering::Acquire) != edition {
            return Ok(());
        }
        self.place.throw_away()?;
        self.sketches.clear();
        let made = self.place.open_or_make(self.model.as_ref());
        self.edition.fetch_add(1, Ordering::Release);
        made.map(drop).map_err(|fault| self.lost(fault))
    }
}

/// A thread's connection, and of which edition.
struct Seat {
    room: Arc<Room>,
    connection: Option<(u64, Connection)>,
}

impl Seat {
    /// Runs `work`; where it meets damage the index begins anew.
    fn run<T>(
        &mut self,
        work: impl FnOnce(&mut Connection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let edition = self.room.edition.load(Ordering::Acquire);
        let connected = match self.connection.take() {
            Some((of, connection)) if of == edition => Ok(connection),
            _ => self.room.place.connect(),
        };
        let done = connected.and_then(|connection| {
            let (_, connection) = self.connection.insert((edition, connection));
            work(connection)
        });
        done.map_err(|fault| {
            if !is_damage(&fault) {
                return self.room.lost(fault);
            }
            let why = match fault {
                Fault::Database(error) => error.to_string(),
                Fault::Refused(error) => error.message,
            };
            self.connection = None;
            let path = self.room.place.database.display();
            if self.room.lock.is_none() {
                let message = format!("the search index {path} is damaged ({why})");
                return StoreError::new(Code::SearchDamaged, message);
            }
            tracing::warn!(%path, why, "the search index was damaged and is made anew");
            match self.room.begin_anew(edition) {
                Ok(()) => StoreError::new(
                    Code::SearchDamaged,
                    format!(
                        "the search index {path} was damaged ({why}) and begins anew: search again \
                         when it has followed the journals"
                    ),
                ),
                Err(error) => error,
            }
        })
    }
}

fn is_damage(fault: &Fault) -> bool {
    match fault {
        Fault::Refused(error) => error.code == Code::StoreCorrupt,
        Fault::Database(error) => {
            matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            ) || matches!(error, rusqlite::Error::SqliteFailure(_, Some(said)) if said.contains("no such table"))
        }
    }
}

/// Takes work and has it done. Dropping it ends the threads after what was enqueued.
pub(super) struct Desk {
    writes: Option<Sender<Job>>,
    reads: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Desk {
    /// Opens the index in the folder; one that cannot be read is made anew.
    pub(super) fn open(
        dir: &Path,
        model: Option<Model>,
        sketches: Arc<Sketches>,
    ) -> Result<Self, StoreError> {
        let place = Place::new(dir);
        let lock = place.take()?;
        let connection = match place.open_or_make(model.as_ref()) {
            Err(fault) if is_damage(&fault) => {
                let path = place.database.display();
                tracing::warn!(%path, "the search index is damaged and is made anew");
                place.throw_away()?;
                place.open_or_make(model.as_ref())
            }
            other => other,
        };
        let connection = connection.map_err(|fault| fault.at(&place.database))?;
        let (edition, remaking) = (AtomicU64::new(0), Mutex::default());
        let room = Arc::new(Room { place, model, sketches, edition, remaking, lock: Some(lock) });
        let ((writes, to_write), (reads, to_read)) = (channel(), channel());
        let mut desk = Self { writes: Some(writes), reads: Some(reads), threads: Vec::new() };
        desk.seat(&room, Some(connection), &Arc::new(Mutex::new(to_write)))?;
        let to_read = Arc::new(Mutex::new(to_read));
        for _ in 0..READERS {
            desk.seat(&room, None, &to_read)?;
        }
        Ok(desk)
    }

    /// Opens the index of another program to read it; whether its vectors are those of `model`.
    /// What is to be written is answered with `StoreClosed`.
    pub(super) fn beside(
        dir: &Path,
        model: Option<Model>,
        sketches: Arc<Sketches>,
    ) -> Result<(Self, bool), StoreError> {
        let place = Place::beside(dir);
        let looked = place.look(model.as_ref());
        let (connection, is_same) = looked.map_err(|fault| fault.at(&place.database))?;
        let (edition, remaking) = (AtomicU64::new(0), Mutex::default());
        let room = Arc::new(Room { place, model, sketches, edition, remaking, lock: None });
        let (reads, to_read) = channel();
        let mut desk = Self { writes: None, reads: Some(reads), threads: Vec::new() };
        desk.seat(&room, Some(connection), &Arc::new(Mutex::new(to_read)))?;
        Ok((desk, is_same))
    }

    fn seat(
        &mut self,
        room: &Arc<Room>,
        connection: Option<Connection>,
        jobs: &Arc<Mutex<Receiver<Job>>>,
    ) -> Result<(), StoreError> {
        let mut seat = Seat { room: Arc::clone(room), connection: connection.map(|it| (0, it)) };
        let jobs = Arc::clone(jobs);
        let work = move || {
            loop {
                let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                match next {
                    Ok(job) => job(&mut seat),
                    Err(_) => return,
                }
            }
        };
        let thread = std::thread::Builder::new().name("aosk-store-search".to_owned()).spawn(work);
        self.threads.push(thread.map_err(|error| file_error(&room.place.database, &error))?);
        Ok(())
    }

    /// Writes in a transaction, which `work` commits.
    pub(super) fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        Self::send(self.writes.as_ref(), move |connection| {
            work(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
        })
    }

    /// Reads. Each statement sees one moment, the next may see a later one: what goes between two is
    /// left out of an answer, and whoever reads sketches under their lock sees all that was committed
    /// before it had the lock.
    pub(super) fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        Self::send(self.reads.as_ref(), move |connection| work(connection))
    }

    fn send<T: Send + 'static>(
        to: Option<&Sender<Job>>,
        work: impl FnOnce(&mut Connection) -> Result<T, Fault> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (sender, answer) = oneshot::channel();
        let job: Job = Box::new(move |seat| {
            // Nobody listens to a question that was given up.
            let _ = sender.send(seat.run(work));
        });
        // Where the threads are gone the job is dropped, and its caller hears that it is closed.
        drop(to.map(|to| to.send(job)));
        heard(answer)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        (self.writes, self.reads) = (None, None);
        for thread in self.threads.drain(..) {
            // A panic of the thread was reported by its hook; its callers got `StoreClosed`.
            let _ = thread.join();
        }
    }
}
