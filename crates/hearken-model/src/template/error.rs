//! What can be wrong with a template, as facts.

use std::fmt;

use minijinja::ErrorKind;

/// Why a template cannot be compiled, or makes nothing of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is no Jinja template.
    #[error("{}: {problem}", place(origin, *line))]
    Syntax {
        /// Where the template stands.
        origin: String,
        /// The line of the template, from 1.
        line: Option<usize>,
        /// What was found there.
        problem: String,
    },
    /// The template calls `raise_exception`.
    #[error("{}: the template refuses the conversation: {message}", place(origin, *line))]
    Refused {
        /// Where the template stands.
        origin: String,
        /// The line of the template, from 1.
        line: Option<usize>,
        /// What the template says.
        message: String,
    },
    /// The template does something that cannot be done with these variables.
    #[error("{}: {problem}", place(origin, *line))]
    Failed {
        /// Where the template stands.
        origin: String,
        /// The line of the template, from 1.
        line: Option<usize>,
        /// What went wrong.
        problem: String,
    },
    /// The template does not come to an end, or makes too much.
    #[error("{}: the template takes too many steps or too much memory", place(origin, *line))]
    Endless {
        /// Where the template stands.
        origin: String,
        /// The line of the template, from 1.
        line: Option<usize>,
    },
    /// What the template makes of the first messages is not the beginning of what it makes of all.
    #[error(
        "{origin}: the template writes the first {messages} messages otherwise where more follow: alone \
         they have {alone:?} at token {token}, in the whole conversation it is {whole:?}; so there is no \
         telling what the assistant writes, unless the template marks it with {{% generation %}}"
    )]
    Unstable {
        /// Where the template stands.
        origin: String,
        /// How many messages there are before the place.
        messages: usize,
        /// The first token that differs, from 0.
        token: usize,
        /// The text from there, of the first messages alone.
        alone: String,
        /// The text from there, of the whole conversation.
        whole: String,
    },
    /// There are several templates and none of them is the default.
    #[error(
        "{origin}: found the templates {names} and none called default; choose one by its name"
    )]
    NoDefault {
        /// Where the templates stand.
        origin: String,
        /// Their names.
        names: String,
    },
    /// No template has the name that is asked for.
    #[error("{origin}: found no chat template {name:?}; there are {names}")]
    UnknownName {
        /// Where the templates stand.
        origin: String,
        /// The name.
        name: String,
        /// Those that there are.
        names: String,
    },
    /// The file of a template cannot be read.
    #[error("{path}: cannot read the template: {problem}")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's answer.
        problem: String,
    },
    /// There is nothing to render.
    #[error("found no message, expected at least one")]
    NoMessages,
    /// The last message cannot be continued.
    #[error("continue_final_message: {problem}")]
    NotContinued {
        /// Why.
        problem: String,
    },
    /// The built-in format cannot write calls of tools.
    #[error(
        "message {message} calls tools, for which the built-in chat format has no text; choose a chat \
         template that has"
    )]
    NoCalls {
        /// The message, from 0.
        message: usize,
    },
}

fn place(origin: &str, line: Option<usize>) -> String {
    line.map_or_else(|| origin.to_owned(), |line| format!("{origin}:{line}"))
}

/// Marks an error of `raise_exception`.
#[derive(Debug)]
pub(super) struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("raise_exception")
    }
}

impl std::error::Error for Refused {}

impl TemplateError {
    pub(super) fn compiling(origin: &str, error: &minijinja::Error) -> Self {
        Self::Syntax { origin: origin.to_owned(), line: error.line(), problem: said(error) }
    }

    pub(super) fn rendering(origin: &str, error: &minijinja::Error) -> Self {
        // Errors inside blocks and macros have the first one as their source.
        let mut innermost = error;
        let mut cause = std::error::Error::source(error);
        while let Some(source) = cause {
            if source.is::<Refused>() {
                let message = innermost.detail().unwrap_or_default().to_owned();
                return Self::Refused {
                    origin: origin.to_owned(),
                    line: innermost.line(),
                    message,
                };
            }
            if let Some(inner) = source.downcast_ref::<minijinja::Error>() {
                innermost = inner;
            }
            cause = source.source();
        }
        let (origin, line) = (origin.to_owned(), innermost.line());
        match innermost.kind() {
            ErrorKind::OutOfFuel => Self::Endless { origin, line },
            _ => Self::Failed { origin, line, problem: said(innermost) },
        }
    }
}

/// What went wrong, without the place.
fn said(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}
