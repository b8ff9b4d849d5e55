//! Answers as they are typeset, without what only sets them.

/// What stands for another sign or for nothing. Commands are replaced where a whole command ends.
const COMMANDS: &[(&str, &str)] = &[
    (r"\dfrac", r"\frac"),
    (r"\tfrac", r"\frac"),
    (r"\cfrac", r"\frac"),
    (r"\left", ""),
    (r"\right", ""),
    (r"\bigl", ""),
    (r"\bigr", ""),
    (r"\Bigl", ""),
    (r"\Bigr", ""),
    (r"\big", ""),
    (r"\Big", ""),
    (r"\displaystyle", ""),
    (r"\limits", ""),
    (r"\quad", " "),
    (r"\qquad", " "),
    (r"\cdot", "*"),
    (r"\times", "*"),
    (r"\div", "/"),
    (r"\pm", "±"),
    (r"\pi", "π"),
    (r"\infty", "∞"),
    (r"\infin", "∞"),
    (r"\leq", "≤"),
    (r"\leqslant", "≤"),
    (r"\le", "≤"),
    (r"\geq", "≥"),
    (r"\geqslant", "≥"),
    (r"\ge", "≥"),
    (r"\lt", "<"),
    (r"\gt", ">"),
    (r"\in", "∈"),
    (r"\cup", "∪"),
    (r"\emptyset", "∅"),
    (r"\varnothing", "∅"),
    (r"\lbrace", r"\{"),
    (r"\rbrace", r"\}"),
    (r"\langle", "("),
    (r"\rangle", ")"),
    (r"\lfloor", "⌊"),
    (r"\rfloor", "⌋"),
    (r"\lceil", "⌈"),
    (r"\rceil", "⌉"),
    (r"\lvert", "|"),
    (r"\rvert", "|"),
    (r"\vert", "|"),
    (r"\approx", "="),
    (r"\circ", "°"),
    (r"\degree", "°"),
    (r"\mathrm", r"\text"),
    (r"\mathbf", r"\text"),
    (r"\mathit", r"\text"),
    (r"\textbf", r"\text"),
    (r"\textit", r"\text"),
    (r"\textrm", r"\text"),
    (r"\mbox", r"\text"),
    (r"\operatorname", r"\text"),
    (r"\bar", r"\overline"),
];

/// Signs of one or two characters.
const SIGNS: &[(&str, &str)] = &[
    (r"\,", ""),
    (r"\!", ""),
    (r"\;", ""),
    (r"\:", ""),
    (r"\ ", " "),
    (r"\%", "%"),
    (r"\$", ""),
    (r"\(", ""),
    (r"\)", ""),
    (r"\[", ""),
    (r"\]", ""),
    ("{,}", ","),
    ("$", ""),
    ("£", ""),
    ("€", ""),
    ("~", " "),
    ("^°", "°"),
    ("^{°}", "°"),
    ("−", "-"),
    ("–", "-"),
    ("×", "*"),
    ("·", "*"),
    ("÷", "/"),
    ("≈", "="),
    ("\u{2009}", ""),
    ("\u{202f}", ""),
    ("½", r"\frac{1}{2}"),
    ("¼", r"\frac{1}{4}"),
    ("¾", r"\frac{3}{4}"),
    ("√", r"\sqrt"),
];

/// What stands between the rows of a matrix.
pub(super) const ROW: char = '⏎';

/// A text in which what means the same is written the same: no math delimiters, currencies, spacing
/// and sizes; typographers' signs as LaTeX or ASCII has them; one space where there were several.
pub(super) fn plain(text: &str) -> String {
    // A new row, whose second backslash begins no sign.
    let text = signs(&commands(&signs(&text.replace("\\\\", &ROW.to_string()))));
    let text = without_text_commands(&text);
    let mut plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
    while let Some(shorter) = plain.strip_suffix(['.', ',', ';', ':', ' ', ROW]) {
        plain.truncate(shorter.len());
    }
    plain
}

fn signs(text: &str) -> String {
    let mut signs = text.to_owned();
    for (from, to) in SIGNS {
        if signs.contains(from) {
            signs = signs.replace(from, to);
        }
    }
    superscripts(&signs)
}

/// Small raised numbers as powers: 10⁻².
fn superscripts(text: &str) -> String {
    const RAISED: &str = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻";
    const PLAIN: [char; 11] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '-'];
    let plain = |c: char| RAISED.chars().position(|raised| raised == c).map(|at| PLAIN[at]);
    let (mut result, mut is_raised) = (String::with_capacity(text.len()), false);
    for c in text.chars() {
        let raised = plain(c);
        match (is_raised, raised.is_some()) {
            (false, true) => result.push_str("^{"),
            (true, false) => result.push('}'),
            _ => {}
        }
        is_raised = raised.is_some();
        result.push(raised.unwrap_or(c));
    }
    if is_raised { result + "}" } else { result }
}

/// The end of the command that starts at the beginning of a text: a backslash and letters.
fn command_end(text: &str) -> usize {
    1 + text[1..].find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len() - 1)
}

fn commands(text: &str) -> String {
    let (mut result, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('\\') {
        result.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = command_end(rest);
        let command = &rest[..end];
        match COMMANDS.iter().find(|(name, _)| *name == command) {
            // Delimiters may be invisible: `\left.`.
            Some((name, "")) if ["\\left", "\\right"].contains(name) => {
                rest = rest[end..].strip_prefix('.').unwrap_or(&rest[end..]);
            }
            Some((_, sign)) => {
                result.push_str(sign);
                rest = &rest[end..];
            }
            None => {
                // A sign behind the backslash is not looked at again.
                let end = if end == 1 {
                    1 + rest[1..].chars().next().map_or(0, char::len_utf8)
                } else {
                    end
                };
                result.push_str(&rest[..end]);
                rest = &rest[end..];
            }
        }
    }
    result + rest
}

/// The content of `\text{…}`, between spaces, in its place.
fn without_text_commands(text: &str) -> String {
    let (mut result, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once(r"\text") {
        result.push_str(before);
        rest = after;
        let Some(inner) = after.trim_start().strip_prefix('{') else { continue };
        let Some(end) = closing(inner) else { continue };
        result.push(' ');
        result.push_str(&inner[..end]);
        result.push(' ');
        rest = &inner[end + 1..];
    }
    result + rest
}

/// Where the brace closes whose content begins a text; braces behind a backslash are signs.
pub(super) fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut is_escaped) = (0_usize, false);
    for (index, c) in text.char_indices() {
        if is_escaped {
            is_escaped = false;
            continue;
        }
        match c {
            '\\' => is_escaped = true,
            '{' => depth += 1,
            '}' if depth == 0 => return Some(index),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}
