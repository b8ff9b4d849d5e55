//! A padding token that no text ends in.
//!
//! Transformers' classifiers read a row at its last token that is not the padding token of config.json.
//! Where that is also a token that ends texts, they read the score before the end.

use serde_json::{Map, Value};

use super::Tokenizer;

/// The files that name a padding token beside tokenizer.json.
const FILES: [&str; 2] = ["tokenizer_config.json", "special_tokens_map.json"];

/// What special tokens are called that were made to be spare.
const SPARE: [&str; 4] = ["pad", "reserved", "unused", "extra"];

impl Tokenizer {
    /// A token that can pad and that no text ends in: the padding token where it is none of `ends`, else
    /// a special token whose name says that it is spare, else the token that begins texts; `None` where
    /// each of these ends texts.
    pub fn padding_apart_from(&self, ends: &[u32]) -> Option<u32> {
        let mut special: Vec<(u32, String)> = self
            .inner
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special)
            .map(|(id, token)| (id, token.content.to_lowercase()))
            .collect();
        special.sort_unstable();
        let spare = SPARE.iter().flat_map(|part| {
            special.iter().filter(move |(_, name)| name.contains(part)).map(|(id, _)| *id)
        });
        let mut candidates = self.pad.into_iter().chain(spare).chain(self.bos);
        candidates.find(|id| !ends.contains(id) && !self.ends.contains(id))
    }

    /// Pads with another token, in the files that [`Tokenizer::save`] writes too. How texts are encoded
    /// does not change.
    ///
    /// # Panics
    /// If the tokenizer has no such token.
    pub fn set_pad(&mut self, id: u32) {
        if self.pad == Some(id) {
            return;
        }
        let token = self.inner.id_to_token(id).expect("a token of the tokenizer");
        self.pad = Some(id);
        for (name, bytes) in
            self.files.iter_mut().filter(|(name, _)| FILES.contains(&name.as_str()))
        {
            let parsed = serde_json::from_slice(bytes).expect("it was read as a JSON object");
            let mut object: Map<String, Value> = parsed;
            let is_main = *name == FILES[0];
            if is_main || object.contains_key("pad_token") {
                object.insert("pad_token".to_owned(), token.clone().into());
                *bytes = format!("{:#}\n", Value::Object(object)).into_bytes();
            }
        }
    }
}
