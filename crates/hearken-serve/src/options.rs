//! What the service is started with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hearken_data::redaction::{PersonalData, Redaction};
use hearken_generate::EngineOptions;

use crate::keys::ApiKeys;

/// Tokens of a completion for which it has room from the start: most are much shorter than they may be,
/// and one that needs more gives way or lets another give way.
const RESERVED_TOKENS: usize = 64;

/// Whose completions are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Everybody's who does not say `"store": false`: whoever runs the service has asked them.
    All,
    /// Theirs who say `"store": true`.
    Each,
}

/// Where completions are written down, with what users say of them.
#[derive(Clone, Debug)]
pub struct Log {
    /// The file, of JSON lines.
    pub path: PathBuf,
    /// The bytes after which it is put aside under a number and begun anew.
    pub bytes_max: u64,
    /// Whose completions.
    pub consent: Consent,
    /// The days after which a line is removed; without it lines stay.
    pub days_max: Option<f64>,
    /// What is taken out of texts before they are written.
    pub redaction: Redaction,
}

impl Log {
    /// A file of up to 256 MiB before it is put aside, of everybody's completions, without personal data that have a form, and
    /// without an end.
    pub fn at(path: PathBuf) -> Self {
        Self {
            path,
            bytes_max: 256 << 20,
            consent: Consent::All,
            days_max: None,
            redaction: Redaction::of(PersonalData::ALL),
        }
    }
}

/// What the service is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on.
    pub bind: SocketAddr,
    /// Keys of those who may ask; without any, everybody may.
    pub keys: ApiKeys,
    /// Keys of those who may change weights; without any, nobody may.
    pub admin_keys: ApiKeys,
    /// Whether others may reach the service without a key.
    pub open: bool,
    /// The most completions that are asked for at the same time, running or waiting.
    pub completions_max: usize,
    /// The most bytes of a request's body.
    pub body_bytes: usize,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long answers that are under way at the end may take.
    pub grace: Duration,
    /// Where completions are written down.
    pub log: Option<Log>,
    /// Memory and work of each engine.
    pub engine: EngineOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 8000)),
            keys: ApiKeys::default(),
            admin_keys: ApiKeys::default(),
            open: false,
            completions_max: 256,
            body_bytes: 8 << 20,
            timeout: Duration::from_secs(600),
            grace: Duration::from_secs(30),
            log: None,
            engine: EngineOptions { reserved_tokens: RESERVED_TOKENS, ..EngineOptions::default() },
        }
    }
}
