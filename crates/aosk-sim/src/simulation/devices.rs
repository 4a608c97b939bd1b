//! The devices as one machine reaches them.
//!
//! The endpoint and the effects of tools belong to the world and outlive every machine. What a
//! machine holds of them ends with its power, and the auditor sees what goes through it: that is
//! the moment at which an intent has to be durable.

use std::sync::Arc;

use aosk_abi::{Effect, Hash, MicroDollars, Ppm, Tokens, ToolResult, ToolSpec};
use aosk_ports::{
    CallError, Device, DeviceInfo, Prices, Progress, RenderError, Rendered, Reply, Request,
    Tokenizer, Tool, ToolContext,
};
use futures::future::BoxFuture;
use serde_json::{Map, Value};

use super::auditor::Auditor;
use crate::flaw::Flaw;
use crate::model::SimModel;
use crate::power::Power;
use crate::tokens::SimTokenizer;
use crate::tools::SimTool;

/// The wire from a machine to the model.
pub(super) struct Wire {
    info: DeviceInfo,
    model: Arc<SimModel>,
    power: Power,
    auditor: Auditor,
    flaw: Option<Flaw>,
}

impl Wire {
    pub(super) fn new(
        model: &Arc<SimModel>,
        power: &Power,
        auditor: &Auditor,
        flaw: Option<Flaw>,
    ) -> Self {
        let mut info = model.info().clone();
        match flaw {
            Some(Flaw::HalfPrices) => info.prices = halved(info.prices),
            Some(Flaw::ExtraSlot) => info.slots += 1,
            Some(Flaw::WideWindow) => info.window += Tokens(info.window.0 / 2),
            _ => {}
        }
        Self { info, model: model.clone(), power: power.clone(), auditor: auditor.clone(), flaw }
    }
}

fn halved(prices: Prices) -> Prices {
    let half = |price: MicroDollars| MicroDollars(price.0 / 2);
    Prices {
        input: half(prices.input),
        cached: half(prices.cached),
        cache_write: half(prices.cache_write),
        output: half(prices.output),
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
            self.auditor.asked(rendered, request);
            self.model.call(rendered, request, progress).await
        }))
    }
}

/// The tokenizer of the machines' model; with a flaw, one that denies its error.
pub(super) struct Counter(pub(super) Option<Flaw>);

impl Tokenizer for Counter {
    fn id(&self) -> String {
        SimTokenizer.id()
    }

    fn count(&self, text: &str) -> Tokens {
        SimTokenizer.count(text)
    }

    fn per_message(&self) -> Tokens {
        SimTokenizer.per_message()
    }

    fn error(&self) -> Ppm {
        if self.0 == Some(Flaw::ShortCount) { Ppm(0) } else { SimTokenizer.error() }
    }

    fn observe(&self, counted: Tokens, reported: Tokens) {
        SimTokenizer.observe(counted, reported);
    }
}

/// A machine's handle on a tool.
pub(super) struct Handle {
    spec: ToolSpec,
    tool: Arc<SimTool>,
    power: Power,
    auditor: Auditor,
    flaw: Option<Flaw>,
}

impl Handle {
    pub(super) fn new(
        tool: Arc<SimTool>,
        power: &Power,
        auditor: &Auditor,
        flaw: Option<Flaw>,
    ) -> Self {
        let mut spec = tool.spec().clone();
        if flaw == Some(Flaw::BoldTool) && spec.effect == Effect::Unsafe {
            spec.effect = Effect::Idempotent;
        }
        Self { spec, tool, power: power.clone(), auditor: auditor.clone(), flaw }
    }
}

impl Tool for Handle {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn isolation(&self) -> &'static str {
        self.tool.isolation()
    }

    fn call(
        &self,
        mut context: ToolContext,
        arguments: Map<String, Value>,
    ) -> BoxFuture<'static, ToolResult> {
        let (tool, auditor, flaw) = (self.tool.clone(), self.auditor.clone(), self.flaw);
        self.power.guard(Box::pin(async move {
            let run = auditor.ran(&context, &tool.spec().name, tool.spec().effect);
            if flaw == Some(Flaw::FreshKeys) {
                context.idempotency_key.push_str(&format!("-{}", run.times));
            }
            tool.call(context, arguments).await
        }))
    }
}
