//! Checking arguments against the schema that the model was shown.
//!
//! The built-in tools need seven keywords of JSON Schema: `type`, `properties`, `required`,
//! `additionalProperties`, `minimum`, `maximum`, `minLength` and `maxLength`. A full validator
//! knows sixty, and its messages speak of schemas; these speak to the model that made the call.

use aosk_abi::ToolError;
use serde_json::{Map, Value};

use crate::failure::failed;
use crate::similar::{shown, similar};

/// Every problem of the arguments at once, as one failure; a model that hears of one problem a
/// turn spends a call on each.
pub fn check(name: &str, schema: &Value, arguments: &Map<String, Value>) -> Result<(), ToolError> {
    let empty = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    let mut problems = Vec::new();
    for (argument, value) in arguments {
        match properties.get(argument) {
            Some(property) => problems.extend(problem(argument, property, value)),
            None => {
                let meant = similar(argument, properties.keys().map(String::as_str));
                let meant = meant.map(|name| format!(" (did you mean `{name}`?)"));
                problems.push(format!(
                    "{} is unknown{}",
                    shown(argument),
                    meant.unwrap_or_default()
                ));
            }
        }
    }
    let missing = required(schema).filter(|argument| !arguments.contains_key(*argument));
    problems.extend(missing.map(|argument| format!("`{argument}` is missing")));
    if problems.is_empty() {
        return Ok(());
    }
    Err(invalid(name, schema, &problems.join("; ")))
}

/// The failure of arguments that `problem` is true of.
pub fn invalid(name: &str, schema: &Value, problem: &str) -> ToolError {
    failed("invalid_arguments", problem, format!("send {}", signature(name, schema)))
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// `read_file {"path": string, "start_line"?: integer}`.
fn signature(name: &str, schema: &Value) -> String {
    let mut arguments: Vec<_> = required(schema).map(|argument| (argument, "")).collect();
    if let Some(properties) = schema["properties"].as_object() {
        let optional = properties.keys().filter(|key| !required(schema).any(|name| name == *key));
        arguments.extend(optional.map(|argument| (argument.as_str(), "?")));
    }
    let shown = |(argument, mark): (&str, &str)| {
        let kind = schema["properties"][argument]["type"].as_str().unwrap_or("value");
        format!("\"{argument}\"{mark}: {kind}")
    };
    let arguments: Vec<_> = arguments.into_iter().map(shown).collect();
    format!("{name} {{{}}}", arguments.join(", "))
}

fn problem(argument: &str, property: &Value, value: &Value) -> Option<String> {
    let kind = property["type"].as_str()?;
    match (kind, value) {
        ("string", Value::String(text)) => {
            let length = text.chars().count() as u64;
            let bound = |key: &str| property[key].as_u64();
            if bound("maxLength").is_some_and(|most| length > most) {
                let most = &property["maxLength"];
                return Some(format!("`{argument}` has {length} characters, more than {most}"));
            }
            (bound("minLength").is_some_and(|least| length < least))
                .then(|| format!("`{argument}` is empty"))
        }
        ("integer", Value::Number(number)) if !number.is_f64() => {
            let number = number.as_i128()?;
            let bound = |key: &str| property[key].as_i64().map(i128::from);
            let (least, most) = (bound("minimum"), bound("maximum"));
            let fits =
                least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most);
            let range = match (least, most) {
                (Some(least), Some(most)) => format!("{least} to {most}"),
                (Some(least), None) => format!("{least} or more"),
                (None, Some(most)) => format!("{most} or less"),
                (None, None) => String::new(),
            };
            (!fits).then(|| format!("`{argument}` is {number}, not {range}"))
        }
        _ => {
            let article = if kind == "integer" { "an" } else { "a" };
            let value = match value {
                Value::String(text) => format!("the string {}", shown(text)),
                Value::Array(_) => "an array".to_owned(),
                Value::Object(_) => "an object".to_owned(),
                other => other.to_string(),
            };
            Some(format!("`{argument}` is {value}, not {article} {kind}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(arguments: &Value) -> Option<String> {
        let schema = json!({
            "type": "object",
            "properties": {
                "path": {"type": "string", "minLength": 1, "maxLength": 4},
                "line": {"type": "integer", "minimum": 1, "maximum": 9},
                "skip": {"type": "integer", "minimum": 0},
            },
            "required": ["path"],
            "additionalProperties": false,
        });
        let arguments = arguments.as_object().expect("object");
        let error = check("tool", &schema, arguments).err()?;
        assert_eq!(error.code, "invalid_arguments");
        let hint = r#"send tool {"path": string, "line"?: integer, "skip"?: integer}"#;
        assert_eq!(error.hint.as_deref(), Some(hint));
        Some(error.message)
    }

    #[test]
    fn every_problem_is_named_with_its_value() {
        let message = |arguments: Value| problems(&arguments).expect("refused");
        assert_eq!(message(json!({})), "`path` is missing");
        assert_eq!(
            message(json!({"pth": "a", "line": "5"})),
            "`line` is the string \"5\", not an integer; \"pth\" is unknown (did you mean \
             `path`?); `path` is missing"
        );
        assert_eq!(message(json!({"path": 5})), "`path` is 5, not a string");
        assert_eq!(message(json!({"path": null})), "`path` is null, not a string");
        assert_eq!(message(json!({"path": ["a"]})), "`path` is an array, not a string");
        assert_eq!(message(json!({"path": "a", "line": 5.0})), "`line` is 5.0, not an integer");
        assert_eq!(message(json!({"path": "a", "skip": -1})), "`skip` is -1, not 0 or more");
    }

    #[test]
    fn values_below_at_and_above_their_bounds() {
        assert!(problems(&json!({"path": ""})).is_some());
        assert!(problems(&json!({"path": "a"})).is_none());
        assert!(problems(&json!({"path": "éééé"})).is_none());
        assert!(problems(&json!({"path": "aaaaa"})).is_some());
        for (line, fits) in [(-1, false), (0, false), (1, true), (9, true), (10, false)] {
            let arguments = json!({"path": "a", "line": line});
            assert_eq!(problems(&arguments).is_none(), fits, "{line}");
        }
        assert!(problems(&json!({"path": "a", "skip": u64::MAX})).is_none());
        assert!(problems(&json!({"path": "a", "line": u64::MAX})).is_some());
    }
}
