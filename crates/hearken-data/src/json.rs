//! The columns of one JSON object, among them values that Python's `json` writes and JSON does not
//! have: `NaN`, infinities, halves of characters.
//!
//! Such a value is wrong where somebody reads its column, and nowhere else.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::bad_record::BadRecord;
use crate::value::describe;

/// The columns of a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Columns {
    /// What they hold.
    pub(crate) values: Map<String, Value>,
    /// Columns that hold something that is no JSON, and what.
    pub(crate) unreadable: BTreeMap<String, String>,
}

impl From<Map<String, Value>> for Columns {
    fn from(values: Map<String, Value>) -> Self {
        Self { values, unreadable: BTreeMap::new() }
    }
}

/// Reads an object.
pub(crate) fn columns(bytes: &[u8]) -> Result<Columns, BadRecord> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| BadRecord::NotUtf8 { byte: error.valid_up_to() + 1 })?;
    match serde_json::from_str(text) {
        Ok(Value::Object(values)) => Ok(values.into()),
        Ok(value) => Err(BadRecord::NotAnObject { found: describe(&value) }),
        Err(error) => column_by_column(text).ok_or_else(|| BadRecord::NotJson {
            column: error.column(),
            message: without_position(&error),
        }),
    }
}

/// What the parser says, without its own count of lines, which starts at this line or element.
pub(crate) fn without_position(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&position).map_or(message.clone(), str::to_owned)
}

/// An object that is JSON but for what [`mended`] mends; `None` where more is wrong with it.
fn column_by_column(text: &str) -> Option<Columns> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    let mut columns = Columns::default();
    scanner.blanks();
    scanner.mark(b'{')?;
    loop {
        scanner.blanks();
        let start = scanner.at;
        scanner.string()?;
        let name: String = serde_json::from_str(&text[start..scanner.at]).ok()?;
        scanner.blanks();
        scanner.mark(b':')?;
        scanner.blanks();
        let start = scanner.at;
        scanner.value()?;
        let value = &text[start..scanner.at];
        // Of a name that comes twice, the last value counts, as for the parser.
        if let Ok(value) = serde_json::from_str(value) {
            columns.unreadable.remove(&name);
            columns.values.insert(name, value);
        } else {
            let (mended, found) = mended(value);
            serde_json::from_str::<Value>(&mended).ok()?;
            columns.values.remove(&name);
            columns.unreadable.insert(name, found?);
        }
        scanner.blanks();
        if scanner.mark(b',').is_none() {
            scanner.mark(b'}')?;
            break;
        }
    }
    scanner.blanks();
    (scanner.at == text.len()).then_some(columns)
}

/// A way through JSON that finds where values end and asks no more of them.
struct Scanner<'t> {
    bytes: &'t [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn mark(&mut self, mark: u8) -> Option<()> {
        (self.peek()? == mark).then(|| self.at += 1)
    }

    fn string(&mut self) -> Option<()> {
        self.mark(b'"')?;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
    }

    fn value(&mut self) -> Option<()> {
        let start = self.at;
        let mut depth = 0;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.string()?;
                    if depth == 0 {
                        return Some(());
                    }
                    continue;
                }
                Some(b'{' | b'[') => depth += 1,
                Some(b'}' | b']') if 1 < depth => depth -= 1,
                Some(b'}' | b']') if depth == 1 => {
                    self.at += 1;
                    return Some(());
                }
                Some(b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n') | None if depth == 0 => {
                    return (start < self.at).then_some(());
                }
                Some(_) => {}
                None => return None,
            }
            self.at += 1;
        }
    }
}

/// A value with what JSON does not have replaced, and the first of that as an error names it.
fn mended(value: &str) -> (String, Option<String>) {
    let mut mended = String::with_capacity(value.len());
    let mut found = None;
    let mut rest = value;
    let mut in_string = false;
    while let Some(first) = rest.chars().next() {
        let (taken, replacement, what) = match (in_string, first) {
            (true, '\\') => escape(rest),
            (_, '"') => {
                in_string = !in_string;
                (1, None, None)
            }
            (false, '-' | '0'..='9' | 'N' | 'I') => word(rest),
            _ => (first.len_utf8(), None, None),
        };
        let (start, end) = rest.split_at(taken);
        mended += replacement.unwrap_or(start);
        found = found.or(what);
        rest = end;
    }
    (mended, found)
}

/// Bytes taken, what stands for them where they are no JSON, and what they are.
type Taken = (usize, Option<&'static str>, Option<String>);

/// The escape that a text starts with; of a pair of surrogates, both.
fn escape(text: &str) -> Taken {
    const UNIT: usize = 6;
    let unit = |text: &str| -> Option<u32> {
        let digits = text.strip_prefix("\\u")?.get(..4)?;
        let is_hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_hexadecimal.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
    };
    let Some(first) = unit(text) else {
        let second = text.chars().nth(1).map_or(0, char::len_utf8);
        return (1 + second, None, None);
    };
    let second = text.get(UNIT..).and_then(unit);
    match (first, second) {
        (0xd800..=0xdbff, Some(0xdc00..=0xdfff)) => (2 * UNIT, None, None),
        (0xd800..=0xdfff, _) => {
            let what = format!(
                "the escape {}, a lone surrogate: half of a character, which no text can hold",
                &text[..UNIT]
            );
            (UNIT, Some("\\ufffd"), Some(what))
        }
        _ => (UNIT, None, None),
    }
}

/// The number or name that a text starts with.
fn word(text: &str) -> Taken {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let word = &text[..end];
    let of_python = matches!(word, "NaN" | "Infinity" | "-Infinity");
    if of_python {
        let what = format!("{word}, which Python's json writes and JSON does not have");
        return (end, Some("null"), Some(what));
    }
    let is_number = word.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    if is_number && word.parse::<f64>().is_ok_and(f64::is_infinite) {
        return (end, Some("0"), Some(format!("the number {word}, which is out of range")));
    }
    (end.max(1), None, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreadable(text: &str) -> Vec<(String, String)> {
        columns(text.as_bytes()).unwrap().unreadable.into_iter().collect()
    }

    #[test]
    fn what_python_writes_is_told_by_column() {
        let text = r#"{"a": NaN, "b": [1, {"c": -Infinity}], "d": "x \ud83d y", "e": "\ud83d\ude00", "f": 1e999, "g": "NaN"}"#;
        let found = unreadable(text);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "d", "f"]);
        assert_eq!(found[0].1, "NaN, which Python's json writes and JSON does not have");
        assert!(found[1].1.starts_with("-Infinity"), "{}", found[1].1);
        assert!(found[2].1.contains(r"\ud83d, a lone surrogate"), "{}", found[2].1);
        assert_eq!(found[3].1, "the number 1e999, which is out of range");
        let values = columns(text.as_bytes()).unwrap().values;
        assert_eq!(values["e"], "😀");
        assert_eq!(values["g"], "NaN");
    }

    #[test]
    fn the_last_value_of_a_name_counts() {
        assert!(unreadable(r#"{"a": NaN, "a": 1}"#).is_empty());
        assert_eq!(unreadable(r#"{"a": 1, "a": NaN}"#).len(), 1);
    }

    #[test]
    fn other_mistakes_stay_what_they_are() {
        for text in [
            r#"{"a": NaN, "b": 'x'}"#,
            r#"{"a": NaN"#,
            r#"{"a": NaN} x"#,
            r#"{"a": [NaN}"#,
            r#"{"a": "\ud83d}"#,
            r#"{"a": nan}"#,
            r#"{"a": NaNa}"#,
            r#"{"\ud83d": 1}"#,
            r#"{,"a": NaN}"#,
            "NaN",
            "",
        ] {
            let error = columns(text.as_bytes()).unwrap_err();
            assert!(matches!(error, BadRecord::NotJson { .. }), "{text}: {error}");
        }
    }
}
