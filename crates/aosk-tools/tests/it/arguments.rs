//! Schemas and arguments.

use aosk_abi::{Effect, ToolSpec};
use aosk_sandbox::NoFiles;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use crate::desk::Desk;

fn specs() -> Vec<ToolSpec> {
    let desk = Desk::new();
    let names: Vec<_> = desk.tools().names().collect();
    desk.tools().specs(&names).expect("every name is known")
}

#[test]
fn every_schema_is_closed_and_says_what_each_argument_is() {
    for ToolSpec { name, description, parameters, .. } in specs() {
        assert!(description.ends_with('.'), "{name}: {description}");
        assert_eq!(parameters["type"], "object", "{name}");
        assert_eq!(parameters["additionalProperties"], false, "{name}");
        let properties = parameters["properties"].as_object().expect("an object");
        for required in parameters["required"].as_array().expect("a list") {
            assert!(properties.contains_key(required.as_str().expect("a name")), "{name}");
        }
        for (argument, property) in properties {
            assert!(property["description"].is_string(), "{name} {argument}");
            for keyword in property.as_object().expect("an object").keys() {
                let known = match property["type"].as_str() {
                    Some("string") => ["type", "description", "minLength", "maxLength"],
                    Some("integer") => ["type", "description", "minimum", "maximum"],
                    other => panic!("{name} {argument} is a {other:?}, which is not checked"),
                };
                assert!(known.contains(&keyword.as_str()), "{name} {argument}: {keyword}");
            }
        }
    }
}

#[test]
fn only_write_file_changes_anything_and_twice_is_once() {
    for spec in specs() {
        let expected = if spec.name == "write_file" { Effect::Idempotent } else { Effect::Pure };
        assert_eq!(spec.effect, expected, "{}", spec.name);
    }
}

/// Values that the schema of an argument allows.
fn allowed(property: &Value) -> BoxedStrategy<Value> {
    if property["type"] == "string" {
        let least = property["minLength"].as_u64().unwrap_or(0);
        return proptest::string::string_regex(&format!("\\PC{{{least},20}}"))
            .expect("a regular expression")
            .prop_map(Value::from)
            .boxed();
    }
    let least = property["minimum"].as_u64().unwrap_or(0);
    let most = property["maximum"].as_u64().unwrap_or(u64::MAX);
    prop_oneof![Just(least), Just(most), least..=most].prop_map(Value::from).boxed()
}

/// Objects that a whole schema allows: the required arguments and any of the others.
fn allowed_arguments(parameters: &Value) -> BoxedStrategy<Map<String, Value>> {
    let required = parameters["required"].as_array().expect("a list").clone();
    let properties = parameters["properties"].as_object().expect("an object");
    let mut all: BoxedStrategy<Map<String, Value>> = Just(Map::new()).boxed();
    for (argument, property) in properties {
        let optional = !required.contains(&Value::from(argument.as_str()));
        let argument = argument.clone();
        all = (all, allowed(property), any::<bool>())
            .prop_map(move |(mut map, value, left_out)| {
                if !(optional && left_out) {
                    map.insert(argument.clone(), value);
                }
                map
            })
            .boxed();
    }
    all
}

#[test]
fn what_a_schema_allows_its_tool_takes_and_nothing_else() {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let desk = Desk::with_sandbox(NoFiles);
    for ToolSpec { name, parameters, .. } in specs() {
        let code = |arguments: &Map<String, Value>| {
            let result = runtime.block_on(desk.call(&name, Value::Object(arguments.clone())));
            result.error.map(|error| error.code)
        };
        let mut runner = TestRunner::new(ProptestConfig {
            cases: 64,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let outcome = runner.run(&allowed_arguments(&parameters), |arguments| {
            prop_assert_ne!(code(&arguments), Some("invalid_arguments".to_owned()));
            let refused = Some("invalid_arguments".to_owned());
            let mut more = arguments.clone();
            more.insert("surplus".to_owned(), Value::from(1));
            prop_assert_eq!(code(&more), refused.clone());
            for argument in arguments.keys() {
                let mut wrong = arguments.clone();
                wrong.insert(argument.clone(), json!([true]));
                prop_assert_eq!(code(&wrong), refused.clone());
            }
            for argument in parameters["required"].as_array().into_iter().flatten() {
                let mut less = arguments.clone();
                less.remove(argument.as_str().unwrap_or_default());
                prop_assert_eq!(code(&less), refused.clone());
            }
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[tokio::test]
async fn wrong_arguments_are_answered_with_what_to_send() {
    let desk = Desk::new();
    assert_eq!(
        desk.text("write_file", json!({"file": "a", "content": 5})).await,
        "Error (invalid_arguments): `content` is 5, not a string; \"file\" is unknown; `path` is \
         missing. Hint: send write_file {\"path\": string, \"content\": string}."
    );
}

#[tokio::test]
async fn the_length_of_texts_at_and_above_its_bound() {
    let desk = Desk::new();
    let sum = |length: usize| json!({"expression": format!("{}1", "+".repeat(length - 1))});
    assert_eq!(desk.error("calculator", sum(1000)).await.code, "too_deep");
    assert_eq!(desk.error("calculator", sum(1001)).await.code, "invalid_arguments");
    let text = |length: usize| json!({"path": "a", "content": "é".repeat(length)});
    assert!(desk.call("write_file", text(1 << 20)).await.success);
    assert_eq!(desk.error("write_file", text((1 << 20) + 1)).await.code, "invalid_arguments");
}

#[tokio::test]
async fn the_time_is_that_of_the_call() {
    let desk = Desk::new();
    assert_eq!(
        desk.text("now", json!({})).await,
        r#"{"unix":1790000000,"utc":"2026-09-21T14:13:20Z"}"#
    );
}

#[tokio::test]
async fn a_sum_is_read_as_a_number_and_a_rounded_one_says_so() {
    let desk = Desk::new();
    for (expression, text) in [
        ("17 * 23", "391"),
        ("2 + 2", "4"),
        ("6 × 7 − 4 ÷ 2", "40"),
        ("1/3", "0.333333333333333333\n[rounded to 18 digits]"),
    ] {
        assert_eq!(desk.text("calculator", json!({"expression": expression})).await, text);
    }
}
