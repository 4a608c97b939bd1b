//! A machine with an agent that can be met in the middle of a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::endpoint::{Answer, Endpoint, call};
use crate::world::{Running, World};

/// The manifest of the agent.
pub const AGENT: &str = "a.toml";

/// What it is asked.
pub const QUESTION: &str = "What is 17 * 23?";

/// Calls the calculator at first; then is silent until it is let go on, and answers.
pub fn pausing() -> (Endpoint, Arc<AtomicBool>) {
    let go_on = Arc::new(AtomicBool::new(false));
    let switch = go_on.clone();
    let endpoint = Endpoint::new(move |asked| match asked.results() {
        0 => call("calculator", json!({"expression": "17 * 23"})),
        _ if switch.load(Ordering::SeqCst) => Answer::Text("It is 391.".to_owned()),
        _ => Answer::Silence,
    });
    (endpoint, go_on)
}

/// A machine with that endpoint and an agent that may calculate.
pub fn scene() -> (World, Endpoint, Arc<AtomicBool>) {
    let (endpoint, go_on) = pausing();
    let world = World::with(&endpoint);
    assert_eq!(world.agent("a", "tools = [\"calculator\"]"), AGENT);
    (world, endpoint, go_on)
}

/// Runs the agent in the foreground, up to the middle of its second call.
pub fn run(world: &World, endpoint: &Endpoint) -> Running {
    let running = world.start(&["run", AGENT, QUESTION]);
    endpoint.wait_for_call();
    endpoint.wait_for_call();
    running
}

/// Spawns the agent, up to the middle of its second call.
pub fn spawn(world: &World, endpoint: &Endpoint) -> String {
    let pid = world.spawn(&[AGENT, QUESTION]);
    endpoint.wait_for_call();
    endpoint.wait_for_call();
    pid
}
