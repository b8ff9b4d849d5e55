//! Text from tokens as they arrive.

use super::Tokenizer;

/// What a decoder puts in place of bytes that are no UTF-8.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;
/// Tokens kept for their effect on what follows: spaces between words, characters of several tokens.
const WINDOW: usize = 16;
/// Tokens that stay when the window is cut.
const KEPT: usize = 4;

/// Decodes one completion token by token.
///
/// A character that several tokens share is returned when it is complete. The pieces, with that of
/// [`TextStream::finish`], make up what [`Tokenizer::decode_continuation`] gives for all the tokens.
/// One exception: a tokenizer with byte fallback discards a whole run of byte tokens that ends in no
/// UTF-8, of which complete characters may have been returned.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// The last tokens, at first those that stand for the prompt. What came before them is returned
    /// already and changes no more.
    window: Vec<u32>,
    /// Bytes of the window's text that have been returned.
    returned: usize,
}

impl<'a> TextStream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        let mut stream = Self { tokenizer, window: Vec::new(), returned: 0 };
        stream.restart();
        stream
    }

    /// Takes the next token and returns the text that it completes, if it completes any.
    pub fn push(&mut self, id: u32) -> Option<String> {
        self.window.push(id);
        let text = self.tokenizer.decode(&self.window);
        // Replacement characters at the end may be the first bytes of a character.
        let complete = text.trim_end_matches(REPLACEMENT).len();
        let piece = self.take(&text[..complete]);
        if complete == text.len() && WINDOW <= self.window.len() {
            self.cut();
        }
        piece
    }

    /// The text that was held back at the end: bytes that never became a character, as U+FFFD.
    pub fn finish(mut self) -> Option<String> {
        let text = self.tokenizer.decode(&self.window);
        self.take(&text)
    }

    /// What of `text`, the window's, has not been returned.
    fn take(&mut self, text: &str) -> Option<String> {
        // A run of byte tokens that turns out not to be UTF-8 can change its earlier text, and with
        // it where characters begin.
        let start = (self.returned..text.len()).find(|&start| text.is_char_boundary(start))?;
        self.returned = text.len();
        Some(text[start..].to_owned())
    }

    /// Forgets all tokens: the next one follows some text.
    fn restart(&mut self) {
        let anchor = self.tokenizer.anchor();
        self.window.clone_from(&anchor.ids);
        self.returned = anchor.text.len();
    }

    /// Forgets the window's oldest tokens, unless that would cut through a character.
    fn cut(&mut self) {
        for kept in KEPT..WINDOW / 2 {
            let start = self.window.len() - kept;
            let text = self.tokenizer.decode(&self.window[start..]);
            if text.is_empty() {
                // Special tokens: what follows must not lose the space of a text's beginning.
                return self.restart();
            }
            if !text.starts_with(REPLACEMENT) {
                self.window.drain(..start);
                self.returned = text.len();
                return;
            }
        }
    }
}
