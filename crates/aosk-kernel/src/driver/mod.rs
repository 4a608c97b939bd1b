//! The step loop of one process.
//!
//! A driver owns the image of a running process. It looks at what the image says is next, does it,
//! and writes down what happened; it decides nothing that the image could not be asked again after
//! a crash. Every effect follows the same order: make the intent an event, wait until it is
//! durable, act, make the outcome an event.

mod infer;
mod prompt;
mod tools;
mod write;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{
    BlockedOn, Cancelled, Code, Exit, Exited, Manifest, MessageReceived, Op, Pid, ProcessState,
    Signal, SignalReceived, Told, ToolSpec, What,
};
use aosk_context::Policy;
use aosk_ports::{InboxId, InboxItem, Sandbox};
use tokio::sync::mpsc;

use crate::contents::Contents;
use crate::error::Error;
use crate::image::{Action, Image, Pending};
use crate::options::Model;
use crate::shared::Shared;

use prompt::MessageCache;
pub(crate) use write::{Batch, seal};

/// Why a driver let go of its process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The process ended.
    Exited(Exit),
    /// It waits for something that this kernel cannot give it, such as a higher spend limit.
    Parked(BlockedOn),
    /// It is suspended by a signal.
    Suspended,
    /// The kernel stopped; the process can be resumed.
    Stopped,
    /// The kernel could not go on with it; what was acknowledged is safe.
    Broken {
        /// The stable code.
        code: Code,
        /// What went wrong and what to do next.
        message: String,
    },
}

/// Items of the inbox on their way to a driver.
pub(crate) type InboxReceiver = mpsc::UnboundedReceiver<(InboxId, InboxItem)>;

/// The step loop of one process.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    image: Image,
    manifest: Manifest,
    model: Model,
    policy: &'static dyn Policy,
    specs: Arc<[ToolSpec]>,
    sandbox: Arc<dyn Sandbox>,
    contents: Contents,
    messages: MessageCache,
    batch: Batch,
    inbox: InboxReceiver,
    taken: HashSet<InboxId>,
}

/// What ended a wait.
enum Interruption {
    /// The kernel stops.
    Stop,
    /// An inbox item was written into the journal and ends the process.
    Killed,
}

/// What a driver is made of.
pub(crate) struct Start {
    pub(crate) shared: Arc<Shared>,
    pub(crate) image: Image,
    pub(crate) manifest: Manifest,
    pub(crate) model: Model,
    pub(crate) policy: &'static dyn Policy,
    pub(crate) specs: Arc<[ToolSpec]>,
    pub(crate) sandbox: Arc<dyn Sandbox>,
    pub(crate) contents: Contents,
    pub(crate) batch: Batch,
    pub(crate) inbox: InboxReceiver,
}

impl Driver {
    pub(crate) fn new(start: Start) -> Self {
        let Start {
            shared,
            image,
            manifest,
            model,
            policy,
            specs,
            sandbox,
            contents,
            batch,
            inbox,
        } = start;
        Self {
            shared,
            image,
            manifest,
            model,
            policy,
            specs,
            sandbox,
            contents,
            messages: MessageCache::default(),
            batch,
            inbox,
            taken: HashSet::new(),
        }
    }

    /// Runs the process until it ends, must wait for long, or the kernel stops.
    pub(crate) async fn run(mut self) -> Outcome {
        match self.steps().await {
            Ok(outcome) => outcome,
            Err(Error::Stopping) => match self.commit().await {
                Ok(()) => Outcome::Stopped,
                Err(error) => broken(&error),
            },
            Err(error) => broken(&error),
        }
    }

    async fn steps(&mut self) -> Result<Outcome, Error> {
        loop {
            while let Ok((id, item)) = self.inbox.try_recv() {
                self.take(id, item)?;
            }
            if let ProcessState::Exited { exit } = &self.image.state {
                let exit = exit.clone();
                self.commit().await?;
                return Ok(Outcome::Exited(exit));
            }
            let action = self.image.next_action();
            // An exit goes before any stop: it belongs to the event that led to it, whose append
            // brings the content that it names.
            let exits = matches!(action, Action::Exit(..));
            if !exits && !self.shared.stop.is_run() {
                self.batch.request_checkpoint();
                self.commit().await?;
                return Ok(Outcome::Stopped);
            }
            if !exits && matches!(self.image.state, ProcessState::Suspended { .. }) {
                self.batch.request_checkpoint();
                self.commit().await?;
                return Ok(Outcome::Suspended);
            }
            match action {
                Action::Tell(op, text) => {
                    let content = self.contents.seal(text.into_bytes());
                    let told = Told { op, content: content.reference() };
                    self.emit_with(What::Told(told), [content])?;
                }
                Action::Exit(op, exit) => {
                    self.emit(What::Exited(Exited { op: Some(op), exit }))?;
                }
                Action::Tools(ops) => self.run_tools(&ops).await?,
                Action::Infer(op) => {
                    if let Some(parked) = self.infer(op).await? {
                        self.batch.request_checkpoint();
                        self.commit().await?;
                        return Ok(Outcome::Parked(parked));
                    }
                }
                Action::Stuck => {
                    return Err(Error::refused(
                        Code::KernelFold,
                        format!(
                            "process {}: its program asked for nothing and waits for nothing",
                            self.pid()
                        ),
                    ));
                }
            }
        }
    }

    fn pid(&self) -> Pid {
        self.image.pid
    }

    /// Writes an inbox item into the journal; the item leaves the inbox in the same transaction.
    fn take(&mut self, id: InboxId, item: InboxItem) -> Result<(), Error> {
        if self.image.state.is_final() || !self.taken.insert(id) {
            return Ok(());
        }
        self.batch.consume(id);
        match item {
            InboxItem::Signal(signal) => {
                self.emit(What::SignalReceived(SignalReceived { signal }))?;
                if signal == Signal::Kill {
                    self.end_killed()?;
                }
                Ok(())
            }
            InboxItem::Message { from, text } => {
                let from = self.shared.parts.secrets.text(&from).replace('\0', "\u{fffd}");
                let text = self.shared.parts.secrets.text(&text).into_owned();
                let content = self.contents.seal(text.into_bytes());
                let message = MessageReceived { from, content: content.reference() };
                self.emit_with(What::MessageReceived(message), [content])
            }
        }
    }

    fn end_killed(&mut self) -> Result<(), Error> {
        let in_flight: Vec<Op> = self
            .image
            .pending
            .iter()
            .filter(|(_, pending)| {
                matches!(
                    pending,
                    Pending::Infer { attempts: 1.., .. } | Pending::Tool { attempts: 1.., .. }
                )
            })
            .map(|(&op, _)| op)
            .collect();
        for op in in_flight {
            self.emit(What::Cancelled(Cancelled { op }))?;
        }
        self.emit(What::Exited(Exited { op: None, exit: Exit::Killed }))
    }

    /// Ends the process because the kernel found that it cannot go on.
    fn end_failed(&mut self, code: Code, message: &str) -> Result<(), Error> {
        let message = self.contents.seal_aside(message.as_bytes());
        let exit = Exit::Failed { code: code.as_str().to_owned(), message: message.reference() };
        self.emit_with(What::Exited(Exited { op: None, exit }), [message])
    }

    /// Waits for `future`, unless the process is killed or the kernel stops first. `grace` is how
    /// long a graceful stop lets the future go on.
    async fn interruptible<T>(
        &mut self,
        future: impl Future<Output = T>,
        grace: Duration,
    ) -> Result<Result<T, Interruption>, Error> {
        let mut future = std::pin::pin!(future);
        let mut stopped = std::pin::pin!(stopped(self.shared.clone(), grace));
        loop {
            tokio::select! {
                biased;
                value = &mut future => return Ok(Ok(value)),
                () = &mut stopped => return Ok(Err(Interruption::Stop)),
                Some((id, item)) = self.inbox.recv() => {
                    self.take(id, item)?;
                    if self.image.state.is_final() {
                        return Ok(Err(Interruption::Killed));
                    }
                }
            }
        }
    }
}

fn broken(error: &Error) -> Outcome {
    Outcome::Broken { code: error.code(), message: error.to_string() }
}

/// Completes when the kernel stops at once, or `grace` after it began to stop gracefully.
async fn stopped(shared: Arc<Shared>, grace: Duration) {
    shared.stop.wait(false).await;
    let clock = &shared.parts.clock;
    let (_, asked) = shared.stop.shown();
    let left = grace.saturating_sub(clock.monotonic().saturating_sub(asked));
    tokio::select! {
        biased;
        () = shared.stop.wait(true) => {}
        () = clock.sleep(left) => {}
    }
}
