//! Events as sentences.

use std::collections::HashMap;

use aosk_abi::{
    Blocked, BlockedOn, BudgetWarned, Effect, Exit, FailureKind, LlmFailed, LlmReturned, Op,
    Planned, ReplyPart, Spawned, StopReason, Tuned, What,
};

use crate::figures::{cached, duration, moment, time_of_day, tokens};
use crate::print::Ink;
use crate::processes::blocked_on;
use crate::text::one_line;

/// Tells events in the order of their journal; it remembers what an operation was.
#[derive(Default)]
pub(crate) struct Teller {
    tools: HashMap<Op, String>,
}

impl Teller {
    /// The event in one line, and how it is to be read.
    pub(crate) fn tell(&mut self, what: &What) -> (Option<Ink>, String) {
        match what {
            What::Spawned(spawned) => (None, spawned_line(spawned)),
            What::Recovered(recovered) => {
                (None, format!("taken over by {}", one_line(&recovered.instance)))
            }
            What::Exited(exited) => exit_line(&exited.exit),
            What::Blocked(Blocked { on, op }) => {
                let tool = match on {
                    BlockedOn::Message { .. } => "receive",
                    BlockedOn::Child { .. } => "wait",
                    _ => "sleep",
                };
                self.tools.extend(op.map(|op| (op, tool.to_owned())));
                let ink = matches!(on, BlockedOn::Quota { .. } | BlockedOn::Limit { .. })
                    .then_some(Ink::Warning);
                (ink, format!("waits for {}", blocked_on(on)))
            }
            What::Unblocked(_) => (None, "goes on".to_owned()),
            What::PriorityChanged(changed) => {
                (None, format!("has priority {}", changed.priority.get()))
            }
            What::Restarted(restarted) => {
                let (ink, line) = exit_line(&restarted.exit);
                (ink.or(Some(Ink::Warning)), format!("{line}; restart {}", restarted.number))
            }
            What::Crashed(crashed) => {
                let bytes = crashed.message.len;
                (
                    Some(Ink::Error),
                    format!("the kernel failed inside itself, {bytes} bytes say how"),
                )
            }
            What::SpendRaised(raised) => (None, format!("may spend {}", raised.limit)),
            What::QuotaChanged(changed) if changed.owner == BlockedOn::OWN => {
                (None, "has other limits, and its children with it".to_owned())
            }
            What::QuotaChanged(changed) => {
                (None, format!("the quota of {} was changed", one_line(&changed.owner)))
            }
            What::BudgetWarned(warned) => {
                let BudgetWarned { limit, owner, percent, until } = warned;
                let until = until.map(|until| format!(", until {}", moment(until)));
                let (owner, until) = (one_line(owner), until.unwrap_or_default());
                let said = format!("{percent} % of {limit} of {owner} is spent or reserved{until}");
                (Some(Ink::Warning), said)
            }
            What::Tuned(tuned) => (None, tuned_to(tuned)),
            What::SignalReceived(signal) => (None, signal.signal.name().to_owned()),
            What::MessageReceived(message) => {
                let from = one_line(&message.from);
                (None, format!("{} bytes from {from}", message.content.len))
            }
            What::MessageTaken(taken) => {
                self.tools.insert(taken.op, "receive".to_owned());
                (None, format!("reads the message of event {}", taken.message))
            }
            What::ChildBegun(begun) => {
                self.tools.insert(begun.op, "spawn".to_owned());
                let granted = begun.granted.map(|granted| format!(", which may spend {granted}"));
                let name = one_line(&begun.name);
                (None, format!("begins {name}, {}{}", begun.child, granted.unwrap_or_default()))
            }
            What::ChildEnded(ended) => {
                let ink = (ended.exit != "completed").then_some(Ink::Warning);
                let (child, exit) = (ended.child, one_line(&ended.exit));
                (ink, format!("its child {child} has ended: {exit}, {}", ended.spent))
            }
            What::Told(told) => (None, format!("{} bytes to the model", told.content.len)),
            What::Planned(planned) => (None, planned_line(planned)),
            What::Recalled(recalled) => {
                let pages: Vec<String> = recalled.pages.iter().map(ToString::to_string).collect();
                let found = if recalled.search.is_some() { "found by a query, " } else { "" };
                (None, format!("{found}pages {} come back", pages.join(", ")))
            }
            What::Routed(routed) => (None, format!("goes to {}", one_line(&routed.model))),
            What::LlmRequested(requested) => {
                let mut line = format!("asks {}", one_line(&requested.device));
                if requested.attempt > 1 {
                    line += &format!(", attempt {}", requested.attempt);
                }
                if requested.reserved.0 > 0 {
                    line += &format!(", may cost {}", requested.reserved);
                }
                (None, line)
            }
            What::LlmReturned(returned) => (None, returned_line(returned)),
            What::LlmFailed(failed) => (Some(Ink::Warning), failed_line(failed)),
            What::ToolRequested(requested) => {
                let tool = one_line(&requested.tool);
                self.tools.insert(requested.op, tool.clone());
                let effect = match requested.effect {
                    Effect::Pure => "pure",
                    Effect::Idempotent => "idempotent",
                    Effect::Unsafe => "unsafe",
                };
                let attempt = match requested.attempt {
                    1 => String::new(),
                    attempt => format!(", attempt {attempt}"),
                };
                let isolation = one_line(&requested.isolation);
                (None, format!("{tool} ({effect}, isolation {isolation}){attempt}"))
            }
            What::ToolReturned(returned) => {
                let ink = (!returned.success).then_some(Ink::Warning);
                let tool = self.tool(returned.op);
                let outcome = if returned.success { "ok" } else { "failed" };
                let took = duration(returned.took_ms);
                (ink, format!("{tool} {outcome}, {} bytes, {took}", returned.result.len))
            }
            What::Interrupted(interrupted) => {
                let tool = self.tool(interrupted.op);
                (Some(Ink::Warning), format!("{tool} was cut off and is not run again"))
            }
            What::Cancelled(cancelled) => {
                let what = self.tools.get(&cancelled.op).map_or("the model call", String::as_str);
                (Some(Ink::Warning), format!("{what} was given up"))
            }
        }
    }

    fn tool(&self, op: Op) -> &str {
        self.tools.get(&op).map_or("a tool", String::as_str)
    }
}

fn spawned_line(spawned: &Spawned) -> String {
    let name = one_line(&spawned.name);
    let mut line = format!(
        "{name} runs {} on {}, at most {} steps",
        one_line(&spawned.program),
        one_line(&spawned.model),
        spawned.max_steps
    );
    if let Some(limit) = spawned.spend_limit {
        line += &format!(", may spend {limit}");
    }
    line
}

fn planned_line(planned: &Planned) -> String {
    let mut line = format!("step {}: {}", planned.step, planned.prompt_tokens);
    if let Some(window) = planned.under.window {
        line += &format!(" of {window}");
    }
    line += &format!(" tokens, {} in", pages(planned.admitted.len()));
    if !planned.evicted.is_empty() {
        line += &format!(", {} out", pages(planned.evicted.len()));
        if planned.reasons.as_ref().is_some_and(|reasons| reasons.early) {
            line += " before they had to be";
        }
    }
    if let Some(policy) = &planned.under.policy {
        line += &format!(" ({})", one_line(policy));
    }
    if !planned.tools {
        line += ", tools masked";
    }
    line
}

fn pages(count: usize) -> String {
    if count == 1 { "1 page".to_owned() } else { format!("{count} pages") }
}

/// What a reply used and asks for.
pub(crate) fn returned_line(returned: &LlmReturned) -> String {
    let mut line = match &returned.usage {
        Some(usage) => format!(
            "{} in ({} cached), {} out, {}",
            tokens(usage.input),
            cached(usage),
            tokens(usage.output),
            returned.cost
        ),
        None => format!("usage not reported, counted as {}", returned.cost),
    };
    line += &format!(", {}", duration(returned.took_ms));
    let calls: Vec<String> = returned
        .parts
        .iter()
        .filter_map(|part| match part {
            ReplyPart::ToolCall { name, .. } => Some(one_line(name)),
            _ => None,
        })
        .collect();
    if !calls.is_empty() {
        line += &format!(": calls {}", calls.join(", "));
    }
    match returned.stop {
        StopReason::Length => line += ": cut off at the output limit",
        StopReason::Refusal => line += ": refused",
        StopReason::Stop | StopReason::ToolCalls | StopReason::Other => {}
    }
    line
}

/// Why a call failed and what follows.
pub(crate) fn failed_line(failed: &LlmFailed) -> String {
    let why = match failed.failure {
        FailureKind::Throttled => "throttled",
        FailureKind::Transient => "may pass",
        FailureKind::ContextLength => "prompt too long",
        FailureKind::Fatal => "for good",
    };
    let code = one_line(&failed.code);
    match failed.retry_at {
        Some(at) => format!("{code} ({why}), again at {}", time_of_day(at)),
        None => format!("{code} ({why})"),
    }
}

fn exit_line(exit: &Exit) -> (Option<Ink>, String) {
    match exit {
        Exit::Completed { answer: Some(answer) } => {
            (Some(Ink::Good), format!("completed, answer of {} bytes", answer.len))
        }
        Exit::Completed { answer: None } => {
            (Some(Ink::Good), "completed without an answer".to_owned())
        }
        Exit::StepLimit { limit } => {
            (Some(Ink::Warning), format!("reached its limit of {limit} steps"))
        }
        Exit::Refused { .. } => (Some(Ink::Warning), "the model refused".to_owned()),
        Exit::Failed { code, .. } => (Some(Ink::Error), format!("failed: {}", one_line(code))),
        Exit::Killed => (Some(Ink::Warning), "killed".to_owned()),
    }
}

/// The setting of a device that was chosen.
fn tuned_to(tuned: &Tuned) -> String {
    let Tuned { ahead_tokens, aging_ms, depth_percent, guess_percent, worth_milli, .. } = tuned;
    let guess = match guess_percent {
        None => "their mean".to_owned(),
        Some(percent) => format!("what {percent} % of them are within"),
    };
    format!(
        "{} is given {depth_percent} % of its slots, {ahead_tokens} tokens ahead at most, after {} a \
         call is old, replies are guessed by {guess}; before: {}.{} % of the time no wait",
        one_line(&tuned.device),
        duration(*aging_ms),
        worth_milli / 10,
        worth_milli % 10
    )
}
