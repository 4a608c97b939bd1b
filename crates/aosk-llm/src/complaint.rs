//! What an endpoint complains of, in any of the forms that are about: `{"error":{…}}`,
//! `{"type":"error","error":{…}}` (Anthropic), `{"error":"…"}`, `{"message":…}` (older vLLM),
//! `{"detail":…}` (web frameworks) and a list of one of these.
//!
//! All dialects share one reader, because gateways mix them: one that speaks chat completions
//! passes on the complaint of the Anthropic endpoint behind it, and llama.cpp complains in its own
//! form whatever it was asked in.

/// What an endpoint complains of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// Its words.
    pub message: String,
    /// `type` and `code`, lower-cased, where they are words.
    pub words: Vec<String>,
    /// `code` where it is an HTTP status.
    pub status: Option<u16>,
    /// How long the refused prompt was. llama.cpp has a field for it, Anthropic tells it in words.
    pub prompt_tokens: Option<u64>,
}

impl Complaint {
    /// Reads a body; `None` where it is no complaint.
    pub fn read(body: &str) -> Option<Self> {
        Self::of(&serde_json::from_str(body).ok()?)
    }

    fn of(value: &serde_json::Value) -> Option<Self> {
        use serde_json::Value;
        match value {
            Value::Array(items) => items.first().and_then(Self::of),
            Value::String(text) => Some(Self { message: text.clone(), ..Self::default() }),
            Value::Object(map) => {
                if let Some(error) = map.get("error").filter(|error| !error.is_null()) {
                    return Self::of(error);
                }
                let message = match map.get("message").or_else(|| map.get("detail"))? {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                let word = |key: &str| map.get(key)?.as_str().map(str::to_ascii_lowercase);
                let number = map.get("code").and_then(|code| match code {
                    Value::String(text) => text.parse().ok(),
                    other => other.as_u64(),
                });
                Some(Self {
                    words: ["type", "code"].into_iter().filter_map(word).collect(),
                    status: number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n >= 400),
                    prompt_tokens: map
                        .get("n_prompt_tokens")
                        .and_then(Value::as_u64)
                        .or_else(|| told_size(&message)),
                    message,
                })
            }
            _ => None,
        }
    }
}

/// The prompt's size in `prompt is too long: 213462 tokens > 200000 maximum`, and in `input length
/// and `max_tokens` exceed context limit: 188240 + 21333 > 200000`.
fn told_size(message: &str) -> Option<u64> {
    let behind = |words: &str| message.split_once(words).map(|(_, rest)| rest);
    let rest = behind("prompt is too long: ").or_else(|| behind("exceed context limit: "))?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_refused_prompt_is_read_from_words() {
        for (message, size) in [
            ("prompt is too long: 213462 tokens > 200000 maximum", Some(213_462)),
            (
                "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000",
                Some(188_240),
            ),
            ("prompt is too long: many tokens", None),
            ("prompt is too long: 99999999999999999999 tokens", None),
            ("prompt is too long", None),
        ] {
            assert_eq!(told_size(message), size, "{message}");
        }
    }
}
