//! Numbers in texts.

use std::sync::LazyLock;

use regex::Regex;

/// A number as people write it: sign, thousands in groups, decimals.
static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"[-−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[-−]?\.\d+").expect("an expression")
});

/// The number behind the last `####`, else the last number of the text; `None` without one.
///
/// ```
/// use hearken_train::reward_source::final_number;
/// assert_eq!(final_number("2 boxes of 600\n#### 1,200"), Some(1200.0));
/// assert_eq!(final_number("from 7 to -3."), Some(-3.0));
/// assert_eq!(final_number("#### nothing"), None);
/// ```
pub fn final_number(text: &str) -> Option<f64> {
    match text.rsplit_once("####") {
        Some((_, marked)) => numbers(marked).next(),
        None => numbers(text).last(),
    }
}

fn numbers(text: &str) -> impl Iterator<Item = f64> {
    NUMBER.find_iter(text).filter_map(|found| {
        // A hyphen between two words or numbers is no sign.
        let before = text[..found.start()].chars().next_back();
        let is_infix = before.is_some_and(|c| c.is_alphanumeric() || c == '.');
        let shown = found.as_str();
        let digits = if is_infix { shown.trim_start_matches(['-', '−']) } else { shown };
        parse(digits)
    })
}

/// A number with a possible minus of typographers and commas between thousands.
pub(super) fn parse(text: &str) -> Option<f64> {
    let plain: String =
        text.chars().filter(|c| *c != ',').map(|c| if c == '−' { '-' } else { c }).collect();
    plain.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Equal but for rounding in the last of about nine digits.
pub fn same_number(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-9 * one.abs().max(other.abs()).max(1.0)
}
