//! Tests (`x is …`) that jinja2 answers otherwise than minijinja.

use minijinja::value::ValueKind;
use minijinja::{Environment, Value};

/// Adds them to an environment.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_test("sequence", |value: &Value| {
        // Whatever has a length and items: to Python, dictionaries and texts too.
        matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String)
    });
    environment.add_test("iterable", |value: &Value| {
        let kind = value.kind();
        kind == ValueKind::Undefined
            || matches!(
                kind,
                ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Iterable
            )
    });
    environment.add_test("number", |value: &Value| {
        // Python's booleans are integers.
        matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
    });
    environment.add_test("callable", |value: &Value| matches!(value.kind(), ValueKind::Plain));
}
