//! What became of each agent.

use aosk_abi::{BlockedOn, Code, Exit as Ended, Pid, Seq, Tenant};
use aosk_kernel::Outcome;
use aosk_ports::{Journal, ProcessRow};

use crate::error::Error;
use crate::exit::Exit;
use crate::journal::{self, Texts};
use crate::print::Ink;
use crate::processes::{blocked_on, unknown};
use crate::text::one_line;

/// An agent that the kernel let go of.
pub(super) struct Result {
    pub(super) pid: Pid,
    pub(super) row: ProcessRow,
    outcome: Outcome,
    /// The answer, refusal or error, in full.
    text: Option<String>,
}

/// Reads what the agents left behind.
pub(super) async fn read(
    journal: &dyn Journal,
    outcomes: Vec<(Pid, Outcome)>,
) -> std::result::Result<Vec<Result>, Error> {
    let mut results = Vec::with_capacity(outcomes.len());
    for (pid, outcome) in outcomes {
        let receipt = journal.process(&Tenant::local(), pid).await?;
        let row = receipt.ok_or_else(|| unknown(&pid.to_string()))?.row;
        let text = match &outcome {
            Outcome::Exited(
                Ended::Completed { answer: Some(text) }
                | Ended::Refused { message: Some(text) }
                | Ended::Failed { message: text, .. },
            ) => {
                let entries = journal::read(journal, pid, Seq(0)).await?;
                let mut texts = Texts::default();
                texts.load_last(journal, pid, &entries).await?;
                texts.get(text).map(|text| text.to_string())
            }
            _ => None,
        };
        results.push(Result { pid, row, outcome, text });
    }
    Ok(results)
}

impl Result {
    /// How the program ends because of it.
    pub(super) fn exit(&self) -> Exit {
        match &self.outcome {
            Outcome::Exited(Ended::Completed { .. }) => Exit::Done,
            Outcome::Exited(Ended::Failed { code, .. }) => match Exit::of(code) {
                // The command line was in order: what failed is the agent.
                Exit::Usage => Exit::Failed,
                exit => exit,
            },
            Outcome::Parked(BlockedOn::Quota { .. } | BlockedOn::Limit { .. }) => Exit::Parked,
            Outcome::Broken { code, .. } => Exit::of(code.as_str()).max(Exit::Failed),
            Outcome::Exited(_) | Outcome::Parked(_) | Outcome::Suspended | Outcome::Stopped => {
                Exit::Failed
            }
        }
    }

    /// Whether it can be resumed because this program was stopped.
    pub(super) fn is_stopped(&self) -> bool {
        self.outcome == Outcome::Stopped
    }

    /// Whether `aosk run --resume` can go on with it.
    pub(super) fn is_unfinished(&self) -> bool {
        !matches!(self.outcome, Outcome::Exited(_))
    }

    /// The limit that would let it go on, where it waits for one.
    pub(super) fn wants(&self) -> Option<aosk_abi::MicroDollars> {
        match &self.outcome {
            Outcome::Parked(BlockedOn::Quota { spent, needed, .. }) => Some(*spent + *needed),
            _ => None,
        }
    }

    /// How it stands, in a word or two.
    pub(super) fn state(&self) -> &'static str {
        match &self.outcome {
            Outcome::Exited(exit) => exit.name(),
            Outcome::Parked(_) => "parked",
            Outcome::Suspended => "suspended",
            Outcome::Stopped => "stopped",
            Outcome::Broken { code, .. } => code.as_str(),
        }
    }

    /// The result in one line.
    pub(super) fn line(&self) -> (Ink, String) {
        let text = self.text.as_deref().map(one_line);
        let and = |head: String| match &text {
            Some(text) => format!("{head}: {text}"),
            None => head,
        };
        match &self.outcome {
            Outcome::Exited(exit @ Ended::Completed { .. }) => {
                (Ink::Good, text.unwrap_or_else(|| exit.name().to_owned()))
            }
            Outcome::Exited(Ended::Failed { code, .. }) => {
                (Ink::Error, and(format!("failed, {}", one_line(code))))
            }
            Outcome::Exited(Ended::StepLimit { limit }) => {
                (Ink::Warning, format!("reached its limit of {limit} steps"))
            }
            Outcome::Exited(exit) => (Ink::Warning, and(exit.name().to_owned())),
            Outcome::Parked(on) => (Ink::Warning, format!("parked, {}", blocked_on(on))),
            Outcome::Suspended => (Ink::Warning, "suspended".to_owned()),
            Outcome::Stopped => (Ink::Warning, "stopped, can be resumed".to_owned()),
            Outcome::Broken { code, message } => {
                (Ink::Error, format!("{code}: {}", one_line(message)))
            }
        }
    }

    /// The error in full, where something went wrong that is more than a state. `same` is what a
    /// command repeats to find the same store.
    pub(super) fn error(&self, same: &str) -> Option<Error> {
        let name = one_line(&self.row.name);
        match &self.outcome {
            Outcome::Exited(Ended::Failed { code, .. }) => {
                let code = Code::ALL.iter().copied().find(|known| known.as_str() == code.as_str());
                let message = self.text.clone().unwrap_or_else(|| "no message".to_owned());
                let code = code.unwrap_or(Code::KernelFold);
                let error = Error::new(code, format!("{name}: {message}"));
                Some(match code {
                    Code::LlmAuth => error.help(
                        "keys come from variables such as OPENAI_API_KEY, or from your keys.toml",
                    ),
                    _ => error,
                })
            }
            Outcome::Broken { code, message } => {
                Some(Error::new(*code, format!("{name}: {message}")))
            }
            Outcome::Exited(Ended::Refused { .. }) => {
                let said = self.text.as_deref().map(|text| format!(": {text}"));
                let message = format!("{name}: the model refused{}", said.unwrap_or_default());
                Some(
                    Error::new(Code::KernelRefused, message)
                        .help("word the task otherwise, or choose another model: --model NAME"),
                )
            }
            Outcome::Parked(BlockedOn::Quota { limit, spent, needed }) => Some(
                Error::new(
                    Code::KernelSpendLimit,
                    format!(
                        "{name}: the next call may cost {needed}, but {spent} of the limit of \
                         {limit} is spent"
                    ),
                )
                .help(format!(
                    "`aosk run --resume PID --max-spend-usd X{same}` goes on with a higher limit"
                )),
            ),
            Outcome::Parked(on @ BlockedOn::Limit { owner, .. }) => Some(
                Error::new(Code::KernelQuota, format!("{name}: waits for {}", blocked_on(on)))
                    .help(match owner.split_once(' ') {
                        Some((BlockedOn::OWN, pid)) => {
                            format!("raise it: aosk quota set agent {pid}")
                        }
                        Some((kind, of)) => {
                            format!("raise it: aosk quota set {kind} {}", one_line(of))
                        }
                        None => "raise it: aosk quota set agent PID".to_owned(),
                    })
                    .help(format!("`aosk run --resume{same}` goes on then")),
            ),
            _ => None,
        }
    }
}
