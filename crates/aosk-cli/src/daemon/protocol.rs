//! What a daemon and those who come to it say to each other: one JSON object a line, each way.
//!
//! Both say hello first. Hello and `stop` are the same in every protocol, so that a newer program
//! can always take over from an older daemon; all else may change with the number. What comes in
//! is bounded in length and in time, so nobody who connects and falls silent, or talks without
//! end, costs the daemon more than one task and 16 MiB for 10 seconds.

use std::time::Duration;

use aosk_abi::{Code, Limits, MicroDollars, Pid, QuotaOwner};
use aosk_kernel::Standings;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::error::Error;
use crate::version;

/// The number of this protocol.
pub(super) const PROTOCOL: u32 = 1;

/// The longest line, in bytes. A task and a manifest of 1 MiB each take 12 MiB at most, where
/// every byte of them needs an escape.
const LINE_MAX: usize = 16 << 20;

/// How long a line may take to come in or to go out.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Who speaks. Further fields may be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// `aosk`.
    pub(super) hello: String,
    pub(super) protocol: u32,
    /// The version, such as `0.1.0`.
    pub(super) version: String,
    /// The version with the commit that it was built from.
    pub(super) build: String,
    pub(super) os_pid: u32,
}

impl Hello {
    /// What this program says of itself.
    pub(super) fn own() -> Self {
        Self {
            hello: "aosk".to_owned(),
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: version::LINE.to_owned(),
            os_pid: std::process::id(),
        }
    }
}

/// What may be asked of a daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Ask {
    /// Begin an agent.
    Spawn(Box<Order>),
    /// Look at the inbox now.
    Nudge,
    /// Say how things are.
    Status,
    /// Say how quotas and devices stand, and who waits for them.
    Standings,
    /// Let an owner and all below it use that much from now on.
    Limit {
        /// Who.
        owner: QuotaOwner,
        /// How much.
        limits: Limits,
    },
    /// Stop between two steps.
    Stop,
}

/// An agent to begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    /// The manifest as TOML, so that it is checked where it is used; its workspace is absolute.
    pub(crate) manifest: String,
    /// The model that it asks.
    pub(crate) model: String,
    /// Where the client's own environment would ask it. The daemon's may say otherwise.
    pub(crate) endpoint: String,
    /// What it shall do.
    pub(crate) task: String,
    /// The name that its pid is made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) alias: Option<String>,
    /// The most that it may spend.
    pub(crate) spend_limit: MicroDollars,
}

/// What a daemon answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Answer {
    /// The agent is durable and runs.
    Spawned {
        /// Which it is.
        pid: Pid,
    },
    /// The inbox is looked at.
    Nudged,
    /// How things are.
    Status(Status),
    /// How quotas and devices stand, and who waits for them.
    Standings(Box<Standings>),
    /// The limit holds.
    Limited,
    /// It stops.
    Stopping,
    /// It cannot do that.
    Refused(Refused),
}

/// How a daemon is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Status {
    /// When it began, in milliseconds since 1970.
    pub(super) since: u64,
    /// After how many seconds without anything to do it stops; 0: never.
    pub(super) idle_stop: u32,
    /// How many processes are in memory.
    pub(super) in_memory: usize,
    /// How many have not ended; unknown while the store does not answer.
    pub(super) unfinished: Option<usize>,
    /// What keeps all of them from beginning anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) waits_for: Option<String>,
    /// Those that it cannot go on with.
    pub(super) broken: Vec<Broken>,
}

/// A process that a daemon cannot go on with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Broken {
    pub(crate) pid: Pid,
    pub(crate) code: String,
    pub(crate) message: String,
}

/// An error on its way to whom it concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refused {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) help: Vec<String>,
}

impl From<&Error> for Refused {
    fn from(error: &Error) -> Self {
        let code = error.code.as_str().to_owned();
        Self { code, message: error.said(), help: error.helps().to_vec() }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let code = Code::ALL.iter().find(|code| code.as_str() == refused.code);
        let error = Self::new(code.copied().unwrap_or(Code::CliDaemon), refused.message);
        refused.help.into_iter().fold(error, Self::help)
    }
}

/// Why a line could not be sent or understood.
#[derive(Debug)]
pub(super) enum Fault {
    /// The other side has gone.
    Gone(std::io::Error),
    /// It takes too long.
    Slow,
    /// The line is longer than [`LINE_MAX`].
    TooLong,
    /// The line is not what it should be.
    Garbled(serde_json::Error),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gone(error) => write!(f, "the other side has gone: {error}"),
            Self::Slow => write!(f, "no whole line within {} seconds", PATIENCE.as_secs()),
            Self::TooLong => write!(f, "a line of more than {LINE_MAX} bytes"),
            Self::Garbled(error) => write!(f, "a line that is not understood: {error}"),
        }
    }
}

/// A connection, of either side.
pub(super) struct Wire {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Wire {
    pub(super) fn new(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self { reader: BufReader::new(reader), writer }
    }

    /// Sends a line.
    pub(super) async fn send(&mut self, said: &impl Serialize) -> Result<(), Fault> {
        let mut line = serde_json::to_vec(said).map_err(Fault::Garbled)?;
        line.push(b'\n');
        if line.len() > LINE_MAX {
            return Err(Fault::TooLong);
        }
        let sent = timeout(PATIENCE, self.writer.write_all(&line)).await;
        sent.map_err(|_| Fault::Slow)?.map_err(Fault::Gone)
    }

    /// The next line; `None` where the other side has said all it had to say.
    pub(super) async fn hear<T: DeserializeOwned>(
        &mut self,
        patience: Duration,
    ) -> Result<Option<T>, Fault> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.reader).take(LINE_MAX as u64);
        let read = timeout(patience, bounded.read_until(b'\n', &mut line)).await;
        read.map_err(|_| Fault::Slow)?.map_err(Fault::Gone)?;
        match line.last() {
            None => Ok(None),
            Some(b'\n') => serde_json::from_slice(&line).map(Some).map_err(Fault::Garbled),
            Some(_) if line.len() == LINE_MAX => Err(Fault::TooLong),
            Some(_) => Err(Fault::Gone(std::io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_below_at_and_above_the_longest() {
        for (bytes, whole) in [(LINE_MAX - 1, true), (LINE_MAX, true), (LINE_MAX + 1, false)] {
            let (near, far) = UnixStream::pair().expect("a pair");
            // A JSON string has its two quotes, and the line its end.
            let line = format!("\"{}\"\n", "x".repeat(bytes - 3));
            let writer = tokio::spawn(async move {
                let mut near = near;
                // The other side may hang up in the middle of a line that is too long.
                let _ = near.write_all(line.as_bytes()).await;
            });
            let heard = Wire::new(far).hear::<String>(PATIENCE).await;
            match heard {
                Ok(Some(text)) => assert!(whole && text.len() == bytes - 3),
                Err(Fault::TooLong) => assert!(!whole),
                other => panic!("{bytes}: {other:?}"),
            }
            writer.await.expect("written");
            let (near, _far) = UnixStream::pair().expect("a pair");
            if !whole {
                let text = "x".repeat(bytes - 3);
                let sent = Wire::new(near).send(&text).await;
                assert!(matches!(sent, Err(Fault::TooLong)), "{sent:?}");
            }
        }
    }

    #[tokio::test]
    async fn silence_garbage_and_half_a_line_are_faults() {
        let hear = |said: &'static str, stays: bool| async move {
            let (mut near, far) = UnixStream::pair().expect("a pair");
            near.write_all(said.as_bytes()).await.expect("written");
            let kept = stays.then_some(near);
            let heard = Wire::new(far).hear::<Ask>(Duration::from_millis(50)).await;
            drop(kept);
            heard
        };
        assert!(matches!(hear("", true).await, Err(Fault::Slow)));
        assert!(matches!(hear("{\"ask\":\"sta", true).await, Err(Fault::Slow)));
        assert!(matches!(hear("{\"ask\":\"sta", false).await, Err(Fault::Gone(_))));
        assert!(matches!(hear("", false).await, Ok(None)));
        for garbage in ["GET / HTTP/1.1\r\n", "{\"ask\":\"dance\"}\n", "{\"ask\":\"spawn\"}\n"] {
            assert!(matches!(hear(garbage, true).await, Err(Fault::Garbled(_))), "{garbage}");
        }
        assert!(matches!(hear("{\"ask\":\"stop\"}\n", true).await, Ok(Some(Ask::Stop))));
    }

    #[test]
    fn hello_and_stop_stay_as_they_are() {
        let newer = r#"{"hello":"aosk","protocol":9,"version":"2.0.0","build":"2.0.0","os_pid":1,"mood":"good"}"#;
        let hello: Hello = serde_json::from_str(newer).expect("a newer hello is understood");
        assert_eq!((hello.protocol, hello.version.as_str()), (9, "2.0.0"));
        assert_eq!(serde_json::to_string(&Ask::Stop).expect("JSON"), r#"{"ask":"stop"}"#);
        assert_eq!(
            serde_json::to_string(&Answer::Stopping).expect("JSON"),
            r#"{"answer":"stopping"}"#
        );
    }
}
