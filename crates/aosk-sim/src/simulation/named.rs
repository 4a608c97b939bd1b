//! What an event names.

use aosk_abi::{ContentRef, Exit, ReplyPart, What};

/// The contents that an event names.
pub(super) fn contents(what: &What) -> Vec<ContentRef> {
    let of_exit = |exit: &Exit| match exit {
        Exit::Completed { answer } => *answer,
        Exit::Refused { message } => *message,
        Exit::Failed { message, .. } => Some(*message),
        Exit::StepLimit { .. } | Exit::Killed => None,
    };
    let mut named = Vec::new();
    match what {
        What::Spawned(it) => named.extend([it.manifest, it.system, it.task, it.tools]),
        What::Exited(it) => named.extend(of_exit(&it.exit)),
        What::Restarted(it) => named.extend(of_exit(&it.exit)),
        What::MessageReceived(it) => named.push(it.content),
        What::ChildEnded(it) => named.extend(it.answer),
        What::Told(it) => named.push(it.content),
        What::Crashed(it) => named.push(it.message),
        What::LlmReturned(it) => {
            named.extend(it.raw);
            named.extend(it.parts.iter().map(|part| match part {
                ReplyPart::Text { content } | ReplyPart::Opaque { content, .. } => *content,
                ReplyPart::ToolCall { arguments, .. } => *arguments,
            }));
        }
        What::LlmFailed(it) => named.push(it.message),
        What::ToolReturned(it) => named.push(it.result),
        What::Interrupted(it) => named.push(it.result),
        What::Recovered(_)
        | What::Blocked(_)
        | What::Unblocked(_)
        | What::MessageTaken(_)
        | What::Routed(_)
        | What::ChildBegun(_)
        | What::SpendRaised(_)
        | What::SignalReceived(_)
        | What::PriorityChanged(_)
        | What::QuotaChanged(_)
        | What::BudgetWarned(_)
        | What::Tuned(_)
        | What::Planned(_)
        | What::Recalled(_)
        | What::LlmRequested(_)
        | What::ToolRequested(_)
        | What::Cancelled(_) => {}
    }
    named
}
