//! Python's methods of texts, lists and dictionaries.

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, State, Value};

use super::arguments::{Arguments, refused};

/// The widest text that is filled up.
const WIDTH_MAX: usize = 100_000;

/// Calls a method that minijinja does not know.
pub(super) fn call(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let known = match (value.as_str(), value.kind()) {
        (Some(text), _) => of_text(state, text, method, args)?,
        (None, ValueKind::Map) => of_dict(value, method, args),
        (None, ValueKind::Seq | ValueKind::Iterable) => of_list(value, method, args)?,
        _ => None,
    };
    match known {
        Some(value) => Ok(value),
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

/// What Python's `str.isspace` calls white space.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// Refuses a format whose widths would only take memory.
pub(super) fn check_format(format: &str) -> Result<(), Error> {
    const DIGITS_MAX: usize = 4;
    let numbers = format.split(|c: char| !c.is_ascii_digit());
    match numbers.map(str::len).max() {
        Some(digits) if DIGITS_MAX < digits => Err(refused("the width of a format is too much")),
        _ => Ok(()),
    }
}

/// `str.strip` and its kin; `ends` are those that lose characters.
pub(super) fn strip<'t>(
    text: &'t str,
    characters: Option<&str>,
    [left, right]: [bool; 2],
) -> &'t str {
    let goes = |c: char| characters.map_or_else(|| is_space(c), |these| these.contains(c));
    let text = if left { text.trim_start_matches(goes) } else { text };
    if right { text.trim_end_matches(goes) } else { text }
}

/// Refuses a width that would only take memory.
pub(super) fn check_width(width: usize) -> Result<(), Error> {
    if WIDTH_MAX < width { Err(refused(format!("a width of {width} is too much"))) } else { Ok(()) }
}

fn of_text(
    state: &State<'_, '_>,
    text: &str,
    method: &str,
    args: &[Value],
) -> Result<Option<Value>, Error> {
    let args = Arguments::of(args.to_vec());
    let required = |index: usize| {
        let missing = || refused(format!("str.{method}() takes a text"));
        args.text(index, "value")?.ok_or_else(missing)
    };
    let fill = || match args.text(1, "fillchar")? {
        None => Ok(" ".to_owned()),
        Some(fill) if fill.chars().count() == 1 => Ok(fill),
        Some(_) => Err(refused("the fill character is one character")),
    };
    Ok(Some(match method {
        "strip" | "lstrip" | "rstrip" => {
            let characters = args.text(0, "chars")?;
            let ends = [method != "rstrip", method != "lstrip"];
            Value::from(strip(text, characters.as_deref(), ends))
        }
        "split" | "rsplit" => {
            let separator = args.text(0, "sep")?;
            let most = args.count(1, "maxsplit")?;
            let parts = split(text, separator.as_deref(), most, method == "rsplit")?;
            state.consume_fuel(parts.len() as u64)?;
            parts.into_iter().map(Value::from).collect()
        }
        "partition" | "rpartition" => {
            let separator = required(0)?;
            let found =
                if method == "partition" { text.find(&separator) } else { text.rfind(&separator) };
            let parts = match (found, method) {
                (Some(at), _) => [&text[..at], separator.as_str(), &text[at + separator.len()..]],
                (None, "partition") => [text, "", ""],
                (None, _) => ["", "", text],
            };
            Value::from(Tuple::from(parts.map(Value::from)))
        }
        "removeprefix" => Value::from(text.strip_prefix(required(0)?.as_str()).unwrap_or(text)),
        "removesuffix" => Value::from(text.strip_suffix(required(0)?.as_str()).unwrap_or(text)),
        "format" => {
            check_format(text)?;
            return Ok(None);
        }
        "casefold" => Value::from(text.to_lowercase()),
        "swapcase" => text.chars().map(swapped).collect::<String>().into(),
        "index" | "rindex" => {
            let wanted = required(0)?;
            let found = if method == "index" { text.find(&wanted) } else { text.rfind(&wanted) };
            let at = found.ok_or_else(|| refused("substring not found"))?;
            Value::from(text[..at].chars().count())
        }
        "title" => Value::from(title(text)),
        "center" => Value::from(centered(text, width(&args)?, &fill()?)?),
        "zfill" => Value::from(zero_filled(text, width(&args)?)),
        "ljust" => Value::from(format!("{text}{}", filling(text, width(&args)?, &fill()?))),
        "rjust" => Value::from(format!("{}{text}", filling(text, width(&args)?, &fill()?))),
        "splitlines" => lines(text, args.flag(0, "keepends")?).map(Value::from).collect(),
        "isidentifier" => {
            let mut characters = text.chars();
            let starts = characters.next().is_some_and(|c| c == '_' || c.is_alphabetic());
            Value::from(starts && characters.all(|c| c == '_' || c.is_alphanumeric()))
        }
        "isdecimal" => Value::from(!text.is_empty() && text.chars().all(|c| c.is_ascii_digit())),
        "isspace" => Value::from(!text.is_empty() && text.chars().all(is_space)),
        _ => return Ok(None),
    }))
}

fn width(args: &Arguments) -> Result<usize, Error> {
    if args.get(0, "width")?.is_none() {
        return Err(refused("a width is missing"));
    }
    let width = args.count(0, "width")?.unwrap_or(0);
    check_width(width)?;
    Ok(width)
}

/// `str.title`: a letter after anything but a letter is upper case.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut after_letter = false;
    for character in text.chars() {
        if after_letter {
            out.extend(character.to_lowercase());
        } else {
            out.extend(character.to_uppercase());
        }
        after_letter = character.is_alphabetic();
    }
    out
}

/// `str.center`.
pub(super) fn centered(text: &str, width: usize, fill: &str) -> Result<String, Error> {
    check_width(width)?;
    let room = width.saturating_sub(text.chars().count());
    // As CPython does it.
    let left = room / 2 + (room & width & 1);
    Ok(format!("{}{text}{}", fill.repeat(left), fill.repeat(room - left)))
}

fn filling(text: &str, width: usize, fill: &str) -> String {
    fill.repeat(width.saturating_sub(text.chars().count()))
}

fn zero_filled(text: &str, width: usize) -> String {
    let zeros = filling(text, width, "0");
    match text.strip_prefix(['+', '-']) {
        Some(rest) => format!("{}{zeros}{rest}", &text[..1]),
        None => format!("{zeros}{text}"),
    }
}

fn swapped(character: char) -> String {
    if character.is_uppercase() {
        character.to_lowercase().collect()
    } else {
        character.to_uppercase().collect()
    }
}

/// `str.split` and `str.rsplit`, with at most `most` splits.
fn split<'t>(
    text: &'t str,
    separator: Option<&str>,
    most: Option<usize>,
    from_the_right: bool,
) -> Result<Vec<&'t str>, Error> {
    let most = most.unwrap_or(usize::MAX - 1);
    let Some(separator) = separator else {
        return Ok(words(text, most, from_the_right));
    };
    if separator.is_empty() {
        return Err(refused("empty separator"));
    }
    if from_the_right {
        let mut parts: Vec<&str> = text.rsplitn(most + 1, separator).collect();
        parts.reverse();
        return Ok(parts);
    }
    Ok(text.splitn(most + 1, separator).collect())
}

/// Splits at runs of white space; the rest keeps its own.
fn words(text: &str, most: usize, from_the_right: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = if from_the_right {
        text.trim_end_matches(is_space)
    } else {
        text.trim_start_matches(is_space)
    };
    while !rest.is_empty() && parts.len() < most {
        let cut = if from_the_right { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(at) = cut else { break };
        let after = at + rest[at..].chars().next().map_or(0, char::len_utf8);
        if from_the_right {
            parts.push(&rest[after..]);
            rest = rest[..at].trim_end_matches(is_space);
        } else {
            parts.push(&rest[..at]);
            rest = rest[after..].trim_start_matches(is_space);
        }
    }
    if !rest.is_empty() {
        parts.push(rest);
    }
    if from_the_right {
        parts.reverse();
    }
    parts
}

/// Lines as `str.splitlines` cuts them.
pub(super) fn lines(text: &str, keeps_ends: bool) -> impl Iterator<Item = &str> {
    const ENDS: [char; 10] = [
        '\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}',
        '\u{2029}',
    ];
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(at) = rest.find(ENDS) else { return Some(std::mem::take(&mut rest)) };
        let end = if rest[at..].starts_with("\r\n") {
            2
        } else {
            rest[at..].chars().next().map_or(0, char::len_utf8)
        };
        let line = &rest[..if keeps_ends { at + end } else { at }];
        rest = &rest[at + end..];
        Some(line)
    })
}

fn of_dict(value: &Value, method: &str, args: &[Value]) -> Option<Value> {
    (method == "copy" && args.is_empty()).then(|| value.clone())
}

fn of_list(value: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match (method, args) {
        ("copy", []) => Ok(Some(value.clone())),
        ("index", [wanted]) => {
            let found = value.try_iter()?.position(|item| item == *wanted);
            let absent = || refused("the value is not in the list");
            found.map(|at| Some(Value::from(at))).ok_or_else(absent)
        }
        ("append" | "insert" | "extend" | "pop" | "remove" | "clear" | "sort" | "reverse", _) => {
            Err(refused(format!("templates cannot change a list (list.{method})")))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_python_splits_them() {
        let cases: [(&str, usize, bool, &[&str]); 6] = [
            (" a  b c ", 9, false, &["a", "b", "c"]),
            (" a  b c ", 1, false, &["a", "b c "]),
            (" a  b c ", 1, true, &[" a  b", "c"]),
            ("  ", 9, false, &[]),
            ("a", 0, false, &["a"]),
            (" a b", 0, false, &["a b"]),
        ];
        for (text, most, from_the_right, expected) in cases {
            assert_eq!(words(text, most, from_the_right), expected, "{text:?}");
        }
    }
}
