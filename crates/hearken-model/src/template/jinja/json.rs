//! Values as Python's `json.dumps` writes them.

use std::fmt::Write as _;

use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};

use super::arguments::refused;
use super::python;

/// How deep lists and objects may lie in each other.
const DEPTH_MAX: usize = 200;

/// The options of `json.dumps`.
pub(super) struct Dumps {
    pub(super) ensure_ascii: bool,
    /// What a level of depth begins its lines with; `None` is all on one line.
    pub(super) indent: Option<String>,
    /// Between items, and between a key and its value.
    pub(super) separators: (String, String),
    pub(super) sort_keys: bool,
}

impl Dumps {
    /// The text of `value`.
    pub(super) fn dump(&self, state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
        let mut out = String::new();
        self.write(state, value, 0, &mut out)?;
        Ok(out)
    }

    fn write(
        &self,
        state: &State<'_, '_>,
        value: &Value,
        depth: usize,
        out: &mut String,
    ) -> Result<(), Error> {
        if DEPTH_MAX < depth {
            return Err(refused("tojson: nested too deep"));
        }
        state.consume_fuel(1)?;
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), out),
            ValueKind::Map => {
                let mut pairs = Vec::new();
                for key in value.try_iter()?.checked() {
                    let key = key?;
                    let item = value.get_item(&key)?;
                    pairs.push((key_text(&key)?, item));
                }
                if self.sort_keys {
                    pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
                }
                self.container(state, ['{', '}'], depth, &pairs, out, |(key, item), out| {
                    self.string(key, out);
                    out.push_str(&self.separators.1);
                    self.write(state, item, depth + 1, out)
                })?;
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Result<Vec<Value>, Error> = value.try_iter()?.checked().collect();
                self.container(state, ['[', ']'], depth, &items?, out, |item, out| {
                    self.write(state, item, depth + 1, out)
                })?;
            }
            kind => {
                return Err(refused(format!("tojson: a value of kind {kind} has no JSON")));
            }
        }
        Ok(())
    }

    fn container<T>(
        &self,
        state: &State<'_, '_>,
        [open, close]: [char; 2],
        depth: usize,
        items: &[T],
        out: &mut String,
        mut write: impl FnMut(&T, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(open);
        let is_empty = items.is_empty();
        for (index, item) in items.iter().enumerate() {
            if 0 < index {
                out.push_str(&self.separators.0);
            }
            self.new_line(state, depth + 1, out)?;
            write(item, out)?;
        }
        if !is_empty {
            self.new_line(state, depth, out)?;
        }
        out.push(close);
        Ok(())
    }

    fn new_line(&self, state: &State<'_, '_>, depth: usize, out: &mut String) -> Result<(), Error> {
        if let Some(indent) = &self.indent {
            state.consume_fuel((indent.len() * depth) as u64 / 64)?;
            out.push('\n');
            for _ in 0..depth {
                out.push_str(indent);
            }
        }
        Ok(())
    }

    fn string(&self, text: &str, out: &mut String) {
        out.push('"');
        for character in text.chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if (c as u32) < 0x20 || (self.ensure_ascii && 0x7e < c as u32) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing into a text does not fail.
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

fn number(value: &Value) -> String {
    match python::float(value) {
        Some(number) if number.is_nan() => "NaN".to_owned(),
        Some(number) if number.is_infinite() => {
            if number < 0.0 { "-Infinity" } else { "Infinity" }.to_owned()
        }
        Some(number) => python::repr(number),
        None => value.to_string(),
    }
}

/// A key as a text: JSON has no others.
fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.to_string()),
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::Number => Ok(number(key)),
        kind => Err(refused(format!("tojson: found a key of kind {kind}, expected text"))),
    }
}
