//! Filters that jinja2 has otherwise than minijinja, or that minijinja lacks.

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value};

use super::arguments::{Arguments, refused};
use super::json::Dumps;
use super::{methods, python, source};

/// Arguments as they come.
type Args = Rest<ValueOrKwargs>;

/// Adds them to an environment.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", |value: Value| -> Result<Value, Error> {
        Ok(match value.kind() {
            ValueKind::String => value,
            _ => Value::from(python::text(&value)?),
        })
    });
    for name in ["default", "d"] {
        environment.add_filter(name, default);
    }
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("dictsort", dictsort);
    environment.add_filter(
        "trim",
        |value: &Value, characters: Option<&str>| -> Result<String, Error> {
            Ok(methods::strip(&python::text(value)?, characters, [true, true]).to_owned())
        },
    );
    environment.add_filter(
        "center",
        |value: &Value, width: Option<usize>| -> Result<String, Error> {
            methods::centered(&python::text(value)?, width.unwrap_or(80), " ")
        },
    );
    environment.add_filter("wordcount", |text: &str| text.split_whitespace().count());
    environment.add_filter("indent", indent);
    environment.add_filter("truncate", truncate);
    environment.add_filter(source::PERCENT, percent);
}

/// `json.dumps(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`: positional
/// arguments come in this order.
fn tojson(state: &mut State<'_, '_>, value: &Value, args: Args) -> Result<Value, Error> {
    let args = Arguments::from(args);
    let indent = args.get(1, "indent")?.map(|indent| indentation(&indent)).transpose()?;
    let separators = match args.get(2, "separators")? {
        Some(pair) => match pair.try_iter()?.collect::<Vec<_>>().as_slice() {
            [items, keys] => (items.to_string(), keys.to_string()),
            _ => return Err(refused("tojson: `separators` are two texts")),
        },
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let (ensure_ascii, sort_keys) = (args.flag(0, "ensure_ascii")?, args.flag(3, "sort_keys")?);
    Dumps { ensure_ascii, indent, separators, sort_keys }.dump(state, value).map(Value::from)
}

/// The text that a level of depth begins with.
fn indentation(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    let width = usize::try_from(i64::try_from(value.clone())?).unwrap_or(0);
    methods::check_width(width)?;
    Ok(" ".repeat(width))
}

/// `default(value, default_value='', boolean=False)`.
fn default(value: Value, args: Args) -> Result<Value, Error> {
    let args = Arguments::from(args);
    let is_absent = value.is_undefined() || (args.flag(1, "boolean")? && !value.is_true());
    if !is_absent {
        return Ok(value);
    }
    let none_is_given = args.positional().first().is_some_and(Value::is_none);
    let given = args.get(0, "default_value")?;
    Ok(given.unwrap_or_else(|| if none_is_given { Value::from(()) } else { Value::from("") }))
}

/// `int(value, default=0, base=10)`: what is no number is the default.
fn int(value: &Value, args: Args) -> Result<Value, Error> {
    let args = Arguments::from(args);
    let default = || args.get(0, "default").map(|value| value.unwrap_or_else(|| Value::from(0)));
    let base = args.count(1, "base")?.and_then(|base| u32::try_from(base).ok()).unwrap_or(10);
    if !matches!(base, 2..=36) {
        return Err(refused(format!("int: {base} is no base")));
    }
    let whole = |number: f64| number.is_finite().then(|| Value::from(number.trunc() as i128));
    let number = match (value.as_str(), value.kind()) {
        (Some(text), _) => {
            let text = text.trim().replace('_', "");
            let prefixes: &[&str] = match base {
                2 => &["0b", "0B"],
                8 => &["0o", "0O"],
                16 => &["0x", "0X"],
                _ => &[],
            };
            let digits = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix));
            let parsed = i128::from_str_radix(digits.unwrap_or(&text), base).ok().map(Value::from);
            parsed.or_else(|| whole(text.parse().ok()?))
        }
        (None, ValueKind::Bool) => Some(Value::from(i64::from(value.is_true()))),
        (None, ValueKind::Number) => match python::float(value) {
            Some(number) => whole(number),
            None => Some(value.clone()),
        },
        _ => None,
    };
    number.map_or_else(default, Ok)
}

/// `float(value, default=0.0)`.
fn float(value: &Value, args: Args) -> Result<Value, Error> {
    let number = match value.as_str() {
        Some(text) => text.trim().replace('_', "").parse().ok(),
        None if value.kind() == ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        None => f64::try_from(value.clone()).ok(),
    };
    if let Some(number) = number {
        return Ok(Value::from(number));
    }
    let default = Arguments::from(args).get(0, "default")?;
    Ok(default.unwrap_or_else(|| Value::from(0.0)))
}

/// `dictsort(value, case_sensitive=False, by='key', reverse=False)`.
fn dictsort(value: &Value, args: Args) -> Result<Value, Error> {
    let args = Arguments::from(args);
    let names = ["case_sensitive", "by", "reverse"].into_iter().enumerate();
    let given: Result<Vec<_>, Error> = names
        .filter_map(|(index, name)| args.get(index, name).transpose().map(|value| (name, value)))
        .map(|(name, value)| Ok((name, value?)))
        .collect();
    minijinja::filters::dictsort(value, given?.into_iter().collect::<Kwargs>())
}

/// `indent(text, width=4, first=False, blank=False)`.
fn indent(state: &mut State<'_, '_>, value: &Value, args: Args) -> Result<String, Error> {
    let args = Arguments::from(args);
    let indentation = match args.get(0, "width")? {
        Some(width) => indentation(&width)?,
        None => " ".repeat(4),
    };
    let (first, blank) = (args.flag(1, "first")?, args.flag(2, "blank")?);
    let text = python::text(value)? + "\n";
    let mut out = String::new();
    for (index, line) in methods::lines(&text, false).enumerate() {
        if 0 < index {
            out.push('\n');
        }
        if if index == 0 { first } else { blank || !line.is_empty() } {
            state.consume_fuel(indentation.len() as u64 / 64)?;
            out.push_str(&indentation);
        }
        out.push_str(line);
    }
    Ok(out)
}

/// `truncate(text, length=255, killwords=False, end='...', leeway=5)`.
fn truncate(value: &Value, args: Args) -> Result<String, Error> {
    let args = Arguments::from(args);
    let text = python::text(value)?;
    let length = args.count(0, "length")?.unwrap_or(255);
    let end = args.text(2, "end")?.unwrap_or_else(|| "...".to_owned());
    let leeway = args.count(3, "leeway")?.unwrap_or(5);
    if text.chars().count() <= length + leeway {
        return Ok(text);
    }
    let room = length.saturating_sub(end.chars().count());
    let cut: String = text.chars().take(room).collect();
    if args.flag(1, "killwords")? {
        return Ok(cut + &end);
    }
    Ok(cut.rsplit_once(' ').map_or(cut.as_str(), |(before, _)| before).to_owned() + &end)
}

/// The operator `%` of a text.
fn percent(text: &str, value: Value) -> Result<String, Error> {
    methods::check_format(text)?;
    let args = match value.is_tuple() {
        true => value.try_iter()?.collect(),
        false => vec![value],
    };
    format(FormatStyle::Printf, text, &args)
}
