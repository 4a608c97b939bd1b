//! An event in a line.

use aosk_abi::{Event, What};

/// What an event says, in a line.
pub(super) fn summary(event: &Event) -> String {
    let detail = match &event.what {
        What::Planned(plan) => format!(
            "{} step {} generation {} bytes {} admits {} evicts {}",
            plan.op,
            plan.step,
            plan.generation,
            plan.prompt_len,
            plan.admitted.len(),
            plan.evicted.len()
        ),
        What::LlmRequested(asked) => {
            format!("{} attempt {} reserves {}", asked.op, asked.attempt, asked.reserved)
        }
        What::LlmReturned(reply) => {
            format!("{} {:?} parts {} cost {}", reply.op, reply.stop, reply.parts.len(), reply.cost)
        }
        What::LlmFailed(failed) => {
            format!(
                "{} {} again {:?} at {:?} cost {}",
                failed.op, failed.code, failed.retry_at, failed.next, failed.cost
            )
        }
        What::ToolRequested(asked) => {
            format!("{} {} {:?} attempt {}", asked.op, asked.tool, asked.effect, asked.attempt)
        }
        What::ToolReturned(result) => format!("{} success {}", result.op, result.success),
        What::Interrupted(call) => call.op.to_string(),
        What::Cancelled(call) => call.op.to_string(),
        What::Recalled(back) => format!("{} pages {:?}", back.op, back.pages),
        What::Routed(routed) => format!("{} to {}", routed.op, routed.model),
        What::Told(told) => told.op.to_string(),
        What::MessageTaken(taken) => format!("{} event {}", taken.op, taken.message),
        What::ChildBegun(begun) => {
            format!("{} {} may spend {:?}", begun.op, begun.child, begun.granted)
        }
        What::ChildEnded(ended) => format!("{} {} spent {}", ended.child, ended.exit, ended.spent),
        What::Exited(exited) => exited.exit.name().to_owned(),
        What::Blocked(blocked) => format!("{:?}", blocked.on),
        What::Recovered(recovered) => format!("from epoch {}", recovered.from),
        What::SpendRaised(raised) => raised.limit.to_string(),
        What::QuotaChanged(changed) => changed.owner.clone(),
        What::BudgetWarned(warned) => format!("{} % of {}", warned.percent, warned.owner),
        What::Tuned(tuned) => format!("{} after {} epochs", tuned.device, tuned.epochs),
        What::PriorityChanged(changed) => changed.priority.get().to_string(),
        What::Crashed(crashed) => format!("message of {} bytes", crashed.message.len),
        What::Restarted(restarted) => {
            format!("number {} after {}", restarted.number, restarted.exit.name())
        }
        What::SignalReceived(received) => received.signal.name().to_owned(),
        What::Spawned(_) | What::Unblocked(_) | What::MessageReceived(_) => String::new(),
    };
    format!("{} {detail}", event.kind())
}
