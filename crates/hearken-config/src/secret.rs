//! What looks like the key of an API, which is never shown.

use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer};

/// What the keys of well-known services begin with.
const PREFIXES: [&str; 14] = [
    "sk-",
    "sk_",
    "hf_",
    "ghp_",
    "gho_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xai-",
    "gsk_",
    "AKIA",
    "AIza",
    "Bearer ",
];

/// The fewest characters of a key, its prefix not counted.
const KEY_CHARS_MIN: usize = 12;

/// Names of keys that hold a secret in the configurations of other tools.
const NAMES: [&str; 7] =
    ["api_key", "apikey", "token", "secret", "password", "access_token", "hf_token"];

/// Whether some word of a text looks like the key of an API, or it is an address with a password.
pub(super) fn looks_secret(text: &str) -> bool {
    has_password(text) || has_key(text)
}

/// `SCHEME://USER:PASSWORD@HOST/…`, or `…?password=PASSWORD`.
fn has_password(text: &str) -> bool {
    let Some((_, address)) = text.split_once("://") else { return false };
    let (host, rest) = address.split_once(['/', '?']).unwrap_or((address, ""));
    let user = host.rsplit_once('@').map_or("", |(user, _)| user);
    let password = |(_, password): (&str, &str)| !password.is_empty();
    user.split_once(':').is_some_and(password) || rest.split_once("password=").is_some_and(password)
}

fn has_key(text: &str) -> bool {
    PREFIXES.iter().any(|prefix| {
        text.match_indices(prefix).any(|(at, _)| {
            let begins = text[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric());
            let rest = &text[at + prefix.len()..];
            let is_part = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
            let key: Vec<char> = rest.chars().take_while(is_part).collect();
            begins && KEY_CHARS_MIN <= key.len() && key.iter().any(char::is_ascii_digit)
        })
    })
}

/// Whether a text can be the name of an environment variable and not the secret itself: names are
/// words, and a secret mixes letters of both cases with digits.
pub(super) fn names_variable(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = text.starts_with(|c: char| is_part(c) && !c.is_ascii_digit());
    let has = |of: fn(&char) -> bool| text.chars().any(|c| of(&c));
    let mixes = has(char::is_ascii_lowercase) && has(char::is_ascii_digit);
    let is_long = KEY_CHARS_MIN <= text.len();
    let begins_as_key = PREFIXES.iter().any(|prefix| text.starts_with(prefix));
    let is_key = looks_secret(text) || is_long && (mixes || begins_as_key);
    starts && text.chars().all(is_part) && !is_key
}

/// Whether a key of this name holds a secret.
pub(super) fn names_secret(key: &str) -> bool {
    NAMES.contains(&key.to_ascii_lowercase().as_str())
}

/// A text as errors show it.
pub(super) fn text(text: &str) -> String {
    if has_password(text) {
        "an address with a password (not shown)".to_owned()
    } else if looks_secret(text) {
        "a text that looks like the key of an API (not shown)".to_owned()
    } else {
        format!("the text {text:?}")
    }
}

/// The name of a variable; a key that was pasted instead is not shown.
pub(super) fn variable<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let name = String::deserialize(deserializer)?;
    if names_variable(&name) {
        return Ok(Some(name));
    }
    let found = "a text that is no name of a variable (not shown: it may be a key)";
    let expected = "the name of the environment variable that has the key, as \"OPENAI_API_KEY\"";
    Err(D::Error::invalid_value(Unexpected::Other(found), &expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_from_words() {
        for key in ["sk-proj-0a1b2c3d4e5f", "hf_AbCdEf0123456789", "x sk-abcdefgh12345678"] {
            assert!(looks_secret(key), "{key}");
            assert!(!text(key).contains(&key[4..]), "{key}");
        }
        for word in ["sk-learn", "task-0a1b2c3d4e5f6", "OPENAI_API_KEY", "models/hf_model", "sk-"] {
            assert!(!looks_secret(word), "{word}");
        }
    }

    #[test]
    fn addresses_with_a_password_are_never_shown() {
        for address in [
            "postgres://ada:s3cret@db.example:5433/labels",
            "postgres://ada@db.example/labels?password=s3cret",
            "https://ada:s3cret@judge.example",
        ] {
            assert!(looks_secret(address) && !text(address).contains("s3cret"), "{address}");
        }
        for address in
            ["postgres://ada@db.example:5433/labels", "http://127.0.0.1:8000/v1", "a:b@c"]
        {
            assert!(!looks_secret(address), "{address}");
        }
    }

    #[test]
    fn names_of_variables_are_told_from_keys() {
        for name in ["OPENAI_API_KEY", "HEARKEN_KEY_2", "my_key", "_K"] {
            assert!(names_variable(name), "{name}");
        }
        for key in [
            "sk-0123456789abcdef",
            "sk_live_abcdefghijkl",
            "0f1e2d3c4b5a69788796a5b4",
            "abCD0123efGH4567",
            "",
            "a b",
        ] {
            assert!(!names_variable(key), "{key}");
        }
    }
}
