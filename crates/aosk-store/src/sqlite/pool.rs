//! Reading threads: SQLite blocks, so it never runs where futures do.
//!
//! A few threads of our own instead of a runtime's blocking pool: each keeps its connection with a
//! warm cache, their number bounds the load, and the store works under any executor.

use std::sync::Arc;
use std::thread::JoinHandle;

use aosk_ports::StoreError;
use futures::channel::oneshot;
use rusqlite::Connection;

use super::fault::Fault;
use super::files::Files;
use super::queue::Queue;
use super::schema::{Access, open_shared};
use super::writer::Answer;
use crate::check::closed;

/// How many reads run at once.
const THREADS: usize = 3;

type Job = Box<dyn FnOnce(Result<&Connection, StoreError>) + Send>;

/// The threads. Dropping it ends them after the reads that are enqueued.
pub(super) struct Pool {
    queue: Arc<Queue<Job>>,
    threads: Vec<JoinHandle<()>>,
    files: Arc<Files>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Pool {
    /// Starts the threads; the first gets `connection`, the others open theirs when they need it.
    pub(super) fn start(connection: Connection, files: Files) -> std::io::Result<Self> {
        let files = Arc::new(files);
        let mut pool = Self { queue: Arc::new(Queue::new(usize::MAX)), threads: Vec::new(), files };
        let mut connection = Some(connection);
        for _ in 0..THREADS {
            let mut thread = Thread {
                queue: Abandon(Arc::clone(&pool.queue)),
                files: Arc::clone(&pool.files),
                connection: connection.take(),
            };
            let name = "aosk-store-reader".to_owned();
            pool.threads.push(std::thread::Builder::new().name(name).spawn(move || thread.run())?);
        }
        Ok(pool)
    }

    /// The files that are read.
    pub(super) fn files(&self) -> &Arc<Files> {
        &self.files
    }

    /// Reads: everything that `work` sees is of one moment.
    pub(super) fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Answer<T> {
        let path = self.files.database().to_owned();
        self.run(move |connection| {
            let snapshot = |connection: &Connection| {
                let transaction = connection.unchecked_transaction()?;
                work(&transaction)
            };
            snapshot(connection?).map_err(|fault| fault.at(&path))
        })
    }

    /// Runs blocking work on one of the threads.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(Result<&Connection, StoreError>) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<T> {
        let (sender, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Nobody listens to a read that was given up.
            let _ = sender.send(work(connection));
        });
        if let Err(job) = self.queue.push(0, job) {
            job(Err(closed()));
        }
        answer
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.close();
        for thread in self.threads.drain(..) {
            // A panic of the thread was reported by its hook; its callers got `StoreClosed`.
            let _ = thread.join();
        }
    }
}

/// Refuses everything once a thread is gone, so that no caller waits for ever.
struct Abandon(Arc<Queue<Job>>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

struct Thread {
    queue: Abandon,
    files: Arc<Files>,
    connection: Option<Connection>,
}

impl Thread {
    fn run(&mut self) {
        loop {
            let (jobs, _) = self.queue.0.take(0);
            if jobs.is_empty() {
                return;
            }
            for job in jobs {
                match self.connect() {
                    Ok(connection) => job(Ok(connection)),
                    Err(error) => job(Err(error)),
                }
            }
        }
    }

    fn connect(&mut self) -> Result<&Connection, StoreError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => open_shared(&self.files, Access::Read)?,
        };
        Ok(self.connection.insert(connection))
    }
}
