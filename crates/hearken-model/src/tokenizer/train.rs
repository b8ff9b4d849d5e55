//! A byte-level BPE tokenizer of one's own.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    AddedToken, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _,
};

use super::merges::Merges;
use super::{Tokenizer, TokenizerError};

/// A pair of tokens is merged if it occurs at least so often.
const PAIR_COUNT_MIN: u64 = 2;

/// The special tokens of a tokenizer that is trained from nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Ends a text, id 0. It is the BOS token too, though none is added to texts.
    pub end_of_text: String,
    /// Pads batches in other programs, id 1.
    pub pad: String,
    /// Further ones, ids 2 and up.
    pub others: Vec<String>,
}

impl Default for SpecialTokens {
    fn default() -> Self {
        let (end_of_text, pad) = ("<|endoftext|>".into(), "<|pad|>".into());
        Self { end_of_text, pad, others: Vec::new() }
    }
}

impl SpecialTokens {
    fn all(&self) -> Vec<&str> {
        let named = [self.end_of_text.as_str(), self.pad.as_str()];
        named.into_iter().chain(self.others.iter().map(String::as_str)).collect()
    }
}

impl Tokenizer {
    /// Trains a byte-level BPE tokenizer on `texts`: the special tokens, the 256 bytes, and merges of
    /// frequent pairs up to `vocab_size` tokens in all, or fewer where the texts hold no more pairs
    /// that occur twice. It encodes every text and decodes it back exactly. The same texts, in any
    /// order, give the same tokenizer.
    ///
    /// [`Tokenizer::save`] writes it as Transformers' `PreTrainedTokenizerFast` reads it.
    ///
    /// # Errors
    ///
    /// `vocab_size` leaves no room for the bytes and special tokens, or a special token is empty or
    /// named twice.
    pub fn train_bpe(
        texts: impl Iterator<Item = String>,
        vocab_size: usize,
        special: &SpecialTokens,
    ) -> Result<Self, TokenizerError> {
        Self::train_bpe_watched(texts, vocab_size, special, &mut |_| {})
    }

    /// [`Tokenizer::train_bpe`], which tells `progress` how many tokens there are after each merge.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::train_bpe`].
    pub fn train_bpe_watched(
        texts: impl Iterator<Item = String>,
        vocab_size: usize,
        special: &SpecialTokens,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Self, TokenizerError> {
        let names = special.all();
        check(&names, vocab_size)?;
        let byte_level = ByteLevel::default().add_prefix_space(false).trim_offsets(false);
        let mut tokenizer = tokenizers::Tokenizer::new(BPE::default());
        tokenizer.with_pre_tokenizer(Some(byte_level));
        tokenizer.with_decoder(Some(byte_level));
        tokenizer.with_post_processor(Some(byte_level));
        let failed =
            |error: tokenizers::Error| TokenizerError::Train { problem: error.to_string() };
        let words = words(texts, byte_level).map_err(failed)?;
        let mut tokens: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        let characters = alphabet.into_iter().map(String::from);
        tokens.extend(characters.filter(|character| !names.contains(&character.as_str())));
        let merges = Merges::learn(tokens, &words, vocab_size, PAIR_COUNT_MIN, progress);
        let special_tokens = names.iter().map(|&name| AddedToken::from(name, true));
        tokenizer.add_special_tokens(special_tokens).map_err(failed)?;
        let tokenizer = with_model(&tokenizer, merges).map_err(failed)?;

        let config = json!({
            "bos_token": special.end_of_text,
            "clean_up_tokenization_spaces": false,
            "eos_token": special.end_of_text,
            "additional_special_tokens": special.others,
            "pad_token": special.pad,
            "tokenizer_class": "PreTrainedTokenizerFast",
        });
        let files = vec![
            ("tokenizer.json", tokenizer.to_string(true).map_err(failed)?.into_bytes()),
            ("tokenizer_config.json", format!("{config:#}\n").into_bytes()),
        ];
        let files = files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
        Self::from_files(Path::new(""), files, None)
    }
}

/// The words of texts, as they are split before anything is merged, and how often each occurs; sorted.
fn words(
    texts: impl Iterator<Item = String>,
    byte_level: ByteLevel,
) -> Result<Vec<(String, u64)>, tokenizers::Error> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    for text in texts {
        let mut split = PreTokenizedString::from(text);
        byte_level.pre_tokenize(&mut split)?;
        for (word, ..) in split.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            match counts.get_mut(word) {
                Some(count) => *count += 1,
                None => {
                    counts.insert(word.to_owned(), 1);
                }
            }
        }
    }
    let mut words: Vec<(String, u64)> = counts.into_iter().collect();
    words.sort_unstable();
    Ok(words)
}

/// `tokenizer` with learned tokens.
fn with_model(
    tokenizer: &tokenizers::Tokenizer,
    merges: Merges,
) -> Result<tokenizers::Tokenizer, tokenizers::Error> {
    let mut json: Value = serde_json::from_str(&tokenizer.to_string(false)?)?;
    let ids = merges.tokens.into_iter().zip(0_u32..);
    let vocab: Map<String, Value> = ids.map(|(token, id)| (token, id.into())).collect();
    let pairs: Vec<Value> = merges.pairs.into_iter().map(|(a, b)| json!([a, b])).collect();
    json["model"]["vocab"] = vocab.into();
    json["model"]["merges"] = pairs.into();
    // An untrained model has no ids yet, so that its special tokens have the first free ones.
    tokenizers::Tokenizer::from_bytes(json.to_string())
}

fn check(names: &[&str], vocab_size: usize) -> Result<(), TokenizerError> {
    let problem = if names.iter().any(|name| name.is_empty()) {
        "a special token is empty; expected its text".into()
    } else if let Some(twice) =
        names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)).map(|(_, name)| name)
    {
        format!("the special token {twice} is named twice")
    } else if vocab_size < 256 + names.len() {
        format!(
            "a vocabulary of {vocab_size} tokens is too small; expected at least {} for 256 bytes and {} special tokens",
            256 + names.len(),
            names.len()
        )
    } else {
        return Ok(());
    };
    Err(TokenizerError::Train { problem })
}
