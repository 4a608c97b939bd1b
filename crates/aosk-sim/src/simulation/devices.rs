//! The tools and the tokenizer as one machine reaches them.
//!
//! The effects of tools belong to the world and outlive every machine. What a
//! machine holds of them ends with its power, and the auditor sees what goes through it: that is
//! the moment at which an intent has to be durable.

use std::sync::{Arc, Mutex, PoisonError};

use aosk_abi::{Effect, Ppm, Tokens, ToolResult, ToolSpec};
use aosk_ports::{Tokenizer, Tool, ToolContext};
use futures::future::BoxFuture;
use serde_json::{Map, Value};

use super::auditor::Auditor;
use crate::flaw::Flaw;
use crate::power::Power;
use crate::tokens::SimTokenizer;
use crate::tools::SimTool;

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
    /// What the machine's tools gave last, for a flaw.
    last: Last,
}

/// What the tools of a machine gave last.
pub(super) type Last = Arc<Mutex<Option<ToolResult>>>;

impl Handle {
    pub(super) fn new(
        tool: Arc<SimTool>,
        power: &Power,
        auditor: &Auditor,
        flaw: Option<Flaw>,
        last: &Last,
    ) -> Self {
        let mut spec = tool.spec().clone();
        if flaw == Some(Flaw::BoldTool) && spec.effect == Effect::Unsafe {
            spec.effect = Effect::Idempotent;
        }
        let (power, auditor, last) = (power.clone(), auditor.clone(), last.clone());
        Self { spec, tool, power, auditor, flaw, last }
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
        let last = self.last.clone();
        self.power.guard(Box::pin(async move {
            let run = auditor.ran(&context, &tool.spec().name, tool.spec().effect);
            if flaw == Some(Flaw::FreshKeys) {
                context.idempotency_key.push_str(&format!("-{}", run.times));
            }
            let result = tool.call(context, arguments).await;
            run.came_to(&result);
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            match last.replace(result.clone()) {
                Some(other) if flaw == Some(Flaw::CrossedResults) => other,
                _ => result,
            }
        }))
    }
}
