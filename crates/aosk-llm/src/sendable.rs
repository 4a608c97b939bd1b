//! What a model got wrong, in a form that endpoints accept in the history.
//!
//! A model may write anything for a tool's name or its arguments. The kernel answers such a call
//! with an error that the model can mend, but the call itself stays in the conversation, and an
//! endpoint that answers 400 to it would do so for every later turn. So what goes back is mended
//! here, while the tool's result still quotes what the model wrote. A conversation may also go on
//! with another endpoint than it began with, whose ids have another form.

use aosk_ports::{Part, RenderError};

use crate::json::{is_object, write_string};

/// The longest tool name that every dialect allows.
const NAME_MAX: usize = 64;

/// A tool name of 1 to 64 of `A-Z a-z 0-9 _ -`.
pub(crate) fn name(name: &str) -> String {
    plain(name, NAME_MAX)
}

/// The id of a call, of 1 or more of `A-Z a-z 0-9 _ -`; only Anthropic looks at its form.
pub(crate) fn id(id: &str) -> String {
    plain(id, usize::MAX)
}

/// Arguments that are a JSON object: what the model wrote, if it is one. Chat templates and APIs
/// parse them; text that is none goes back as an object that quotes it. Some models write nothing at
/// all for a tool without arguments.
pub(crate) fn arguments(arguments: &str) -> String {
    if is_object(arguments) {
        return arguments.to_owned();
    }
    if arguments.trim().is_empty() {
        return "{}".to_owned();
    }
    let mut wrapped = String::from("{\"malformed\":");
    write_string(&mut wrapped, arguments);
    wrapped.push('}');
    wrapped
}

fn plain(text: &str, max: usize) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }
    };
    if text.is_empty() { "_".to_owned() } else { text.chars().take(max).map(plain).collect() }
}

/// The error of a message that holds what no dialect lets it hold.
pub(crate) fn no_form(role: &str, part: &Part) -> RenderError {
    let what = match part {
        Part::Text(_) => "text",
        Part::Opaque { .. } => "an opaque block",
        Part::ToolCall { .. } => "a tool call",
        Part::ToolResult { .. } => "a tool result",
    };
    RenderError(format!("a {role} message cannot hold {what}"))
}
