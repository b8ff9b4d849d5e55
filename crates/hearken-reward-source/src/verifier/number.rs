//! Numbers in texts.

use std::sync::LazyLock;

use regex::Regex;

/// A number as people write it: sign, currency, thousands in groups, decimals, a power of ten; or a
/// fraction of such; perhaps in percent.
static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    let group = r"(?:,(?:\\!)?|\{,\}|\\[,!]|[\u2009\u202f])\d{3}";
    let number = format!(r"(?:(?:\d{{1,3}}(?:{group})+|\d+)(?:\.\d+)?|\.\d+)");
    let power = r"(?:[eE][-+]?\d+|\s*(?:×|\\times|\\cdot|\*|·)\s*10\s*\^\s*(?:\{\s*[-−]?\d+\s*\}|[-−]?\d+))?";
    let fraction = r"\\[dtc]?frac\s*(?:\{\s*[-−]?\d+\s*\}\s*\{\s*\d+\s*\}|\d\s*\d)";
    let scale = r"(?:[ -]?(?i:thousand|million|billion|trillion)\b)?";
    let currency = r"(?:\\?[$£€])?";
    Regex::new(&format!(
        r"[-−–]?{currency}[-−–]?(?:\d*{fraction}|(?:\d{{1,3}} \d+/\d+)|{number}{power}{scale}(?:\s?/\s?[-−]?{number})?)(?:\s?\\?%)?"
    ))
    .expect("an expression")
});

/// The number behind the last `####`, else the last number of the text, as it is written; `None`
/// without one.
///
/// ```
/// use hearken_reward_source::final_number;
/// assert_eq!(final_number("2 boxes of 600\n#### 1,200"), Some("1,200"));
/// assert_eq!(final_number("from 7 to -3."), Some("-3"));
/// assert_eq!(final_number("a loss of -$5, or 3/4"), Some("3/4"));
/// assert_eq!(final_number("#### nothing"), None);
/// ```
pub fn final_number(text: &str) -> Option<&str> {
    match text.rsplit_once("####") {
        Some((_, marked)) => numbers(marked).next(),
        None => numbers(text).last(),
    }
}

fn numbers(text: &str) -> impl Iterator<Item = &str> {
    NUMBER.find_iter(text).map(|found| {
        // A hyphen between two words or numbers is no sign.
        let before = text[..found.start()].chars().next_back();
        let is_infix = before.is_some_and(|c| c.is_alphanumeric() || c == '.');
        let shown = found.as_str();
        if is_infix { shown.trim_start_matches(['-', '−', '–']) } else { shown }
    })
}

/// The value of digits with a possible minus of typographers and commas between thousands.
pub(super) fn parse(text: &str) -> Option<f64> {
    let plain: String =
        text.chars().filter(|c| *c != ',').map(|c| if c == '−' { '-' } else { c }).collect();
    plain.parse().ok().filter(|number: &f64| number.is_finite())
}
