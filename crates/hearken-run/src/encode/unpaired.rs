//! Single completions that were judged good or bad.

use hearken_data::{Source, UnpairedPreference};

use super::encoder::Encoder;
use super::example::{Encoded, Example};
use super::length::KeptSide;
use super::preference::{predicts, sequence};
use crate::error::EncodeError;

/// A prompt, its completion, and what was said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct UnpairedExample {
    /// The prompt.
    pub prompt: Vec<u32>,
    /// The completion; at least one token.
    pub completion: Vec<u32>,
    /// Another prompt's completion, to be read behind this prompt; `None` where the record has none.
    pub kl_completion: Option<Vec<u32>>,
    /// Whether the completion is good.
    pub desirable: bool,
    /// Where the record comes from.
    pub source: Source,
}

impl Example for UnpairedExample {
    type Record = UnpairedPreference;

    fn encode(
        record: &UnpairedPreference,
        encoder: &Encoder<'_>,
    ) -> Result<Encoded<Self>, EncodeError> {
        let at = &record.source;
        let (ids, mut prompt_len) =
            sequence(Some(&record.prompt), &record.completion, &record.extra, encoder, at)?;
        let mut ids = encoder.check(ids, "the record", at)?;
        if !predicts(ids.len(), prompt_len) {
            return Err(EncodeError::NothingSupervised { at: at.clone(), found: ids.len() });
        }
        let kept = encoder.length.keep(ids.len(), at)?;
        match &kept {
            KeptSide::Nothing => return Ok(Encoded::Dropped),
            KeptSide::Part(range) => {
                prompt_len = prompt_len.clamp(range.start, range.end) - range.start;
                ids = ids[range.clone()].to_vec();
            }
            KeptSide::Whole => {}
        }
        if !predicts(ids.len(), prompt_len) {
            return Ok(Encoded::Dropped);
        }
        let completion = ids.split_off(prompt_len);
        let kl = record.kl_completion_ids.clone();
        let kl = kl.map(|kl| encoder.check(kl, "kl_completion_ids", at)).transpose()?;
        let example = Self {
            prompt: ids,
            completion,
            kl_completion: kl,
            desirable: record.label,
            source: at.clone(),
        };
        let whole = kept == KeptSide::Whole;
        Ok(if whole { Encoded::Whole(example) } else { Encoded::Truncated(example) })
    }

    fn rows(&self) -> usize {
        let kl = self.kl_completion.as_ref().map_or(0, Vec::len);
        self.prompt.len() + self.completion.len() + kl
    }
}
