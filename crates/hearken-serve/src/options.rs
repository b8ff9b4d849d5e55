//! What the service is started with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hearken_generate::EngineOptions;

use crate::keys::ApiKeys;

/// Tokens of a completion for which it has room from the start: most are much shorter than they may be,
/// and one that needs more gives way or lets another give way.
const RESERVED_TOKENS: usize = 64;

/// Where completions are written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The file, of JSON lines.
    pub path: PathBuf,
    /// The bytes after which it is put aside under a number and begun anew.
    pub bytes_max: u64,
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
