//! What may be wished of a process, and whether its state allows it.

use aosk_abi::{BlockedOn, Code, MicroDollars, Priority, ProcessState, Signal};
use aosk_kernel::Image;
use aosk_ports::{InboxItem, Receipt};

use crate::error::Error;
use crate::text::one_line;

/// What is wished of processes.
#[derive(Debug, Clone)]
pub(super) enum Wish {
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
        }
    }

    /// Whether it can be carried out by a kernel that has no model.
    pub(super) const fn needs_no_model(&self) -> bool {
        matches!(self, Self::Kill | Self::Stop | Self::Renice(_))
    }

    /// What is posted for that process, whose fold is `image`. `short` is how the user may call it,
    /// `same` what a command repeats to find the same store.
    ///
    /// # Errors
    /// [`Error`] where its state does not allow that.
    pub(super) fn items(
        &self,
        receipt: &Receipt,
        image: &Image,
        short: &str,
        same: &str,
    ) -> Result<Vec<InboxItem>, Error> {
        let state = &receipt.row.state;
        let signal = |signal| vec![InboxItem::Signal { signal }];
        if let ProcessState::Exited { exit } = state {
            return match self {
                Self::Send(text) if exit.can_be_continued() => Ok(vec![message(text)]),
                _ => Err(ended(receipt, exit, short, same)),
            };
        }
        Ok(match self {
            Self::Kill => signal(Signal::Kill),
            Self::Stop => signal(Signal::Stop),
            Self::Renice(priority) => vec![InboxItem::Priority { priority: *priority }],
            Self::Send(text) => vec![message(text)],
            Self::Cont { limit } => {
                check_limit(*limit, state, image, short, same)?;
                let limit = limit.map(|limit| InboxItem::SpendLimit { limit });
                limit.into_iter().chain(signal(Signal::Cont)).collect()
            }
        })
    }

    /// What came of it, once it was taken over.
    pub(super) fn done(&self, now: &ProcessState) -> String {
        match (self, now) {
            (Self::Kill, ProcessState::Exited { exit: aosk_abi::Exit::Killed }) => "killed".into(),
            (Self::Kill | Self::Stop | Self::Renice(_), ProcessState::Exited { exit }) => {
                format!("ended by itself meanwhile ({})", exit.name())
            }
            (Self::Kill, _) => "is being killed".to_owned(),
            (Self::Stop, _) => "suspended; `aosk cont` lets it go on".to_owned(),
            (Self::Renice(priority), _) => format!("has priority {}", priority.get()),
            (Self::Send(_), _) => "has the message".to_owned(),
            (Self::Cont { limit: Some(limit) }, _) => format!("goes on and may spend {limit}"),
            (Self::Cont { limit: None }, _) => "goes on".to_owned(),
        }
    }
}

fn message(text: &str) -> InboxItem {
    InboxItem::Message { from: "user".to_owned(), text: text.to_owned() }
}

/// A limit is given to let a process go on: one that would not is a mistake.
fn check_limit(
    limit: Option<MicroDollars>,
    state: &ProcessState,
    image: &Image,
    short: &str,
    same: &str,
) -> Result<(), Error> {
    let dollars = |amount: MicroDollars| amount.to_string().trim_start_matches('$').to_owned();
    let wants = match state {
        ProcessState::Blocked { on: BlockedOn::Quota { spent, needed, .. }, .. } => {
            Some((*spent, *needed))
        }
        _ => None,
    };
    let wrong = |why: String, least: MicroDollars| {
        Err(Error::new(Code::CliState, format!("{short} {why}"))
            .help(format!("aosk cont {short} --max-spend-usd {}{same}", dollars(least))))
    };
    match (limit, wants, image.account.limit) {
        (None, Some((spent, needed)), _) => wrong(
            format!("is parked: it has spent {spent}, and the next call may cost {needed}"),
            spent + needed,
        ),
        (Some(limit), Some((spent, needed)), _) if limit < spent + needed => wrong(
            format!(
                "has spent {spent}, and the next call may cost {needed}: {limit} in all would not \
                 let it go on"
            ),
            spent + needed,
        ),
        (Some(limit), _, Some(own)) if limit <= own => {
            Err(Error::new(Code::CliState, format!("{short} may spend {own} already"))
                .help("a limit can be raised, and an agent suspended: aosk stop PID"))
        }
        _ => Ok(()),
    }
}

fn ended(receipt: &Receipt, exit: &aosk_abi::Exit, short: &str, same: &str) -> Error {
    let name = one_line(&receipt.row.name);
    let error = Error::new(Code::CliState, format!("{short} ({name}) has ended ({})", exit.name()));
    let shown = format!("`aosk show {short}{same}` shows what came of it");
    if exit.can_be_continued() {
        error
            .help(format!("{shown}; `aosk send{same} {short} \"…\"` goes on with its conversation"))
    } else {
        error.help(format!("{shown}; a new one: aosk spawn AGENT.toml \"…\""))
    }
}
