//! Markdown, counted as LMArena's style control counts it.

use std::sync::LazyLock;

use regex::Regex;

/// What is counted, outside of code except for the code itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Markup {
    pub(crate) headers: usize,
    pub(crate) list_items: usize,
    pub(crate) bold: usize,
    pub(crate) code_blocks: usize,
}

macro_rules! patterns {
    ($($name:ident = $pattern:literal),+ $(,)?) => {
        $(static $name: LazyLock<Regex> =
            LazyLock::new(|| Regex::new($pattern).expect("a constant pattern"));)+
    };
}

patterns! {
    CODE = "```([^`]*)```",
    HEADER = r"(?m)^#{1,6}\s",
    ORDERED = r"(?m)^\s*\d+\.\s",
    UNORDERED = r"(?m)^\s*[-*+]\s",
    STARS = r"\*\*[^*\n]+\*\*",
    UNDERSCORES = r"__[^_\n]+__",
}

impl Markup {
    pub(crate) fn of(text: &str) -> Self {
        let code_blocks = CODE.find_iter(text).count();
        // The fences stay; what is between them is no text.
        let text = CODE.replace_all(text, "``````");
        let count = |pattern: &Regex| pattern.find_iter(&text).count();
        Self {
            headers: count(&HEADER),
            list_items: count(&ORDERED) + count(&UNORDERED),
            bold: count(&STARS) + count(&UNDERSCORES),
            code_blocks,
        }
    }
}
