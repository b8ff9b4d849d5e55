//! A running `hearken serve`, as its administrator sees it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use hearken_recipes::closed_loop::{Deploy, ServeConfig};
use serde_json::{Value, json};
use ureq::Agent;

use crate::api_key;

/// The longest time for a swap: weights are read, and requests under way end with those before them.
const DEADLINE: Duration = Duration::from_secs(600);

/// Whoever takes other weights while it serves.
pub(crate) struct Server {
    client: Agent,
    url: String,
    key: Option<String>,
    model: Option<String>,
}

impl Server {
    /// Reads the key; nothing is sent.
    pub(crate) fn open(config: &ServeConfig) -> Result<Self> {
        let ServeConfig { url, key_env, model } = config;
        let is_http = url.starts_with("http://") || url.starts_with("https://");
        if !is_http || url.parse::<ureq::http::Uri>().is_err() {
            bail!("`serve.url`: found {url:?}, expected a URL as http://127.0.0.1:8000");
        }
        let key = key_env.as_deref().map(api_key::secret).transpose()?;
        let config = Agent::config_builder().http_status_as_error(false);
        let client = config.timeout_global(Some(DEADLINE)).build().new_agent();
        let url = format!("{}/admin/weights", url.trim_end_matches('/'));
        Ok(Self { client, url, key, model: model.clone() })
    }
}

impl Deploy for Server {
    fn swap(&mut self, folder: &Path) -> Result<String, String> {
        let url = &self.url;
        let mut body = json!({ "path": folder });
        if let Some(model) = &self.model {
            body["model"] = json!(model);
        }
        let mut request = self.client.post(url);
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let mut response = request.send_json(&body).map_err(|error| format!("{url}: {error}"))?;
        let status = response.status();
        let said = response.body_mut().read_to_string().unwrap_or_default();
        let said: Value = serde_json::from_str(&said).unwrap_or(Value::String(said));
        if status.is_success() {
            let version = said["version"].as_str();
            return version.map(str::to_owned).ok_or_else(|| {
                format!("{url}: found no `version` in the answer, expected that of the weights")
            });
        }
        let why = said["error"]["message"].as_str().or(said.as_str()).unwrap_or_default();
        Err(format!("{url}: status {}: {}", status.as_u16(), why.trim()))
    }
}
