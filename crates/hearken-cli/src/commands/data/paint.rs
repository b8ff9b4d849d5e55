//! Tokens set apart by color on a terminal, by marks elsewhere.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use hearken_model::Tokenizer;

/// What a token is to a trainer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenRole {
    /// It is read, not trained on.
    Context,
    /// It is trained on.
    Trained,
    /// It belongs to the rejected completion.
    Rejected,
}

/// How parts are set apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    /// ANSI colors: context dim, trained green, rejected red; neighbors differ in brightness.
    Colors,
    /// `|token` for context, `«token»` for trained, `‹token›` for rejected.
    Marks,
}

impl Paint {
    /// What standard output can show, and may (NO_COLOR, <https://no-color.org>).
    pub(super) fn detect() -> Self {
        let may = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        if may && std::io::stdout().is_terminal() { Self::Colors } else { Self::Marks }
    }

    /// What the colors or marks mean.
    pub(super) fn legend(self) -> &'static str {
        match self {
            Self::Colors => {
                "\x1b[2mcontext\x1b[0m \x1b[32mtrained on\x1b[0m \x1b[31mrejected\x1b[0m"
            }
            Self::Marks => "|context «trained on» ‹rejected›",
        }
    }

    /// Some tokens as one text.
    pub(super) fn tokens(self, tokens: &[(String, TokenRole)]) -> String {
        let mut text = String::new();
        for (index, (token, part)) in tokens.iter().enumerate() {
            let shown = visible(token);
            let written = match (self, part) {
                (Self::Marks, TokenRole::Context) => write!(text, "|{shown}"),
                (Self::Marks, TokenRole::Trained) => write!(text, "«{shown}»"),
                (Self::Marks, TokenRole::Rejected) => write!(text, "‹{shown}›"),
                (Self::Colors, part) => {
                    let color = match part {
                        TokenRole::Context => 90,
                        TokenRole::Trained => 32,
                        TokenRole::Rejected => 31,
                    };
                    // A line under every other token shows where one ends.
                    let line = if index % 2 == 1 { ";4" } else { "" };
                    write!(text, "\x1b[{color}{line}m{shown}\x1b[0m")
                }
            };
            written.expect("a String takes every write");
            if token.ends_with('\n') {
                text.push('\n');
            }
        }
        text
    }
}

/// Control characters by their signs, so that no token is invisible.
fn visible(token: &str) -> String {
    token.replace('\n', "⏎").replace('\t', "⇥").replace('\r', "␍").replace('\x1b', "␛")
}

/// A token as text: what it decodes to, or how the vocabulary writes it, or its id.
pub(super) fn token_text(id: u32, tokenizer: Option<&Tokenizer>) -> String {
    let Some(tokenizer) = tokenizer else { return id.to_string() };
    let text = tokenizer.decode_with_special(&[id]);
    if !text.is_empty() && !text.contains('\u{FFFD}') {
        return text;
    }
    tokenizer.token(id).unwrap_or_else(|| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_colors_tell_the_parts_apart() {
        let tokens =
            [("Hi\n".to_owned(), TokenRole::Context), (" you".to_owned(), TokenRole::Trained)];
        assert_eq!(Paint::Marks.tokens(&tokens), "|Hi⏎\n« you»");
        assert_eq!(Paint::Colors.tokens(&tokens), "\x1b[90mHi⏎\x1b[0m\n\x1b[32;4m you\x1b[0m");
    }
}
