//! Serving those who come: each in a task of its own, none of them trusted to be quick.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use aosk_abi::{Code, Manifest, MicroDollars, Pid, Tenant, Timestamp};
use aosk_kernel::{Kernel, Spawn, Stop};
use aosk_ports::{ProcessFilter, Standing};
use tokio::net::UnixStream;
use tokio::sync::Notify;

use super::activity::Activity;
use super::protocol::{
    Answer, Ask, Broken, Fault, Hello, Order, PATIENCE, PROTOCOL, Refused, Status, Wire,
};
use crate::diagnostics;
use crate::endpoints::Endpoints;
use crate::error::Error;
use crate::figures::moment;
use crate::wiring::{Owned, kernel_error};

/// How many clients are served at once; further ones are cut off. Each is there for some
/// milliseconds, but may hold a line of 16 MiB.
const CLIENTS: usize = 64;

/// How many processes that it cannot go on with a status names.
const BROKEN: usize = 100;

/// What a daemon is.
pub(super) struct Daemon {
    pub(super) kernel: Kernel,
    pub(super) owned: Owned,
    pub(super) endpoints: Arc<Endpoints>,
    pub(super) activity: Arc<Activity>,
    /// Woken when a client asks the daemon to stop.
    pub(super) stop: Notify,
    /// When it began, in milliseconds since 1970.
    pub(super) since: u64,
    pub(super) idle_stop: u32,
}

impl Daemon {
    /// Serves a client until it leaves.
    pub(super) async fn serve(self: Arc<Self>, stream: UnixStream) {
        let Some(_visit) = self.activity.visit(CLIENTS) else {
            tracing::warn!("a client was cut off: {CLIENTS} others are being served");
            return;
        };
        match stream.peer_cred() {
            Ok(peer) if is_own(peer.uid()) => {}
            Ok(peer) => {
                tracing::warn!("a client of user {} was cut off", peer.uid());
                return;
            }
            Err(error) => {
                tracing::warn!("a client was cut off: who it is cannot be told: {error}");
                return;
            }
        }
        let mut wire = Wire::new(stream);
        if let Err(fault) = self.converse(&mut wire).await {
            tracing::debug!("a client was cut off: {fault}");
            if matches!(fault, Fault::TooLong | Fault::Garbled(_)) {
                let error =
                    Error::new(Code::CliDaemon, format!("the daemon does not understand: {fault}"));
                // It may not be listening.
                let _ = wire.send(&refuse(&error)).await;
            }
        }
    }

    async fn converse(&self, wire: &mut Wire) -> Result<(), Fault> {
        let Some(client) = wire.hear::<Hello>(PATIENCE).await? else {
            return Ok(());
        };
        wire.send(&Hello::own()).await?;
        while let Some(ask) = wire.hear::<Ask>(PATIENCE).await? {
            let answer = if ask != Ask::Stop && client.protocol != PROTOCOL {
                refuse(&Error::new(
                    Code::CliDaemon,
                    format!(
                        "this daemon speaks protocol {PROTOCOL}, and aosk {} asks in protocol {}",
                        client.version, client.protocol
                    ),
                ))
            } else {
                self.answer(ask).await
            };
            wire.send(&answer).await?;
        }
        Ok(())
    }

    async fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::Spawn(order) => match self.spawn(*order).await {
                Ok(pid) => Answer::Spawned { pid },
                Err(error) => refuse(&error),
            },
            Ask::Nudge => match self.kernel.nudge() {
                Ok(()) => Answer::Nudged,
                Err(error) => refuse(&kernel_error(error)),
            },
            Ask::Status => match self.status().await {
                Ok(status) => Answer::Status(status),
                Err(error) => refuse(&error),
            },
            Ask::Standings => Answer::Standings(Box::new(self.kernel.standings().await)),
            Ask::Limit { owner, limits } => match self.kernel.limit(&owner, limits).await {
                Ok(()) => {
                    tracing::info!(target: diagnostics::TOLD, "{owner} may use {limits:?} now");
                    Answer::Limited
                }
                Err(error) => refuse(&kernel_error(error)),
            },
            Ask::Stop => {
                // Before it says so: whoever comes after that is told to come again.
                self.kernel.stop(Stop::Graceful);
                self.stop.notify_one();
                Answer::Stopping
            }
        }
    }

    async fn spawn(&self, order: Order) -> Result<Pid, Error> {
        let Order { manifest, model, endpoint, task, alias, spend_limit } = order;
        let mut manifest = Manifest::from_toml(&manifest)
            .map_err(|error| Error::new(Code::Manifest, error.message))?;
        if manifest.workspace.as_ref().is_some_and(|folder| !folder.starts_with('/')) {
            let message = "the workspace is not absolute: a daemon stands in no folder";
            return Err(Error::new(Code::ToolWorkspace, message));
        }
        let limit = manifest.spend_limit().map_or(spend_limit, |own| own.min(spend_limit));
        manifest.quota.spend_usd = Some(dollars(limit));
        let (_, own) = self.endpoints.select(&model)?;
        if own.base() != endpoint {
            return Err(Error::new(
                Code::CliDaemon,
                format!(
                    "the daemon asks the model {model:?} at {}, and your environment says {endpoint}",
                    own.base()
                ),
            )
            .help("it keeps the environment that it was started in"));
        }
        let name = manifest.name.clone();
        let request = Spawn { manifest, model, task, alias, parent: None };
        let pid = self.kernel.spawn(request).await.map_err(kernel_error)?;
        tracing::info!(target: diagnostics::TOLD, "{name} ({pid}) spawned");
        Ok(pid)
    }

    async fn status(&self) -> Result<Status, Error> {
        let waits_for = self.waits_for();
        // A server that is away would be waited for, and whoever asks wants to know just that.
        let unfinished = match &waits_for {
            Some(_) => None,
            None => {
                let (tenant, filter) = (Tenant::local(), ProcessFilter::Unfinished);
                Some(self.owned.store.processes(&tenant, filter).await?.len())
            }
        };
        let broken = self.kernel.broken(BROKEN).into_iter();
        let broken = broken
            .map(|(pid, code, message)| Broken { pid, code: code.as_str().to_owned(), message })
            .collect();
        Ok(Status {
            since: self.since,
            idle_stop: self.idle_stop,
            in_memory: self.kernel.residents(),
            unfinished,
            waits_for,
            broken,
        })
    }
}

impl Daemon {
    /// What keeps all agents from beginning anything; `None` where nothing does.
    fn waits_for(&self) -> Option<String> {
        if let Some((since, error)) = self.owned.outage() {
            let since = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            let since = Timestamp::from_millis(u64::try_from(since).unwrap_or(u64::MAX));
            let since = moment(since);
            return Some(format!("the database, which has not answered since {since}: {error}"));
        }
        match self.kernel.standing() {
            Standing::Held { .. } => None,
            Standing::Lapsed => Some("its lease, which could not be renewed in time".to_owned()),
            Standing::Lost => {
                Some("nothing any more: others have taken its agents over".to_owned())
            }
        }
    }
}

fn refuse(error: &Error) -> Answer {
    Answer::Refused(Refused::from(error))
}

/// Whether that is the user of this program.
fn is_own(user: u32) -> bool {
    user == rustix::process::geteuid().as_raw()
}

/// The amount as manifests write it.
fn dollars(amount: MicroDollars) -> f64 {
    amount.0 as f64 / 1e6
}
