//! The weights of a served model, their version, and the engine that runs them.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use hearken_generate::{
    AdapterId, Attached, EngineHandle, EngineOptions, Sampling, SamplingRequest, Update, Wishes,
};
use hearken_model::chat::STOP;
use hearken_model::{KvCache, Tokenizer};
use sha2::{Digest as _, Sha256};

use crate::grammars::{Grammars, Token};
use crate::parts::{LoadedAdapter, Loader, WeightsPlace};

/// The bytes of a version's digest that name it.
const VERSION_BYTES: usize = 8;

/// What a name stands for: a model with an engine of its own, or an adapter in the engine of its model. A request holds on
/// to the weights it has begun with: the engine ends when others have come and the last of these requests has.
#[derive(Debug)]
pub(crate) struct Weights {
    /// Where they come from.
    pub(crate) place: WeightsPlace,
    /// Names a digest of all that is read: equal weights have one version, wherever they lie.
    pub(crate) version: String,
    /// The digest of the engine's model.
    base_digest: Sha256,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) engine: EngineHandle,
    /// The adapter, where it is one of the engine's; without it they are the engine's model.
    adapter: Option<Attached>,
    pub(crate) vocab: usize,
    /// The model's positions, or fewer where the cache has not room for all.
    pub(crate) positions: usize,
    of_tokenizer: Arc<OfTokenizer>,
}

/// What follows from a tokenizer, made when it is first needed.
#[derive(Debug, Default)]
struct OfTokenizer {
    fingerprint: OnceLock<String>,
    grammars: OnceLock<Result<Grammars, String>>,
}

impl Weights {
    /// Reads a model, starts its engine and lets it sample a token. An adapter joins the first engine of `others` that runs
    /// its model, if it can. Blocks.
    ///
    /// # Errors
    /// What is wrong with the model.
    pub(crate) fn open(
        loader: &dyn Loader,
        place: &WeightsPlace,
        options: EngineOptions,
        others: &[Arc<Self>],
    ) -> Result<Self, String> {
        let beside = match others.iter().find(|other| other.hosts(place)) {
            Some(other) => Self::beside(loader, place, other)?,
            None => None,
        };
        let weights = beside.map_or_else(|| Self::alone(loader, place, options), Ok)?;
        weights.probe()?;
        Ok(weights)
    }

    /// Whether the engine runs the model that a place has an adapter of.
    fn hosts(&self, place: &WeightsPlace) -> bool {
        let is_merged = self.place.adapter.is_some() && self.adapter.is_none();
        place.adapter.is_some() && self.place.model == place.model && !is_merged
    }

    /// A model in an engine of its own, with an adapter merged into its weights where it has one.
    fn alone(
        loader: &dyn Loader,
        place: &WeightsPlace,
        options: EngineOptions,
    ) -> Result<Self, String> {
        let loaded = loader.load(place)?;
        let digest = digest_of(Sha256::new(), &loaded.directories);
        let digest = digest.map_err(|error| error.to_string())?;
        let model = loaded.model;
        let (vocab, positions) = (model.config().vocab, model.config().max_positions);
        let page_bytes = KvCache::bytes(&model, 1, options.page_len);
        // One page is left for the samples of a prompt that ends within one.
        let pages = (options.cache_bytes / page_bytes).saturating_sub(1);
        let positions = positions.min(pages * options.page_len);
        if positions < 2 {
            let (found, needed) = (options.cache_bytes, 2 * page_bytes);
            return Err(format!(
                "a cache of {found} bytes has no room for a page of keys and values; expected {needed} at least"
            ));
        }
        let tokenizer = Arc::new(loaded.tokenizer);
        let engine = EngineHandle::start(model, Some(Arc::clone(&tokenizer)), options)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            place: place.clone(),
            version: name(&digest),
            base_digest: digest,
            tokenizer,
            engine,
            adapter: None,
            vocab,
            positions,
            of_tokenizer: Arc::default(),
        })
    }

    /// An adapter in the engine of its model, as it was when that was read. `None` where it needs weights of its own: it
    /// stores some whole, or its answers are of other tokens or end with others.
    fn beside(
        loader: &dyn Loader,
        place: &WeightsPlace,
        other: &Self,
    ) -> Result<Option<Self>, String> {
        let Some(LoadedAdapter { adapter, tokenizer, base }) = loader.load_adapter(place)? else {
            return Ok(None);
        };
        let (tokenizer, of_tokenizer) = if tokenizer.is_same(&other.tokenizer) {
            (Arc::clone(&other.tokenizer), Arc::clone(&other.of_tokenizer))
        } else {
            (Arc::new(tokenizer), Arc::default())
        };
        if adapter.first_whole().is_some()
            || tokenizer.fingerprint() != other.fingerprint()
            || tokenizer.eos() != other.tokenizer.eos()
        {
            return Ok(None);
        }
        let digest = digest_of(other.base_digest.clone(), &[adapter.dir().to_owned()]);
        let digest = digest.map_err(|error| error.to_string())?;
        let attached = other.engine.attach(adapter, &base).map_err(|error| error.to_string())?;
        Ok(Some(Self {
            place: place.clone(),
            version: name(&digest),
            base_digest: other.base_digest.clone(),
            tokenizer,
            engine: other.engine.clone(),
            adapter: Some(attached),
            vocab: other.vocab,
            positions: other.positions,
            of_tokenizer,
        }))
    }

    /// What requests to the engine name its adapter by, if it is one of the engine's.
    pub(crate) fn adapter(&self) -> Option<AdapterId> {
        self.adapter.as_ref().map(Attached::id)
    }

    /// Samples a token: weights that have diverged are found out before anybody asks.
    fn probe(&self) -> Result<(), String> {
        let prompt_ids = vec![self.tokenizer.bos().unwrap_or(0)];
        let request = SamplingRequest { prompt_ids, samples: 1, seed: 0 };
        let wishes = Wishes { adapter: self.adapter(), ..Wishes::default() };
        for update in self.engine.complete_with(request, Sampling::greedy(1), wishes) {
            if let Update::Ended { .. } = update.map_err(|error| error.to_string())? {
                break;
            }
        }
        Ok(())
    }

    /// A digest of the tokenizer.
    pub(crate) fn fingerprint(&self) -> &str {
        self.of_tokenizer.fingerprint.get_or_init(|| self.tokenizer.fingerprint())
    }

    /// Texts at which every answer of a conversation ends.
    pub(crate) fn chat_stops(&self) -> Vec<String> {
        // A model without a template may not have learned to end its turn.
        self.tokenizer.chat_templates().map_or(vec![STOP.to_owned()], |_| Vec::new())
    }

    /// What answers can be kept to.
    ///
    /// # Errors
    /// Why they cannot.
    pub(crate) fn grammars(&self) -> Result<&Grammars, String> {
        let token = |id| match self.tokenizer.decode_continuation(&[id]) {
            text if text.is_empty() => Token::Special(self.tokenizer.token(id).unwrap_or_default()),
            _ => Token::Text(self.token(id).1),
        };
        let grammars = self.of_tokenizer.grammars.get_or_init(|| {
            let tokens = (0..self.vocab as u32).map(token).collect();
            Grammars::new(tokens, self.tokenizer.eos())
        });
        grammars.as_ref().map_err(Clone::clone)
    }

    /// A token as text and as bytes; special tokens under their names. Bytes that are no character by
    /// themselves are U+FFFD in the text.
    pub(crate) fn token(&self, id: u32) -> (String, Vec<u8>) {
        let text = self.tokenizer.decode_continuation(&[id]);
        let name = || self.tokenizer.token(id).unwrap_or_default();
        if text.is_empty() {
            let name = name();
            let bytes = name.clone().into_bytes();
            return (name, bytes);
        }
        if text.contains(char::REPLACEMENT_CHARACTER)
            && let Some(bytes) = bytes_of_notation(&name())
        {
            return (text, bytes);
        }
        let bytes = text.clone().into_bytes();
        (text, bytes)
    }
}

/// The bytes that a vocabulary's notation stands for: `<0xE2>`, or a character per byte as GPT-2 has it.
fn bytes_of_notation(token: &str) -> Option<Vec<u8>> {
    if let Some(digits) = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>')) {
        return u8::from_str_radix(digits, 16).ok().map(|byte| vec![byte]);
    }
    token.chars().map(byte_of_character).collect()
}

/// GPT-2's alphabet: printable bytes stand for themselves, the others, in order, for what follows U+0100.
fn byte_of_character(character: char) -> Option<u8> {
    let is_plain = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let code = u32::from(character);
    match u8::try_from(code) {
        Ok(byte) => is_plain(byte).then_some(byte),
        Err(_) => (0..=u8::MAX).filter(|&byte| !is_plain(byte)).nth((code - 0x100) as usize),
    }
}

/// A digest of the files that say what the model in some directories computes.
///
/// # Errors
/// One of them cannot be read.
pub fn version(directories: &[PathBuf]) -> io::Result<String> {
    Ok(name(&digest_of(Sha256::new(), directories)?))
}

/// Goes on with a digest over the files of further directories.
fn digest_of(mut digest: Sha256, directories: &[PathBuf]) -> io::Result<Sha256> {
    for directory in directories {
        for file in files(directory)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            digest.update((name.len() as u64).to_le_bytes());
            digest.update(name.as_bytes());
            digest.update(file_digest(&file)?);
        }
    }
    Ok(digest)
}

/// The version that a digest so far stands for.
fn name(digest: &Sha256) -> String {
    hearken_data::hexadecimal(&digest.clone().finalize()[..VERSION_BYTES])
}

/// Those of a directory's files that a model is read from, in order.
fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in directory.read_dir()? {
        let path = entry?.path();
        let ends = |extension: &str| path.extension().is_some_and(|of| of == extension);
        // Beside them runs leave states of optimizers and notes.
        if path.is_file() && (ends("safetensors") || ends("json") || ends("jinja") || ends("model"))
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn file_digest(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            read => hash.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vocabulary_writes_bytes_in_two_ways() {
        assert_eq!(bytes_of_notation("<0xE2>"), Some(vec![0xE2]));
        // A space, the first two bytes of €, and a letter.
        assert_eq!(bytes_of_notation("Ġâ\u{124}a"), Some(vec![b' ', 0xE2, 0x82, b'a']));
        assert_eq!(bytes_of_notation("▁"), None);
    }
}
