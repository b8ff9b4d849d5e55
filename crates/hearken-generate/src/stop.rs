//! Where a completion's text ends.

use hearken_data::{Completion, StopReason};
use hearken_model::Tokenizer;
use hearken_model::tokenizer::{Bos, TextStream};

use crate::error::GenerateError;
use crate::sampling::Sampling;

/// What ends completions.
#[derive(Debug)]
pub(crate) struct StopRules<'a> {
    end_ids: Vec<u32>,
    /// Special tokens whose text is a stop sequence.
    stop_ids: Vec<u32>,
    /// The other stop sequences.
    texts: Vec<String>,
    tokenizer: Option<&'a Tokenizer>,
}

impl<'a> StopRules<'a> {
    /// The end tokens are those of the tokenizer and `model_ends`.
    pub(crate) fn new(
        sampling: &Sampling,
        tokenizer: Option<&'a Tokenizer>,
        model_ends: &[u32],
    ) -> Result<Self, GenerateError> {
        let mut end_ids = Vec::new();
        if !sampling.ignore_eos {
            end_ids.extend(tokenizer.map_or(&[][..], Tokenizer::eos));
            end_ids.extend(model_ends);
        }
        let mut rules = Self { end_ids, stop_ids: Vec::new(), texts: Vec::new(), tokenizer };
        if !sampling.stop.is_empty() {
            let tokenizer = tokenizer.ok_or(GenerateError::StopWithoutTokenizer)?;
            for stop in &sampling.stop {
                match special_token(tokenizer, stop) {
                    Some(id) => rules.stop_ids.push(id),
                    None => rules.texts.push(stop.clone()),
                }
            }
        }
        Ok(rules)
    }

    /// The state that a new completion starts from.
    pub(crate) fn watch(&self) -> StopWatch<'a> {
        let stream = self.tokenizer.filter(|_| !self.texts.is_empty()).map(Tokenizer::stream);
        StopWatch { stream, text: String::new() }
    }

    /// Whether the completion ends with this token.
    pub(crate) fn check(&self, watch: &mut StopWatch<'a>, id: u32) -> Option<StopReason> {
        if self.end_ids.contains(&id) {
            return Some(StopReason::EndOfText);
        }
        if self.stop_ids.contains(&id) || watch.completes(id, &self.texts) {
            return Some(StopReason::StopSequence);
        }
        None
    }
}

/// The special token whose text is `stop`, if there is one. Decoding drops special tokens, so that
/// their text never shows up.
fn special_token(tokenizer: &Tokenizer, stop: &str) -> Option<u32> {
    match tokenizer.encode(stop, Bos::Never).ok()?.as_slice() {
        &[id] if tokenizer.decode_continuation(&[id]).is_empty() => Some(id),
        _ => None,
    }
}

/// The text of one completion, as far as it matters to stop sequences.
#[derive(Debug)]
pub(crate) struct StopWatch<'a> {
    /// `None` if there are no texts to look for.
    stream: Option<TextStream<'a>>,
    /// The end of the text: as much as a stop sequence that is not complete yet can lie in.
    text: String,
}

impl StopWatch<'_> {
    fn completes(&mut self, id: u32, stops: &[String]) -> bool {
        let Some(piece) = self.stream.as_mut().and_then(|stream| stream.push(id)) else {
            return false;
        };
        self.text.push_str(&piece);
        if stops.iter().any(|stop| self.text.contains(stop.as_str())) {
            return true;
        }
        let kept = stops.iter().map(|stop| stop.len() - 1).max().unwrap_or(0);
        let mut cut = self.text.len().saturating_sub(kept);
        while !self.text.is_char_boundary(cut) {
            cut -= 1;
        }
        self.text.drain(..cut);
        false
    }
}

/// The text of a completion as it follows its prompt, without its end token, and without the stop
/// sequence and what follows it in the last token. `stop` is [`Sampling::stop`].
pub fn completion_text(tokenizer: &Tokenizer, completion: &Completion, stop: &[String]) -> String {
    let ids = completion.ids.as_slice();
    match completion.stop_reason {
        StopReason::Length | StopReason::Positions => tokenizer.decode_continuation(ids),
        StopReason::EndOfText => {
            tokenizer.decode_continuation(ids.split_last().map_or(ids, |(_, before)| before))
        }
        StopReason::StopSequence => {
            let mut text = tokenizer.decode_continuation(ids);
            if let Some(end) = stop.iter().filter_map(|stop| text.find(stop.as_str())).min() {
                text.truncate(end);
            }
            text
        }
    }
}
