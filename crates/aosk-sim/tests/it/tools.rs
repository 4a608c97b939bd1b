//! The simulated tools: effects are counted, whatever the machine does.

use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{Pid, Tenant, Timestamp, ToolResult};
use aosk_ports::{Tool as _, ToolContext};
use aosk_sandbox::NoFiles;
use aosk_sim::{Chance, Ledger, Power, SimTool, ToolFaults};
use serde_json::{Value, json};

use crate::in_virtual_time;

/// A machine of one life with its tools.
struct Machine {
    tools: Vec<Arc<SimTool>>,
    power: Power,
}

impl Machine {
    fn boot(ledger: &Ledger, faults: &ToolFaults) -> Self {
        let power = Power::on();
        Self { tools: SimTool::all(1, ledger, &power, faults), power }
    }

    /// Calls a tool; `None` where the machine died before it answered.
    async fn call(&self, tool: &str, key: &str, arguments: Value) -> Option<ToolResult> {
        let tool = self.tools.iter().find(|t| t.spec().name == tool).expect("there is one");
        let context = ToolContext {
            tenant: Tenant::local(),
            pid: Pid::from_alias("p"),
            idempotency_key: key.to_owned(),
            now: Timestamp::default(),
            sandbox: Arc::new(NoFiles),
        };
        let Value::Object(arguments) = arguments else { panic!("not an object: {arguments}") };
        let call = tool.call(context, arguments);
        tokio::time::timeout(Duration::from_secs(600), call).await.ok()
    }
}

fn effects(ledger: &Ledger, key: &str) -> (u64, u64) {
    ledger.entries().get(key).map_or((0, 0), |entry| (entry.attempts, entry.effects))
}

#[test]
fn each_kind_of_effect_is_counted_as_it_is() {
    in_virtual_time(async {
        let ledger = Ledger::new();
        let machine = Machine::boot(&ledger, &ToolFaults::calm());
        for _ in 0..3 {
            for (tool, key, arguments) in [
                ("look_up", "pure", json!({"size": 10})),
                ("put_line", "idempotent", json!({"line": "a"})),
                ("send_line", "unsafe", json!({"line": "a"})),
            ] {
                let result = machine.call(tool, key, arguments).await.expect("answers");
                assert!(result.success, "{result:?}");
            }
        }
        assert_eq!(effects(&ledger, "pure"), (3, 0));
        assert_eq!(effects(&ledger, "idempotent"), (3, 1));
        assert_eq!(effects(&ledger, "unsafe"), (3, 3));
        assert!(ledger.entries().values().all(|entry| !entry.clash));
        machine.call("send_line", "unsafe", json!({"line": "b"})).await.expect("answers");
        assert!(ledger.entries()["unsafe"].clash, "other arguments under one key");
    });
}

#[test]
fn arguments_that_fit_no_schema_fail_without_an_effect() {
    in_virtual_time(async {
        let ledger = Ledger::new();
        let machine = Machine::boot(&ledger, &ToolFaults::calm());
        for arguments in [json!({}), json!({"line": 1}), json!({"line": {"a": 0.5}})] {
            let result = machine.call("send_line", "k", arguments).await.expect("answers");
            let error = result.error.expect("failed");
            assert_eq!(error.code, "invalid_arguments");
        }
        assert_eq!(effects(&ledger, "k"), (3, 0));
        let found = machine.call("look_up", "l", json!({"size": 6_000})).await.expect("answers");
        assert_eq!(found.data.as_str().map(str::len), Some(6_000));
    });
}

#[test]
fn a_crash_cuts_a_call_off_before_or_after_its_effect_and_nothing_acts_later() {
    for (faults, effect) in [
        (ToolFaults { crash_before: Chance::ALWAYS, ..ToolFaults::calm() }, 0),
        (ToolFaults { crash_after: Chance::ALWAYS, ..ToolFaults::calm() }, 1),
    ] {
        in_virtual_time(async {
            let ledger = Ledger::new();
            let machine = Machine::boot(&ledger, &faults);
            assert_eq!(machine.call("send_line", "k", json!({"line": "a"})).await, None);
            assert!(!machine.power.is_on());
            assert_eq!(effects(&ledger, "k"), (1, effect));
            assert_eq!(machine.call("send_line", "k", json!({"line": "a"})).await, None);
            assert_eq!(effects(&ledger, "k"), (1, effect), "a dead machine calls nothing");
        });
    }
}
