//! A tokenizer from the files of its directory.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use hearken_data::caught;
use tokenizers::AddedToken;

use super::settings::TokenizerSettings;
use super::{Files, Tokenizer, TokenizerError, encode_with, templates};
use crate::config::model_dir;

const TOKENIZER: &str = "tokenizer.json";
/// The files that [`Tokenizer::save`] writes again. Some are of use only to other programs.
const FILES: [&str; 10] = [
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
];
impl Tokenizer {
    /// Loads the tokenizer of a model directory; an adapter that brings none has that of its base.
    ///
    /// Truncation and padding that tokenizer.json may ask for are switched off. Special tokens that
    /// only the other files name are added, as Transformers adds them.
    ///
    /// # Errors
    ///
    /// There is no tokenizer.json, or one of the files cannot be read, is malformed, or contradicts
    /// another.
    pub fn load(dir: &Path) -> Result<Self, TokenizerError> {
        let model = model_dir(dir).unwrap_or_else(|_| dir.to_owned());
        let dir = if dir.join(TOKENIZER).exists() { dir } else { model.as_path() };
        let mut files = Vec::new();
        for name in FILES {
            if let Some(bytes) = read_if_there(&dir.join(name))? {
                files.push((name.to_owned(), bytes));
            }
        }
        files.extend(templates::additional_files(dir)?);
        let config = read_if_there(&model.join("config.json"))?;
        Self::from_files(dir, files, config.as_deref())
    }

    /// A tokenizer from the contents of its files. `dir` is where errors say they lie.
    pub(super) fn from_files(
        dir: &Path,
        files: Files,
        config: Option<&[u8]>,
    ) -> Result<Self, TokenizerError> {
        let file = |wanted: &str| {
            let found = files.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, bytes)| bytes.as_slice()).or(config.filter(|_| wanted == "config.json"))
        };
        let Some(json) = file(TOKENIZER) else {
            return Err(TokenizerError::Missing { dir: dir.into(), advice: advice(&file) });
        };
        let malformed = |error: tokenizers::Error| TokenizerError::Malformed {
            path: dir.join(TOKENIZER),
            problem: format!("not a tokenizer of the tokenizers library: {error}"),
        };
        // On some files the library panics where it should fail.
        let read = caught(|| tokenizers::Tokenizer::from_bytes(json));
        let mut inner = read.unwrap_or_else(|| Err("it gave up".into())).map_err(malformed)?;
        inner.with_truncation(None).map_err(malformed)?;
        inner.with_padding(None);
        let settings = TokenizerSettings::read(dir, file)?;
        add_tokens(&mut inner, &settings, dir)?;

        let id = |token: &Option<AddedToken>| inner.token_to_id(&token.as_ref()?.content);
        let (bos, pad, eos) = (id(&settings.bos), id(&settings.pad), id(&settings.eos));
        let known = |id: &&u32| inner.id_to_token(**id).is_some();
        let end = eos.or_else(|| settings.end_ids.iter().find(known).copied());
        let mut ends: Vec<u32> = end.into_iter().collect();
        for &id in &settings.end_ids {
            if !ends.contains(&id) {
                ends.push(id);
            }
        }
        // tokenizer.json alone decides: beside it Transformers reads neither `add_bos_token` nor
        // `add_eos_token` of tokenizer_config.json.
        let prefix = added_before(&inner)?;
        let templates = templates::read(dir, &files, settings.named_tokens())?;
        let mut tokenizer = Self {
            literal: OnceLock::new(),
            anchor: OnceLock::new(),
            adds_space: adds_space(&inner)?,
            vocab_size: inner.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1),
            inner,
            prefix,
            bos,
            pad,
            end,
            ends,
            templates,
            uses_built_in_format: AtomicBool::new(false),
            end_of_turn: None,
            files,
        };
        tokenizer.stop_at_end_of_turn();
        Ok(tokenizer)
    }
}

pub(super) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, TokenizerError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TokenizerError::Read { path: path.into(), source }),
    }
}

/// What to do about a missing tokenizer.json, from what is there instead.
fn advice<'a>(file: &impl Fn(&str) -> Option<&'a [u8]>) -> String {
    let other = ["tokenizer.model", "vocab.json"].into_iter().find(|name| file(name).is_some());
    match other {
        Some(found) => format!(
            "found {found}, which is not read; convert it once with Transformers: \
             AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
        ),
        None => "expected the tokenizer.json of a Hugging Face model directory".into(),
    }
}

/// Adds the special tokens that only the other files name.
fn add_tokens(
    inner: &mut tokenizers::Tokenizer,
    settings: &TokenizerSettings,
    dir: &Path,
) -> Result<(), TokenizerError> {
    let path = dir.join("tokenizer_config.json");
    let is_added = |inner: &tokenizers::Tokenizer, content: &str| {
        inner.get_added_vocabulary().get_vocab().contains_key(content)
    };
    let refused = |error: tokenizers::Error| TokenizerError::Malformed {
        path: path.clone(),
        problem: format!("its special tokens cannot be added: {error}"),
    };
    for (listed, token) in &settings.listed {
        if is_added(inner, &token.content) {
            continue;
        }
        inner.add_tokens([token.clone()]).map_err(refused)?;
        if let Some(actual) = inner.token_to_id(&token.content).filter(|actual| actual != listed) {
            let token = token.content.clone();
            return Err(TokenizerError::TokenId { path, token, listed: *listed, actual });
        }
    }
    for token in settings.special() {
        if !is_added(inner, &token.content) {
            inner.add_special_tokens([token.clone().special(true)]).map_err(refused)?;
        }
    }
    Ok(())
}

/// The tokens that the post-processor puts before a text.
fn added_before(inner: &tokenizers::Tokenizer) -> Result<Vec<u32>, TokenizerError> {
    let probe = "a";
    let plain = encode_with(inner, probe)?;
    let full = inner.encode_fast(probe, true).map_err(|error| TokenizerError::Encode {
        bytes: probe.len(),
        problem: error.to_string(),
    })?;
    let ids = full.get_ids();
    if plain.is_empty() {
        return Ok(Vec::new());
    }
    let start = ids.windows(plain.len()).position(|window| window == plain);
    Ok(ids[..start.unwrap_or(0)].to_vec())
}

/// Whether a text gets a space in front.
fn adds_space(inner: &tokenizers::Tokenizer) -> Result<bool, TokenizerError> {
    let first = encode_with(inner, "a")?.first().and_then(|&id| inner.id_to_token(id));
    Ok(first.is_some_and(|token| token.starts_with(['▁', 'Ġ'])))
}
