//! Webhooks: other services hear of judgements.
//!
//! The store's own order of judgements is the queue: each webhook has a place up to which it was told,
//! so what was stored is delivered even if the service dies in between. What is to be sent is a
//! document until the receiver has taken it; at least once, therefore, and rarely twice.

mod courier;

use hearken_store::{Document, Expected, Store};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::Sha256;

pub(crate) use courier::start;

use crate::codec;
use crate::error::AppError;

/// What a webhook can be told.
pub(crate) const EVENTS: [&str; 2] = ["judgement.created", "item.completed"];

/// An address that is told about judgements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Webhook {
    /// Its name; the key of the document.
    #[serde(skip)]
    pub(crate) id: String,
    /// Where to send to.
    pub(crate) url: String,
    /// What to send.
    pub(crate) events: Vec<String>,
    /// The key of the signatures.
    pub(crate) secret: String,
    /// When it was made: milliseconds since 1970 in UTC.
    pub(crate) created_at: i64,
}

impl Webhook {
    fn of(document: Document) -> Option<Self> {
        let mut webhook: Webhook = serde_json::from_value(document.body).ok()?;
        webhook.id = document.key;
        Some(webhook)
    }
}

/// Something that is to be sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Delivery {
    /// To which webhook.
    pub(crate) webhook: String,
    /// What happened.
    pub(crate) event: String,
    /// The body.
    pub(crate) payload: String,
    /// Times it was tried.
    pub(crate) attempts: u32,
    /// When it is tried next.
    pub(crate) next_at: i64,
    /// Whether it was given up.
    pub(crate) given_up: bool,
    /// What went wrong the last time.
    pub(crate) problem: String,
}

/// Every webhook.
pub(crate) fn all(store: &dyn Store) -> Result<Vec<Webhook>, AppError> {
    Ok(store.documents("webhook")?.into_iter().filter_map(Webhook::of).collect())
}

/// Makes a webhook that hears of what is stored from here on. May block.
pub(crate) fn create(
    store: &dyn Store,
    url: &str,
    events: Vec<String>,
    now: i64,
) -> Result<Webhook, AppError> {
    check_url(url).map_err(AppError::Unprocessable)?;
    if events.is_empty() || events.iter().any(|event| !EVENTS.contains(&event.as_str())) {
        let known = EVENTS.join(", ");
        return Err(AppError::Unprocessable(format!("a webhook has one or more of: {known}")));
    }
    let id = format!("w-{}", codec::random_hex::<6>());
    let secret = codec::random_hex::<32>();
    let webhook = Webhook { id, url: url.to_owned(), events, secret, created_at: now };
    let cursor = json!({"place": newest_place(store)?});
    store.put_document("webhook-place", &webhook.id, &cursor, Expected::Nothing)?;
    store.put_document("webhook", &webhook.id, &json!(webhook), Expected::Nothing)?;
    Ok(webhook)
}

/// Removes a webhook and what was still to be sent to it. May block.
pub(crate) fn remove(store: &dyn Store, id: &str) -> Result<bool, AppError> {
    let removed = store.delete_document("webhook", id)?;
    store.delete_document("webhook-place", id)?;
    for document in store.documents("delivery")? {
        if document.body["webhook"].as_str() == Some(id) {
            store.delete_document("delivery", &document.key)?;
        }
    }
    Ok(removed)
}

fn check_url(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let plain = url.len() <= 2000 && !url.chars().any(|c| c.is_whitespace() || c.is_control());
    let parses = url.parse::<axum::http::Uri>().is_ok_and(|uri| uri.host().is_some());
    if plain && parses && rest.is_some_and(|rest| !rest.is_empty()) {
        return Ok(());
    }
    Err(format!("the address of a webhook starts with https:// or http://, found {url:?}"))
}

/// The place of the newest judgement, found by halving: the store answers what comes after a place.
fn newest_place(store: &dyn Store) -> Result<u64, AppError> {
    let any_after =
        |place: u64| -> Result<bool, AppError> { Ok(!store.judgements(place, 1)?.is_empty()) };
    let mut above = 1;
    while any_after(above - 1)? {
        above *= 2;
    }
    let mut below = above / 2;
    // Something lies after every place under `below`, nothing after `above - 1`.
    while below < above {
        let middle = below + (above - below) / 2;
        if any_after(middle)? { below = middle + 1 } else { above = middle }
    }
    Ok(below)
}

/// The signature of a delivery: HMAC-SHA256 over time, a dot, and the body, in hexadecimal.
pub(crate) fn signature(secret: &str, sent_at_s: i64, body: &str) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(sent_at_s.to_string().as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    codec::hex(&mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with `openssl dgst -sha256 -hmac key` over `1700000000.{"a":1}`.
    #[test]
    fn signatures_are_hmac_sha256() {
        let expected = "a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03";
        assert_eq!(signature("key", 1_700_000_000, r#"{"a":1}"#), expected);
    }

    #[test]
    fn addresses_are_those_of_the_web() {
        assert_eq!(check_url("https://example.org/hook?x=1"), Ok(()));
        for bad in ["ftp://example.org", "https://", "javascript:alert(1)", "https://a b"] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }
}
