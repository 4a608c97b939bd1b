//! Why an expression has no value, in words for the model.

use aosk_abi::ToolError;
use nanoexpr::{Error, ErrorKind};

use super::{MAX_ARGUMENTS, MAX_DEPTH, MAX_EXPONENT};
use crate::failure::failed;
use crate::similar::{shown, similar};

const FUNCTIONS: &[&str] = &[
    "abs", "acos", "asin", "atan", "atan2", "cbrt", "ceil", "clamp", "cos", "exp", "fact", "floor",
    "hypot", "ln", "log", "log10", "log2", "max", "min", "pow", "round", "sign", "sin", "sqrt",
    "tan", "trunc",
];

/// The failure, with the part that is at fault and what to send instead.
pub fn failure(expression: &str, error: Error) -> ToolError {
    let part = expression.get(error.span.start..error.span.end).unwrap_or_default();
    let (part, before) = (shown(part), expression.get(..error.span.start).unwrap_or_default());
    let functions = || format!("the functions are {}", FUNCTIONS.join(", "));
    let (code, message, hint) = match error.kind {
        ErrorKind::DivisionByZero => (
            "division_by_zero",
            format!("{part} divides by zero"),
            "check the divisor: it has no value there".to_owned(),
        ),
        ErrorKind::Domain => {
            ("no_value", format!("{part} has no real value"), "check its argument".to_owned())
        }
        ErrorKind::Overflow => (
            "too_large",
            format!("{part} is larger than 10^{MAX_EXPONENT}"),
            "compute its logarithm instead: ln(a^b) is b * ln(a)".to_owned(),
        ),
        ErrorKind::TooDeep => (
            "too_deep",
            format!("the expression is nested deeper than {} levels at {part}", MAX_DEPTH - 1),
            "compute a part of it first and send its value".to_owned(),
        ),
        ErrorKind::UnknownVariable => (
            "invalid_expression",
            format!("{part} is not a number or a constant"),
            "send numbers instead of names; the constants are pi, tau, e".to_owned(),
        ),
        ErrorKind::UnknownFunction => {
            let name = part.trim_matches('"');
            let meant = similar(name, FUNCTIONS.iter().copied());
            let meant = meant.map(|name| format!("did you mean {name}? ")).unwrap_or_default();
            let message = format!("there is no function {part}");
            ("invalid_expression", message, format!("{meant}{}", functions()))
        }
        ErrorKind::ArgumentCount => {
            ("invalid_expression", format!("{part} has a wrong number of arguments"), functions())
        }
        ErrorKind::TooManyArguments => (
            "invalid_expression",
            format!("a function has more than {MAX_ARGUMENTS} arguments at {part}"),
            "split the call".to_owned(),
        ),
        ErrorKind::UnexpectedEnd => (
            "invalid_expression",
            "the expression ends where a number is expected".to_owned(),
            syntax_hint(before, ""),
        ),
        ErrorKind::UnclosedParenthesis => (
            "invalid_expression",
            "a parenthesis is not closed".to_owned(),
            "add the missing )".to_owned(),
        ),
        kind => ("invalid_expression", format!("{kind}: {part}"), syntax_hint(before, &part)),
    };
    failed(code, message, hint)
}

/// What models most often mean by what is no expression.
fn syntax_hint(before: &str, part: &str) -> String {
    let before = before.trim_end();
    let hint = if before.contains('%') {
        "% is the remainder: write 15% of 80 as 0.15 * 80"
    } else if part == "\",\"" {
        "write numbers without separators of thousands: 1000000"
    } else if before.ends_with('/') && part == "\"/\"" {
        "write the whole part of a quotient as floor(a / b)"
    } else if part == "\"=\"" {
        "send only the expression, without = and without its value"
    } else if ["<", ">", "&", "|", "?", ":"].iter().any(|sign| part == format!("{sign:?}")) {
        "compute each side and compare the values yourself"
    } else if part.starts_with("\"(") || part.starts_with("\"_") {
        "write every multiplication with *: 2 * (3 + 4); write numbers without _"
    } else {
        "send one expression of numbers, + - * / ^ % !, parentheses and functions, such as \
         (17 * 23 + 5) / 4"
    };
    hint.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::compute;
    use super::*;

    #[test]
    fn what_the_model_hears_of_what_has_no_value() {
        for (expression, code, message, hint) in [
            ("4 / (2 - 2)", "division_by_zero", "\"4 / (2 - 2)\" divides by zero", "divisor"),
            ("0/0", "division_by_zero", "\"0/0\"", "divisor"),
            ("5 % 0", "division_by_zero", "\"5 % 0\"", "divisor"),
            ("sqrt(-1)", "no_value", "\"sqrt(-1)\" has no real value", "argument"),
            ("ln(0)", "no_value", "\"ln(0)\"", "argument"),
            ("9^9^9", "too_large", "\"9^9^9\" is larger than 10^9999", "logarithm"),
            ("10^10000", "too_large", "10^9999", "logarithm"),
            ("x + 1", "invalid_expression", "\"x\" is not a number", "pi, tau, e"),
            ("__import__('os')", "invalid_expression", "'", "send one expression"),
            ("a.b", "invalid_expression", "unexpected character: \".\"", "send one expression"),
            ("sqr(2)", "invalid_expression", "no function \"sqr\"", "did you mean sqrt?"),
            ("sqrt(1, 2)", "invalid_expression", "wrong number of arguments", "sqrt"),
            ("1,000 * 3", "invalid_expression", "\",\"", "separators"),
            ("15% of 80", "invalid_expression", "unexpected token", "0.15 * 80"),
            ("200 * 15%", "invalid_expression", "ends where a number", "0.15 * 80"),
            ("7 // 2", "invalid_expression", "unexpected token", "floor(a / b)"),
            ("17 * 23 =", "invalid_expression", "\"=\"", "without ="),
            ("2(3 + 4)", "invalid_expression", "unexpected token: \"(\"", "with *"),
            ("2 < 3", "invalid_expression", "\"<\"", "compare the values"),
            ("(2 + 3", "invalid_expression", "not closed", "missing )"),
            ("2 +", "invalid_expression", "ends where a number", "send one"),
            ("   ", "invalid_expression", "ends where a number", "send one"),
        ] {
            let error = compute(expression).expect_err(expression);
            let error = failure(expression, error);
            assert_eq!(error.code, code, "{expression}: {error:?}");
            assert!(error.message.contains(message), "{expression}: {error:?}");
            assert!(error.hint.expect("hint").contains(hint), "{expression}");
        }
    }

    #[test]
    fn every_function_that_is_named_exists() {
        for name in FUNCTIONS {
            let found = (1..=3).any(|count| {
                let arguments = vec!["1"; count].join(", ");
                compute(&format!("{name}({arguments})")).is_ok()
            });
            assert!(found, "{name}");
        }
    }
}
