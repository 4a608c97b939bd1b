//! The step loop of one process.
//!
//! A driver acts for a process while it is in memory. It looks at what the image says is next,
//! does it, and writes down what happened; it decides nothing that the image could not be asked
//! again after a crash. Every effect follows the same order: make the intent an event, wait until
//! it is durable, act, make the outcome an event.
//!
//! A driver lets go of its process as soon as nothing is to be done for long: what waits costs no
//! memory but its place in a table.

mod arrivals;
mod children;
mod failure;
mod infer;
mod mail;
mod mentions;
mod messages;
mod own;
mod prompt;
mod recall;
mod route;
mod spawn;
mod tools;
mod turn;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{
    BlockedOn, Code, Epoch, Exit, Manifest, Pid, Ppm, ProcessState, Timestamp, Told, ToolSpec, What,
};
use aosk_context::Policy;
use aosk_ports::{InboxId, InboxItem, Sandbox};
use aosk_scheduler::{Class, Place};
use tokio::sync::mpsc;

use crate::error::Error;
use crate::image::Action;
use crate::options::Model;
use crate::process::{Process, Rest, Sent};
use crate::shared::Shared;

pub(crate) use infer::demand_of;
use mentions::Mentions;
use messages::MessageCache;
pub(crate) use own::Own;

/// Why a kernel let go of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The process ended.
    Exited(Exit),
    /// It waits for something that only somebody else can give, such as a higher spend limit.
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

impl Outcome {
    /// Whether another kernel has taken the process over.
    pub(crate) const fn is_lost(&self) -> bool {
        matches!(self, Self::Broken { code: Code::StoreStaleEpoch, .. })
    }

    pub(crate) fn broken(error: &Error) -> Self {
        Self::Broken { code: error.code(), message: error.to_string() }
    }
}

/// Why a driver let go of its process.
pub(crate) enum Ended {
    /// The kernel is done with it for now.
    Outcome(Outcome),
    /// It waits that long for a moment that the journal names.
    Asleep(Duration, Timestamp),
    /// It waits for other processes, without an end of its own.
    Waiting(BlockedOn),
    /// Others wait for its place in memory, and it had its share.
    Yielded,
}

/// The items of the inbox that came for one process.
pub(crate) type InboxSender = mpsc::UnboundedSender<(InboxId, InboxItem)>;
pub(crate) type InboxReceiver = mpsc::UnboundedReceiver<(InboxId, InboxItem)>;

/// What a manifest asks of the kernel, found.
pub(crate) struct Means {
    pub(crate) manifest: Manifest,
    /// The name under which the model was asked for.
    pub(crate) asked: String,
    pub(crate) model: Model,
    pub(crate) policy: &'static dyn Policy,
    pub(crate) specs: Arc<[ToolSpec]>,
    pub(crate) sandbox: Arc<dyn Sandbox>,
}

/// The step loop of one process.
pub(crate) struct Driver {
    process: Process,
    means: Means,
    cache: MessageCache,
    /// Where the names and lines of the prompt stand.
    mentions: Mentions,
    /// Whether the texts of all resident pages are in memory.
    loaded: bool,
    /// What the last refusal taught about the counts of this process's pages.
    correction: Option<Ppm>,
    inbox: InboxReceiver,
    /// The moment that the process has waited for already.
    waited: Option<Timestamp>,
    /// Steps since it came into memory.
    steps: u64,
    /// How it leaves memory for the money that its children have.
    rests: Option<Ended>,
}

/// What a driver waits for, which says what may end the wait early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Its turn: nothing is in flight, so whatever brings the process to rest ends it at once.
    Turn,
    /// A moment that the journal names: whatever ends that wait ends this one.
    Moment,
    /// What is in flight: a stop comes between two steps, and a graceful one leaves it some time.
    Flight,
}

/// What ended a wait.
enum Interruption {
    /// The kernel stops.
    Stop,
    /// An inbox item was written into the journal that ends the wait.
    Rest,
}

/// What a wait for a moment came to.
enum Waited {
    /// There is nothing (more) to wait for.
    No,
    /// It waited; much may have changed.
    Yes,
    /// The wait is long enough to leave memory for it.
    TooLong(Duration, Timestamp),
}

impl Driver {
    /// A driver of `process`; `waited` is a moment that it need not wait for any more.
    pub(crate) fn new(
        process: Process,
        means: Means,
        inbox: InboxReceiver,
        waited: Option<Timestamp>,
    ) -> Self {
        Self {
            process,
            means,
            cache: MessageCache::default(),
            mentions: Mentions::default(),
            loaded: false,
            correction: None,
            inbox,
            waited,
            steps: 0,
            rests: None,
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// The epoch under which the process is owned.
    pub(crate) fn epoch(&self) -> Epoch {
        self.process.image.epoch
    }

    /// What it sent to the store; this outlives it.
    pub(crate) fn sent(&self) -> Arc<Sent> {
        self.process.sent()
    }

    /// Runs the process until there is nothing to do for long, or the kernel stops.
    pub(crate) async fn run(mut self) -> Ended {
        if let Err(error) = self.come_forward().await {
            return Ended::Outcome(Outcome::broken(&error));
        }
        let (shared, pid) = (self.process.shared.clone(), self.process.pid());
        let parent = self.process.image.lives_with();
        if let Some(parent) = parent.filter(|_| shared.parts.store.others().is_some()) {
            shared.errands.guard(pid, parent);
        }
        let ended = match self.steps().await {
            Err(Error::Stopping) => Ok(Ended::Outcome(Outcome::Stopped)),
            // An image that an event did not fit is no image any more, and must not be saved.
            Err(error @ Error::Fold { .. }) => {
                return Ended::Outcome(Outcome::broken(&error));
            }
            ended => ended,
        };
        if let (Ok(Ended::Asleep(..) | Ended::Waiting(_)), Some(waits)) =
            (&ended, &self.process.image.waits)
        {
            shared.dispatcher.lend(pid, self.process.image.priority, waits.on.awaited());
        }
        // What happened before an error happened all the same.
        let kept = self.process.commit().await;
        if kept.is_ok() {
            shared.end_children(&self.process.image).await;
        }
        if matches!(ended, Ok(Ended::Outcome(Outcome::Exited(_)))) {
            shared.kv_slots.leave(pid);
        }
        let ended = ended.and_then(|ended| kept.map(|()| ended));
        ended.unwrap_or_else(|error| Ended::Outcome(Outcome::broken(&error)))
    }

    /// Makes the process known to the scheduler, with those from whom it descends.
    async fn come_forward(&self) -> Result<(), Error> {
        let (image, manifest) = (&self.process.image, &self.means.manifest);
        let shared = &self.process.shared;
        let group = manifest.group.clone().unwrap_or_default();
        let (tenant, class, priority) = (image.tenant.clone(), Class::Normal, image.priority);
        let place = Place { tenant, group, class, priority };
        let limits = image.quota.unwrap_or_else(|| manifest.quota.limits());
        // One who was known may have gone while the others were read.
        while !shared.dispatcher.admit(
            image.pid,
            &place,
            &limits,
            &shared.ancestors(image).await?,
        )? {}
        Ok(())
    }

    /// Whoever returns `Ok` has nothing in flight; what it wrote is still to be committed.
    async fn steps(&mut self) -> Result<Ended, Error> {
        loop {
            let rest = self.hear()?;
            // Who has ended is rarely read back, and then has few events to fold: none is asked for.
            if let Some(Rest::Exited(exit)) = rest {
                return Ok(Ended::Outcome(Outcome::Exited(exit)));
            }
            let action = self.process.image.next_action();
            // An exit goes before any stop: it belongs to the event that led to it, whose append
            // brings the content that it names.
            if !matches!(action, Action::Exit(..)) {
                let ended = match rest {
                    _ if !self.process.shared.stop.is_run() => Some(Outcome::Stopped),
                    Some(Rest::Suspended) => Some(Outcome::Suspended),
                    Some(Rest::Parked(on)) => Some(Outcome::Parked(on)),
                    _ => None,
                };
                if let Some(outcome) = ended {
                    self.process.request_checkpoint();
                    return Ok(Ended::Outcome(outcome));
                }
                match self.wait_for_moment().await? {
                    Waited::No => {}
                    Waited::Yes => continue,
                    Waited::TooLong(left, until) => {
                        self.process.request_checkpoint();
                        return Ok(Ended::Asleep(left, until));
                    }
                }
            }
            match action {
                Action::Tell(op, text) => {
                    let content = self.process.contents.seal(text.into_bytes());
                    let told = Told { op, content: content.reference() };
                    self.process.emit_with(What::Told(told), [content])?;
                }
                Action::Exit(op, exit) => {
                    self.process.end(Some(op), exit, &self.means.manifest.restart, [])?;
                }
                Action::Tools(ops) => {
                    if let Some(ended) = self.run_tools(&ops).await? {
                        self.process.request_checkpoint();
                        return Ok(ended);
                    }
                }
                Action::Infer(op) => {
                    if self.has_had_its_share() {
                        self.process.request_checkpoint();
                        return Ok(Ended::Yielded);
                    }
                    if let Some((left, until)) = self.infer(op).await? {
                        self.process.request_checkpoint();
                        return Ok(Ended::Asleep(left, until));
                    }
                    if let Some(ended) = self.rests.take() {
                        self.process.request_checkpoint();
                        return Ok(ended);
                    }
                }
                Action::Stuck => {
                    return Err(Error::refused(
                        Code::KernelFold,
                        format!(
                            "process {}: its program asked for nothing and waits for nothing",
                            self.process.pid()
                        ),
                    ));
                }
            }
        }
    }

    /// Takes what came for the process; what it rests for now.
    fn hear(&mut self) -> Result<Option<Rest>, Error> {
        while let Ok((id, item)) = self.inbox.try_recv() {
            self.process.take(id, item)?;
        }
        Ok(self.process.rest())
    }

    /// Whether others should have the process's place in memory.
    fn has_had_its_share(&self) -> bool {
        self.steps >= self.process.shared.options.stay_steps && self.process.shared.others_wait()
    }

    /// Waits for the moment that the image names: the next attempt of a call, or a restart.
    async fn wait_for_moment(&mut self) -> Result<Waited, Error> {
        let ProcessState::Blocked { on: BlockedOn::Timer { until }, since } =
            self.process.image.state
        else {
            return Ok(Waited::No);
        };
        if self.waited == Some(until) {
            return Ok(Waited::No);
        }
        let shared = self.process.shared.clone();
        let left = left_of(until, since, shared.parts.clock.now());
        if left >= shared.options.rest_after {
            return Ok(Waited::TooLong(left, until));
        }
        self.process.commit().await?;
        match self.interruptible(shared.parts.clock.sleep(left), Wait::Moment).await? {
            Ok(()) => {
                self.waited = Some(until);
                Ok(Waited::Yes)
            }
            Err(Interruption::Stop) => Err(Error::Stopping),
            Err(Interruption::Rest) => Ok(Waited::Yes),
        }
    }

    fn waits_for_a_moment(&self) -> bool {
        let state = &self.process.image.state;
        matches!(state, ProcessState::Blocked { on: BlockedOn::Timer { .. }, .. })
    }

    /// Waits for `future`, unless the process is to go no further or the kernel stops first.
    async fn interruptible<T>(
        &mut self,
        future: impl Future<Output = T>,
        wait: Wait,
    ) -> Result<Result<T, Interruption>, Error> {
        let grace = match wait {
            Wait::Turn | Wait::Moment => Duration::ZERO,
            Wait::Flight => self.process.shared.options.grace,
        };
        let mut future = std::pin::pin!(future);
        let mut stopped = std::pin::pin!(stopped(self.process.shared.clone(), grace));
        loop {
            tokio::select! {
                biased;
                value = &mut future => return Ok(Ok(value)),
                () = &mut stopped => return Ok(Err(Interruption::Stop)),
                Some((id, item)) = self.inbox.recv() => {
                    self.process.take(id, item)?;
                    let ends = match wait {
                        Wait::Turn => self.process.rest().is_some(),
                        Wait::Moment => !self.waits_for_a_moment(),
                        Wait::Flight => self.process.image.state.is_final(),
                    };
                    if ends {
                        return Ok(Err(Interruption::Rest));
                    }
                    // The wait may be long, and whoever posted it waits to see it taken.
                    self.process.flush();
                }
            }
        }
    }
}

/// How long a wait until then, decided at `since`, still lasts. A wall clock that jumped does not
/// stretch it beyond what was decided.
pub(crate) fn left_of(until: Timestamp, since: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(until.millis_since(now).min(until.millis_since(since)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_jumps_by_an_hour_does_not_stretch_a_wait() {
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1000);
        let (hour, since, until) = (3600, at(100_000), at(100_060));
        for (now, left) in
            [(100_000, 60), (100_020, 40), (100_060, 0), (100_020 + hour, 0), (100_020 - hour, 60)]
        {
            assert_eq!(left_of(until, since, at(now)), Duration::from_secs(left), "{now}");
        }
    }
}
