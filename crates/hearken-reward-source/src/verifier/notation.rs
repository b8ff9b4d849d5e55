//! Ways of writing numbers and intervals that differ by country and taste, in the one that is read.

use std::sync::LazyLock;

use regex::{Captures, Regex};

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("an expression")
}

/// Decimals that go on, with dots behind them: 0.333…
static GOING_ON: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(\d*\.)(\d+)\s*(?:\.\.\.|…|\\[lc]?dots)"));
/// Decimals with dots above the first and the last of those that repeat.
static DOTTED: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(\.\d*)\\dot\s*\{?(\d)\}?(?:(\d*)\\dot\s*\{?(\d)\}?)?"));
/// A number in thousands, millions, ….
static SCALED: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)(\d\.?)[ -]?(thousand|million|billion|trillion)s?\b"));
/// Two bounds between square brackets of which one opens outwards, or a semicolon stands.
static INTERVAL: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"([\[\]])([^\[\],;]+)([,;])([^\[\],;]+)([\[\]])"));
/// Groups of three digits with spaces between them.
static SPACED: LazyLock<Regex> = LazyLock::new(|| pattern(r"^-?\d{1,3}(?: \d{3})+(?:\.\d+)?\b"));
/// Decimals of which those that repeat stand in parentheses.
static PARENTHESES: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(-?\d*\.\d*)\((\d+)\)$"));
/// Two whole numbers with a colon; a time has two digits behind it.
static RATIO: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(\d+) ?: ?([1-9]\d*)$"));

/// A text, before LaTeX is taken out of it, with repeating decimals under a line.
pub(super) fn repeating(text: &str) -> String {
    let dotted = DOTTED.replace_all(text, |found: &Captures<'_>| {
        let last =
            found.get(4).map_or(String::new(), |last| format!("{}{}", &found[3], last.as_str()));
        format!("{}\\overline{{{}{last}}}", &found[1], &found[2])
    });
    let going_on = GOING_ON.replace_all(&dotted, |found: &Captures<'_>| {
        let (before, digits) = (&found[1], &found[2]);
        match period(digits) {
            Some(period) => {
                // What repeats begins as early as it can, so that 0.1666… has one 6 under the line.
                let block = &digits[digits.len() - period..];
                let mut start = digits.len() - period;
                while period <= start && digits[start - period..start] == *block {
                    start -= period;
                }
                format!("{before}{}\\overline{{{block}}}", &digits[..start])
            }
            None => found[0].to_owned(),
        }
    });
    going_on.into_owned()
}

/// How many digits at the end stand there at least twice in a row; the fewest.
fn period(digits: &str) -> Option<usize> {
    let len = digits.len();
    (1..=len / 2).find(|period| digits[len - period..] == digits[len - 2 * period..len - period])
}

/// A text without LaTeX with millions as powers of ten, and intervals with parentheses for bounds that are
/// left out.
pub(super) fn unified(text: &str) -> String {
    let scaled = SCALED.replace_all(text, |found: &Captures<'_>| {
        let exponent = match found[2].to_ascii_lowercase().as_str() {
            "thousand" => 3,
            "million" => 6,
            "billion" => 9,
            _ => 12,
        };
        format!("{}e{exponent}", found[1].trim_end_matches('.'))
    });
    let intervals = INTERVAL.replace_all(&scaled, |found: &Captures<'_>| {
        if &found[1] == "[" && &found[5] == "]" && &found[3] == "," {
            return found[0].to_owned();
        }
        let open = if &found[1] == "[" { '[' } else { '(' };
        let close = if &found[5] == "]" { ']' } else { ')' };
        format!("{open}{},{}{close}", &found[2], &found[4])
    });
    intervals.into_owned()
}

/// What a whole answer can be read as besides what it says at first: groups of digits with spaces as one number, 0.(3)
/// as a repeating decimal, 1:2 as a half.
pub(super) fn alternative(text: &str) -> Option<String> {
    if let Some(found) = SPACED.find(text) {
        let number: String = found.as_str().chars().filter(|c| *c != ' ').collect();
        return Some(number + &text[found.end()..]);
    }
    if let Some(found) = PARENTHESES.captures(text) {
        return Some(format!("{}\\overline{{{}}}", &found[1], &found[2]));
    }
    let found = RATIO.captures(text)?;
    Some(format!("{}/{}", &found[1], &found[2]))
}
