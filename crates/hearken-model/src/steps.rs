//! Solutions in steps, as tokens.

use crate::tokenizer::{SpecialText, Tokenizer, TokenizerError};

/// What stands behind each step unless something else is asked for, as in TRL.
pub const STEP_SEPARATOR: &str = "\n";

/// Tokens of a prompt and the steps behind it, and the place of each step's last token, where it is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepTokens {
    /// All of them.
    pub ids: Vec<u32>,
    /// One for each step, rising.
    pub ends: Vec<usize>,
    /// Tokens of the prompt; 0 where it isn't known where the first step begins.
    pub prompt_len: usize,
}

impl StepTokens {
    /// The place of the first token of the first step that something stands before.
    pub fn first_token(&self) -> usize {
        self.prompt_len.max(1).min(self.ids.len())
    }
}

/// The tokens of a prompt that is text, with the tokenizer's first token before them, where it has one: process reward
/// models see it whether or not the tokenizer adds it to other texts, as TRL trained them.
pub fn with_first_token(tokenizer: &Tokenizer, prompt: Vec<u32>) -> Vec<u32> {
    let missing = tokenizer.bos().filter(|bos| prompt.first() != Some(bos));
    missing.into_iter().chain(prompt).collect()
}

/// Puts steps behind the tokens of a prompt, each as tokens of its own with those of `separator`, a text or a token by
/// its name, behind it. A step is judged at the last of these: no token of the next step is ever part of it.
///
/// # Errors
/// If the tokenizer refuses.
pub fn encode_steps(
    tokenizer: &Tokenizer,
    prompt: &[u32],
    steps: &[String],
    separator: &str,
) -> Result<StepTokens, TokenizerError> {
    let separator = tokenizer.encode_continuation(separator, SpecialText::Parsed)?;
    let (mut ids, mut ends) = (prompt.to_vec(), Vec::with_capacity(steps.len()));
    for step in steps {
        // A step is what somebody or a model wrote: it spells no special token.
        ids.extend(tokenizer.encode_continuation(step, SpecialText::Literal)?);
        ids.extend(&separator);
        ends.push(ids.len() - 1);
    }
    Ok(StepTokens { ids, ends, prompt_len: prompt.len() })
}
