//! What the service is started with.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::host::{host_of, is_loopback};

/// What the service is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on.
    pub bind: SocketAddr,
    /// How people reach it, e.g. `https://label.example.org`, where that is not the address.
    pub public_url: Option<String>,
    /// The title of a project that has no settings yet.
    pub title: Option<String>,
    /// The folder below which images and clips of items lie.
    pub media: Option<PathBuf>,
    /// Bytes of an uploaded file or of an API request.
    pub upload_bytes: usize,
    /// Requests per second of one account, on average.
    pub account_per_s: f64,
    /// Requests per second of one API token, on average.
    pub token_per_s: f64,
    /// Whether webhooks are delivered.
    pub webhooks: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: None,
            title: None,
            media: None,
            upload_bytes: 256 << 20,
            account_per_s: 50.0,
            token_per_s: 1_000.0,
            webhooks: true,
        }
    }
}

impl Options {
    /// Whether people reach it through a proxy that speaks TLS.
    pub fn is_behind_tls(&self) -> bool {
        self.public_url.as_deref().is_some_and(|url| url.starts_with("https://"))
    }

    /// The address at which people on other machines reach it, if they do: directly, or through a proxy.
    pub(crate) fn reached_by_others(&self) -> Option<String> {
        if !self.bind.ip().is_loopback() {
            return Some(self.bind.to_string());
        }
        let url = self.public_url.as_ref()?;
        (!is_loopback(host_of(url))).then(|| url.clone())
    }

    /// The address of the service as links name it.
    pub fn url(&self) -> String {
        match &self.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{}", self.bind),
        }
    }
}
