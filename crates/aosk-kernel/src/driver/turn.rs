//! Waiting for a turn at a device: what a call may take, and what keeps it.
//!
//! Most turns come at once. One that does not is looked after a second later, and then ever more
//! seldom: a wait for a quota that lasts longer than that is written down with its end, so that
//! everybody sees it, and one that nothing but a higher limit ends brings the process to rest.

use std::task::Poll;
use std::time::Duration;

use aosk_abi::{Blocked, BlockedOn, CacheLife, Op, ProcessState, Timestamp, Tokens, What};
use aosk_scheduler::Amounts;
use futures::FutureExt;
use futures::future::{Either, select};

use super::{Driver, Interruption, Wait};
use crate::books::Payer;
use crate::dispatch::{Ask, Held, Slot};
use crate::error::Error;
use crate::observe::Notice;

/// When a turn that does not come is looked after for the first time.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// How seldom it is looked after at last.
const LAST_LOOK: Duration = Duration::from_secs(60);

/// By how much the end of a wait has to move for it to be written down again.
const MOVED: Duration = Duration::from_secs(60);

/// Bytes of a text for each token that it is taken for before it is counted: prose has about 4, and
/// what is taken for too little goes into the queue a second time.
const BYTES_PER_TOKEN: u64 = 2;

/// Tokens of a message around its text, as they are taken for before they are counted, and of the
/// tail.
const AROUND: u64 = 16;
const TAIL: u64 = 512;

/// What a wait for a turn came to.
pub(super) enum Turned {
    /// It is the process's turn.
    Go(Slot),
    /// It came to rest while it waited.
    Rest,
    /// It waits so long that it leaves memory to others.
    Sleep(Duration, Timestamp),
}

impl Driver {
    /// Waits for a slot of the device.
    pub(super) async fn turn(&mut self, op: Op) -> Result<Turned, Error> {
        let shared = self.process.shared.clone();
        let (pid, device) = (self.process.pid(), self.means.model.device.info().name.clone());
        let payer = self.payer();
        shared.books.open(&payer, &device).await?;
        let ask = self.asks(op);
        let mut turn = match shared.dispatcher.queue(pid, &device, ask)? {
            Ok(turn) => turn,
            Err(held) => {
                self.process.emit(What::Blocked(Blocked { on: held.on, op: None }))?;
                return Ok(Turned::Rest);
            }
        };
        if let Poll::Ready(slot) = futures::poll!(&mut turn) {
            return slot.map(Turned::Go);
        }
        // What was made so far becomes durable while the process waits for its turn.
        self.process.commit().await?;
        let mut look = FIRST_LOOK;
        let mut told = BlockedOn::Slot { device };
        shared.parts.observer.notice(pid, &Notice::Waiting(told.clone()));
        loop {
            let waited = {
                let sleep = shared.parts.clock.sleep(look);
                let either = select(&mut turn, sleep).map(|either| match either {
                    Either::Left((slot, _)) => Some(slot),
                    Either::Right(_) => None,
                });
                self.interruptible(either, Wait::Turn).await?
            };
            match waited {
                Ok(Some(slot)) => return slot.map(Turned::Go),
                Ok(None) => {}
                Err(Interruption::Stop) => return Err(Error::Stopping),
                Err(Interruption::Rest) => return Ok(Turned::Rest),
            }
            look = (look * 2).min(LAST_LOOK);
            // The window of a budget may have ended.
            shared.books.open(&payer, &self.means.model.device.info().name).await?;
            let Some(held) = shared.dispatcher.held(pid) else {
                continue;
            };
            if held.on != told {
                shared.parts.observer.notice(pid, &Notice::Waiting(held.on.clone()));
                told = held.on.clone();
            }
            match (held.left, &held.on) {
                (None, _) => {
                    drop(turn);
                    self.process.emit(What::Blocked(Blocked { on: held.on, op: None }))?;
                    return Ok(Turned::Rest);
                }
                (Some(left), BlockedOn::Limit { until: Some(until), .. }) => {
                    let until = *until;
                    self.say(&held).await?;
                    if shared.others_wait() && left >= LAST_LOOK {
                        return Ok(Turned::Sleep(left, until));
                    }
                }
                _ => {}
            }
        }
    }

    /// The tenant of the process, and the group inside it.
    pub(super) fn payer(&self) -> Payer {
        let group = self.means.manifest.group.clone().unwrap_or_default();
        (self.process.pid(), self.process.image.tenant.clone(), group)
    }

    /// Writes down what the process waits for, unless that is known.
    async fn say(&mut self, held: &Held) -> Result<(), Error> {
        let is_known = match (&self.process.image.state, &held.on) {
            (
                ProcessState::Blocked {
                    on: BlockedOn::Limit { owner, scarce, until: Some(known) },
                    ..
                },
                BlockedOn::Limit { owner: other, scarce: what, until: Some(until) },
            ) => {
                let moved = known.millis_since(*until).max(until.millis_since(*known));
                owner == other && scarce == what && u128::from(moved) < MOVED.as_millis()
            }
            _ => false,
        };
        if is_known {
            return Ok(());
        }
        self.process.emit(What::Blocked(Blocked { on: held.on.clone(), op: None }))?;
        self.process.commit().await
    }

    /// What the call asks for: what its plan takes, or, where there is none yet, what it may take.
    fn asks(&self, op: Op) -> Ask {
        let image = &self.process.image;
        let max_output = self.max_output();
        let deadline = self.means.manifest.deadline_s.map(Duration::from_secs);
        if let Some((_, planned)) = &image.plan
            && planned.op == op
        {
            let max_output = image.conditions.as_ref().map_or(max_output, |it| it.max_output);
            let most = self.most(planned.prompt_tokens, max_output, planned.life);
            return Ask { input: planned.prompt_tokens.0, most, deadline };
        }
        let known = image.pages.tokens().0;
        let lengths = image.arrivals.iter().map(|arrival| {
            let shape = image.transcript.get(arrival.source);
            let whole = shape.map_or(0, |shape| shape.content().len);
            AROUND + arrival.range.map_or(whole, |(_, part)| part) / BYTES_PER_TOKEN
        });
        let arrived: u64 = lengths.sum();
        // A plan never takes more than the window leaves beside the reply.
        let upper = self.padded(Tokens(known + arrived + TAIL)).min(self.room());
        let of = |life| self.ceilings(upper, max_output, life);
        let has_long = self.means.model.device.info().cache.long_ttl_ms.is_some();
        let long = has_long.then(|| of(CacheLife::Long)).filter(|most| self.affords(most));
        let most = long.unwrap_or_else(|| of(CacheLife::Short));
        Ask { input: known + arrived / 2, most, deadline }
    }

    /// The most that a call of a prompt takes which was counted so.
    pub(super) fn most(&self, prompt: Tokens, max_output: Tokens, life: CacheLife) -> Amounts {
        self.ceilings(self.padded(prompt), max_output, life)
    }

    /// Whether that much is left of what the process may spend.
    pub(super) fn affords(&self, most: &Amounts) -> bool {
        let otherwise = self.process.shared.options.process_limit;
        self.process.image.account.exceeds(most.money, otherwise).is_none()
    }

    fn ceilings(&self, input: Tokens, output: Tokens, life: CacheLife) -> Amounts {
        let money = self.means.model.device.info().prices.ceiling(input, output, life);
        Amounts { input, output, money }
    }
}
