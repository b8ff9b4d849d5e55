//! Text from tokens that follow others.

/// Tokens with a text, which stand for a prompt.
#[derive(Clone, Debug, Default)]
pub(super) struct Anchor {
    pub(super) ids: Vec<u32>,
    pub(super) text: String,
}

/// What of a tokenizer it takes to decode completions; see
/// [`Tokenizer::decode_continuation`](super::Tokenizer::decode_continuation).
#[derive(Clone, Debug)]
pub struct ContinuationDecoder {
    inner: tokenizers::Tokenizer,
    anchor: Anchor,
}

impl ContinuationDecoder {
    pub(super) fn new(inner: tokenizers::Tokenizer, anchor: Anchor) -> Self {
        Self { inner, anchor }
    }

    /// The text of `ids` that follow other tokens.
    pub fn decode(&self, ids: &[u32]) -> String {
        decode_continuation(&self.inner, &self.anchor, ids)
    }
}

pub(super) fn decode_continuation(
    inner: &tokenizers::Tokenizer,
    anchor: &Anchor,
    ids: &[u32],
) -> String {
    let both = decode(inner, &[&anchor.ids, ids].concat(), true);
    both.strip_prefix(anchor.text.as_str()).map_or_else(|| decode(inner, ids, true), str::to_owned)
}

pub(super) fn decode(inner: &tokenizers::Tokenizer, ids: &[u32], skip_special: bool) -> String {
    inner.decode(ids, skip_special).unwrap_or_else(|_| {
        // Decoders only rearrange text; one that refuses leaves the tokens as they are.
        ids.iter().filter_map(|&id| inner.id_to_token(id)).collect()
    })
}
