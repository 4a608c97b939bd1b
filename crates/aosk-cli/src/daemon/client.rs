//! One who comes to the daemon.

use std::time::Duration;

use aosk_abi::{Code, Limits, Pid, QuotaOwner};
use aosk_kernel::Standings;

use super::protocol::{Answer, Ask, Fault, Hello, Order, PROTOCOL, Refused, Status, Wire};
use super::socket::Place;
use crate::error::Error;

/// How long a daemon may take to begin an agent: it connects the model, and an endpoint may take
/// 10 seconds to be reached and more to answer.
const SPAWN: Duration = Duration::from_secs(60);

/// How long it may take for anything else.
const ANSWER: Duration = Duration::from_secs(10);

/// A connection to a daemon that said hello.
pub(super) struct Client {
    wire: Wire,
    /// What a command that is suggested repeats to find the same daemon.
    pub(super) same: String,
    pub(super) daemon: Hello,
}

/// How a daemon compares with this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    /// The same.
    Same,
    /// The same version, built from other sources.
    OtherBuild,
    /// An older version, or an older protocol.
    Older,
    /// A newer version with the same protocol.
    Newer,
    /// A newer protocol.
    Foreign,
}

impl Client {
    /// Connects; `None` where nobody listens, or whoever did was about to stop.
    ///
    /// # Errors
    /// [`Error`] where something else than a daemon answers.
    pub(super) async fn connect(place: &Place, same: &str) -> Result<Option<Self>, Error> {
        let Some(stream) = place.connect().await? else {
            return Ok(None);
        };
        let mut wire = Wire::new(stream);
        let heard = match wire.send(&Hello::own()).await {
            Ok(()) => wire.hear::<Hello>(ANSWER).await,
            Err(fault) => Err(fault),
        };
        match heard {
            Ok(Some(daemon)) if daemon.hello == "aosk" => {
                let same = same.to_owned();
                Ok(Some(Self { wire, same, daemon }))
            }
            Ok(None) | Err(Fault::Gone(_)) => Ok(None),
            Ok(Some(_)) => Err(no_daemon(place, "it says something else")),
            Err(Fault::Slow) => Err(silent(place, same)),
            Err(fault) => Err(no_daemon(place, &fault.to_string())),
        }
    }

    /// Whether it can be asked for more than to stop.
    pub(super) fn speaks(&self) -> bool {
        self.daemon.protocol == PROTOCOL
    }

    /// How the daemon compares with this program.
    pub(super) fn compare(&self) -> Result<Compared, Error> {
        compare(&self.daemon, &Hello::own())
    }

    /// Begins an agent; `None` where the daemon stops instead.
    pub(super) async fn spawn(&mut self, order: Order) -> Result<Option<Pid>, Error> {
        match self.ask(&Ask::Spawn(Box::new(order)), SPAWN).await {
            Ok(Answer::Spawned { pid }) => Ok(Some(pid)),
            Ok(Answer::Refused(refused)) if refused.code == Code::KernelStopping.as_str() => {
                Ok(None)
            }
            Ok(Answer::Refused(refused)) => Err(self.refused(refused)),
            Ok(other) => Err(self.unexpected(other)),
            Err(fault) => {
                let listed = format!("`aosk ps --all{}` lists it if it did", self.same);
                let help = format!("whether the agent began is in the store: {listed}");
                Err(self.silent(&fault).help(help))
            }
        }
    }

    /// Says that something was posted; whether the daemon heard.
    pub(super) async fn nudge(&mut self) -> Result<bool, Error> {
        match self.ask(&Ask::Nudge, ANSWER).await {
            Ok(Answer::Nudged) => Ok(true),
            // It stops.
            Err(Fault::Gone(_)) => Ok(false),
            Ok(Answer::Refused(refused)) if refused.code == Code::KernelStopping.as_str() => {
                Ok(false)
            }
            Ok(other) => Err(self.unexpected(other)),
            Err(fault) => Err(self.silent(&fault)),
        }
    }

    /// How the daemon is; `None` where it has gone meanwhile.
    pub(super) async fn status(&mut self) -> Result<Option<Status>, Error> {
        match self.ask(&Ask::Status, ANSWER).await {
            Ok(Answer::Status(status)) => Ok(Some(status)),
            Err(Fault::Gone(_)) => Ok(None),
            Ok(other) => Err(self.unexpected(other)),
            Err(fault) => Err(self.silent(&fault)),
        }
    }

    /// How quotas and devices stand, and who waits for them; `None` where it has gone meanwhile.
    pub(super) async fn standings(&mut self) -> Result<Option<Standings>, Error> {
        match self.ask(&Ask::Standings, ANSWER).await {
            Ok(Answer::Standings(standings)) => Ok(Some(*standings)),
            Err(Fault::Gone(_)) => Ok(None),
            Ok(other) => Err(self.unexpected(other)),
            Err(fault) => Err(self.silent(&fault)),
        }
    }

    /// Lets an owner use that much from now on; whether the daemon heard.
    pub(super) async fn limit(&mut self, owner: QuotaOwner, limits: Limits) -> Result<bool, Error> {
        match self.ask(&Ask::Limit { owner, limits }, ANSWER).await {
            Ok(Answer::Limited) => Ok(true),
            Err(Fault::Gone(_)) => Ok(false),
            Ok(other) => Err(self.unexpected(other)),
            Err(fault) => Err(self.silent(&fault)),
        }
    }

    /// Asks the daemon to stop between two steps.
    pub(super) async fn stop(mut self) -> Result<(), Error> {
        match self.ask(&Ask::Stop, ANSWER).await {
            Ok(Answer::Stopping) | Err(Fault::Gone(_)) => Ok(()),
            Ok(other) => Err(self.unexpected(other)),
            Err(fault) => Err(self.silent(&fault)),
        }
    }

    async fn ask(&mut self, ask: &Ask, patience: Duration) -> Result<Answer, Fault> {
        self.wire.send(ask).await?;
        let answer = self.wire.hear::<Answer>(patience).await?;
        answer.ok_or_else(|| Fault::Gone(std::io::ErrorKind::UnexpectedEof.into()))
    }

    /// Why it did not begin an agent, and what to do about it. What could not be asked for at all
    /// was found before; what only the daemon misses, it does not know yet.
    fn refused(&self, refused: Refused) -> Error {
        let again = format!("`aosk daemon stop{}` lets the next", self.same);
        let error = Error::from(refused);
        match error.code {
            Code::LlmUnknownModel => error.help(format!(
                "the daemon read models.toml when it started; {again} start read it anew"
            )),
            Code::CliDaemon => error.help(format!("{again} `aosk spawn` start one in yours")),
            _ => error,
        }
    }

    fn unexpected(&self, answer: Answer) -> Error {
        match answer {
            Answer::Refused(refused) => refused.into(),
            other => Error::new(
                Code::CliDaemon,
                format!("the daemon answered something else than it was asked: {other:?}"),
            )
            .help(format!("`aosk daemon stop{}` lets the next command start another", self.same)),
        }
    }

    fn silent(&self, fault: &Fault) -> Error {
        let os_pid = self.daemon.os_pid;
        Error::new(
            Code::CliDaemon,
            format!("the daemon (process {os_pid}) gives no answer: {fault}"),
        )
        .help("what it does is in logs/aosk.log of the data folder")
        .help(format!("it stops between two steps with: kill -TERM {os_pid}"))
    }
}

fn no_daemon(place: &Place, why: &str) -> Error {
    Error::new(Code::CliDaemon, format!("what listens here is no daemon of aosk: {why}"))
        .at(place.path(), None)
        .help("see what it is: ss -xlp")
}

/// The error for one who listens and says nothing: stopped by a debugger or a signal, most likely.
fn silent(place: &Place, same: &str) -> Error {
    let patience = ANSWER.as_secs();
    Error::new(
        Code::CliDaemon,
        format!("the daemon listens and gives no answer within {patience} seconds"),
    )
    .at(place.path(), None)
    .help(format!("`aosk ps{same}` says which process it is; if it was suspended: kill -CONT"))
    .help("to end it at once, which loses nothing: kill -KILL")
}

fn compare(daemon: &Hello, own: &Hello) -> Result<Compared, Error> {
    let (theirs, ours) = (numbers(daemon)?, numbers(own)?);
    Ok(match () {
        () if daemon.protocol > PROTOCOL => Compared::Foreign,
        () if daemon.protocol < PROTOCOL || theirs < ours => Compared::Older,
        () if theirs > ours => Compared::Newer,
        () if daemon.build != own.build => Compared::OtherBuild,
        () => Compared::Same,
    })
}

/// The numbers of a version; what stands behind a hyphen or a plus sign does not count.
fn numbers(hello: &Hello) -> Result<Vec<u64>, Error> {
    let core = hello.version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Result<Vec<u64>, _> = core.split('.').map(str::parse).collect();
    numbers.ok().filter(|numbers| numbers.len() == 3).ok_or_else(|| {
        let version = &hello.version;
        Error::new(Code::CliDaemon, format!("the daemon says that its version is {version:?}"))
            .help(format!("stop it: kill -TERM {}", hello.os_pid))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_older_daemon_is_taken_over() {
        let hello = |protocol, version: &str, build: &str| Hello {
            protocol,
            version: version.to_owned(),
            build: build.to_owned(),
            ..Hello::own()
        };
        let own = hello(PROTOCOL, "0.10.2", "b");
        for (daemon, expected) in [
            (hello(PROTOCOL, "0.10.2", "b"), Compared::Same),
            (hello(PROTOCOL, "0.10.2", "a"), Compared::OtherBuild),
            (hello(PROTOCOL, "0.9.9", "a"), Compared::Older),
            (hello(PROTOCOL, "0.10.1-rc.1", "a"), Compared::Older),
            (hello(PROTOCOL - 1, "0.10.2", "b"), Compared::Older),
            (hello(PROTOCOL, "0.11.0", "c"), Compared::Newer),
            (hello(PROTOCOL + 1, "0.11.0", "c"), Compared::Foreign),
        ] {
            assert_eq!(compare(&daemon, &own).expect("versions"), expected, "{daemon:?}");
        }
        for odd in ["", "1.2", "one", "1.2.3.4"] {
            assert!(compare(&hello(PROTOCOL, odd, "a"), &own).is_err(), "{odd:?}");
        }
    }
}
