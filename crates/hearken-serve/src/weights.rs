//! The weights of a served model, their version, and the engine that runs them.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use hearken_generate::{EngineHandle, EngineOptions, Sampling, SamplingRequest, Update};
use hearken_model::chat::STOP;
use hearken_model::{KvCache, Tokenizer};
use sha2::{Digest as _, Sha256};

use crate::grammars::{Grammars, Token};
use crate::parts::{Loader, WeightsPlace};

/// The bytes of a version's digest that name it.
const VERSION_BYTES: usize = 8;

/// A model with an engine of its own. A request holds on to the weights it has begun with: the engine
/// ends when others have come and the last of these requests has.
#[derive(Debug)]
pub(crate) struct Weights {
    /// Where they come from.
    pub(crate) place: WeightsPlace,
    /// A digest of all that is read: equal weights have one version, wherever they lie.
    pub(crate) version: String,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) engine: EngineHandle,
    pub(crate) vocab: usize,
    /// The model's positions, or fewer where the cache has not room for all.
    pub(crate) positions: usize,
    /// That of the tokenizer, made when it is first needed.
    fingerprint: OnceLock<String>,
    /// Made when they are first needed.
    grammars: OnceLock<Result<Grammars, String>>,
}

impl Weights {
    /// Reads a model, starts its engine and lets it sample a token. Blocks.
    ///
    /// # Errors
    /// What is wrong with the model.
    pub(crate) fn open(
        loader: &dyn Loader,
        place: &WeightsPlace,
        options: EngineOptions,
    ) -> Result<Self, String> {
        let loaded = loader.load(place)?;
        let version = version(&loaded.directories).map_err(|error| error.to_string())?;
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
        let (place, fingerprint, grammars) = (place.clone(), OnceLock::new(), OnceLock::new());
        let weights =
            Self { place, version, tokenizer, engine, vocab, positions, fingerprint, grammars };
        weights.probe()?;
        Ok(weights)
    }

    /// Samples a token: weights that have diverged are found out before anybody asks.
    fn probe(&self) -> Result<(), String> {
        let prompt_ids = vec![self.tokenizer.bos().unwrap_or(0)];
        let request = SamplingRequest { prompt_ids, samples: 1, seed: 0 };
        for update in self.engine.complete(request, Sampling::greedy(1)) {
            if let Update::Ended { .. } = update.map_err(|error| error.to_string())? {
                break;
            }
        }
        Ok(())
    }

    /// A digest of the tokenizer.
    pub(crate) fn fingerprint(&self) -> &str {
        self.fingerprint.get_or_init(|| self.tokenizer.fingerprint())
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
        let grammars = self.grammars.get_or_init(|| {
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
    let mut hash = Sha256::new();
    for directory in directories {
        for file in files(directory)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name.as_bytes());
            hash.update(digest(&file)?);
        }
    }
    let digest = hash.finalize();
    Ok(hearken_data::hexadecimal(&digest[..VERSION_BYTES]))
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

fn digest(path: &Path) -> io::Result<[u8; 32]> {
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
