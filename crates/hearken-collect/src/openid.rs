//! Sign-in by the account of an organization: OpenID Connect's authorization code flow with PKCE, as a client that has a
//! secret.
//!
//! The ID token comes straight from the token endpoint over TLS (over plain HTTP on this machine only), which is what its
//! issuer is known by; its signature is not looked at (OpenID Connect Core 1.0, section 3.1.3.7, point 6). Issuer,
//! audience, end and nonce are.

use std::fmt;
use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hearken_http::host::{host_of, is_loopback};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::accounts::Role;
use crate::codec;

/// How long the provider may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer of the provider.
const ANSWER_BYTES: u64 = 1 << 20;
/// How long the addresses of the provider are believed.
const ADDRESSES_MS: i64 = 3_600_000;
/// How far clocks may differ, in seconds.
const LEEWAY_S: i64 = 60;

/// Who signs people in.
#[derive(Clone)]
pub struct OpenId {
    /// The provider, e.g. `https://accounts.example.org`.
    pub issuer: String,
    /// What the provider calls this service.
    pub client_id: String,
    /// The secret that the provider has given it.
    pub secret: String,
    /// What somebody becomes who signs in for the first time; `None`: they need an invitation.
    pub role: Option<Role>,
}

impl fmt::Debug for OpenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { issuer, client_id, role, .. } = self;
        f.debug_struct("OpenId")
            .field("issuer", issuer)
            .field("client_id", client_id)
            .field("role", role)
            .finish_non_exhaustive()
    }
}

impl OpenId {
    /// What is wrong with it, if anything.
    ///
    /// # Errors
    ///
    /// A sentence that says what was found and what was expected.
    pub fn check(&self) -> Result<(), String> {
        if !is_private(&self.issuer) {
            return Err(format!(
                "the issuer of OpenID Connect begins with https://, found {:?}",
                self.issuer
            ));
        }
        match self.client_id.trim().is_empty() || self.secret.trim().is_empty() {
            true => Err("OpenID Connect needs the name of the client and its secret".into()),
            false => Ok(()),
        }
    }

    /// What pages call the provider.
    pub(crate) fn name(&self) -> &str {
        host_of(&self.issuer)
    }
}

/// Whether nobody between can read or change what is sent there.
fn is_private(url: &str) -> bool {
    url.starts_with("https://") || (url.starts_with("http://") && is_loopback(host_of(url)))
}

/// Where the provider's endpoints are.
#[derive(Debug, Deserialize)]
struct Addresses {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
}

/// What the token endpoint answers.
#[derive(Deserialize)]
struct TokenResponse {
    id_token: String,
}

/// What belongs to one sign-in: made of a random seed that the browser keeps.
pub(crate) struct Attempt {
    /// Comes back with the code.
    pub(crate) state: String,
    nonce: String,
    verifier: String,
}

impl Attempt {
    /// The one of a seed; only this service can tell it.
    pub(crate) fn of(secret: &[u8], seed: &str) -> Self {
        let of = |what: &str| {
            let mut hash = Sha256::new();
            for part in [what.as_bytes(), secret, seed.as_bytes(), secret] {
                hash.update(part);
                hash.update(b"\n");
            }
            hearken_data::hexadecimal(&hash.finalize())
        };
        Self {
            state: of("openid state"),
            nonce: of("openid nonce"),
            verifier: of("openid verifier"),
        }
    }
}

/// Somebody whom the provider knows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Identity {
    /// The same for the same person for good; says nothing of them.
    pub(crate) key: String,
    /// A name for the account, if the provider tells one.
    pub(crate) name: String,
}

/// The provider as this service talks to it.
pub(crate) struct Provider {
    pub(crate) settings: OpenId,
    agent: ureq::Agent,
    addresses: Mutex<Option<(i64, Arc<Addresses>)>>,
}

impl Provider {
    pub(crate) fn new(settings: OpenId) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .http_status_as_error(false)
            .build();
        let agent = ureq::Agent::new_with_config(config);
        Self { settings, agent, addresses: Mutex::new(None) }
    }

    /// Where the browser goes to sign in. May block.
    ///
    /// # Errors
    ///
    /// The provider cannot be asked where that is.
    pub(crate) fn sign_in_address(
        &self,
        attempt: &Attempt,
        back: &str,
        now: i64,
    ) -> Result<String, String> {
        let addresses = self.addresses(now)?;
        let challenge = codec::base64_url(&Sha256::digest(attempt.verifier.as_bytes()));
        let join = if addresses.authorization_endpoint.contains('?') { '&' } else { '?' };
        let fields = form(&[
            ("response_type", "code"),
            ("client_id", &self.settings.client_id),
            ("redirect_uri", back),
            ("scope", "openid profile email"),
            ("state", &attempt.state),
            ("nonce", &attempt.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        Ok(format!("{}{join}{fields}", addresses.authorization_endpoint))
    }

    /// Who has signed in: what the provider gives for the code. May block.
    ///
    /// # Errors
    ///
    /// The provider cannot be asked or refuses the code; what it says is not meant for this sign-in.
    pub(crate) fn identity(
        &self,
        attempt: &Attempt,
        code: &str,
        back: &str,
        now: i64,
    ) -> Result<Identity, String> {
        let addresses = self.addresses(now)?;
        let OpenId { client_id, secret, .. } = &self.settings;
        let basic = format!("{}:{}", encoded(client_id), encoded(secret));
        let fields = form(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", back),
            ("client_id", client_id),
            ("code_verifier", &attempt.verifier),
        ]);
        let answer = self
            .agent
            .post(&addresses.token_endpoint)
            .header("authorization", format!("Basic {}", codec::base64(basic.as_bytes())))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .send(fields);
        let tokens: TokenResponse = read(answer, "the token endpoint")?;
        let claims = Claims::of(&tokens.id_token)?;
        claims.check(&self.settings, &attempt.nonce, now / 1000)?;
        Ok(claims.identity())
    }

    fn addresses(&self, now: i64) -> Result<Arc<Addresses>, String> {
        let known = || self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, addresses)) = &*known()
            && (0..ADDRESSES_MS).contains(&(now - at))
        {
            return Ok(Arc::clone(addresses));
        }
        let issuer = self.settings.issuer.trim_end_matches('/');
        let answer = self.agent.get(format!("{issuer}/.well-known/openid-configuration")).call();
        let addresses: Addresses = read(answer, "the configuration of the provider")?;
        if addresses.issuer.trim_end_matches('/') != issuer {
            return Err(format!("the provider calls itself {:?}", addresses.issuer));
        }
        let all = [&addresses.authorization_endpoint, &addresses.token_endpoint];
        if let Some(open) = all.into_iter().find(|address| !is_private(address)) {
            return Err(format!("the provider's address {open:?} is not https"));
        }
        let addresses = Arc::new(addresses);
        *known() = Some((now, Arc::clone(&addresses)));
        Ok(addresses)
    }
}

/// An answer of the provider as JSON.
fn read<T: serde::de::DeserializeOwned>(
    answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    what: &str,
) -> Result<T, String> {
    let mut answer = answer.map_err(|error| format!("{what} cannot be reached: {error}"))?;
    let status = answer.status();
    let mut text = String::new();
    let read = answer.body_mut().as_reader().take(ANSWER_BYTES).read_to_string(&mut text);
    read.map_err(|error| format!("{what} broke off: {error}"))?;
    if !status.is_success() {
        return Err(format!("{what} answered with status {}", status.as_u16()));
    }
    serde_json::from_str(&text).map_err(|error| format!("{what} cannot be read: {error}"))
}

fn encoded(text: &str) -> String {
    codec::percent(text).replace('/', "%2F")
}

fn form(fields: &[(&str, &str)]) -> String {
    let pairs = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// Whom a token is for.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn is_only(&self, client: &str) -> bool {
        match self {
            Self::One(one) => one == client,
            Self::Several(several) => {
                several.iter().all(|one| one == client) && !several.is_empty()
            }
        }
    }
}

/// What an ID token says.
#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: f64,
    #[serde(default)]
    nonce: Option<String>,
    #[serde(default)]
    preferred_username: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    email: Option<String>,
}

impl Claims {
    fn of(token: &str) -> Result<Self, String> {
        let mut parts = token.split('.');
        let (Some(_), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("the ID token has not three parts".into());
        };
        let bytes = codec::from_base64_url(payload).ok_or("the ID token is not in base64url")?;
        serde_json::from_slice(&bytes).map_err(|error| format!("the ID token: {error}"))
    }

    fn check(&self, settings: &OpenId, nonce: &str, now_s: i64) -> Result<(), String> {
        let wrong = if self.iss.trim_end_matches('/') != settings.issuer.trim_end_matches('/') {
            "is of another issuer"
        } else if !self.aud.is_only(&settings.client_id) {
            "is not for this service alone"
        } else if self.nonce.as_deref() != Some(nonce) {
            "belongs to another sign-in"
        } else if self.sub.is_empty() {
            "names nobody"
        } else if self.exp + (LEEWAY_S as f64) < now_s as f64 {
            "has expired"
        } else {
            return Ok(());
        };
        Err(format!("the ID token {wrong}"))
    }

    fn identity(self) -> Identity {
        let told = [self.preferred_username, self.email, self.name].into_iter().flatten();
        let plain = |name: String| -> String {
            let kept = name.chars().filter(|one| !one.is_control()).take(56).collect::<String>();
            kept.trim().to_owned()
        };
        let name = told.map(plain).find(|name| 2 <= name.chars().count());
        let issuer = self.iss.trim_end_matches('/');
        Identity {
            key: codec::sha256_hex(format!("{issuer}\n{}", self.sub).as_bytes()),
            name: name.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> OpenId {
        OpenId {
            issuer: "https://id.example.org/".into(),
            client_id: "hearken".into(),
            secret: "secret".into(),
            role: None,
        }
    }

    fn problem(change: &str) -> Result<(), String> {
        let mut all = serde_json::json!({
            "iss": "https://id.example.org", "sub": "7", "aud": ["hearken"], "exp": 1_000, "nonce": "n",
        });
        let change: serde_json::Value = serde_json::from_str(change).unwrap();
        for (name, value) in change.as_object().unwrap() {
            all[name] = value.clone();
        }
        let token = format!("e30.{}.x", codec::base64_url(all.to_string().as_bytes()));
        Claims::of(&token)?.check(&settings(), "n", 1_030)
    }

    #[test]
    fn a_token_that_is_not_meant_for_this_sign_in_is_refused() {
        assert_eq!(problem("{}"), Ok(()));
        for (change, says) in [
            (r#"{"iss": "https://evil.example"}"#, "another issuer"),
            (r#"{"aud": "other"}"#, "not for this service"),
            (r#"{"aud": ["hearken", "other"]}"#, "not for this service"),
            (r#"{"aud": []}"#, "not for this service"),
            (r#"{"nonce": "m"}"#, "another sign-in"),
            (r#"{"nonce": null}"#, "another sign-in"),
            (r#"{"sub": ""}"#, "names nobody"),
            (r#"{"exp": 900}"#, "expired"),
        ] {
            assert!(problem(change).unwrap_err().contains(says), "{change}");
        }
        assert!(Claims::of("a.b").unwrap_err().contains("three parts"));
        assert!(Claims::of("a.%.c").unwrap_err().contains("base64url"));
    }

    #[test]
    fn a_provider_that_others_can_listen_to_is_refused() {
        let with = |issuer: &str| OpenId { issuer: issuer.into(), ..settings() }.check();
        assert_eq!(with("https://id.example.org"), Ok(()));
        assert_eq!(with("http://127.0.0.1:9000"), Ok(()));
        assert!(with("http://id.example.org").unwrap_err().contains("https://"));
        assert!(!format!("{:?}", settings()).contains("secret\""));
    }
}
