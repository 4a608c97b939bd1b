//! Crashes: the kernel fails inside itself while it executes a process.
//!
//! A panic is contained and written down here and now. What takes the whole program with it is
//! known to the next kernel from the flight recorder, and written down before anything else
//! reaches the process.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use aosk_abi::{Blocked, BlockedOn, Code, Crashed, Epoch, Pid, What};
use futures::FutureExt;
use tokio::task::JoinError;

use super::Kernel;
use crate::error::Error;
use crate::process::{Process, Rest, Sent};

/// What is known of a crash that nobody lived to tell.
const DIED: &str = "the kernel died while it executed this process";

/// How many crashes in a row, without a reply between them, are too many to be chance.
const CRASHES: u64 = 2;

impl Kernel {
    /// Writes down that the process's driver fell over, behind what that sent; what the process
    /// rests for now.
    pub(super) async fn note_crash(
        &self,
        pid: Pid,
        epoch: Epoch,
        sent: &Sent,
        message: &str,
    ) -> Result<Option<Rest>, Error> {
        if let Err(error) = sent.heard().await {
            tracing::warn!(%pid, %error, "what it wrote before it crashed is lost");
        }
        let mut process = self.take_in(pid, Some(epoch)).await?;
        crash(&mut process, message).await?;
        Ok(process.rest())
    }

    /// Writes down, once, that an earlier kernel fell over while it executed those whom its flight
    /// recorder names. Nobody is taken over before that: what comes for such a process meets one
    /// that has crashed. The second time in a row it waits for a person's look.
    pub(super) async fn hear_recorder(&self) {
        let heard = async {
            let Some(recorder) = &self.shared.parts.recorder else {
                return;
            };
            for pid in recorder.suspects() {
                tracing::warn!(%pid, "{DIED}");
                let noted = async {
                    let mut process = self.take_in(pid, None).await?;
                    crash(&mut process, DIED).await
                };
                match noted.await {
                    Ok(()) => recorder.clear(pid),
                    // Its first event never became durable, or another node goes on with it: no
                    // longer one that takes kernels down.
                    Err(error)
                        if matches!(error.code(), Code::StoreUnknownProcess | Code::StoreOwned) =>
                    {
                        recorder.clear(pid);
                    }
                    Err(error) => {
                        tracing::warn!(%pid, %error, "its crash cannot be written down; the next kernel tries again");
                    }
                }
            }
        };
        self.accused.get_or_init(|| heard).await;
    }
}

/// Writes down that a kernel fell over while it executed the process, unless that has ended.
async fn crash(process: &mut Process, message: &str) -> Result<(), Error> {
    if process.image.state.is_final() {
        return Ok(());
    }
    let message = process.shared.parts.secrets.text(message).into_owned();
    let content = process.contents.seal_aside(message.into_bytes());
    let crashed = Crashed { message: content.reference() };
    process.emit_with(What::Crashed(crashed), [content])?;
    let crashes = process.image.crashes;
    if crashes >= CRASHES {
        process.emit(What::Blocked(Blocked { on: BlockedOn::Review { crashes }, op: None }))?;
    }
    process.commit().await
}

/// Runs `future`; a panic in it is its words.
pub(super) async fn contained<T>(future: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(future).catch_unwind().await.map_err(words)
}

/// The error of a process that cannot be brought in because the kernel fails inside itself.
pub(super) fn panicked(pid: Pid, words: &str) -> Error {
    Error::refused(
        Code::KernelPanic,
        format!(
            "the kernel failed inside itself while it brought process {pid} in ({words}); its \
             journal is intact: resume it, and report this"
        ),
    )
}

pub(super) fn why(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => words(payload),
        Err(_) => "its task was cancelled".to_owned(),
    }
}

/// The words of a panic.
fn words(payload: Box<dyn Any + Send>) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}
