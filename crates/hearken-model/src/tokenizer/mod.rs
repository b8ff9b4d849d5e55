//! Text to token ids and back, with Hugging Face's tokenizers.
//!
//! The files of a model directory decide together: tokenizer.json how text is split, and
//! `tokenizer_config.json`, `special_tokens_map.json`, `generation_config.json` and config.json which
//! tokens begin, end and pad it ([`Tokenizer::load`]).
//!
//! Not here: conversations ([`crate::chat`]), and the conversion of `SentencePiece`'s
//! `tokenizer.model`.

mod decoder;
mod error;
mod load;
mod merges;
mod pad;
mod settings;
mod stream;
mod templates;
mod train;

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::checkpoint::write_atomically;
use crate::template::ChatTemplates;
use serde_json::Value;
use sha2::{Digest, Sha256};

use decoder::Anchor;

pub use decoder::ContinuationDecoder;
pub use error::TokenizerError;
pub use stream::TextStream;
pub use templates::TemplateChoice;
pub use train::SpecialTokens;

/// Texts that can stand before a continuation while it is encoded. For decoding the last is the best:
/// a tokenizer with byte fallback may write a newline as a byte, which merges with bytes after it.
const ANCHORS: [&str; 4] = ["\n", ":", ".", "x"];

/// Whether a text begins a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bos {
    /// The BOS token comes first where the tokenizer's settings add one.
    AsConfigured,
    /// No token is added.
    Never,
}

/// What becomes of a special token's text, such as `<|endoftext|>`, inside a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialText {
    /// It becomes that token, as in Transformers.
    Parsed,
    /// It is text like any other: nobody ends a turn by writing the end token.
    Literal,
}

/// Files by their paths inside the model's directory.
type Files = Vec<(String, Vec<u8>)>;

/// The bytes of a text, from and to, that a token is made of.
pub type ByteSpan = (usize, usize);

/// A tokenizer with its special tokens.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// A copy that does not parse special tokens, made when it is first needed.
    literal: OnceLock<tokenizers::Tokenizer>,
    /// What stands before a continuation while it is decoded.
    anchor: OnceLock<Anchor>,
    /// What the post-processor puts before a text: BOS, or nothing.
    prefix: Vec<u32>,
    /// The tokenizer puts a space before a text, as `SentencePiece`'s do.
    adds_space: bool,
    vocab_size: usize,
    bos: Option<u32>,
    pad: Option<u32>,
    end: Option<u32>,
    ends: Vec<u32>,
    templates: ChatTemplates,
    /// Messages have been encoded in the built-in format.
    uses_built_in_format: AtomicBool,
    /// What ends a turn of the assistant.
    end_of_turn: Option<u32>,
    files: Files,
}

impl Tokenizer {
    /// The ids of a text that begins a sequence. There is at most one BOS token: none where the
    /// tokenizer adds none, and a text that starts with its own gets no second one (Transformers would
    /// add it). An end token is never added.
    ///
    /// # Errors
    ///
    /// The tokenizer cannot represent the text.
    pub fn encode(&self, text: &str, bos: Bos) -> Result<Vec<u32>, TokenizerError> {
        self.encode_start(text, bos, SpecialText::Parsed)
    }

    /// [`Tokenizer::encode`], with a choice of what special tokens in the text become.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::encode`].
    pub fn encode_start(
        &self,
        text: &str,
        bos: Bos,
        special: SpecialText,
    ) -> Result<Vec<u32>, TokenizerError> {
        let ids = self.raw(text, special)?;
        if bos == Bos::Never || self.prefix.is_empty() {
            return Ok(ids);
        }
        let mut rest = ids.as_slice();
        while let Some(after) = rest.strip_prefix(self.prefix.as_slice()) {
            rest = after;
        }
        Ok([&self.prefix, rest].concat())
    }

    /// The ids of a text that follows other tokens: no BOS, and no space that only a text's
    /// beginning gets (`SentencePiece`'s tokenizers put one there).
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::encode`].
    pub fn encode_continuation(
        &self,
        text: &str,
        special: SpecialText,
    ) -> Result<Vec<u32>, TokenizerError> {
        if text.is_empty() || !self.adds_space {
            return self.raw(text, special);
        }
        for anchor in ANCHORS {
            let before = self.raw(anchor, special)?;
            let both = self.raw(&format!("{anchor}{text}"), special)?;
            // Otherwise the anchor merged with the text.
            if let Some(ids) = both.strip_prefix(before.as_slice()) {
                return Ok(ids.to_vec());
            }
        }
        self.raw(text, special)
    }

    fn raw(&self, text: &str, special: SpecialText) -> Result<Vec<u32>, TokenizerError> {
        let tokenizer = match special {
            SpecialText::Parsed => &self.inner,
            SpecialText::Literal => self.literal.get_or_init(|| {
                let mut literal = self.inner.clone();
                literal.set_encode_special_tokens(true);
                literal
            }),
        };
        encode_with(tokenizer, text)
    }

    /// The text of `ids` that begin a sequence, without special tokens. Ids that the tokenizer does not
    /// know are skipped, and bytes that are no UTF-8 become U+FFFD.
    ///
    /// Of what follows other tokens, such as a completion, it may lose the first space: see
    /// [`Tokenizer::decode_continuation`].
    pub fn decode(&self, ids: &[u32]) -> String {
        self.decode_as(ids, true)
    }

    /// The text of `ids` that follow other tokens, a completion's after its prompt; otherwise as
    /// [`Tokenizer::decode`]. Decoders of `SentencePiece`'s kind take away the space that encoding puts
    /// before a text; here it stays, since the text before ends without one.
    ///
    /// [`Tokenizer::encode_continuation`] of what this gives are the same tokens, where they are what
    /// the tokenizer makes of that text.
    pub fn decode_continuation(&self, ids: &[u32]) -> String {
        decoder::decode_continuation(&self.inner, self.anchor(), ids)
    }

    /// What decodes continuations where the tokenizer itself is not at hand.
    pub fn continuation_decoder(&self) -> ContinuationDecoder {
        ContinuationDecoder::new(self.inner.clone(), self.anchor().clone())
    }

    /// Tokens with a text that a continuation does not change; nothing if there are none.
    fn anchor(&self) -> &Anchor {
        self.anchor.get_or_init(|| {
            let candidates = ANCHORS.iter().rev().filter_map(|anchor| {
                let ids = self.raw(anchor, SpecialText::Literal).ok()?;
                let text = self.decode(&ids);
                Some(Anchor { ids, text })
            });
            let mut usable = candidates.filter(|anchor| anchor.text.contains(|c| !is_filler(c)));
            usable.next().unwrap_or_default()
        })
    }

    /// The text of `ids`, special tokens included.
    pub fn decode_with_special(&self, ids: &[u32]) -> String {
        self.decode_as(ids, false)
    }

    fn decode_as(&self, ids: &[u32], skip_special: bool) -> String {
        decoder::decode(&self.inner, ids, skip_special)
    }

    /// A decoder for the tokens of a continuation that arrive one by one.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream::new(self)
    }

    /// The token of an id as the vocabulary writes it: bytes and spaces in the tokenizer's notation.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token as the vocabulary writes it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The largest id plus 1, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The tokens that end a completion: that of `tokenizer_config.json`, and all those of
    /// `generation_config.json` and config.json.
    pub fn eos(&self) -> &[u32] {
        &self.ends
    }

    /// The token that a training example ends in: `tokenizer_config.json`'s `eos_token`, or else the
    /// first that `generation_config.json` or config.json names.
    pub fn eos_for_training(&self) -> Option<u32> {
        self.end
    }

    /// The token that begins a text. Whether [`Tokenizer::encode`] adds it is another question: see
    /// [`Tokenizer::adds_bos`].
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Whether [`Bos::AsConfigured`] puts anything before a text.
    pub fn adds_bos(&self) -> bool {
        !self.prefix.is_empty()
    }

    /// The token that fills batches in other programs.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// The chat templates of the model; `None` where it has none, which is talked to in the built-in
    /// format.
    pub fn chat_templates(&self) -> Option<&ChatTemplates> {
        Some(&self.templates).filter(|templates| !templates.is_empty())
    }

    /// Whether messages have been encoded in the built-in format: whoever reports on that can say so.
    pub fn uses_built_in_format(&self) -> bool {
        self.uses_built_in_format.load(Ordering::Relaxed)
    }

    pub(crate) fn note_built_in_format(&self) {
        self.uses_built_in_format.store(true, Ordering::Relaxed);
    }

    /// The ids of what a chat template rendered: special tokens are parsed, and none is added.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::encode`].
    pub fn encode_rendered(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.raw(text, SpecialText::Parsed)
    }

    /// [`Tokenizer::encode_rendered`] with the place of each token in the text.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::encode`].
    pub fn encode_rendered_with_places(
        &self,
        text: &str,
    ) -> Result<(Vec<u32>, Vec<ByteSpan>), TokenizerError> {
        let encoding = self.inner.encode(text, false).map_err(|error| TokenizerError::Encode {
            bytes: text.len(),
            problem: error.to_string(),
        })?;
        Ok((encoding.get_ids().to_vec(), encoding.get_offsets().to_vec()))
    }

    /// Writes the files that the tokenizer was loaded from, unchanged, into `dir`, which is created
    /// if need be.
    ///
    /// # Errors
    ///
    /// A file cannot be written; see [`write_atomically`].
    pub fn save(&self, dir: &Path) -> Result<(), TokenizerError> {
        std::fs::create_dir_all(dir).map_err(|source| {
            TokenizerError::Write(crate::checkpoint::CheckpointError::Io {
                path: dir.into(),
                action: "create it",
                source,
            })
        })?;
        for (name, bytes) in &self.files {
            if let Some(folder) = Path::new(name).parent().filter(|of| !of.as_os_str().is_empty()) {
                std::fs::create_dir_all(dir.join(folder)).map_err(|source| {
                    TokenizerError::Write(crate::checkpoint::CheckpointError::Io {
                        path: dir.join(folder),
                        action: "create it",
                        source,
                    })
                })?;
            }
            write_atomically(&dir.join(name), |file| file.write_all(bytes))?;
        }
        Ok(())
    }

    /// Whether both were loaded from the same files, wherever these lie, and end texts with the same tokens.
    pub fn is_same(&self, other: &Self) -> bool {
        self.files == other.files && self.ends == other.ends
    }

    /// SHA-256, in hexadecimal, of the tokenizer in a canonical form. Two tokenizers with the same
    /// fingerprint encode every text alike, however their files are laid out.
    pub fn fingerprint(&self) -> String {
        hearken_data::hexadecimal(&Sha256::digest(self.canonical()))
    }

    fn canonical(&self) -> String {
        let json = self.inner.to_string(false).expect("a loaded tokenizer is plain data");
        let mut value: Value = serde_json::from_str(&json).expect("it was just written as JSON");
        value.sort_all_objects();
        format!("{value}{:?}", self.prefix)
    }
}

/// Signs that a decoder may move, drop or put where there is no text.
fn is_filler(sign: char) -> bool {
    sign.is_whitespace() || sign == char::REPLACEMENT_CHARACTER
}

fn encode_with(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>, TokenizerError> {
    match tokenizer.encode_fast(text, false) {
        Ok(encoding) => Ok(encoding.get_ids().to_vec()),
        Err(error) => Err(TokenizerError::Encode { bytes: text.len(), problem: error.to_string() }),
    }
}
