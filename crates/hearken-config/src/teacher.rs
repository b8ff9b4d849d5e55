//! `[teacher]`: the model whose distributions a student follows.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer};

use super::error::Complaint;
use super::number::{AtLeastOne, Seconds};
use super::rollout::is_address;
use super::secret::{text, variable};

/// `[teacher]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TeacherSection {
    /// A folder with a model that has the student's tokenizer and vocabulary.
    pub path: Option<PathBuf>,
    /// The address of a `hearken serve` that has it instead.
    #[serde(default, deserialize_with = "address")]
    pub server: Option<String>,
    /// The name that the server calls it by; without it the server's first model.
    pub model: Option<String>,
    /// The environment variable that has the server's key.
    #[serde(default, deserialize_with = "variable")]
    pub key_env: Option<String>,
    /// Of how many of the likeliest tokens a server says the log-probabilities; the others count as one.
    pub top_k: AtLeastOne,
    /// Seconds for an answer of the server.
    pub timeout_s: Seconds,
}

/// Where a teacher is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TeacherPlace<'a> {
    /// In this process, read from a folder.
    Here(&'a Path),
    /// Behind this address.
    Served(&'a str),
}

impl TeacherSection {
    /// Where the teacher is.
    ///
    /// # Errors
    /// If that is not said, or twice; or something is said of a server that there is not.
    pub fn place(&self) -> Result<TeacherPlace<'_>, Complaint> {
        match (&self.path, &self.server) {
            (Some(_), Some(_)) => {
                let reason =
                    "a teacher is in this process or behind a server; remove one of the two";
                Err(Complaint::exclusive("teacher.path", "teacher.server", reason))
            }
            (None, None) => {
                let expected = "a folder with a model, or `teacher.server`, the address of a `hearken serve` that \
                                has it";
                Err(Complaint::missing("teacher.path", expected))
            }
            (None, Some(server)) => Ok(TeacherPlace::Served(server)),
            (Some(path), None) => {
                let of_server =
                    [("model", self.model.is_some()), ("key_env", self.key_env.is_some())];
                match of_server.into_iter().find(|(_, is_given)| *is_given) {
                    None => Ok(TeacherPlace::Here(path)),
                    Some((key, _)) => {
                        let (key, reason) = (
                            format!("teacher.{key}"),
                            "it is of a server, and the teacher is in this process",
                        );
                        Err(Complaint::exclusive("teacher.path", &key, reason))
                    }
                }
            }
        }
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let found = String::deserialize(deserializer)?;
    if is_address(&found) {
        return Ok(Some(found));
    }
    let expected = &"an address as \"http://127.0.0.1:8000\"";
    Err(D::Error::invalid_value(Unexpected::Other(&text(&found)), expected))
}
