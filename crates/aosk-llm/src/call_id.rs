//! Ids for calls that came without one.

use aosk_ports::{Part, Request};

/// `call_1`, `call_2`, …, above those of the conversation, so that a result can name its call and
/// the same conversation gives the same ids.
pub(crate) struct CallIds(u64);

impl CallIds {
    /// The ids behind those of `request`.
    pub fn after(request: &Request) -> Self {
        let mut count = 0;
        let mut highest = 0;
        for part in request.messages.iter().flat_map(|message| message.parts.iter()) {
            if let Part::ToolCall { id, .. } = part {
                count += 1;
                let number = id.strip_prefix("call_").and_then(|number| number.parse().ok());
                highest = highest.max(number.unwrap_or(0));
            }
        }
        Self(highest.max(count))
    }

    /// The next one.
    pub fn next(&mut self) -> String {
        self.0 = self.0.saturating_add(1);
        format!("call_{}", self.0)
    }
}
