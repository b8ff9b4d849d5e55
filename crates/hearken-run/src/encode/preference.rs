//! Preferences as a shared beginning with two branches.

use hearken_config::Truncation;
use hearken_data::{Content, Preference, Source};
use hearken_model::Batch;
use serde_json::{Map, Value};

use super::demonstration::joined;
use super::encoder::Encoder;
use super::example::{Encoded, Example};
use crate::error::EncodeError;

/// Two sequences that begin alike: the longest common prefix of their tokens is kept once.
#[derive(Clone, Debug, PartialEq)]
pub struct PreferenceExample {
    /// What both sequences begin with; may be empty.
    pub prefix: Vec<u32>,
    /// The rest of the chosen sequence; may be empty.
    pub chosen: Vec<u32>,
    /// The rest of the rejected sequence; may be empty.
    pub rejected: Vec<u32>,
    /// Tokens of the prompt, at most as many as `prefix`; 0 where the record has none.
    pub prompt_len: usize,
    /// By how much the chosen score should exceed the other; 0 where the record has none.
    pub margin: f64,
    /// The probability that chosen is preferred; 1 where the record has none.
    pub probability: f64,
    /// Where the record comes from.
    pub source: Source,
}

/// The segments of one pair in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairSegments {
    /// The branch of the chosen sequence.
    pub chosen: usize,
    /// The branch of the rejected sequence.
    pub rejected: usize,
}

impl PreferenceExample {
    /// Appends the pair to a batch: the prefix with two children, or two sequences where nothing is
    /// shared.
    pub fn push(&self, batch: &mut Batch) -> PairSegments {
        let parent = (!self.prefix.is_empty()).then(|| batch.push(None, &self.prefix));
        let chosen = batch.push(parent, &self.chosen);
        let rejected = batch.push(parent, &self.rejected);
        PairSegments { chosen, rejected }
    }

    /// Tokens of the chosen and of the rejected completion.
    pub fn completion_tokens(&self) -> [usize; 2] {
        let shared = self.prefix.len() - self.prompt_len.min(self.prefix.len());
        [&self.chosen, &self.rejected].map(|branch| shared + branch.len())
    }

    /// Tokens of the chosen sequence minus tokens of the rejected one.
    pub fn length_difference(&self) -> i64 {
        let tokens = |ids: &[u32]| i64::try_from(ids.len()).expect("fewer than 2⁶³ tokens");
        tokens(&self.chosen) - tokens(&self.rejected)
    }
}

impl Example for PreferenceExample {
    type Record = Preference;

    fn encode(record: &Preference, encoder: &Encoder<'_>) -> Result<Encoded<Self>, EncodeError> {
        let at = &record.source;
        let prompt = record.prompt.as_ref();
        let columns = &record.extra;
        let (chosen, prompt_len) = sequence(prompt, &record.chosen, columns, encoder, at)?;
        let (rejected, _) = sequence(prompt, &record.rejected, columns, encoder, at)?;
        let pair = [encoder.check(chosen, "chosen", at)?, encoder.check(rejected, "rejected", at)?];
        for (ids, field) in pair.iter().zip(["chosen", "rejected"]) {
            if !predicts(ids.len(), prompt_len) {
                return Err(EncodeError::NothingPredicted {
                    at: at.clone(),
                    field,
                    found: ids.len(),
                });
            }
        }
        let longest = pair[0].len().max(pair[1].len());
        let limit = encoder.length.tokens_max;
        if longest <= limit {
            return Ok(Encoded::Whole(example(record, pair, prompt_len)?));
        }
        match encoder.length.truncation {
            Truncation::Error => {
                Err(EncodeError::TooLong { at: at.clone(), found: longest, limit })
            }
            Truncation::Drop => Ok(Encoded::Dropped),
            // Both lose as many, so that what they share stays shared.
            Truncation::Left => {
                let lost = longest - limit;
                let prompt_len = prompt_len.saturating_sub(lost);
                let left = |ids: &Vec<u32>| ids.len().saturating_sub(lost);
                if pair.iter().any(|ids| !predicts(left(ids), prompt_len)) {
                    return Ok(Encoded::Dropped);
                }
                let cut = |ids: &Vec<u32>| ids[lost..].to_vec();
                let pair = [cut(&pair[0]), cut(&pair[1])];
                Ok(Encoded::Truncated(example(record, pair, prompt_len)?))
            }
            Truncation::Right if !predicts(limit, prompt_len) => Ok(Encoded::Dropped),
            Truncation::Right => {
                let cut = |ids: &Vec<u32>| ids[..limit.min(ids.len())].to_vec();
                let pair = [cut(&pair[0]), cut(&pair[1])];
                Ok(Encoded::Truncated(example(record, pair, prompt_len.min(limit))?))
            }
        }
    }

    fn rows(&self) -> usize {
        self.prefix.len() + self.chosen.len() + self.rejected.len()
    }
}

/// Whether anything of a completion is predicted in a sequence of so many tokens behind a prompt of so
/// many: nothing predicts the first token of a sequence.
pub(super) fn predicts(tokens: usize, prompt_len: usize) -> bool {
    prompt_len.max(1) < tokens
}

/// One of the two sequences, and the length of the prompt in it.
pub(super) fn sequence(
    prompt: Option<&Content>,
    completion: &Content,
    columns: &Map<String, Value>,
    encoder: &Encoder<'_>,
    at: &Source,
) -> Result<(Vec<u32>, usize), EncodeError> {
    match (prompt, completion) {
        (Some(Content::Messages(prompt)), Content::Messages(completion)) => {
            // The prompt ends where an answer begins: behind the assistant's header.
            let (chat, first) = encoder.completion(prompt, completion, columns, at)?;
            Ok((chat.ids, first))
        }
        (Some(prompt), completion) => joined(prompt, completion, encoder, at),
        (None, Content::Text(text)) => {
            let mut ids = encoder.text(text, at)?;
            encoder.end(&mut ids);
            Ok((ids, 0))
        }
        (None, Content::Ids(ids)) => Ok((ids.clone(), 0)),
        (None, Content::Messages(messages)) => {
            Ok((encoder.conversation(messages, columns, at)?.ids, 0))
        }
    }
}

fn example(
    record: &Preference,
    [chosen, rejected]: [Vec<u32>; 2],
    prompt_len: usize,
) -> Result<PreferenceExample, EncodeError> {
    if chosen == rejected {
        let found = chosen.len();
        return Err(EncodeError::IdenticalPair { at: record.source.clone(), found });
    }
    let shared = chosen.iter().zip(&rejected).take_while(|(left, right)| left == right).count();
    Ok(PreferenceExample {
        prefix: chosen[..shared].to_vec(),
        chosen: chosen[shared..].to_vec(),
        rejected: rejected[shared..].to_vec(),
        prompt_len: prompt_len.min(shared),
        margin: record.margin.unwrap_or(0.0),
        probability: record.probability.unwrap_or(1.0),
        source: record.source.clone(),
    })
}
