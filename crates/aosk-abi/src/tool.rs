//! Words for tools: what a tool is, what a call may cost to repeat, what comes back.

use serde::{Deserialize, Serialize};

/// What happens if a call is made twice; decides what recovery does with a call that was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing outside changes: run again.
    Pure,
    /// Twice with one key is once: run again with the same key.
    Idempotent,
    /// Twice is twice: never run again; the process hears that it was interrupted.
    Unsafe,
}

/// What the model is told of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// 1 to 64 of `a-z A-Z 0-9 _ -`.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of the arguments object.
    pub parameters: serde_json::Value,
    /// What a repeated call does.
    pub effect: Effect,
}

/// The one shape of every tool's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolResult {
    /// Whether the tool did what was asked.
    pub success: bool,
    /// What it found; `null` where it failed.
    pub data: serde_json::Value,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ToolError>,
    /// What is known about the call itself: sizes, cuts, times.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

/// Why a tool call failed, in words that let the model mend it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolError {
    /// A stable word, for example `not_found` or `invalid_arguments`.
    pub code: String,
    /// What was wrong, with the value.
    pub message: String,
    /// What to do instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ToolResult {
    /// A success with `data`.
    #[must_use]
    pub fn ok(data: impl Into<serde_json::Value>) -> Self {
        Self { success: true, data: data.into(), error: None, metadata: serde_json::Map::new() }
    }

    /// A failure that says what was wrong and what to do instead.
    #[must_use]
    pub fn failed(
        code: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            success: false,
            data: serde_json::Value::Null,
            error: Some(ToolError {
                code: code.into(),
                message: message.into(),
                hint: Some(hint.into()),
            }),
            metadata: serde_json::Map::new(),
        }
    }

    /// The result as JSON, as the journal has it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Strings, booleans and JSON values: there is nothing that could fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The result as the model reads it, in at most about `budget` bytes: a successful string as it
    /// is, other data as compact JSON, a failure as a sentence with its hint. What is cut off is
    /// said in words, with sizes; the whole result stays in the journal. The `note` of the metadata
    /// comes last: there a tool says what it left out and how to get it.
    #[must_use]
    pub fn to_text(&self, budget: usize) -> String {
        let text = match (&self.error, &self.data) {
            (Some(error), _) => {
                let hint = error.hint.as_ref().map(|hint| format!(" Hint: {hint}."));
                format!("Error ({}): {}.{}", error.code, error.message, hint.unwrap_or_default())
            }
            (None, serde_json::Value::String(text)) => text.clone(),
            (None, data) => data.to_string(),
        };
        let note = match self.metadata.get("note") {
            Some(serde_json::Value::String(note)) if text.is_empty() => return format!("[{note}]"),
            Some(serde_json::Value::String(note)) => format!("\n[{note}]"),
            _ => String::new(),
        };
        if text.len() + note.len() <= budget {
            return text + &note;
        }
        let end = text.floor_char_boundary(budget.saturating_sub(note.len()));
        // A cut at a line end reads better, if that costs at most a quarter of the text.
        let end = text[..end].rfind('\n').filter(|line| line + budget / 4 >= end).unwrap_or(end);
        format!(
            "{}\n[cut: the first {end} of {} bytes; ask for a smaller part]{note}",
            &text[..end],
            text.len()
        )
    }

    /// The same result with a further fact about the call.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<serde_json::Value>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_reads_text_json_or_a_sentence() {
        assert_eq!(ToolResult::ok("plain").to_text(99), "plain");
        assert_eq!(ToolResult::ok(serde_json::json!({"a": [1]})).to_text(99), r#"{"a":[1]}"#);
        let failed = ToolResult::failed("not_found", "no such file", "list the folder");
        assert_eq!(failed.to_text(99), "Error (not_found): no such file. Hint: list the folder.");
    }

    #[test]
    fn a_note_comes_last_and_survives_a_cut() {
        let result = ToolResult::ok("12345678").with("note", "go on at 9");
        assert_eq!(result.to_text(21), "12345678\n[go on at 9]");
        assert_eq!(
            result.to_text(20),
            "1234567\n[cut: the first 7 of 8 bytes; ask for a smaller part]\n[go on at 9]"
        );
        assert_eq!(ToolResult::ok("").with("note", "it is empty").to_text(99), "[it is empty]");
    }

    #[test]
    fn results_below_at_and_above_the_budget() {
        let result = ToolResult::ok("é".repeat(8));
        assert_eq!(result.to_text(17), "é".repeat(8));
        assert_eq!(result.to_text(16), "é".repeat(8));
        assert!(
            result.to_text(15).starts_with(&format!("{}\n[cut: the first 14 of 16", "é".repeat(7)))
        );
        let lines = ToolResult::ok("12345678\n12345\n12345678");
        assert!(lines.to_text(16).starts_with("12345678\n12345\n[cut: the first 14 of"));
    }
}
