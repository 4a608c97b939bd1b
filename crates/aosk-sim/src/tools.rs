//! Tools with effects that can be counted.
//!
//! One for each kind of effect, because recovery treats each differently: `look_up` changes
//! nothing, `put_line` acts once per idempotency key, `send_line` acts as often as it is called. A
//! kernel that calls `put_line` three times is right; one that calls `send_line` twice for one
//! call of the model is wrong, and the [`Ledger`] shows it.

use std::panic::resume_unwind;
use std::sync::Arc;

use aosk_abi::{Effect, ToolResult, ToolSpec};
use aosk_ports::{Tool, ToolContext};
use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

use crate::dice::Dice;
use crate::faults::ToolFaults;
use crate::ledger::Ledger;
use crate::power::Power;

/// The longest text that `look_up` finds; longer than what stores keep beside an event.
const LONGEST: u64 = 6_000;

/// A simulated tool.
#[derive(Debug)]
pub struct SimTool {
    spec: ToolSpec,
    world: Arc<World>,
}

/// What the tools of one life share.
#[derive(Debug)]
struct World {
    seed: u64,
    ledger: Ledger,
    power: Power,
    faults: ToolFaults,
}

impl SimTool {
    /// The tools for one life of a machine: `look_up` (pure), `put_line` (idempotent) and
    /// `send_line` (unsafe).
    #[must_use]
    pub fn all(seed: u64, ledger: &Ledger, power: &Power, faults: &ToolFaults) -> Vec<Arc<Self>> {
        let world = Arc::new(World {
            seed,
            ledger: ledger.clone(),
            power: power.clone(),
            faults: faults.clone(),
        });
        [
            ("look_up", Effect::Pure, "size", "integer"),
            ("put_line", Effect::Idempotent, "line", "string"),
            ("send_line", Effect::Unsafe, "line", "string"),
        ]
        .map(|(name, effect, argument, kind)| {
            let spec = ToolSpec {
                name: name.to_owned(),
                description: format!("A simulated tool that takes a {argument}."),
                parameters: json!({
                    "type": "object",
                    "properties": { argument: { "type": kind } },
                    "required": [argument],
                    "additionalProperties": false,
                }),
                effect,
            };
            Arc::new(Self { spec, world: world.clone() })
        })
        .into()
    }
}

impl Tool for SimTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn isolation(&self) -> &'static str {
        "none"
    }

    fn call(
        &self,
        context: ToolContext,
        arguments: Map<String, Value>,
    ) -> BoxFuture<'static, ToolResult> {
        let (world, spec) = (self.world.clone(), self.spec.clone());
        Box::pin(async move { world.run(&context, &spec, arguments).await })
    }
}

impl World {
    async fn run(
        &self,
        context: &ToolContext,
        spec: &ToolSpec,
        arguments: Map<String, Value>,
    ) -> ToolResult {
        self.power.hold().await;
        let text = Value::Object(arguments.clone()).to_string();
        let attempt = self.ledger.begin(context, &spec.name, spec.effect, &text);
        let key = &context.idempotency_key;
        let mut dice = Dice::keyed(self.seed, "tool", format!("{attempt} {key}").as_bytes());

        tokio::time::sleep(dice.time(&self.faults.latency)).await;
        if dice.hits(self.faults.crash_before) {
            self.power.cut("before the effect of a tool");
        }
        self.power.hold().await;
        if dice.hits(self.faults.panic) {
            // Unwinds without the hook that would print a trace for every one of them.
            resume_unwind(Box::new("a simulated tool panicked"));
        }
        if dice.hits(self.faults.fail) {
            return ToolResult::failed("unavailable", "the simulated tool is out", "try again");
        }
        let outcome = match (spec.effect, arguments.values().next()) {
            (Effect::Pure, Some(Value::Number(size))) => look_up(size.as_u64()),
            (Effect::Idempotent | Effect::Unsafe, Some(Value::String(_))) => {
                json!({ "key": key, "acted": self.ledger.act(key) })
            }
            (_, given) => {
                let wants = &spec.parameters["properties"];
                return ToolResult::failed(
                    "invalid_arguments",
                    format!("{} cannot take {given:?}", spec.name),
                    format!("give {wants}"),
                );
            }
        };
        if dice.hits(self.faults.crash_after) {
            self.power.cut("after the effect of a tool");
        }
        tokio::time::sleep(dice.time(&self.faults.latency)).await;
        self.power.hold().await;
        ToolResult::ok(outcome)
    }
}

/// A text of the size asked for, in bytes.
fn look_up(size: Option<u64>) -> Value {
    let size = size.unwrap_or(0) % (LONGEST + 1);
    let line = "found it on the shelf\n".bytes().cycle();
    let bytes = line.take(usize::try_from(size).unwrap_or(0)).map(char::from);
    Value::String(bytes.collect())
}
