//! The wires from one machine to the models.
//!
//! The auditor sees what goes through a wire: when a call leaves, which is the moment at which its
//! intent has to be durable, and what it really came to, before the machine hears of it.

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aosk_abi::{Code, FailureKind, Hash, MicroDollars, Tokens};
use aosk_kernel::{Connect, Error, Model};
use aosk_ports::{
    CallError, Device, DeviceInfo, Prices, Progress, RenderError, Rendered, Reply, Request,
};
use futures::future::BoxFuture;

use super::auditor::Auditor;
use super::devices::Counter;
use super::till::Till;
use crate::dice::{Chance, Dice};
use crate::flaw::Flaw;
use crate::model::SimModel;
use crate::power::Power;
use crate::tokens;

/// How late a call leaves on a flawed wire.
const LATE: Duration = Duration::from_secs(10);

/// The wire from a machine to a model.
pub(super) struct Wire {
    info: DeviceInfo,
    model: Arc<SimModel>,
    power: Power,
    auditor: Auditor,
    till: Arc<Till>,
    /// What all machines spend of a budget that they share.
    treasury: Option<Arc<Till>>,
    flaw: Option<Flaw>,
    /// What each conversation sent last, for a flaw.
    last: Mutex<HashMap<String, Rendered>>,
}

impl Wire {
    pub(super) fn new(
        model: &Arc<SimModel>,
        power: &Power,
        auditor: &Auditor,
        (till, treasury): (&Arc<Till>, Option<&Arc<Till>>),
        flaw: Option<Flaw>,
    ) -> Self {
        let mut info = model.info().clone();
        match flaw {
            Some(Flaw::HalfPrices) => info.prices = priced(info.prices, |price| price / 2),
            Some(Flaw::DoublePrices) => info.prices = priced(info.prices, |price| price * 2),
            Some(Flaw::ExtraSlot) => info.slots += 1,
            Some(Flaw::WideWindow) => info.window += Tokens(info.window.0 / 2),
            _ => {}
        }
        Self {
            info,
            model: model.clone(),
            power: power.clone(),
            auditor: auditor.clone(),
            till: till.clone(),
            treasury: treasury.cloned(),
            flaw,
            last: Mutex::default(),
        }
    }

    /// The same wire under the name of another model.
    pub(super) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.info.name);
        self
    }

    fn last(&self) -> MutexGuard<'_, HashMap<String, Rendered>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(
        &self,
        rendered: &Rendered,
        request: &Request,
        progress: &dyn Progress,
    ) -> Result<Reply, CallError> {
        let again = self.render(request).ok();
        let sent = (rendered, again.as_ref());
        let tills = (&*self.till, self.treasury.as_deref());
        let asked = self.auditor.asked(&self.model, tills, sent, request);
        if self.model.panics(rendered) {
            // Unwinds without the hook that would print a trace for every one of them.
            resume_unwind(Box::new("the simulated device panicked"));
        }
        let mut answer = self.model.call(rendered, request, progress).await;
        if self.flaw == Some(Flaw::OddCode)
            && let Err(error) = &mut answer
            && error.kind == FailureKind::Fatal
        {
            error.code = Code::LlmAuth;
        }
        let prices = self.model.prices();
        let ceiling = prices.ceiling(tokens::of_request(request), request.max_output, request.life);
        for till in std::iter::once(&self.till).chain(&self.treasury) {
            till.end(ceiling, prices, &answer);
        }
        if let Some(asked) = asked {
            self.auditor.answered(asked, prices, &answer);
        }
        answer
    }
}

fn priced(prices: Prices, change: impl Fn(u64) -> u64) -> Prices {
    let changed = |price: MicroDollars| MicroDollars(change(price.0));
    Prices {
        input: changed(prices.input),
        cached: changed(prices.cached),
        cache_write: changed(prices.cache_write),
        cache_write_long: changed(prices.cache_write_long),
        output: changed(prices.output),
    }
}

impl Device for Wire {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn render(&self, request: &Request) -> Result<Rendered, RenderError> {
        let mut rendered = self.model.render(request)?;
        if self.flaw == Some(Flaw::VolatileHead) {
            let mut bytes = (request.messages.len() as u64).to_le_bytes().to_vec();
            bytes.extend_from_slice(&rendered.prompt_bytes);
            rendered.prompt = Hash::of(&bytes);
            rendered.prompt_len = bytes.len() as u64;
            rendered.prompt_bytes = bytes.into();
        }
        Ok(rendered)
    }

    fn call<'a>(
        &'a self,
        rendered: &'a Rendered,
        request: &'a Request,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<Reply, CallError>> {
        self.power.guard(Box::pin(async move {
            if self.flaw == Some(Flaw::LateCall) {
                tokio::time::sleep(LATE).await;
            }
            let stale = (self.flaw == Some(Flaw::StalePrompt))
                .then(|| self.last().insert(request.cache_key.clone(), rendered.clone()))
                .flatten();
            let answer = self.send(stale.as_ref().unwrap_or(rendered), request, progress).await;
            misheard(answer, self.flaw)
        }))
    }
}

/// What a machine with a flaw hears in place of an answer.
fn misheard(answer: Result<Reply, CallError>, flaw: Option<Flaw>) -> Result<Reply, CallError> {
    match (flaw, answer) {
        (Some(Flaw::AlteredReply), Ok(mut reply)) => {
            reply.parts.pop();
            Ok(reply)
        }
        (Some(Flaw::HastyRetry), Err(error)) => Err(CallError { retry_after: None, ..error }),
        (_, answer) => answer,
    }
}

/// Connects a machine to the second model, at its first use, unless that fails.
pub(super) struct Exchange {
    pub(super) spare: Arc<Wire>,
    pub(super) counter: Arc<Counter>,
    pub(super) power: Power,
    pub(super) unreachable: Chance,
    pub(super) dice: Mutex<Dice>,
}

impl Connect for Exchange {
    fn connect<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<Model, Error>> {
        self.power.guard(Box::pin(async move {
            let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
            if model != SimModel::SPARE || dice.hits(self.unreachable) {
                let (code, message) = (Code::LlmUnreachable, format!("no way to {model:?} now"));
                return Err(Error::Refused { code, message });
            }
            Ok(Model { device: self.spare.clone(), tokenizer: self.counter.clone() })
        }))
    }
}
