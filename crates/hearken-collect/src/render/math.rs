//! LaTeX inside a text: where it is, and its MathML.

use std::ops::Range;

use hearken_data::caught;
use pulldown_latex::config::DisplayMode;
use pulldown_latex::{Parser, RenderConfig, Storage, push_mathml};

/// Longer formulas are shown as they were written: nobody writes them, and the renderer recurses.
const BYTES_MAX: usize = 4_000;

/// Groups nested deeper are shown as they were written, for the same reason.
const DEPTH_MAX: usize = 40;

/// One formula of a text.
#[derive(Debug, PartialEq)]
pub(super) struct Formula {
    /// Where it is in the text, delimiters included.
    pub(super) range: Range<usize>,
    /// Where its LaTeX is, without the delimiters.
    pub(super) latex: Range<usize>,
    /// Whether it stands on a line of its own.
    pub(super) display: bool,
}

/// The formulas between `$ $`, `$$ $$`, `\( \)` and `\[ \]` outside the ranges of `code`, which are
/// in order and do not overlap.
///
/// A single dollar sign opens a formula where no space follows it, and closes one where no space
/// stands before it and no digit after it, so that "$5 and $10" stays money.
pub(super) fn formulas(text: &str, code: &[Range<usize>]) -> Vec<Formula> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut code = code.iter().peekable();
    while let Some(step) = text[at..].find(['$', '\\', '`']) {
        let start = at + step;
        while code.next_if(|range| range.end <= start).is_some() {}
        if let Some(range) = code.peek()
            && range.contains(&start)
        {
            at = range.end;
            continue;
        }
        let end_max = code.peek().map_or(text.len(), |range| range.start.min(text.len()));
        let end_max = floor_char_boundary(text, end_max.min(start + BYTES_MAX));
        match formula_at(text, start, end_max) {
            Some(formula) => {
                at = formula.range.end;
                found.push(formula);
            }
            None => at = after_delimiter(text, start),
        }
    }
    found
}

fn floor_char_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Past what did not open a formula: an escaped character, a run of dollar signs, one character.
fn after_delimiter(text: &str, start: usize) -> usize {
    let rest = &text[start..];
    let length = match rest.as_bytes()[0] {
        b'\\' => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        b'$' => rest.len() - rest.trim_start_matches('$').len(),
        _ => 1,
    };
    start + length
}

fn formula_at(text: &str, start: usize, end_max: usize) -> Option<Formula> {
    let rest = text.get(start..end_max)?;
    let (open, close, display) = [("$$", "$$", true), ("\\[", "\\]", true), ("\\(", "\\)", false)]
        .into_iter()
        .find(|(open, ..)| rest.starts_with(open))
        .or_else(|| rest.starts_with('$').then_some(("$", "$", false)))?;
    let inside = &rest[open.len()..];
    let length = match open {
        "$" => closing_dollar(inside)?,
        _ => inside.find(close)?,
    };
    if inside[..length].trim().is_empty() {
        return None;
    }
    let latex = start + open.len()..start + open.len() + length;
    Some(Formula { range: start..latex.end + close.len(), latex, display })
}

/// Where the dollar sign is that closes an inline formula whose inside starts here.
fn closing_dollar(inside: &str) -> Option<usize> {
    if inside.starts_with(char::is_whitespace) {
        return None;
    }
    let mut escaped = false;
    let mut before = ' ';
    for (at, character) in inside.char_indices() {
        match character {
            '$' if !escaped => {
                let next = inside[at + 1..].chars().next();
                let closes = !before.is_whitespace()
                    && !next.is_some_and(|next| next.is_ascii_digit() || next == '$');
                return closes.then_some(at);
            }
            '\n' if before == '\n' => return None,
            _ => escaped = character == '\\' && !escaped,
        }
        before = character;
    }
    None
}

/// The MathML of a formula, or `None` where it is not LaTeX that can be shown.
pub(super) fn mathml(latex: &str, display: bool) -> Option<String> {
    if latex.len() > BYTES_MAX || depth(latex) > DEPTH_MAX {
        return None;
    }
    // The text is anyone's: should the renderer panic on it, the formula is shown as written.
    caught(|| render(latex, display)).flatten()
}

fn depth(latex: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in latex.bytes() {
        match byte {
            b'{' | b'(' | b'[' | b'^' | b'_' => depth += 1,
            b'}' | b')' | b']' | b' ' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest.max(latex.matches("\\left").count()).max(latex.matches("\\begin").count())
}

fn render(latex: &str, display: bool) -> Option<String> {
    let storage = Storage::new();
    let events: Result<Vec<_>, _> = Parser::new(latex, &storage).collect();
    let events = events.ok()?.into_iter().map(Ok::<_, std::convert::Infallible>);
    let display_mode = if display { DisplayMode::Block } else { DisplayMode::Inline };
    let mut html = String::new();
    push_mathml(&mut html, events, RenderConfig { display_mode, ..RenderConfig::default() })
        .ok()?;
    Some(html)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        formulas(text, &[]).into_iter().map(|formula| &text[formula.latex]).collect()
    }

    #[test]
    fn every_delimiter_is_found() {
        assert_eq!(found(r"a $x$ b $$y$$ c \(z\) d \[w\]"), ["x", "y", "z", "w"]);
        assert_eq!(found("$$\na\n\nb\n$$"), ["\na\n\nb\n"]);
    }

    #[test]
    fn money_and_escapes_are_not_formulas() {
        for text in
            ["$5 and $10", "$5-$10", r"\$x\$", "a $ b $ c", "$", "$$", "$$ $$", r"\(", "$a\n\nb$"]
        {
            assert_eq!(found(text), Vec::<&str>::new(), "{text}");
        }
    }

    #[test]
    fn code_is_left_alone() {
        let text = "`$a$` $b$";
        let code = 0..5;
        let latex: Vec<_> = formulas(text, std::slice::from_ref(&code))
            .into_iter()
            .map(|f| &text[f.latex])
            .collect();
        assert_eq!(latex, ["b"]);
    }

    #[test]
    fn formulas_become_mathml_and_nonsense_does_not() {
        let html = mathml(r"\frac{a}{b}", false).unwrap();
        assert!(html.contains("<mfrac>"), "{html}");
        assert!(mathml(r"x", true).unwrap().contains("display=\"block\""));
        assert_eq!(mathml(r"\frac{a", false), None);
        assert_eq!(mathml(r"\nosuchcommand", false), None);
        assert_eq!(mathml(&"{".repeat(100_000), false), None);
        assert_eq!(mathml(&"{".repeat(3_000), false), None);
    }
}
