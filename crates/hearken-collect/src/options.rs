//! What the service is started with.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::http::HeaderValue;

use hearken_http::host::{host_of, is_loopback};

use crate::openid::OpenId;

/// Which files are images and clips of items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Media {
    /// Every one below this folder.
    Folder(PathBuf),
    /// Those below this folder that an item or the guidelines name: the folder was not made for them.
    Named(PathBuf),
}

/// What the service is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on.
    pub bind: SocketAddr,
    /// How people reach it, e.g. `https://label.example.org`, where that is not the address.
    pub public_url: Option<String>,
    /// Where the project is on a service with several: empty, or `/p/NAME`.
    pub base: String,
    /// Who signs people in beside their passwords.
    pub openid: Option<OpenId>,
    /// The title of a project that has no settings yet.
    pub title: Option<String>,
    /// Where images and clips of items lie.
    pub media: Option<Media>,
    /// Bytes of an uploaded file or of an API request.
    pub upload_bytes: usize,
    /// Requests per second of one account, on average.
    pub account_per_s: f64,
    /// Requests per second of one API token, on average.
    pub token_per_s: f64,
    /// Whether webhooks are delivered.
    pub webhooks: bool,
    /// Bytes of an uploaded file once it is decompressed.
    pub unpacked_bytes: u64,
    /// Connections of one address (of IPv6, of one /64).
    pub connections_per_address: usize,
    /// Live prompts that are answered at the same time, in all; each takes two threads.
    pub live_at_once: usize,
    /// Live prompts of one person in a day, on average; at least 1.
    pub live_per_day: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: None,
            base: String::new(),
            openid: None,
            title: None,
            media: None,
            upload_bytes: 256 << 20,
            account_per_s: 50.0,
            token_per_s: 1_000.0,
            webhooks: true,
            unpacked_bytes: 512 << 20,
            connections_per_address: 512,
            live_at_once: 32,
            live_per_day: 300,
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

    /// The address of the project as links name it: that of the [service](Self::url_for), and where the project is there.
    pub fn project_url_for(&self, host: Option<&HeaderValue>) -> String {
        self.url_for(host) + &self.base
    }

    /// The address of the service as links name it: the one that was told, else the one under which somebody has just
    /// reached it, by the header `Host`, else the one it listens on.
    pub fn url_for(&self, host: Option<&HeaderValue>) -> String {
        if let Some(url) = &self.public_url {
            return url.trim_end_matches('/').to_owned();
        }
        let plain = |host: &&str| {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
        };
        match host.and_then(|host| host.to_str().ok()).filter(plain) {
            Some(host) => format!("http://{host}"),
            None => format!("http://{}", self.bind),
        }
    }
}
