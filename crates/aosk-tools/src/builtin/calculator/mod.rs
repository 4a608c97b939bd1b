//! `calculator`: arithmetic that a model can rely on.
//!
//! Binary floats answer `0.1 + 0.2` with 0.30000000000000004 and lose integers above 2^53, and a
//! model repeats both as truth. So numbers are exact fractions while they fit 64 bits, integers are
//! exact up to 2^127, and what is neither is a decimal of 18 digits that says it was rounded.
//! Precedence is that of mathematics and of Python: `-2^2` is -4, `2^3^2` is 512.
//!
//! Work is bounded by the input, 1,000 characters nested 31 deep: the worst expression found, a sum
//! of ninety factorials of 3,000, takes 40 ms without optimisation.

mod failure;

use aosk_abi::{Effect, ToolResult};
use aosk_ports::ToolContext;
use nanoexpr::{Decimal, Error, ErrorKind, Evaluator, Exact, Fraction, Math, Span};
use serde::Deserialize;
use serde_json::json;

use self::failure::failure;
use super::{Builtin, Outcome, Runs, spec};

const MAX_CHARS: usize = 1000;
const MAX_ARGUMENTS: usize = 32;
const MAX_DEPTH: usize = Evaluator::<'static, Math, MAX_ARGUMENTS>::DEFAULT_MAX_DEPTH;
const DIGITS: u32 = 18;
const MAX_EXPONENT: i32 = 9999;
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    expression: String,
}

pub fn tool() -> Builtin<Arguments> {
    Builtin {
        spec: spec(
            "calculator",
            Effect::Pure,
            "Computes an arithmetic expression exactly. Operators: + - * / ^ (power) % (remainder) \
             ! (factorial), parentheses. Functions such as sqrt(2), round(x), min(a, b), log10(x), \
             ln(x), sin(x) in radians. Constants: pi, e.",
            &json!({
                "expression": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_CHARS,
                    "description": "The expression: (17 * 23 + 5) / 4"
                },
            }),
            &["expression"],
        ),
        runs: Runs::Here,
        run,
    }
}

fn run(_: &ToolContext, arguments: Arguments) -> Outcome {
    // Signs that models take from the texts they read.
    let expression = arguments.expression.replace('×', "*").replace('÷', "/").replace('−', "-");
    match compute(&expression) {
        Ok((value, true)) => Ok(ToolResult::ok(value)),
        Ok((value, false)) => {
            Ok(ToolResult::ok(value).with("note", format!("rounded to {DIGITS} digits")))
        }
        Err(error) => Err(failure(&expression, error)),
    }
}

/// The value as text, and whether it is exact.
fn compute(expression: &str) -> Result<(String, bool), Error> {
    type Number = Exact<DIGITS, MAX_EXPONENT>;
    type Rounded = Decimal<DIGITS, MAX_EXPONENT>;
    // A comparison would make an exact 1 or 0 of rounded numbers.
    if let Some((at, _)) = expression.match_indices(['<', '>', '=', '&', '|', '?', ':']).next() {
        return Err(Error::new(ErrorKind::UnexpectedCharacter, Span::new(at, at + 1)));
    }
    // A division of integers would drop the rest; every other operation is exact or an error.
    if !expression.contains('/')
        && let Ok(integer) = Evaluator::<_, MAX_ARGUMENTS>::new(&()).evaluate::<i128>(expression)
    {
        return Ok((integer.to_string(), true));
    }
    let value: Number = Evaluator::<_, MAX_ARGUMENTS>::new(&Math).evaluate(expression)?;
    match value.as_fraction() {
        Some(fraction) if fraction.is_integer() => Ok((fraction.to_string(), true)),
        fraction => {
            let decimal: Rounded = value.to_decimal();
            let exact = fraction.is_some_and(|f| Fraction::try_from(decimal) == Ok(f));
            Ok((decimal.to_string(), exact))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(expression: &str) -> String {
        match compute(expression) {
            Ok((value, true)) => value,
            Ok((value, false)) => format!("≈{value}"),
            Err(error) => panic!("{expression}: {error}"),
        }
    }

    #[test]
    fn a_table_of_what_is_exact() {
        for (expression, expected) in [
            ("2 + 2", "4"),
            ("17 * 23", "391"),
            ("0.1 + 0.2", "0.3"),
            ("19.99*3", "59.97"),
            ("1.0*3", "3"),
            ("1/7*7", "1"),
            ("10/4", "2.5"),
            ("-2^2", "-4"),
            ("2^3^2", "512"),
            ("2**10", "1024"),
            ("2^-1", "0.5"),
            ("8^(1/3)", "2"),
            ("sqrt(16)", "4"),
            ("abs(-3.5)", "3.5"),
            ("max(1, 7, 3) - min(4, 2)", "5"),
            ("round(2.5)", "3"),
            ("17 % 5", "2"),
            ("5!", "120"),
            ("1e3", "1000"),
            ("9007199254740993 + 0", "9007199254740993"),
            ("2^63", "9223372036854775808"),
            ("2^64", "18446744073709551616"),
            ("12345678901234567890 * 10", "123456789012345678900"),
            ("99999999999 * 99999999999", "9999999999800000000001"),
            ("2^126", "85070591730234615865843651857942052864"),
            ("2^64 % 10", "6"),
        ] {
            assert_eq!(value(expression), expected, "{expression}");
        }
    }

    #[test]
    fn a_table_of_what_is_rounded_and_says_so() {
        for (expression, expected) in [
            ("1/3", "≈0.333333333333333333"),
            ("2/3", "≈0.666666666666666667"),
            ("sqrt(2)", "≈1.41421356237309505"),
            ("pi", "≈3.14159265358979324"),
            ("1.05^7.5", "≈1.44184887537195356"),
            ("1000000*1.05^10", "≈1628894.62677744141"),
            ("2^127 + 0", "≈1.70141183460469232e38"),
            ("2^64 / 1", "≈1.84467440737095516e19"),
            ("100!", "≈9.33262154439441527e157"),
            ("exp(1000)", "≈1.97007111401704699e434"),
        ] {
            assert_eq!(value(expression), expected, "{expression}");
        }
    }

    #[test]
    fn nesting_and_arguments_below_at_and_above_their_bounds() {
        let nested = |depth: usize| format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(value(&nested(MAX_DEPTH - 2)), "1");
        assert_eq!(value(&nested(MAX_DEPTH - 1)), "1");
        let error = compute(&nested(MAX_DEPTH)).expect_err("too deep");
        assert_eq!(error.kind, ErrorKind::TooDeep);
        for open in ["(", "-", "2^", "sqrt(", "!", "1?", "max(1,"] {
            let deep = open.repeat(MAX_CHARS / open.len());
            assert!(compute(&deep).is_err(), "{open}");
        }
        let sum = |count: usize| format!("max({}1)", "1,".repeat(count - 1));
        assert_eq!(value(&sum(MAX_ARGUMENTS)), "1");
        let error = compute(&sum(MAX_ARGUMENTS + 1)).expect_err("too many");
        assert_eq!(error.kind, ErrorKind::TooManyArguments);
    }

    fn expression() -> impl Strategy<Value = String> {
        let pieces = prop::sample::select(vec![
            "1",
            "2.5",
            "1e9999",
            "0",
            "-",
            "+",
            "*",
            "/",
            "^",
            "%",
            "!",
            "(",
            ")",
            ",",
            "?",
            ":",
            "&&",
            "==",
            "fact(3000)",
            "exp(9)",
            "sin(1e300)",
            "log(2.7,1.0000001)",
            "9.99^",
            "pi",
            "max(",
            " ",
            "é",
            "×",
            "mod",
            "170141183460469231731687303715884105727",
        ]);
        prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn no_text_panics_or_goes_unanswered(
            expression in prop_oneof![expression(), "\\PC{0,200}", "[0-9+*/^().,% -]{0,200}"]
        ) {
            let start = std::time::Instant::now();
            match compute(&expression) {
                Ok((value, _)) => prop_assert!(value.len() <= 50, "{value}"),
                Err(error) => {
                    let error = failure(&expression, error);
                    prop_assert!(!error.message.is_empty() && error.hint.is_some());
                }
            }
            prop_assert!(start.elapsed().as_secs() < 2, "{expression} takes too long");
        }

        #[test]
        fn integers_are_what_integers_give(a in any::<i32>(), b in any::<i32>(), c in 1..i32::MAX) {
            let expected = i128::from(a) * i128::from(b) - i128::from(c);
            prop_assert_eq!(value(&format!("{a} * {b} - {c}")), expected.to_string());
            prop_assert_eq!(value(&format!("{a} % {c}")), (a % c).to_string());
        }
    }
}
