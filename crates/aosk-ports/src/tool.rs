//! Tools: what an agent can do besides speaking.

use std::sync::Arc;

use aosk_abi::{Pid, Tenant, ToolResult, ToolSpec};
use futures::future::BoxFuture;

use crate::sandbox::Sandbox;

/// What a tool may know and touch in one call.
#[derive(Clone)]
pub struct ToolContext {
    /// Whose call it is.
    pub tenant: Tenant,
    /// Which process calls.
    pub pid: Pid,
    /// The same for every attempt of one call; a tool that is `idempotent` acts once per key.
    pub idempotency_key: String,
    /// The wall clock at the call, which the journal records.
    pub now: aosk_abi::Timestamp,
    /// The only way to files.
    pub sandbox: Arc<dyn Sandbox>,
}

/// A tool. It runs as a task of its own; a panic in it becomes a failed result.
pub trait Tool: Send + Sync {
    /// What the model is told of it.
    fn spec(&self) -> &ToolSpec;

    /// How the tool is isolated from the host: `workspace` where it reaches files through the
    /// sandbox only (the journal then says how that confines), `none` for the operator's own
    /// in-process code.
    fn isolation(&self) -> &'static str;

    /// Runs it. `arguments` is a JSON object; checking it against the schema is the tool's part.
    /// What the model should mend is a failed [`ToolResult`].
    fn call(
        &self,
        context: ToolContext,
        arguments: serde_json::Map<String, serde_json::Value>,
    ) -> BoxFuture<'static, ToolResult>;
}
