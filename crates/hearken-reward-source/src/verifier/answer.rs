//! Answers: numbers, expressions, equations, sets, intervals and words, and whether two say the same.

use super::expression::{Expression, proportional, same_value};
use super::latex::{ROW, closing, plain};
use super::notation;

/// Longer answers are compared as texts.
const CHARACTERS_MAX: usize = 2000;
/// Elements of lists whose order does not matter.
const ELEMENTS_MAX: usize = 200;

/// What stands between the sides of an inequality.
const RELATIONS: [char; 4] = ['<', '>', '≤', '≥'];
/// How the set of all real numbers is written.
const REALS: [&str; 5] = ["ℝ", "\\mathbb{R}", "\\mathbb R", "\\R", "all real numbers"];

/// Whether two answers say the same.
///
/// | answers | are the same if |
/// |---|---|
/// | numbers and expressions | they have the same value: `\frac12`, `0.5`; `2(x+1)`, `2x+2`; `\sqrt8`, `2\sqrt2` |
/// | `50\%` | as another percentage, as 50, and as ½ |
/// | with units | the values are the same, and the units where both have one |
/// | `x = 3` | as 3, and as another equation that is a multiple of it |
/// | `\{1, 2\}`, `1, 2`, `1 or 2`, `±1` | they have the same elements, in any order |
/// | `(1, 2)`, `[1, 2)`, matrices | they have the same elements, in order, and the same brackets |
/// | `x > 2`, `1 ≤ x < 3`, unions | they are the same intervals |
/// | `\lfloor x \rfloor`, `1.5 million`, `0.(3)`, `1:2` | they are the same numbers, written the usual way |
/// | words | they are the same, but for capitals and white space |
///
/// Math delimiters, currencies, spacing, sizes and a full stop at the end say nothing.
///
/// ```
/// use hearken_reward_source::same_answer;
/// assert!(same_answer(r"\frac12", "0.5") && same_answer("1,000", "1000"));
/// assert!(!same_answer("12", "1,2") && !same_answer("(1, 2)", "(2, 1)"));
/// ```
pub fn same_answer(one: &str, other: &str) -> bool {
    let [one, other] =
        [one, other].map(|text| notation::unified(&plain(&notation::repeating(text))));
    if one == other {
        return true;
    }
    let is_read = |text: &String| !text.is_empty() && text.len() <= CHARACTERS_MAX;
    if !is_read(&one) || !is_read(&other) {
        return false;
    }
    let (ones, others) = (readings(&one), readings(&other));
    ones.iter().any(|one| others.iter().any(|other| same(one, other)))
}

/// What an answer is.
#[derive(Clone, Debug, PartialEq)]
enum ParsedAnswer {
    Words(String),
    Value(Value),
    /// Left and right side; whether the left only names what is on the right.
    Equation {
        left: Expression,
        right: Expression,
        is_named: bool,
    },
    /// Elements in no order; with or without braces.
    Set(Vec<ParsedAnswer>),
    /// Elements in order, with their brackets.
    Tuple {
        open: char,
        close: char,
        elements: Vec<ParsedAnswer>,
    },
    Union(Vec<ParsedAnswer>),
    Matrix(Vec<Vec<ParsedAnswer>>),
}

/// An expression with what stands behind it.
#[derive(Clone, Debug, PartialEq)]
struct Value {
    expression: Expression,
    is_percent: bool,
    unit: Option<String>,
    /// The number and the unit that the letters behind it may be: `5 m`.
    measured: Option<Box<Value>>,
}

impl Value {
    fn plain(expression: Expression) -> Self {
        Self { expression, is_percent: false, unit: None, measured: None }
    }
}

/// How a text can be read: commas may group thousands or separate elements.
fn readings(text: &str) -> Vec<ParsedAnswer> {
    let joined = without_thousands(text);
    let mut readings = vec![read(&joined)];
    let has_bracket = text.starts_with(['(', '[']) || text.starts_with("\\{");
    let elements = split(text.trim_matches(|c| "()[]{}\\".contains(c)), ",");
    let has_zeros = elements.iter().any(|one| one.trim().len() > 1 && one.trim().starts_with('0'));
    if joined != text && !has_zeros && (has_bracket || 2 < elements.len()) {
        readings.push(read(text));
    }
    readings.extend(notation::alternative(text).map(|text| read(&text)));
    readings
}

/// A text without commas between groups of three digits.
fn without_thousands(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        result.push_str(before);
        let len = from.find(|c: char| !c.is_ascii_digit() && c != ',').unwrap_or(from.len());
        let run = from[..len].trim_end_matches(',');
        let mut groups = run.split(',');
        let first = groups.next().unwrap_or_default();
        let is_decimal = before.ends_with('.');
        let grouped =
            !is_decimal && first.len() <= 3 && run.contains(',') && groups.all(|g| g.len() == 3);
        match grouped {
            true => result.extend(run.chars().filter(|c| *c != ',')),
            false => result.push_str(run),
        }
        rest = &from[run.len()..];
    }
    result + rest
}

fn read(text: &str) -> ParsedAnswer {
    // A sign that nothing stands before says nothing: "= 5".
    let text = text.trim().trim_start_matches('=').trim_start();
    if let Some(matrix) = matrix(text) {
        return matrix;
    }
    if text == "∅" || text == "\\{\\}" || text == "\\{ \\}" {
        return ParsedAnswer::Set(Vec::new());
    }
    if REALS.contains(&text) {
        let infinity = || Expression::Symbol("∞".to_owned());
        return open_interval(infinity().negated(), infinity());
    }
    if let Some((variable, set)) = text.split_once('∈')
        && Expression::read(variable).is_some_and(|found| found.is_variable())
    {
        return read(set);
    }
    for (separators, make) in [
        (&["∪"][..], ParsedAnswer::Union as fn(Vec<ParsedAnswer>) -> ParsedAnswer),
        (&[" or ", " and ", ";", ","][..], ParsedAnswer::Set),
    ] {
        let parts = split_any(text, separators);
        if 1 < parts.len()
            && parts.len() <= ELEMENTS_MAX
            && parts.iter().all(|part| !part.trim().is_empty())
        {
            // Where one inequality or another holds, there is a union of intervals.
            let is_alternative =
                !text.contains(" and ") && parts.iter().all(|part| part.contains(RELATIONS));
            let make = if is_alternative { ParsedAnswer::Union } else { make };
            return make(parts.into_iter().map(read).collect());
        }
    }
    if let Some(bracketed) = bracketed(text) {
        return bracketed;
    }
    if text.contains('±') {
        let [plus, minus] = ["+", "-"].map(|sign| read(&text.replace('±', sign)));
        return ParsedAnswer::Set(vec![plus, minus]);
    }
    if text.contains(RELATIONS) {
        return interval(text).unwrap_or_else(|| words(text));
    }
    if text.contains('=') {
        return equation(text).unwrap_or_else(|| words(text));
    }
    value(text).map_or_else(|| words(text), ParsedAnswer::Value)
}

fn open_interval(low: Expression, high: Expression) -> ParsedAnswer {
    let elements = [low, high].map(|bound| ParsedAnswer::Value(Value::plain(bound))).into();
    ParsedAnswer::Tuple { open: '(', close: ')', elements }
}

/// The words of a text; ratios and times have no spaces around their colon.
fn words(text: &str) -> ParsedAnswer {
    let text: String = text.chars().map(|c| if c == '\\' { ' ' } else { c }).collect();
    let text = text.split(':').map(str::trim).collect::<Vec<_>>().join(":");
    ParsedAnswer::Words(text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase())
}

/// The parts of a text between separators outside of all brackets.
fn split<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    split_any(text, &[separator])
}

fn split_any<'a>(text: &'a str, separators: &[&str]) -> Vec<&'a str> {
    let (mut parts, mut start, mut depth, mut index) = (Vec::new(), 0, 0_i64, 0);
    while let Some(c) = text[index..].chars().next() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        let found = separators.iter().find(|separator| text[index..].starts_with(**separator));
        match found.filter(|_| depth == 0) {
            Some(separator) => {
                parts.push(&text[start..index]);
                index += separator.len();
                start = index;
            }
            None => index += c.len_utf8(),
        }
    }
    parts.push(&text[start..]);
    // "1, 2, and 3" has an empty part where its last two separators meet.
    if 2 < parts.len() {
        parts.retain(|part| !part.trim().is_empty());
    }
    parts
}

/// A set, tuple or interval, or what stands in brackets that say nothing.
fn bracketed(text: &str) -> Option<ParsedAnswer> {
    if let Some(inner) = text.strip_prefix("\\{").and_then(|inner| inner.strip_suffix("\\}")) {
        return Some(ParsedAnswer::Set(split(inner, ",").into_iter().map(read).collect()));
    }
    let (open, close) = (text.chars().next()?, text.chars().next_back()?);
    if !"([{".contains(open) || !")]}".contains(close) || text.len() < 2 {
        return None;
    }
    let inner = &text[1..text.len() - 1];
    let mut depth = 0_i64;
    for c in inner.chars() {
        depth += i64::from("([{".contains(c)) - i64::from(")]}".contains(c));
        // The first bracket is not the last one's.
        if depth < 0 {
            return None;
        }
    }
    let parts = split(inner, ",");
    if 1 < parts.len() && parts.len() <= ELEMENTS_MAX {
        let elements = parts.into_iter().map(read).collect();
        return Some(match open {
            '{' => ParsedAnswer::Set(elements),
            _ => ParsedAnswer::Tuple { open, close, elements },
        });
    }
    // A single element in square brackets is a list of one; other brackets only group.
    match open {
        '[' => None,
        _ => Some(read(inner)),
    }
}

/// `\begin{pmatrix}1 & 2 \\ 3 & 4\end{pmatrix}`.
fn matrix(text: &str) -> Option<ParsedAnswer> {
    let rest = text.strip_prefix("\\begin{")?;
    let (name, rest) = rest.split_once('}')?;
    if !name.ends_with("matrix") && name != "array" {
        return None;
    }
    let mut rest = rest;
    if name == "array" {
        let columns = rest.strip_prefix('{')?;
        rest = &columns[closing(columns)? + 1..];
    }
    let inner = rest.strip_suffix(&format!("\\end{{{name}}}"))?;
    let rows = split(inner.trim().trim_end_matches(ROW), &ROW.to_string());
    Some(ParsedAnswer::Matrix(
        rows.into_iter().map(|row| split(row, "&").into_iter().map(read).collect()).collect(),
    ))
}

/// The interval that inequalities of one variable describe.
fn interval(text: &str) -> Option<ParsedAnswer> {
    let is_relation = |c: char| RELATIONS.contains(&c);
    let parts: Vec<&str> = text.split(is_relation).collect();
    let relations: Vec<char> = text.chars().filter(|c| is_relation(*c)).collect();
    let read = |part: &str| Expression::read(part.trim());
    let infinity = || Expression::Symbol("∞".to_owned());
    let bound = |expression| ParsedAnswer::Value(Value::plain(expression));
    let made = |low: (Expression, bool), high: (Expression, bool)| ParsedAnswer::Tuple {
        open: if low.1 { '[' } else { '(' },
        close: if high.1 { ']' } else { ')' },
        elements: vec![bound(low.0), bound(high.0)],
    };
    match (parts.as_slice(), relations.as_slice()) {
        ([left, right], [relation]) => {
            let (left, right) = (read(left)?, read(right)?);
            let includes = "≤≥".contains(*relation);
            let rises = "<≤".contains(*relation);
            match (left.is_variable(), right.is_variable()) {
                (true, false) if rises => {
                    Some(made((infinity().negated(), false), (right, includes)))
                }
                (true, false) => Some(made((right, includes), (infinity(), false))),
                (false, true) if rises => Some(made((left, includes), (infinity(), false))),
                (false, true) => Some(made((infinity().negated(), false), (left, includes))),
                _ => None,
            }
        }
        ([left, middle, right], [one, other]) => {
            let (left, right) = (read(left)?, read(right)?);
            let rise = |c: &char| "<≤".contains(*c);
            if !read(middle)?.is_variable() || rise(one) != rise(other) {
                return None;
            }
            let (left, right) = ((left, "≤≥".contains(*one)), (right, "≤≥".contains(*other)));
            Some(if rise(one) { made(left, right) } else { made(right, left) })
        }
        _ => None,
    }
}

/// The first and the last side of an equation; a last side that is no expression may be a list.
fn equation(text: &str) -> Option<ParsedAnswer> {
    let (first, _) = text.split_once('=')?;
    let (_, last) = text.rsplit_once('=')?;
    if is_point(first.trim()) || is_angle(first.trim()) {
        return Some(read(last));
    }
    let is_function = is_function(first.trim());
    let Some(left) = Expression::read(first) else {
        return (is_function && !last.trim().is_empty()).then(|| read(last));
    };
    let is_named = left.is_variable() || is_function;
    match value(last) {
        Some(value) if value.unit.is_none() && value.measured.is_none() && !value.is_percent => {
            Some(ParsedAnswer::Equation { left, right: value.expression, is_named })
        }
        Some(value) if is_named => Some(ParsedAnswer::Value(value)),
        _ if is_named && !last.trim().is_empty() => Some(read(last)),
        _ => None,
    }
}

/// Whether a text is a point of letters: (x, y).
fn is_point(text: &str) -> bool {
    let inner = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    inner.is_some_and(|inner| {
        let is_letter = |part: &str| Expression::read(part).is_some_and(|read| read.is_variable());
        inner.contains(',') && inner.split(',').all(is_letter)
    })
}

/// Whether a text names an angle: `\angle ABC`, `m\angle A`.
fn is_angle(text: &str) -> bool {
    let points = text.strip_prefix('m').unwrap_or(text).trim_start().strip_prefix("\\angle");
    points.is_some_and(|points| points.chars().all(|c| c.is_alphanumeric() || " {}_".contains(c)))
}

/// Whether a text is a letter, perhaps with a prime or inverted, applied to letters: f(x), g(x, y), `f^{-1}(x)`.
fn is_function(text: &str) -> bool {
    let mut characters = text.chars();
    let named = characters.next().is_some_and(char::is_alphabetic);
    let rest = characters.as_str().trim_start_matches('\'').trim();
    let rest = rest.strip_prefix("^{-1}").unwrap_or(rest).trim_start();
    let arguments = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    named && arguments.is_some_and(|of| of.chars().all(|c| c.is_alphabetic() || ", ".contains(c)))
}

/// An expression with a percent sign or a unit, if it has one.
fn value(text: &str) -> Option<Value> {
    let text = text.trim();
    let text = text.strip_prefix('=').unwrap_or(text).trim();
    let is_word = text.chars().all(|c| c.is_alphabetic() || c == ' ') && 1 < text.chars().count();
    if is_word && text != "pi" {
        return None;
    }
    let mixed = mixed_number(text);
    if let Some(expression) = Expression::read(mixed.as_deref().unwrap_or(text)) {
        let measured = measured(text).filter(|found| {
            !ends_in_factor(text) && found.unit.as_deref().is_some_and(is_short_unit)
        });
        return Some(Value { measured: measured.map(Box::new), ..Value::plain(expression) });
    }
    for sign in ["%", "percent"] {
        if let Some(before) = text.strip_suffix(sign) {
            return Some(Value { is_percent: true, ..Value::plain(Expression::read(before)?) });
        }
    }
    measured(text)
}

/// A number with a unit: what stands behind the last sign of a number, if it begins with a letter or
/// a degree.
fn measured(text: &str) -> Option<Value> {
    const ENDS_MAX: usize = 8;
    let is_of_number = |c: char| c.is_ascii_digit() || ")}π".contains(c);
    let ends = text.char_indices().rev().filter(|(_, c)| is_of_number(*c));
    for (end, c) in ends.take(ENDS_MAX) {
        let (number, unit) = text.split_at(end + c.len_utf8());
        let unit = unit.trim();
        if !unit.starts_with(|c: char| c.is_alphabetic() || c == '°') {
            continue;
        }
        let mixed = mixed_number(number);
        let expression = Expression::read(mixed.as_deref().unwrap_or(number));
        if let (Some(expression), Some(unit)) = (expression, unit_name(unit)) {
            return Some(Value { unit: Some(unit), ..Value::plain(expression) });
        }
    }
    None
}

/// Whether a text ends in a letter that is multiplied: 5m, but 5 m may be a length.
fn ends_in_factor(text: &str) -> bool {
    let mut last = text.chars().rev();
    last.next().is_some_and(char::is_alphabetic)
        && last.next().is_some_and(|c| c.is_ascii_digit() || ")}".contains(c))
}

/// Units that could be products of letters.
fn is_short_unit(unit: &str) -> bool {
    const SHORT: [&str; 24] = [
        "m", "cm", "mm", "km", "in", "ft", "yd", "mi", "g", "kg", "mg", "lb", "oz", "l", "ml", "s",
        "h", "hr", "mph", "n", "j", "w", "v", "a",
    ];
    let end = unit.find(|c: char| !c.is_alphabetic()).unwrap_or(unit.len());
    SHORT.contains(&&unit[..end])
}

/// `3 1/2` as a whole number with a fraction behind it.
fn mixed_number(text: &str) -> Option<String> {
    let (whole, fraction) = text.trim().split_once(' ')?;
    let (above, below) = fraction.split_once('/')?;
    let is_count = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let is_whole = is_count(whole.strip_prefix('-').unwrap_or(whole));
    (is_whole && is_count(above) && is_count(below))
        .then(|| format!("{whole}\\frac{{{above}}}{{{below}}}"))
}

/// Names of units that are abbreviations of others.
const UNITS: &[(&str, &str)] = &[
    ("centimeter", "cm"),
    ("centimetre", "cm"),
    ("millimeter", "mm"),
    ("millimetre", "mm"),
    ("kilometer", "km"),
    ("kilometre", "km"),
    ("meter", "m"),
    ("metre", "m"),
    ("inche", "in"),
    ("inch", "in"),
    ("feet", "ft"),
    ("foot", "ft"),
    ("yard", "yd"),
    ("mile", "mi"),
    ("kilogram", "kg"),
    ("gram", "g"),
    ("liter", "l"),
    ("litre", "l"),
    ("hour", "h"),
    ("hr", "h"),
    ("minute", "min"),
    ("second", "s"),
    ("sec", "s"),
    ("degree", "°"),
    ("deg", "°"),
];

/// A unit in one form; `None` for what reads like none: an equation, a sentence.
fn unit_name(text: &str) -> Option<String> {
    const WORDS_MAX: usize = 4;
    let is_part = |c: char| c.is_alphanumeric() || " °/^{}*.-".contains(c);
    // A number of its own would be a second quantity: 2 hours 30 minutes.
    let has_number =
        text.split_whitespace().any(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    if has_number || !text.chars().all(is_part) || WORDS_MAX < text.split_whitespace().count() {
        return None;
    }
    let text = text.to_lowercase().replace("square ", "").replace(['{', '}', '*', '.'], " ");
    let name = |word: &str| {
        let singular = match word.len() {
            0..=2 => word,
            _ => word.strip_suffix('s').unwrap_or(word),
        };
        let known = UNITS.iter().find(|(long, _)| *long == singular);
        known.map_or(singular, |(_, short)| *short).to_owned()
    };
    let words: Vec<String> = text
        .split_inclusive(|c: char| !c.is_alphabetic())
        .map(|part| {
            let word = part.trim_end_matches(|c: char| !c.is_alphabetic());
            name(word) + &part[word.len()..]
        })
        .collect();
    let joined: String = words.concat().chars().filter(|c| !c.is_whitespace()).collect();
    Some(joined)
}

fn same(one: &ParsedAnswer, other: &ParsedAnswer) -> bool {
    match (one, other) {
        (ParsedAnswer::Words(one), ParsedAnswer::Words(other)) => one == other,
        (ParsedAnswer::Value(one), ParsedAnswer::Value(other)) => same_quantity(one, other),
        (
            ParsedAnswer::Equation { left, right, .. },
            ParsedAnswer::Equation { left: other_left, right: other_right, .. },
        ) => {
            let difference = |left: &Expression, right: &Expression| {
                Expression::Sum(vec![left.clone(), right.clone().negated()])
            };
            proportional(&difference(left, right), &difference(other_left, other_right))
        }
        (ParsedAnswer::Equation { right, is_named, .. }, ParsedAnswer::Value(value))
        | (ParsedAnswer::Value(value), ParsedAnswer::Equation { right, is_named, .. }) => {
            *is_named && same_quantity(&Value::plain(right.clone()), value)
        }
        (ParsedAnswer::Set(one), ParsedAnswer::Set(other))
        | (ParsedAnswer::Union(one), ParsedAnswer::Union(other)) => same_elements(one, other),
        (
            ParsedAnswer::Set(set),
            single @ (ParsedAnswer::Value(_) | ParsedAnswer::Equation { .. }),
        )
        | (
            single @ (ParsedAnswer::Value(_) | ParsedAnswer::Equation { .. }),
            ParsedAnswer::Set(set),
        ) => !set.is_empty() && set.iter().all(|element| same(element, single)),
        (
            ParsedAnswer::Tuple { open, close, elements },
            ParsedAnswer::Tuple { open: other_open, close: other_close, elements: others },
        ) => open == other_open && close == other_close && in_order(elements, others),
        // A point may be written without its parentheses.
        (ParsedAnswer::Tuple { open: '(', close: ')', elements }, ParsedAnswer::Set(set))
        | (ParsedAnswer::Set(set), ParsedAnswer::Tuple { open: '(', close: ')', elements }) => {
            in_order(elements, set)
        }
        (ParsedAnswer::Matrix(one), ParsedAnswer::Matrix(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| in_order(one, other))
        }
        _ => false,
    }
}

fn in_order(one: &[ParsedAnswer], other: &[ParsedAnswer]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
}

/// Each element of either is one of the other.
fn same_elements(one: &[ParsedAnswer], other: &[ParsedAnswer]) -> bool {
    let within = |some: &[ParsedAnswer], all: &[ParsedAnswer]| {
        some.iter().all(|element| all.iter().any(|found| same(element, found)))
    };
    within(one, other) && within(other, one)
}

fn same_quantity(one: &Value, other: &Value) -> bool {
    let readings = |of: &Value| -> Vec<Value> {
        let measured = of.measured.as_deref().cloned();
        std::iter::once(Value { measured: None, ..of.clone() }).chain(measured).collect()
    };
    let others = readings(other);
    readings(one).iter().any(|one| others.iter().any(|other| same_reading(one, other)))
}

fn same_reading(one: &Value, other: &Value) -> bool {
    let same_unit = match (&one.unit, &other.unit) {
        (Some(one), Some(other)) => one == other,
        // A percentage has no other unit.
        _ => !(one.is_percent && other.unit.is_some() || other.is_percent && one.unit.is_some()),
    };
    let is_same = || same_value(&one.expression, &other.expression);
    let as_share = |percent: &Value, plain: &Value| {
        same_value(&percent.expression.clone().hundredth(), &plain.expression)
    };
    same_unit
        && match (one.is_percent, other.is_percent) {
            (true, false) => is_same() || as_share(one, other),
            (false, true) => is_same() || as_share(other, one),
            _ => is_same(),
        }
}
