//! A workspace and the built-in tools on it.

use std::path::PathBuf;
use std::sync::Arc;

use aosk_abi::{Pid, Tenant, Timestamp, ToolError, ToolResult};
use aosk_ports::{Sandbox, ToolContext};
use aosk_sandbox::Workspace;
use aosk_tools::Registry;
use serde_json::Value;

/// The bytes of a result that a model reads of it, unless someone decides otherwise.
const BUDGET: usize = 16 * 1024;

pub struct Desk {
    folder: tempfile::TempDir,
    sandbox: Arc<dyn Sandbox>,
    tools: Registry,
}

impl Desk {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let sandbox = Arc::new(Workspace::open(folder.path()).expect("a host with openat2"));
        Self { folder, sandbox, tools: Registry::builtin() }
    }

    pub fn with_sandbox(sandbox: impl Sandbox + 'static) -> Self {
        Self { sandbox: Arc::new(sandbox), ..Self::new() }
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(path), bytes).expect("file");
    }

    pub fn tools(&self) -> &Registry {
        &self.tools
    }

    pub async fn call(&self, tool: &str, arguments: Value) -> ToolResult {
        let Value::Object(arguments) = arguments else { panic!("{arguments} is no object") };
        let context = ToolContext {
            tenant: Tenant::local(),
            pid: Pid::from_alias("desk"),
            idempotency_key: "desk-1".to_owned(),
            now: Timestamp::from_millis(1_790_000_000_999),
            sandbox: self.sandbox.clone(),
        };
        self.tools.get(tool).expect("built in").call(context, arguments).await
    }

    /// What the model reads.
    pub async fn text(&self, tool: &str, arguments: Value) -> String {
        self.call(tool, arguments).await.to_text(BUDGET)
    }

    pub async fn error(&self, tool: &str, arguments: Value) -> ToolError {
        let result = self.call(tool, arguments.clone()).await;
        assert!(!result.success && result.data.is_null(), "{tool} {arguments}: {result:?}");
        result.error.expect("a failed result has an error")
    }
}
