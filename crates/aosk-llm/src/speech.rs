//! How a model is spoken to: its dialect, its name and where it leaves the common path.
//!
//! What a model refuses is known before anything is sent, and every call of an agent asks for it
//! alike. So it is one question, [`Speech::accepts`], asked before an agent begins and again, with
//! the same answer, whenever a request is rendered: an agent that got past the first never fails at
//! the second.

use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{Hash, ToolCalls};
use aosk_ports::{Demand, RenderError, Rendered, Request};

use crate::quirks::Quirks;
use crate::table::Dialect;
use crate::{anthropic, openai};

/// The highest temperature of Anthropic's dialect; a manifest may ask for up to 2.
const ANTHROPIC_TEMPERATURE_MAX: f64 = 1.0;

/// How one model of one endpoint is spoken to.
#[derive(Debug, Clone)]
pub(crate) struct Speech {
    pub dialect: Dialect,
    /// What the endpoint calls the model.
    pub model: String,
    /// Where it leaves the common path.
    pub quirks: Quirks,
    /// The bound of a call's time.
    pub timeout: Duration,
}

impl Speech {
    /// Whether the model takes what an agent asks for in every call.
    pub fn accepts(&self, demand: &Demand<'_>) -> Result<(), RenderError> {
        let is_anthropic = self.dialect == Dialect::Anthropic;
        let refused = |what: &str, setting: &str, table: &str| {
            Err(RenderError(format!(
                "the model {:?} does not take {what}: remove `{setting}` from the manifest{table}, \
                 or name another model",
                self.model
            )))
        };
        if let Some(temperature) = demand.sampling.temperature {
            let setting = format!("temperature = {temperature}");
            if !self.quirks.temperature {
                return refused("a temperature", &setting, "'s [sampling]");
            }
            if is_anthropic && temperature > ANTHROPIC_TEMPERATURE_MAX {
                return refused("a temperature above 1", &setting, "'s [sampling]");
            }
        }
        if let Some(seed) = demand.sampling.seed
            && is_anthropic
        {
            return refused("a seed", &format!("seed = {seed}"), "'s [sampling]");
        }
        let constrained = demand.tool_calls == ToolCalls::Constrained && demand.has_tools;
        if constrained && (is_anthropic || !self.quirks.json_schema) {
            return refused("a schema for its replies", "tool_calls = \"constrained\"", "");
        }
        Ok(())
    }

    /// The bytes of `request`.
    pub fn render(&self, request: &Request) -> Result<Rendered, RenderError> {
        self.accepts(&Demand {
            sampling: &request.sampling,
            tool_calls: request.tool_calls,
            has_tools: !request.tools.is_empty(),
        })?;
        match self.dialect {
            Dialect::Openai => openai::render(self, request),
            Dialect::Anthropic => anthropic::render(self, request),
        }
    }

    /// What leaves: `body`, of which `prompt` is the part that only grows.
    pub fn rendered(&self, render: &str, prompt: Arc<[u8]>, body: String) -> Rendered {
        Rendered {
            render: render.to_owned(),
            body: body.into_bytes().into(),
            prompt: Hash::of(&prompt),
            prompt_len: prompt.len() as u64,
            prompt_bytes: prompt,
            timeout: self.timeout,
        }
    }
}
