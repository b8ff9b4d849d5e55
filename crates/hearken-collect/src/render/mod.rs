//! Text of unknown origin, made into HTML that is safe to show.
//!
//! Prompts, answers, guidelines and rationales are Markdown that anyone may have written. They
//! become HTML in three steps: `math` takes the LaTeX out, `markdown` renders what is left with
//! raw HTML as text, and [`clean`] lets only known elements and attributes through, whatever the
//! first two made. Images come from the service itself or from inside the text, never from another
//! host, so that showing an item tells nobody about it.

mod clean;
mod markdown;
mod math;
mod media;
#[cfg(test)]
pub(crate) mod tests_attacks;

pub(crate) use markdown::{Heading, images, markdown};
pub(crate) use media::{Picture, path as media_path, pictures};

/// The first `chars_max` characters of a text on one line, with `…` where something was cut.
pub(crate) fn excerpt(text: &str, chars_max: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn an_excerpt_is_one_line_and_says_when_it_was_cut() {
        assert_eq!(excerpt("one\n\n two", 20), "one two");
        assert_eq!(excerpt("one two three", 7), "one two…");
        assert_eq!(excerpt("äöü", 3), "äöü");
        assert_eq!(excerpt("", 3), "");
    }
}
