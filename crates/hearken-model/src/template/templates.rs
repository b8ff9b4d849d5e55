//! The templates of one model, and what Transformers gives them.

use std::path::Path;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::error::TemplateError;
use super::jinja::{Rendered, Template};

/// The name of the template that counts where none is chosen.
const DEFAULT: &str = "default";
/// The name of the template that counts where tools are given.
const TOOL_USE: &str = "tool_use";
/// What stands behind the text that is to be continued until it is rendered.
const CONTINUE_TAG: &str = "CONTINUE_FINAL_MESSAGE_TAG ";
/// The names of a message's reasoning; the first is what templates read.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A template as its file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateSource {
    /// Its name among those of the model.
    pub name: String,
    /// The template.
    pub text: String,
    /// Where errors say that it stands.
    pub origin: String,
}

/// How a rendered conversation ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// With its last message.
    #[default]
    Closed,
    /// With the header of an assistant's turn.
    GenerationPrompt,
    /// Inside the last message: with this field of it, mostly `content`.
    Continued(String),
}

/// The chat templates of a model.
#[derive(Debug)]
pub struct ChatTemplates {
    sources: Vec<TemplateSource>,
    /// One per source, made when it is first needed: a template that nobody uses may be broken.
    compiled: Vec<OnceLock<Result<Template, TemplateError>>>,
    chosen: Option<usize>,
    special_tokens: Map<String, Value>,
    variables: Map<String, Value>,
    now: i64,
}

impl ChatTemplates {
    /// The templates of a model with these special tokens, by the names under which templates read
    /// them (`bos_token`, …); `now` is the time that `strftime_now` tells, in milliseconds since 1970.
    pub fn new(sources: Vec<TemplateSource>, special_tokens: Map<String, Value>, now: i64) -> Self {
        let compiled = sources.iter().map(|_| OnceLock::new()).collect();
        Self { sources, compiled, chosen: None, special_tokens, variables: Map::new(), now }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Chooses the template of this name.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn choose(&mut self, name: &str) -> Result<(), TemplateError> {
        let found = self.sources.iter().position(|source| source.name == name);
        self.chosen = Some(found.ok_or_else(|| TemplateError::UnknownName {
            origin: self.origin(),
            name: name.to_owned(),
            names: self.names(),
        })?);
        Ok(())
    }

    /// Chooses the template in a file.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn choose_file(&mut self, path: &Path) -> Result<(), TemplateError> {
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| TemplateError::Unreadable {
            path: origin.clone(),
            problem: error.to_string(),
        })?;
        self.chosen = Some(self.sources.len());
        self.sources.push(TemplateSource { name: origin.clone(), text, origin });
        self.compiled.push(OnceLock::new());
        Ok(())
    }

    /// Sets variables that every conversation has, unless its record has its own.
    pub fn set_variables(&mut self, variables: Map<String, Value>) {
        self.variables = variables;
    }

    /// The template that counts for a conversation, with or without tools.
    ///
    /// # Errors
    ///
    /// None is the default, or it is no Jinja template.
    pub fn template(&self, has_tools: bool) -> Result<&Template, TemplateError> {
        let named = |name: &str| self.sources.iter().position(|source| source.name == name);
        let index = self
            .chosen
            .or_else(|| named(TOOL_USE).filter(|_| has_tools))
            .or_else(|| named(DEFAULT))
            .ok_or_else(|| TemplateError::NoDefault {
                origin: self.origin(),
                names: self.names(),
            })?;
        let source = &self.sources[index];
        self.compiled[index]
            .get_or_init(|| Template::compile(&source.text, source.origin.as_str()))
            .as_ref()
            .map_err(Clone::clone)
    }

    /// The template that was chosen or is the default, as text.
    pub fn text(&self) -> Option<&str> {
        let default = self.sources.iter().position(|source| source.name == DEFAULT);
        self.chosen.or(default).map(|index| self.sources[index].text.as_str())
    }

    /// Renders messages, objects with `role` and what else the template reads, with `variables` beside
    /// them: `tools`, `documents` and any further ones.
    ///
    /// As in Transformers, `tools` and `documents` are `none` where they are not given, a field of a
    /// message that is null is not there, and a message's reasoning has all of its names.
    ///
    /// # Errors
    ///
    /// There is no message, or what [`ChatTemplates::template`], [`Template::render`] and the ending
    /// refuse.
    pub fn render(
        &self,
        messages: &[Value],
        variables: &Map<String, Value>,
        ending: &Ending,
    ) -> Result<Rendered, TemplateError> {
        if messages.is_empty() {
            return Err(TemplateError::NoMessages);
        }
        let has_tools = [variables, &self.variables]
            .iter()
            .any(|of| of.get("tools").is_some_and(|tools| !tools.is_null()));
        let template = self.template(has_tools)?;
        let mut messages: Vec<Value> = messages.iter().map(as_transformers_gives_it).collect();
        let continued = match ending {
            Ending::Continued(field) => Some(tag(&mut messages, field, template.source())?),
            _ => None,
        };
        let mut all = self.special_tokens.clone();
        all.extend(self.variables.iter().map(|(name, value)| (name.clone(), value.clone())));
        all.extend(variables.iter().map(|(name, value)| (name.clone(), value.clone())));
        for name in ["tools", "documents"] {
            all.entry(name).or_insert(Value::Null);
        }
        all.insert("messages".to_owned(), Value::Array(messages));
        let wants_prompt = *ending == Ending::GenerationPrompt;
        all.insert("add_generation_prompt".to_owned(), json!(wants_prompt));
        let rendered = template.render(&all, self.now)?;
        match continued {
            Some(text) => cut_at_tag(&rendered, &text),
            None => Ok(rendered),
        }
    }

    /// Whether the template reads a variable of this name.
    pub fn reads(&self, variable: &str) -> bool {
        self.template(false).is_ok_and(|template| template.reads(variable))
            || self.template(true).is_ok_and(|template| template.reads(variable))
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.sources.iter().map(|source| source.name.as_str()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }

    fn origin(&self) -> String {
        self.sources.first().map_or_else(|| "the model".to_owned(), |source| source.origin.clone())
    }
}

/// A message without the fields that are null, and with its reasoning under every name.
fn as_transformers_gives_it(message: &Value) -> Value {
    let Value::Object(fields) = message else { return message.clone() };
    let there = fields.iter().filter(|(_, value)| !value.is_null());
    let mut fields: Map<String, Value> =
        there.map(|(name, value)| (name.clone(), value.clone())).collect();
    if let Some(reasoning) = REASONING.iter().find_map(|name| fields.get(*name)).cloned() {
        // The order of the fields is that of Transformers' dictionary.
        let mut aliased = Map::new();
        aliased.insert("thinking".to_owned(), reasoning.clone());
        aliased.extend(fields);
        aliased.insert(REASONING[0].to_owned(), reasoning);
        fields = aliased;
    }
    Value::Object(fields)
}

fn not_continued(problem: impl Into<String>) -> TemplateError {
    TemplateError::NotContinued { problem: problem.into() }
}

/// Puts the tag behind what is to be continued in the last message, and gives the text before it.
fn tag(messages: &mut [Value], field: &str, source: &str) -> Result<String, TemplateError> {
    let fields = messages.last_mut().and_then(Value::as_object_mut);
    let Some(fields) = fields.filter(|fields| fields.contains_key(field)) else {
        return Err(not_continued(format!("the last message has no `{field}` to continue")));
    };
    let text = fields[field].clone();
    let mut names = vec![field];
    if REASONING.contains(&field) {
        names = REASONING.into_iter().filter(|name| fields.get(*name) == Some(&text)).collect();
    }
    if !names.iter().any(|name| source.contains(name)) {
        return Err(not_continued(format!("the template does not read `{field}`")));
    }
    match text {
        Value::String(text) => {
            for name in names {
                fields.insert(name.to_owned(), Value::String(format!("{text}{CONTINUE_TAG}")));
            }
            Ok(text)
        }
        Value::Array(_) => {
            let parts = fields.get_mut(field).and_then(Value::as_array_mut);
            let mut texts =
                parts.into_iter().flatten().rev().filter_map(|part| part.get_mut("text"));
            match texts.next() {
                Some(Value::String(text)) => {
                    let before = text.clone();
                    text.push_str(CONTINUE_TAG);
                    Ok(before)
                }
                _ => Err(not_continued("the last message has no text to continue")),
            }
        }
        _ => Err(not_continued(format!("`{field}` of the last message is no text"))),
    }
}

/// Cuts the rendered text where the tag stands; where the template trimmed what it was behind, without
/// the white space before it.
fn cut_at_tag(rendered: &Rendered, text: &str) -> Result<Rendered, TemplateError> {
    let bare = CONTINUE_TAG.trim();
    let found = rendered.text.rfind(bare).filter(|_| rendered.text.contains(text.trim()));
    let Some(at) = found else {
        return Err(not_continued("the template does not write the last message as it is"));
    };
    let before = &rendered.text[..at];
    let kept = match rendered.text[at..].starts_with(CONTINUE_TAG) {
        true => before,
        false => before.trim_end(),
    };
    Ok(Rendered { text: kept.to_owned(), generated: Vec::new() })
}
