//! What every store can hold.

use serde_json::Value;

/// Text with the character U+0000 cannot be stored everywhere.
pub(crate) fn storable(value: &Value) -> Result<(), String> {
    let holds_null = match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => return values.iter().try_for_each(storable),
        Value::Object(fields) => {
            if let Some((name, _)) = fields.iter().find(|(name, _)| name.contains('\0')) {
                return Err(format!("the name {name:?} holds the character U+0000"));
            }
            return fields.values().try_for_each(storable);
        }
        _ => false,
    };
    if holds_null { Err("a text holds the character U+0000".into()) } else { Ok(()) }
}
