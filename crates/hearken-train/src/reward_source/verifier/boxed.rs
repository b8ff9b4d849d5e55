//! Answers in LaTeX boxes.

use super::number::{parse, same_number};

/// What stands in the last `\boxed{…}`, with its braces in balance; `None` without one.
///
/// ```
/// use hearken_train::reward_source::last_boxed;
/// assert_eq!(last_boxed(r"\boxed{1} or rather \boxed{\sqrt{2}}."), Some(r"\sqrt{2}"));
/// assert_eq!(last_boxed(r"\boxed{1"), None);
/// ```
pub fn last_boxed(text: &str) -> Option<&str> {
    let (_, rest) = text.rsplit_once(r"\boxed{")?;
    let mut depth = 1_usize;
    for (index, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&rest[..index]);
        }
    }
    None
}

/// Whether two answers say the same: the same number, or the same LaTeX without spacing, `$`, `\left`
/// and `\right`, a full stop at the end, and the size of fractions.
pub fn same_latex(one: &str, other: &str) -> bool {
    let (one, other) = (normal(one), normal(other));
    match (value(&one), value(&other)) {
        (Some(one), Some(other)) => same_number(one, other),
        _ => one == other,
    }
}

fn normal(text: &str) -> String {
    let mut normal = text.to_owned();
    for (from, to) in [
        (r"\dfrac", r"\frac"),
        (r"\tfrac", r"\frac"),
        (r"\left", ""),
        (r"\right", ""),
        (r"\,", ""),
        (r"\!", ""),
        (r"\;", ""),
        (r"\ ", ""),
        (r"\$", ""),
        (r"\%", "%"),
        ("$", ""),
    ] {
        normal = normal.replace(from, to);
    }
    normal.retain(|c| !c.is_whitespace());
    let stop = normal.strip_suffix('.').map(str::to_owned);
    stop.unwrap_or(normal)
}

/// The value of a number, a fraction a/b or `\frac{a}{b}`.
fn value(text: &str) -> Option<f64> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    let fraction = rest.strip_prefix(r"\frac{").and_then(|rest| rest.strip_suffix('}'));
    let parts = fraction.and_then(|inner| inner.split_once("}{")).or_else(|| rest.split_once('/'));
    let value = match parts {
        Some((above, below)) => parse(above)? / parse(below)?,
        None => parse(rest)?,
    };
    value.is_finite().then_some(sign * value)
}
