//! `react`: the tool-calling loop.
//!
//! Ask the model; run the tools it calls; ask again with their results; end when it answers
//! without a tool call. The loop is bounded twice: `max_steps` ends the process, and
//! `max_tool_steps` masks the tools so that a small model that would call for ever has to answer.
//! In the last step the tools are masked as well: nobody would see what they return, and an answer
//! is worth more than a limit that was hit.

use aosk_abi::{Exit, Input, ReplySummary, StopReason, Syscall};
use serde::{Deserialize, Serialize};

use crate::program::Program;

/// What a model hears whose reply hit the output limit in mid-text.
const CONTINUE: &str =
    "Your last reply was cut off at the output limit. Go on exactly where it stopped.";

/// What a model hears that had finished and is to begin again.
const AGAIN: &str = "Do the task again, from its beginning.";

/// The state of the loop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct React {
    max_steps: u64,
    max_tool_steps: Option<u64>,
    steps: u64,
    tool_steps: u64,
    awaited: u64,
}

impl Program for React {
    fn on(&mut self, input: Input) -> Vec<Syscall> {
        match input {
            Input::Started { max_steps, max_tool_steps } => {
                self.max_steps = max_steps;
                self.max_tool_steps = max_tool_steps;
                vec![self.infer()]
            }
            Input::Continued => {
                self.begin_again();
                vec![self.infer()]
            }
            Input::Restarted { exit } => {
                self.begin_again();
                // After a failure the conversation stands where it stood and is simply taken up.
                let again = !matches!(exit, Exit::Failed { .. });
                let tell = again.then(|| Syscall::Tell { text: AGAIN.to_owned() });
                tell.into_iter().chain([self.infer()]).collect()
            }
            Input::Replied { reply, .. } => self.replied(reply),
            Input::ToolDone { .. } => {
                self.awaited = self.awaited.saturating_sub(1);
                if self.awaited > 0 { Vec::new() } else { self.next_step(None) }
            }
            Input::InferFailed { code, message, .. } => {
                vec![Syscall::Exit(Exit::Failed { code, message })]
            }
        }
    }
}

impl React {
    /// Grants as many steps as at the first time.
    fn begin_again(&mut self) {
        (self.steps, self.tool_steps, self.awaited) = (0, 0, 0);
    }

    fn replied(&mut self, reply: ReplySummary) -> Vec<Syscall> {
        self.steps += 1;
        if reply.stop == StopReason::Refusal {
            return vec![Syscall::Exit(Exit::Refused { message: reply.text })];
        }
        if !reply.calls.is_empty() {
            self.tool_steps += 1;
            self.awaited = reply.calls.len() as u64;
            return reply.calls.into_iter().map(Syscall::CallTool).collect();
        }
        if reply.stop == StopReason::Length {
            return self.next_step(Some(CONTINUE));
        }
        vec![Syscall::Exit(Exit::Completed { answer: reply.text })]
    }

    fn next_step(&self, note: Option<&str>) -> Vec<Syscall> {
        if self.steps >= self.max_steps {
            return vec![Syscall::Exit(Exit::StepLimit { limit: self.max_steps })];
        }
        let tell = note.map(|text| Syscall::Tell { text: text.to_owned() });
        tell.into_iter().chain([self.infer()]).collect()
    }

    fn infer(&self) -> Syscall {
        let seen = self.steps + 1 < self.max_steps;
        let allowed = self.max_tool_steps.is_none_or(|limit| self.tool_steps < limit);
        Syscall::Infer { tools: seen && allowed }
    }
}

#[cfg(test)]
mod tests {
    use aosk_abi::{ContentRef, Hash, Op, Step, ToolCall};

    use super::*;

    fn started(max_steps: u64, max_tool_steps: Option<u64>) -> React {
        let mut react = React::default();
        let first = react.on(Input::Started { max_steps, max_tool_steps });
        assert_eq!(first, [Syscall::Infer { tools: max_steps > 1 }]);
        react
    }

    fn call(id: &str) -> ToolCall {
        let arguments = ContentRef { hash: Hash::ZERO, len: 2 };
        ToolCall { id: id.into(), name: "now".into(), arguments }
    }

    fn reply(stop: StopReason, calls: &[&str]) -> Input {
        let calls = calls.iter().map(|id| call(id)).collect();
        Input::Replied { op: Op(0), step: Step(1), reply: ReplySummary { stop, text: None, calls } }
    }

    #[test]
    fn an_answer_without_a_call_ends_the_process() {
        let mut react = started(3, None);
        let end = react.on(reply(StopReason::Stop, &[]));
        assert_eq!(end, [Syscall::Exit(Exit::Completed { answer: None })]);
    }

    #[test]
    fn the_model_is_asked_again_when_all_of_its_calls_are_done() {
        let mut react = started(3, None);
        assert_eq!(
            react.on(reply(StopReason::ToolCalls, &["a", "b"])),
            [Syscall::CallTool(call("a")), Syscall::CallTool(call("b"))]
        );
        assert_eq!(react.on(Input::ToolDone { op: Op(2) }), []);
        assert_eq!(react.on(Input::ToolDone { op: Op(1) }), [Syscall::Infer { tools: true }]);
    }

    #[test]
    fn the_step_limit_holds_below_at_and_above() {
        for limit in 1..4 {
            let mut react = started(limit, None);
            for step in 1..=limit {
                react.on(reply(StopReason::ToolCalls, &["a"]));
                let next = react.on(Input::ToolDone { op: Op(step) });
                if step < limit {
                    // Tools are masked in the last step.
                    assert_eq!(next, [Syscall::Infer { tools: step + 1 < limit }]);
                } else {
                    assert_eq!(next, [Syscall::Exit(Exit::StepLimit { limit })]);
                }
            }
        }
    }

    #[test]
    fn tools_are_masked_after_the_last_tool_step() {
        let mut react = started(9, Some(1));
        react.on(reply(StopReason::ToolCalls, &["a"]));
        assert_eq!(react.on(Input::ToolDone { op: Op(1) }), [Syscall::Infer { tools: false }]);
    }

    #[test]
    fn who_begins_again_has_all_steps_again() {
        for (input, told) in [
            (Input::Continued, 0),
            (Input::Restarted { exit: Exit::StepLimit { limit: 2 } }, 1),
            (Input::Restarted { exit: Exit::Completed { answer: None } }, 1),
            (Input::Restarted { exit: failed() }, 0),
        ] {
            let mut react = started(2, None);
            react.on(reply(StopReason::ToolCalls, &["a"]));
            react.on(reply(StopReason::Stop, &[]));
            let next = react.on(input);
            assert_eq!(next.len(), told + 1);
            assert_eq!(next.last(), Some(&Syscall::Infer { tools: true }));
            react.on(reply(StopReason::ToolCalls, &["b"]));
            assert_eq!(react.on(Input::ToolDone { op: Op(9) }), [Syscall::Infer { tools: false }]);
        }
    }

    fn failed() -> Exit {
        let message = ContentRef { hash: Hash::ZERO, len: 0 };
        Exit::Failed { code: "AOSK-L007".into(), message }
    }

    #[test]
    fn a_reply_cut_in_mid_text_is_continued_and_a_refusal_ends() {
        let mut react = started(3, None);
        let next = react.on(reply(StopReason::Length, &[]));
        assert!(matches!(&next[..], [Syscall::Tell { .. }, Syscall::Infer { tools: true }]));
        let end = react.on(reply(StopReason::Refusal, &[]));
        assert_eq!(end, [Syscall::Exit(Exit::Refused { message: None })]);
    }
}
