//! How tokens are chosen.

use crate::error::GenerateError;

/// How tokens are chosen and where completions end.
///
/// The options that cut a distribution off apply in this order: temperature, `top_k`, `top_p` (over
/// what `top_k` left, renormalized), `min_p`. Among equally likely tokens the one with the lower id
/// counts as likelier.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it. 0 takes the likeliest token always.
    pub temperature: f64,
    /// The tokens kept are the fewest, likeliest first, whose probabilities sum to at least this.
    /// 1 keeps all; the likeliest is kept always.
    pub top_p: f64,
    /// At most this many tokens are kept, the likeliest; `None` for all.
    pub top_k: Option<usize>,
    /// Tokens less than this fraction as likely as the likeliest are dropped; 0 keeps all.
    pub min_p: f64,
    /// The most tokens of a completion.
    pub max_new_tokens: usize,
    /// Texts that end a completion, wherever token boundaries fall in them. One that is a special
    /// token's text, such as `<|im_end|>`, is that token.
    pub stop: Vec<String>,
    /// Whether an end token is a token like any other.
    pub ignore_eos: bool,
}

impl Sampling {
    /// Always the likeliest token, at most `max_new_tokens` of them.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self { temperature: 0.0, ..Self::plain(max_new_tokens) }
    }

    /// The model's own distribution: temperature 1, nothing cut off.
    pub fn plain(max_new_tokens: usize) -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: None,
            min_p: 0.0,
            max_new_tokens,
            stop: Vec::new(),
            ignore_eos: false,
        }
    }

    /// Checks that every number is in its range.
    pub(crate) fn validate(&self) -> Result<(), GenerateError> {
        let check = |valid: bool, option, found: f64, expected| {
            if valid { Ok(()) } else { Err(GenerateError::Option { option, found, expected }) }
        };
        let unit = 0.0..=1.0;
        let temperature = self.temperature;
        let valid = temperature.is_finite() && 0.0 <= temperature;
        check(valid, "temperature", temperature, "a finite number from 0")?;
        check(unit.contains(&self.top_p), "top_p", self.top_p, "a number from 0 to 1")?;
        check(unit.contains(&self.min_p), "min_p", self.min_p, "a number from 0 to 1")?;
        check(self.top_k != Some(0), "top_k", 0.0, "at least 1, or none for all tokens")?;
        if self.stop.iter().any(String::is_empty) {
            return Err(GenerateError::EmptyStop);
        }
        Ok(())
    }
}
