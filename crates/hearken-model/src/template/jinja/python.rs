//! Values as Python writes them.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// How deep lists and objects may lie in each other.
const DEPTH_MAX: usize = 200;

/// The most values that one text is written of. minijinja puts lists together on demand, so that one which was
/// added to itself again and again costs nothing until it is written.
const VALUES_MAX: usize = 1 << 20;

/// Python's `str` of a value.
///
/// # Errors
/// If it is made of too many.
pub(super) fn text(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(String::new()),
        ValueKind::String => Ok(value.to_string()),
        _ => {
            let mut left = VALUES_MAX;
            written(value, 0, &mut left)
        }
    }
}

/// Python's `repr`; `left` counts values.
fn written(value: &Value, depth: usize, left: &mut usize) -> Result<String, Error> {
    if DEPTH_MAX < depth {
        return Ok("...".to_owned());
    }
    let Some(fewer) = left.checked_sub(1) else {
        return Err(Error::from(ErrorKind::OutOfFuel));
    };
    *left = fewer;
    let items = || value.try_iter().into_iter().flatten();
    Ok(match value.kind() {
        ValueKind::Undefined => "Undefined".to_owned(),
        ValueKind::Number => float(value).map_or_else(|| value.to_string(), repr),
        ValueKind::String => format!("{value:?}"),
        ValueKind::Map => {
            let mut pairs = Vec::new();
            for key in items() {
                let item = value.get_item(&key).unwrap_or_default();
                let key = written(&key, depth + 1, left)?;
                pairs.push(format!("{key}: {}", written(&item, depth + 1, left)?));
            }
            format!("{{{}}}", pairs.join(", "))
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let mut texts = Vec::new();
            for item in items() {
                texts.push(written(&item, depth + 1, left)?);
            }
            match (value.is_tuple(), texts.len()) {
                (true, 1) => format!("({},)", texts[0]),
                (true, _) => format!("({})", texts.join(", ")),
                (false, _) => format!("[{}]", texts.join(", ")),
            }
        }
        _ => value.to_string(),
    })
}

/// A floating-point number.
pub(super) fn float(value: &Value) -> Option<f64> {
    (value.is_number() && !value.is_integer()).then(|| f64::try_from(value.clone()).ok()).flatten()
}

/// Python's `repr` of a float: the shortest digits that give it back, with an exponent below 10⁻⁴
/// and from 10¹⁶.
pub(super) fn repr(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number < 0.0 { "-inf" } else { "inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = number.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::repr;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5e-7, "-2.5e-07"),
        ];
        for (number, expected) in cases {
            assert_eq!(repr(number), expected);
        }
    }
}
