//! What may be wished of a process, and whether its state allows it.

use aosk_abi::{
    BlockedOn, Code, Exit as Ended, Limits, MicroDollars, Priority, ProcessState, Signal, What,
};
use aosk_kernel::Image;
use aosk_ports::{InboxItem, Receipt};

use crate::error::Error;
use crate::exit::Exit;
use crate::processes::blocked_on;
use crate::text::one_line;

/// What is wished of processes.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    /// That they end.
    Kill,
    /// That they pause.
    Stop,
    /// That they go on, perhaps with a higher limit.
    Cont { limit: Option<MicroDollars> },
    /// That they are more or less important.
    Renice(Priority),
    /// That they hear this.
    Send(String),
    /// That they ask again for a quota, which was changed.
    Limit(String, Limits),
    /// That they and all that descend from them may use that.
    Own(Limits),
}

impl Wish {
    /// The command that it came with.
    pub(super) const fn command(&self) -> &'static str {
        match self {
            Self::Kill => "aosk kill",
            Self::Stop => "aosk stop",
            Self::Cont { .. } => "aosk cont",
            Self::Renice(_) => "aosk renice",
            Self::Send(_) => "aosk send",
            Self::Limit(..) | Self::Own(_) => "aosk quota",
        }
    }

    /// Whether it can be carried out by a kernel that has no model.
    pub(super) const fn needs_no_model(&self) -> bool {
        matches!(self, Self::Kill | Self::Stop | Self::Renice(_) | Self::Own(_))
    }

    /// What is posted for that process.
    ///
    /// # Errors
    /// [`Error`] where its state does not allow that.
    pub(super) fn items(&self, whom: &Whom<'_>) -> Result<Vec<InboxItem>, Error> {
        let signal = |signal| vec![InboxItem::Signal { signal }];
        if let ProcessState::Exited { exit } = &whom.receipt.row.state {
            return match self {
                Self::Send(text) if exit.can_be_continued() => Ok(vec![message(text)]),
                // It went on with the new limit as soon as that held.
                Self::Limit(..) => Ok(Vec::new()),
                _ => Err(whom.ended(exit)),
            };
        }
        Ok(match self {
            Self::Kill => signal(Signal::Kill),
            Self::Stop => signal(Signal::Stop),
            Self::Renice(priority) => vec![InboxItem::Priority { priority: *priority }],
            Self::Send(text) => vec![message(text)],
            Self::Limit(owner, limits) => {
                vec![InboxItem::Quota { owner: owner.clone(), limits: *limits }]
            }
            Self::Own(limits) => {
                vec![InboxItem::Quota { owner: BlockedOn::OWN.to_owned(), limits: *limits }]
            }
            Self::Cont { limit } => {
                whom.check_limit(*limit)?;
                let limit = limit.map(|limit| InboxItem::SpendLimit { limit });
                limit.into_iter().chain(signal(Signal::Cont)).collect()
            }
        })
    }

    /// Whether a process in that state will ever hear it.
    pub(super) const fn may_be_heard_in(&self, state: &ProcessState) -> bool {
        match state {
            ProcessState::Exited { exit } => {
                matches!(self, Self::Send(_)) && exit.can_be_continued()
            }
            _ => true,
        }
    }

    /// Whether the event says that a process heard it.
    pub(super) fn is_heard_in(&self, what: &What) -> bool {
        let signal = |wanted| matches!(what, What::SignalReceived(got) if got.signal == wanted);
        match self {
            Self::Kill => signal(Signal::Kill),
            Self::Stop => signal(Signal::Stop),
            Self::Cont { .. } => signal(Signal::Cont),
            Self::Renice(_) => matches!(what, What::PriorityChanged(_)),
            Self::Send(_) => matches!(what, What::MessageReceived(_)),
            Self::Limit(..) | Self::Own(_) => matches!(what, What::QuotaChanged(_)),
        }
    }

    /// Whether a process that heard it has something to do, for which it needs a model.
    pub(super) const fn sets_going(&self) -> bool {
        matches!(self, Self::Cont { .. } | Self::Send(_) | Self::Limit(..))
    }

    /// What came of it, once it was heard. `same` is what a command repeats to find the same store.
    pub(super) fn done(&self, now: &ProcessState, short: &str, same: &str) -> (Exit, String) {
        let said = match (self, now) {
            (Self::Kill, ProcessState::Exited { exit: Ended::Killed }) => "killed".into(),
            (
                Self::Kill | Self::Stop | Self::Renice(_) | Self::Own(_),
                ProcessState::Exited { exit },
            ) => {
                format!("ended by itself meanwhile ({})", exit.name())
            }
            (Self::Kill, _) => "is being killed".to_owned(),
            (Self::Stop, _) => format!("suspended; `aosk cont {short}{same}` lets it go on"),
            (Self::Renice(priority), _) => format!("has priority {}", priority.get()),
            (Self::Send(_), _) => "has the message".to_owned(),
            (
                Self::Cont { .. } | Self::Limit(..),
                ProcessState::Blocked {
                    on: on @ (BlockedOn::Quota { .. } | BlockedOn::Limit { until: None, .. }),
                    ..
                },
            ) => {
                return (Exit::Parked, format!("is parked: {}", blocked_on(on)));
            }
            (Self::Cont { limit: Some(limit) }, _) => format!("goes on and may spend {limit}"),
            (Self::Cont { limit: None }, _) => "goes on".to_owned(),
            (Self::Limit(..), _) => "asks again".to_owned(),
            (Self::Own(_), _) => "has its limits, and its children with it".to_owned(),
        };
        (Exit::Done, said)
    }
}

fn message(text: &str) -> InboxItem {
    InboxItem::Message { from: "user".to_owned(), text: text.to_owned() }
}

/// A process of which something is wished.
pub(super) struct Whom<'a> {
    /// How it stands.
    pub(super) receipt: &'a Receipt,
    /// Its fold.
    pub(super) image: &'a Image,
    /// How the user may call it.
    pub(super) short: &'a str,
    /// What a command repeats to find the same store.
    pub(super) same: &'a str,
    /// What the user lets an agent spend that has no limit of its own.
    pub(super) otherwise: MicroDollars,
}

impl Whom<'_> {
    /// A limit is given to let a process go on: one that would not is a mistake. To give none is
    /// one where the process could only ask again for what it may not spend. What a run may spend
    /// in all is no limit of the process, so who waits for that may simply try again.
    fn check_limit(&self, limit: Option<MicroDollars>) -> Result<(), Error> {
        let Self { receipt, image, short, same, otherwise } = self;
        let (account, spent) = (&image.account, image.account.spent());
        let state = |why: String| Error::new(Code::CliState, format!("{short} {why}"));
        let needed = match &receipt.row.state {
            ProcessState::Blocked { on: BlockedOn::Quota { needed, .. }, .. } => Some(*needed),
            _ => None,
        };
        let least = needed.map(|needed| spent + needed);
        let raise = |error: Error, least: MicroDollars| {
            let dollars = least.to_string();
            let dollars = dollars.trim_start_matches('$');
            Err(error.help(format!("aosk cont {short} --max-spend-usd {dollars}{same}")))
        };
        match (limit, account.limit, needed.zip(least)) {
            (None, _, Some((needed, least))) => match account.exceeds(needed, Some(*otherwise)) {
                Some(limit) => raise(
                    state(format!(
                        "is parked: it has spent {spent} of {limit}, and the next call may cost \
                         {needed}"
                    )),
                    least,
                ),
                None => Ok(()),
            },
            (Some(limit), Some(own), Some((_, least))) if limit <= own && least <= own => {
                Err(state(format!("may spend {own} already, which covers its next call"))
                    .help(format!("let it go on as it is: aosk cont {short}{same}")))
            }
            (Some(limit), _, Some((needed, least))) if limit < least => raise(
                state(format!(
                    "has spent {spent}, and the next call may cost {needed}: {limit} in all would \
                     not let it go on"
                )),
                least,
            ),
            (Some(limit), Some(own), None) if limit <= own => {
                Err(state(format!("may spend {own} already")).help(format!(
                    "a limit can be raised, and an agent suspended: aosk stop {short}{same}"
                )))
            }
            _ => Ok(()),
        }
    }

    /// The error that it has ended so.
    fn ended(&self, exit: &Ended) -> Error {
        let Self { receipt, short, same, .. } = self;
        let name = one_line(&receipt.row.name);
        let message = format!("{short} ({name}) has ended ({})", exit.name());
        let error = Error::new(Code::CliState, message);
        let shown = format!("`aosk show {short}{same}` shows what came of it");
        error.help(if exit.can_be_continued() {
            format!("{shown}; `aosk send{same} {short} \"…\"` goes on with its conversation")
        } else {
            format!("{shown}; a new one: aosk spawn AGENT.toml \"…\"{same}")
        })
    }
}
