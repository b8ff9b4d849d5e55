//! The chat templates among a tokenizer's files.
//!
//! As in Transformers: `chat_template.jinja` is the default and
//! `additional_chat_templates/NAME.jinja` are others; where there is any of these, `chat_template` in
//! `tokenizer_config.json`, a text or a list of named ones, does not count. `chat_template.json`,
//! which processors have, counts where there is nothing else.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::load::read_if_there;
use super::settings::JsonFile;
use super::{Files, Tokenizer, TokenizerError};
use crate::template::{ChatTemplates, Ending, TemplateSource};

const FILE: &str = "chat_template.jinja";
const FOLDER: &str = "additional_chat_templates";
const DEFAULT: &str = "default";

/// Which chat template counts, and what it gets beside the messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TemplateChoice {
    /// A file with a template.
    pub file: Option<PathBuf>,
    /// The name of one of the model's templates.
    pub name: Option<String>,
    /// Variables that every conversation has, unless its record has its own.
    pub variables: Map<String, Value>,
}

/// The files of further templates in a model's directory.
pub(super) fn additional_files(dir: &Path) -> Result<Files, TokenizerError> {
    let folder = dir.join(FOLDER);
    let unreadable = |source| TokenizerError::Read { path: folder.clone(), source };
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let is_template = path.extension().is_some_and(|extension| extension == "jinja");
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(name) = name.filter(|_| is_template)
            && let Some(bytes) = read_if_there(&path)?
        {
            files.push((format!("{FOLDER}/{name}"), bytes));
        }
    }
    files.sort();
    Ok(files)
}

/// The templates that a tokenizer's files hold.
pub(super) fn read(
    dir: &Path,
    files: &Files,
    special_tokens: Map<String, Value>,
) -> Result<ChatTemplates, TokenizerError> {
    let mut sources = Vec::new();
    for (path, bytes) in files {
        let further = path.strip_prefix(FOLDER).and_then(|name| name.strip_prefix('/'));
        let name = match (path == FILE, further) {
            (true, _) => DEFAULT,
            (false, Some(name)) => name.strip_suffix(".jinja").unwrap_or(name),
            (false, None) => continue,
        };
        let origin = dir.join(path);
        let text = String::from_utf8(bytes.clone()).map_err(|error| TokenizerError::Malformed {
            path: origin.clone(),
            problem: format!("expected a template in UTF-8: {error}"),
        })?;
        let origin = origin.display().to_string();
        sources.push(TemplateSource { name: name.to_owned(), text, origin });
    }
    for config in ["tokenizer_config.json", "chat_template.json"] {
        if sources.is_empty() {
            let bytes = files.iter().find(|(name, _)| name == config);
            let bytes = bytes.map(|(_, bytes)| bytes.as_slice());
            sources = in_config(&JsonFile::parse(dir.join(config), bytes)?, &dir.join(config))?;
        }
    }
    Ok(ChatTemplates::new(sources, special_tokens, now()))
}

/// The templates under `chat_template`.
fn in_config(config: &JsonFile, path: &Path) -> Result<Vec<TemplateSource>, TokenizerError> {
    const KEY: &str = "chat_template";
    const EXPECTED: &str = "a template, or a list of objects with `name` and `template`";
    let Some(value) = config.get(KEY) else { return Ok(Vec::new()) };
    let origin = |name: &str| format!("{}: {KEY}{name}", path.display());
    let source = |name: &str, text: &str, origin: String| TemplateSource {
        name: name.to_owned(),
        text: text.to_owned(),
        origin,
    };
    let found: Option<Vec<TemplateSource>> = match value {
        Value::String(text) => Some(vec![source(DEFAULT, text, origin(""))]),
        Value::Array(entries) => entries
            .iter()
            .map(|entry| {
                let (name, text) = (entry.get("name")?.as_str()?, entry.get("template")?.as_str()?);
                Some(source(name, text, origin(&format!(" {name:?}"))))
            })
            .collect(),
        Value::Object(entries) => entries
            .iter()
            .map(|(name, text)| Some(source(name, text.as_str()?, origin(&format!(" {name:?}")))))
            .collect(),
        _ => None,
    };
    found.ok_or_else(|| config.wrong(KEY, value, EXPECTED))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(0))
}

impl Tokenizer {
    /// Chooses the chat template. What is written by [`Tokenizer::save`] has it as its default.
    ///
    /// # Errors
    ///
    /// The file cannot be read, no template has the name, or the template is none.
    pub fn choose_template(&mut self, choice: &TemplateChoice) -> Result<(), TokenizerError> {
        if let Some(name) = &choice.name {
            self.templates.choose(name)?;
        }
        if let Some(file) = &choice.file {
            self.templates.choose_file(file)?;
        }
        self.templates.set_variables(choice.variables.clone());
        if choice.name.is_some() || choice.file.is_some() {
            self.templates.template(false)?;
            let text = self.templates.text().unwrap_or_default().as_bytes().to_vec();
            self.files.retain(|(name, _)| name != FILE);
            self.files.push((FILE.to_owned(), text));
            self.stop_at_end_of_turn();
        }
        Ok(())
    }

    /// Makes the token that the template puts behind an assistant's content one that ends a
    /// completion. A template that cannot say is left alone: nobody may want it.
    pub(super) fn stop_at_end_of_turn(&mut self) {
        self.end_of_turn = match self.chat_templates() {
            Some(templates) => self.token_behind_content(templates),
            None => self.end,
        };
        if let Some(id) = self.end_of_turn.filter(|id| !self.ends.contains(id)) {
            self.ends.push(id);
        }
    }

    /// The token that ends a turn of the assistant: in the template, the special token behind its
    /// content; without a template, the end token.
    pub fn end_of_turn(&self) -> Option<u32> {
        self.end_of_turn
    }

    fn token_behind_content(&self, templates: &ChatTemplates) -> Option<u32> {
        const CONTENT: &str = "Xylophone";
        let messages = [
            json!({ "role": "user", "content": "Hi" }),
            json!({ "role": "assistant", "content": CONTENT }),
        ];
        let rendered = templates.render(&messages, &Map::new(), &Ending::Closed).ok()?;
        let end = rendered.text.rfind(CONTENT)? + CONTENT.len();
        let (ids, places) = self.encode_rendered_with_places(&rendered.text).ok()?;
        let behind = ids.iter().zip(&places).filter(|(_, (start, _))| end <= *start);
        let mut behind =
            behind.filter(|(_, (from, to))| !rendered.text[*from..*to].trim().is_empty());
        let (id, _) = behind.next()?;
        self.inner.get_added_tokens_decoder().contains_key(id).then_some(*id)
    }
}
