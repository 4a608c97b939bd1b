//! The built-in tools.
//!
//! Each is a spec, a struct of arguments and a plain function; what they have in common (checking
//! the arguments, leaving the event loop before touching files) stands here once.

mod calculator;
mod list_dir;
mod now;
mod read_file;
mod search_files;
mod write_file;

use std::sync::Arc;

use aosk_abi::{Effect, ToolError, ToolResult, ToolSpec};
use aosk_ports::{Tool, ToolContext};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::failure::{failed, into_result};
use crate::schema;

/// Every built-in tool.
pub fn all() -> [Arc<dyn Tool>; 6] {
    [
        Arc::new(calculator::tool()),
        Arc::new(list_dir::tool()),
        Arc::new(now::tool()),
        Arc::new(read_file::tool()),
        Arc::new(search_files::tool()),
        Arc::new(write_file::tool()),
    ]
}

/// Where a tool's function runs.
#[derive(Clone, Copy)]
enum Runs {
    /// In the calling task: done within a millisecond, touches nothing.
    Here,
    /// On a blocking thread.
    Blocking,
}

/// What a tool's function returns: what it found, or what the model has to mend.
type Outcome = Result<ToolResult, ToolError>;

/// A tool that is a function of its arguments.
struct Builtin<A> {
    spec: ToolSpec,
    runs: Runs,
    run: fn(&ToolContext, A) -> Outcome,
}

impl<A: DeserializeOwned + Send + 'static> Tool for Builtin<A> {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn isolation(&self) -> &'static str {
        "workspace"
    }

    fn call(
        &self,
        context: ToolContext,
        arguments: Map<String, Value>,
    ) -> BoxFuture<'static, ToolResult> {
        let arguments = match self.arguments(arguments) {
            Ok(arguments) => arguments,
            Err(error) => return std::future::ready(into_result(error)).boxed(),
        };
        let (run, runs) = (self.run, self.runs);
        let here = move || run(&context, arguments);
        async move {
            let outcome = match runs {
                Runs::Here => here(),
                Runs::Blocking => on_a_blocking_thread(here).await,
            };
            outcome.unwrap_or_else(into_result)
        }
        .boxed()
    }
}

async fn on_a_blocking_thread(run: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
    match tokio::task::spawn_blocking(run).await {
        Ok(outcome) => outcome,
        // The caller answers for panics of every tool in one place.
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(failed(
                "cancelled",
                "the tool was not run because the kernel is stopping",
                "call it again",
            )),
        },
    }
}

impl<A: DeserializeOwned> Builtin<A> {
    fn arguments(&self, arguments: Map<String, Value>) -> Result<A, ToolError> {
        let ToolSpec { name, parameters, .. } = &self.spec;
        schema::check(name, parameters, &arguments)?;
        serde_json::from_value(Value::Object(arguments))
            .map_err(|error| schema::invalid(name, parameters, &error.to_string()))
    }
}

fn spec(
    name: &str,
    effect: Effect,
    description: &str,
    properties: &Value,
    required: &[&str],
) -> ToolSpec {
    ToolSpec {
        name: name.to_owned(),
        description: description.to_owned(),
        parameters: json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        }),
        effect,
    }
}
