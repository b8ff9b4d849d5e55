//! Where the hub and its cache are: what the variables of the environment say.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::HubError;

const ENDPOINT: &str = "https://huggingface.co";

/// Where the hub is, and what is known of whoever asks.
#[derive(Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// The address, without a slash at its end.
    pub endpoint: String,
    /// The folder with one folder for each model and data set.
    pub cache: PathBuf,
    /// What the hub knows somebody by.
    pub token: Option<String>,
    /// Whether the hub is not asked.
    pub offline: bool,
    /// The pause before a request is repeated for the first time.
    pub first_pause: Duration,
}

impl std::fmt::Debug for HubSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "(secret)");
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &token)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

impl HubSettings {
    /// Reads what `variable` gives by name: `HF_ENDPOINT`, `HF_HUB_CACHE` (or `HUGGINGFACE_HUB_CACHE`), else `hub` in
    /// `HF_HOME`, else in `huggingface` in `XDG_CACHE_HOME` or `~/.cache`; `HF_TOKEN`, or the file that `HF_TOKEN_PATH`
    /// names, or `token` in `HF_HOME`; and `HF_HUB_OFFLINE`, which `1`, `on`, `yes` and `true` switch on.
    ///
    /// # Errors
    /// If an address is none, a token is no word, or there is no home to have a cache in.
    pub fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        let given = |name: &str| variable(name).filter(|text| !text.trim().is_empty());
        let user = given("HOME").or_else(|| given("USERPROFILE")).map(PathBuf::from);
        let path = |text: String| match (text.strip_prefix("~/"), &user) {
            (Some(rest), Some(user)) => user.join(rest),
            _ => PathBuf::from(text),
        };
        let home = given("HF_HOME").map(path).or_else(|| {
            let caches = given("XDG_CACHE_HOME").map(path);
            caches
                .or_else(|| Some(user.as_ref()?.join(".cache")))
                .map(|dir| dir.join("huggingface"))
        });
        let cache = given("HF_HUB_CACHE").or_else(|| given("HUGGINGFACE_HUB_CACHE")).map(path);
        let cache = cache.or_else(|| Some(home.as_ref()?.join("hub")));
        let cache = cache.ok_or_else(|| HubError::Setting {
            name: "HF_HOME".to_owned(),
            found: String::new(),
            expected: "the folder of the hub's cache, since HOME names none",
        })?;
        let endpoint = given("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = endpoint.trim().trim_end_matches('/').to_owned();
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            return Err(HubError::Setting {
                name: "HF_ENDPOINT".to_owned(),
                found: endpoint,
                expected: "an address that begins with https:// or http://",
            });
        }
        let file = given("HF_TOKEN_PATH").map(path).or_else(|| Some(home?.join("token")));
        let token = match given("HF_TOKEN").or_else(|| given("HUGGING_FACE_HUB_TOKEN")) {
            Some(token) => Some(("HF_TOKEN".to_owned(), token)),
            None => file.as_deref().map(token_in).transpose()?.flatten(),
        };
        let token = token.map(|(name, token)| word(name, token.trim())).transpose()?;
        let offline = given("HF_HUB_OFFLINE").or_else(|| given("TRANSFORMERS_OFFLINE"));
        let offline = offline.is_some_and(|text| {
            ["1", "ON", "YES", "TRUE"].contains(&text.trim().to_ascii_uppercase().as_str())
        });
        Ok(Self { endpoint, cache, token, offline, first_pause: Duration::from_secs(1) })
    }
}

/// A token with the name of the file that it is in.
fn token_in(path: &Path) -> Result<Option<(String, String)>, HubError> {
    match fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => Ok(Some((path.display().to_string(), text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(HubError::io(path, "read the token")(error)),
    }
}

/// A token that a header can have. What it is stays unsaid.
fn word(name: String, token: &str) -> Result<String, HubError> {
    if token.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(token.to_owned());
    }
    let (found, expected) = ("(more than a word)".to_owned(), "one word, as hf_…");
    Err(HubError::Setting { name, found, expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<HubSettings, HubError> {
        HubSettings::read(&|name| {
            let found = variables.iter().find(|(given, _)| *given == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_cache_is_where_the_variables_say() {
        let cache = |variables: &[(&str, &str)]| read(variables).unwrap().cache;
        assert_eq!(cache(&[("HOME", "/u")]), Path::new("/u/.cache/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        let home = [("HOME", "/u"), ("HF_HOME", "~/hf")];
        assert_eq!(cache(&home), Path::new("/u/hf/hub"));
        assert_eq!(cache(&[("HUGGINGFACE_HUB_CACHE", "/c"), ("HF_HOME", "/h")]), Path::new("/c"));
        assert!(read(&[]).unwrap_err().to_string().contains("HF_HOME"));
    }

    #[test]
    fn a_token_comes_from_its_variable_or_its_file_and_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        let home = folder.path().to_str().unwrap();
        let of_file = read(&[("HF_HOME", home)]).unwrap();
        assert_eq!(of_file.token.as_deref(), Some("hf_file"));
        let both = read(&[("HF_HOME", home), ("HF_TOKEN", "hf_given")]).unwrap();
        assert_eq!(both.token.as_deref(), Some("hf_given"));
        assert!(!format!("{both:?}").contains("hf_given"));
        let error = read(&[("HF_HOME", home), ("HF_TOKEN", "hf a")]).unwrap_err().to_string();
        assert!(error.starts_with("HF_TOKEN:") && !error.contains("hf a"), "{error}");
    }

    #[test]
    fn offline_is_what_python_takes_for_true() {
        let offline = |text| read(&[("HF_HOME", "/h"), ("HF_HUB_OFFLINE", text)]).unwrap().offline;
        assert!(["1", "on", "Yes", "TRUE"].into_iter().all(offline));
        assert!(!["0", "off", "", "2"].into_iter().any(offline));
    }

    #[test]
    fn an_address_is_one() {
        let of = |text| read(&[("HF_HOME", "/h"), ("HF_ENDPOINT", text)]);
        assert_eq!(of("http://127.0.0.1:1/").unwrap().endpoint, "http://127.0.0.1:1");
        assert!(of("hub.example").unwrap_err().to_string().starts_with("HF_ENDPOINT"));
    }
}
