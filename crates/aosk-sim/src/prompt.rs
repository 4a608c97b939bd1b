//! The dialect of the simulated model: messages as bytes.
//!
//! A flat row of fields, each a tag and a length before its bytes; a message is a field too, one
//! that says who speaks and nothing of what follows. No count of parts or messages stands in front
//! of them, because a count would change when the conversation grows and the longer prompt would
//! no longer begin with the shorter one.

use aosk_abi::{Hash, Role};
use aosk_ports::{Message, Part, RenderError, Rendered, Request};

/// The renderer's name and version in plans.
pub(crate) const RENDER: &str = "1/sim";

/// How long an answer may take before the simulated endpoint gives up.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(120);

/// The bytes of a request.
pub(crate) fn render(request: &Request) -> Result<Rendered, RenderError> {
    let mut prompt = Vec::new();
    for tool in request.tools.iter() {
        let schema = serde_json::to_vec(tool).map_err(|error| RenderError(error.to_string()))?;
        field(&mut prompt, b'S', &schema);
    }
    for message in &request.messages {
        write_message(&mut prompt, message);
    }
    let mut body = prompt.clone();
    if let Some(tail) = &request.tail {
        field(&mut body, b'T', tail.as_bytes());
    }
    let settings = format!(
        "{} {:?} {:?} {:?}",
        request.may_call, request.tool_calls, request.max_output, request.sampling
    );
    field(&mut body, b'X', settings.as_bytes());
    Ok(Rendered {
        render: RENDER.to_owned(),
        body: body.into(),
        prompt: Hash::of(&prompt),
        prompt_len: prompt.len() as u64,
        prompt_bytes: prompt.into(),
        timeout: TIMEOUT,
    })
}

fn write_message(out: &mut Vec<u8>, message: &Message) {
    let role: &[u8] = match message.role {
        Role::System => b"system",
        Role::User => b"user",
        Role::Assistant => b"assistant",
        Role::Tool => b"tool",
    };
    field(out, b'M', role);
    for part in message.parts.iter() {
        match part {
            Part::Text(text) => field(out, b't', text.as_bytes()),
            Part::Opaque { format, bytes } => {
                field(out, b'o', format.as_bytes());
                field(out, b'O', bytes);
            }
            Part::ToolCall { id, name, arguments } => {
                field(out, b'c', id.as_bytes());
                field(out, b'n', name.as_bytes());
                field(out, b'a', arguments.as_bytes());
            }
            Part::ToolResult { call, name, text, failed } => {
                field(out, b'r', call.as_bytes());
                field(out, b'n', name.as_bytes());
                field(out, if *failed { b'f' } else { b't' }, text.as_bytes());
            }
        }
    }
}

fn field(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use aosk_abi::{CacheLife, Sampling, Tokens, ToolCalls};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn part() -> impl Strategy<Value = Part> {
        let text = || "[a-zé\0]{0,5}".prop_map(Arc::<str>::from);
        prop_oneof![
            text().prop_map(Part::Text),
            (text(), any::<Vec<u8>>())
                .prop_map(|(format, bytes)| Part::Opaque { format, bytes: bytes.into() }),
            (text(), text(), text()).prop_map(|(id, name, arguments)| Part::ToolCall {
                id,
                name,
                arguments
            }),
            (text(), text(), text(), any::<bool>()).prop_map(|(call, name, text, failed)| {
                Part::ToolResult { call, name, text, failed }
            }),
        ]
    }

    fn message() -> impl Strategy<Value = Message> {
        let role =
            prop::sample::select(vec![Role::System, Role::User, Role::Assistant, Role::Tool]);
        (role, prop::collection::vec(part(), 0..4))
            .prop_map(|(role, parts)| Message { role, parts: parts.into() })
    }

    fn request(messages: &[Message], tail: Option<&str>, may_call: bool) -> Request {
        Request {
            messages: messages.to_vec(),
            tail: tail.map(str::to_owned),
            tools: Arc::new([]),
            may_call,
            tool_calls: ToolCalls::Native,
            max_output: Tokens(100),
            sampling: Sampling::default(),
            cache_key: "k".to_owned(),
            slot: None,
            settled: 0,
            lasting: 0,
            life: CacheLife::Short,
        }
    }

    proptest! {
        #[test]
        fn a_longer_conversation_begins_with_the_bytes_of_the_shorter(
            messages in prop::collection::vec(message(), 1..6),
            cut in 0_usize..6,
            tail in prop::option::of("[a-z]{0,5}"),
        ) {
            let cut = cut.min(messages.len());
            let short = render(&request(&messages[..cut], None, true)).expect("renders");
            let long = render(&request(&messages, tail.as_deref(), false)).expect("renders");
            prop_assert!(long.prompt_bytes.starts_with(&short.prompt_bytes));
            prop_assert!(long.body.starts_with(&long.prompt_bytes));
            prop_assert_eq!(long.prompt, Hash::of(&long.prompt_bytes));
            prop_assert_eq!(long.prompt_len, long.prompt_bytes.len() as u64);
        }

        #[test]
        fn other_conversations_have_other_bytes(
            a in prop::collection::vec(message(), 0..4),
            b in prop::collection::vec(message(), 0..4),
        ) {
            let bytes = |messages| render(&request(messages, None, true)).expect("renders").prompt;
            prop_assert_eq!(a == b, bytes(&a) == bytes(&b));
        }
    }
}
