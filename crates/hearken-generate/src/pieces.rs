//! The text of a completion, piece by piece.

use hearken_data::StopReason;
use hearken_model::Tokenizer;
use hearken_model::tokenizer::TextStream;

/// Makes pieces of text of the tokens of one completion as they come: together they are
/// [`crate::completion_text`]. What may be the beginning of a stop sequence is held back.
#[derive(Debug)]
pub struct TextPieces<'a> {
    /// `None` once the completion has ended.
    stream: Option<TextStream<'a>>,
    stop: &'a [String],
    held: String,
    /// Whether white space is dropped because nothing came before it.
    trims: bool,
}

impl<'a> TextPieces<'a> {
    /// Pieces of a completion that ends at the texts of `stop`.
    pub fn new(tokenizer: &'a Tokenizer, stop: &'a [String]) -> Self {
        Self { stream: Some(tokenizer.stream()), stop, held: String::new(), trims: false }
    }

    /// Pieces of an answer in a conversation: the format's space before it is not part of it.
    pub fn of_answer(tokenizer: &'a Tokenizer, stop: &'a [String]) -> Self {
        Self { trims: true, ..Self::new(tokenizer, stop) }
    }

    /// Takes the next token, and why it is the last one, if it is; returns the text that is certain
    /// now, which may be empty.
    pub fn push(&mut self, id: u32, stop_reason: Option<StopReason>) -> String {
        let Some(stream) = &mut self.stream else { return String::new() };
        if stop_reason != Some(StopReason::EndOfText) {
            self.held.extend(stream.push(id));
        }
        if stop_reason.is_some() {
            self.held.extend(self.stream.take().and_then(TextStream::finish));
        }
        if let Some(end) = self.stop.iter().filter_map(|stop| self.held.find(stop)).min() {
            self.held.truncate(end);
            self.stream = None;
        }
        let later = if self.stream.is_some() { held_back(&self.held, self.stop) } else { 0 };
        let ready: String = self.held.drain(..self.held.len() - later).collect();
        let shown = if self.trims { ready.trim_start() } else { &ready };
        self.trims &= shown.is_empty();
        shown.to_owned()
    }
}

/// Bytes at the end of `text` that could be the beginning of a stop sequence.
fn held_back(text: &str, stop: &[String]) -> usize {
    let starts = text.char_indices().map(|(start, _)| start);
    let mut starts =
        starts.filter(|&start| stop.iter().any(|stop| stop.starts_with(&text[start..])));
    starts.next().map_or(0, |start| text.len() - start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_stop_sequence_is_held_back() {
        let stop = ["\n\nHuman:".to_owned(), "END".to_owned()];
        assert_eq!(held_back("Hello.", &stop), 0);
        assert_eq!(held_back("Hello.\n", &stop), 1);
        assert_eq!(held_back("Hello.\n\nHum", &stop), 5);
        assert_eq!(held_back("THE EN", &stop), 2);
        assert_eq!(held_back("", &stop), 0);
    }
}
