//! Answers in LaTeX boxes.

use super::latex::closing;

/// What stands in the last `\boxed{…}` or `\fbox{…}`, with its braces in balance; `None` without one.
///
/// ```
/// use hearken_reward_source::last_boxed;
/// assert_eq!(last_boxed(r"\boxed{1} or rather \boxed{\sqrt{2}}."), Some(r"\sqrt{2}"));
/// assert_eq!(last_boxed(r"\boxed{1"), None);
/// ```
pub fn last_boxed(text: &str) -> Option<&str> {
    let behind = |name: &str| text.rfind(name).map(|at| at + name.len());
    let start = behind(r"\boxed").max(behind(r"\fbox"))?;
    let rest = text[start..].trim_start();
    match rest.strip_prefix('{') {
        Some(inner) => closing(inner).map(|end| &inner[..end]),
        // `\boxed 5`: TeX takes the next sign.
        None => rest.split_whitespace().next().map(|word| word.trim_end_matches(['$', '.'])),
    }
}
