//! What the JSON files beside tokenizer.json say: which tokens are special, and which end a text.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::TokenizerError;

/// The settings of one tokenizer, from all its files.
#[derive(Debug, Default)]
pub(super) struct TokenizerSettings {
    pub(super) bos: Option<AddedToken>,
    pub(super) eos: Option<AddedToken>,
    pub(super) pad: Option<AddedToken>,
    /// Further tokens that must be special, named or listed.
    pub(super) others: Vec<AddedToken>,
    /// `added_tokens_decoder`, by id.
    pub(super) listed: Vec<(u32, AddedToken)>,
    /// Further tokens that chat templates read by their names, such as `unk_token`.
    pub(super) named: Vec<(&'static str, AddedToken)>,
    /// End tokens of `generation_config.json`, then those of config.json.
    pub(super) end_ids: Vec<u32>,
}

impl TokenizerSettings {
    /// Reads them; `file` gives the content of a file by its name, if it is there.
    pub(super) fn read<'a>(
        dir: &Path,
        file: impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Result<Self, TokenizerError> {
        let parse = |name: &str| JsonFile::parse(dir.join(name), file(name));
        let tokenizer_config = parse("tokenizer_config.json")?;
        let map = parse("special_tokens_map.json")?;
        let named = |key: &str| match tokenizer_config.token(key)? {
            Some(token) => Ok(Some(token)),
            None => map.token(key),
        };

        let mut settings = Self {
            bos: named("bos_token")?,
            eos: named("eos_token")?,
            pad: named("pad_token")?,
            listed: tokenizer_config.listed_tokens()?,
            ..Self::default()
        };
        for key in ["unk_token", "sep_token", "cls_token", "mask_token"] {
            if let Some(token) = named(key)? {
                settings.named.push((key, token.clone()));
                settings.others.push(token);
            }
        }
        for key in ["additional_special_tokens", "extra_special_tokens"] {
            settings.others.extend(tokenizer_config.tokens(key)?);
            settings.others.extend(map.tokens(key)?);
        }
        for name in ["generation_config.json", "config.json"] {
            settings.end_ids.extend(parse(name)?.ids("eos_token_id")?);
        }
        Ok(settings)
    }

    /// The special tokens that have names, as Transformers gives them to a chat template.
    pub(super) fn named_tokens(&self) -> Map<String, Value> {
        let first = [("bos_token", &self.bos), ("eos_token", &self.eos)];
        let first = first.into_iter().filter_map(|(name, token)| Some((name, token.as_ref()?)));
        let others = self.named.iter().map(|(name, token)| (*name, token));
        let pad = self.pad.as_ref().map(|token| ("pad_token", token));
        let all = first.chain(others).chain(pad);
        all.map(|(name, token)| (name.to_owned(), Value::from(token.content.as_str()))).collect()
    }

    /// Every token that must be special, in the order in which Transformers adds those that
    /// tokenizer.json lacks.
    pub(super) fn special(&self) -> impl Iterator<Item = &AddedToken> {
        [&self.bos, &self.eos, &self.pad].into_iter().flatten().chain(&self.others)
    }
}

/// A JSON object with the path that errors name. A file that is not there is an empty object.
pub(super) struct JsonFile {
    path: PathBuf,
    object: Map<String, Value>,
}

impl JsonFile {
    pub(super) fn parse(path: PathBuf, bytes: Option<&[u8]>) -> Result<Self, TokenizerError> {
        let Some(bytes) = bytes else { return Ok(Self { path, object: Map::new() }) };
        match serde_json::from_slice(bytes) {
            Ok(object) => Ok(Self { path, object }),
            Err(error) => {
                let problem = format!("expected a JSON object: {error}");
                Err(TokenizerError::Malformed { path, problem })
            }
        }
    }

    /// The key's value; `null` counts as absent.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn wrong(&self, key: &str, found: &Value, expected: &'static str) -> TokenizerError {
        let (path, key) = (self.path.clone(), key.to_owned());
        TokenizerError::Key { path, key, found: found.to_string(), expected }
    }

    /// One token id or a list of them. Some old configurations say "none" by -1.
    fn ids(&self, key: &str) -> Result<Vec<u32>, TokenizerError> {
        let Some(value) = self.get(key).filter(|value| value.as_i64() != Some(-1)) else {
            return Ok(Vec::new());
        };
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        values
            .iter()
            .map(|value| value.as_u64().and_then(|id| u32::try_from(id).ok()))
            .collect::<Option<_>>()
            .ok_or_else(|| self.wrong(key, value, "a token id or a list of token ids"))
    }

    /// A token as its text or as an object that has its text under `content`.
    fn token(&self, key: &str) -> Result<Option<AddedToken>, TokenizerError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        added_token(value)
            .map(Some)
            .ok_or_else(|| self.wrong(key, value, "a token's text, or an object with its content"))
    }

    /// A list of tokens, or an object whose values are tokens.
    fn tokens(&self, key: &str) -> Result<Vec<AddedToken>, TokenizerError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let tokens: Option<Vec<_>> = match value {
            Value::Array(tokens) => tokens.iter().map(added_token).collect(),
            Value::Object(tokens) => tokens.values().map(added_token).collect(),
            _ => None,
        };
        tokens.ok_or_else(|| self.wrong(key, value, "a list of tokens"))
    }

    /// `added_tokens_decoder`: an object from ids, as text, to tokens; sorted by id.
    fn listed_tokens(&self) -> Result<Vec<(u32, AddedToken)>, TokenizerError> {
        let key = "added_tokens_decoder";
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let expected = "an object from token ids to tokens";
        let object = value.as_object().ok_or_else(|| self.wrong(key, value, expected))?;
        let mut listed = Vec::with_capacity(object.len());
        for (id, token) in object {
            let Some(entry) = id.parse().ok().zip(added_token(token)) else {
                return Err(self.wrong(&format!("{key}.{id}"), token, expected));
            };
            listed.push(entry);
        }
        listed.sort_by_key(|(id, _)| *id);
        Ok(listed)
    }
}

fn added_token(value: &Value) -> Option<AddedToken> {
    if let Some(content) = value.as_str() {
        return Some(AddedToken::from(content, true));
    }
    let flag = |key: &str, default: bool| match value.get(key) {
        None => Some(default),
        Some(flag) => flag.as_bool(),
    };
    let special = flag("special", true)?;
    Some(
        AddedToken::from(value.get("content")?.as_str()?, special)
            .single_word(flag("single_word", false)?)
            .lstrip(flag("lstrip", false)?)
            .rstrip(flag("rstrip", false)?)
            .normalized(flag("normalized", !special)?),
    )
}
