//! A running `hearken serve`, as its administrator sees it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use hearken_recipes::closed_loop::{CanaryReport, Deploy, ServeConfig};
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
        let ServeConfig { url, key_env, model, canary: _ } = config;
        let is_http = url.starts_with("http://") || url.starts_with("https://");
        if !is_http || url.parse::<ureq::http::Uri>().is_err() {
            bail!("`serve.url`: found {url:?}, expected a URL as http://127.0.0.1:8000");
        }
        let key = key_env.as_deref().map(api_key::secret).transpose()?;
        let config = Agent::config_builder().http_status_as_error(false);
        let client = config.timeout_global(Some(DEADLINE)).build().new_agent();
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { client, url, key, model: model.clone() })
    }
}

impl Server {
    /// What the server answers to a request to `/admin/…`.
    fn ask(&self, path: &str, body: Option<&Value>) -> Result<(u16, Value), String> {
        let url = format!("{}/admin/{path}", self.url);
        let key = self.key.as_ref().map(|key| ("Authorization", format!("Bearer {key}")));
        let said = if let Some(body) = body {
            let mut request = self.client.post(&url);
            if let Some((name, key)) = &key {
                request = request.header(*name, key);
            }
            request.send_json(body)
        } else {
            let mut request = self.client.get(&url);
            if let Some((name, key)) = &key {
                request = request.header(*name, key);
            }
            if let Some(model) = &self.model {
                request = request.query("model", model);
            }
            request.call()
        };
        let mut response = said.map_err(|error| format!("{url}: {error}"))?;
        let status = response.status().as_u16();
        let said = response.body_mut().read_to_string().unwrap_or_default();
        Ok((status, serde_json::from_str(&said).unwrap_or(Value::String(said))))
    }

    /// The same of what has to be there.
    fn expect(&self, path: &str, body: Option<&Value>) -> Result<Value, String> {
        match self.ask(path, body)? {
            (200..=299, said) => Ok(said),
            (status, said) => {
                let why = said["error"]["message"].as_str().or(said.as_str()).unwrap_or_default();
                Err(format!("{}/admin/{path}: status {status}: {}", self.url, why.trim()))
            }
        }
    }

    fn version(&self, path: &str, mut body: Value) -> Result<String, String> {
        if let Some(model) = &self.model {
            body["model"] = json!(model);
        }
        let said = self.expect(path, Some(&body))?;
        let version = said["version"].as_str().map(str::to_owned);
        version.ok_or_else(|| {
            let url = &self.url;
            format!("{url}/admin/{path}: found no `version` in the answer, expected the weights'")
        })
    }
}

impl Deploy for Server {
    fn swap(&mut self, folder: &Path) -> Result<String, String> {
        self.version("weights", json!({ "path": folder }))
    }

    fn try_out(&mut self, folder: &Path, share: f64) -> Result<String, String> {
        self.version("candidate", json!({ "path": folder, "share": share }))
    }

    fn tried(&mut self) -> Result<Option<CanaryReport>, String> {
        if let (404, _) = self.ask("candidate", None)? {
            return Ok(None);
        }
        let said = self.expect("candidate", None)?;
        let report = serde_json::from_value(said);
        report.map(Some).map_err(|error| format!("{}/admin/candidate: {error}", self.url))
    }
}
