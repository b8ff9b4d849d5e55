//! Sessions: a random token in a cookie, its hash in the store.

use hearken_store::{Expected, Store, StoreError};
use serde_json::json;

use super::Account;
use crate::codec;

/// How long a session lasts after its last renewal: two weeks.
pub(crate) const LIFE_MS: i64 = 14 * 86_400_000;
/// A session that is used is renewed when this much of its life is over: a day.
const RENEW_MS: i64 = 86_400_000;

/// Starts a session; gives the token for the cookie, 256 random bits.
pub(crate) fn start(store: &dyn Store, account: &Account, now: i64) -> Result<String, StoreError> {
    let token = codec::random_hex::<32>();
    let key = codec::sha256_hex(token.as_bytes());
    let body = json!({"account": account.pseudonym, "expires_at": now + LIFE_MS});
    store.put_document("session", &key, &body, Expected::Nothing)?;
    Ok(token)
}

/// Who has the session of this key.
pub(crate) fn find(store: &dyn Store, key: &str, now: i64) -> Result<Option<Account>, StoreError> {
    let Some(document) = store.document("session", key)? else { return Ok(None) };
    let expires_at = document.body["expires_at"].as_i64().unwrap_or(0);
    // What has ended is removed by the sweep, later: the clock may be wrong for a moment.
    if expires_at <= now {
        return Ok(None);
    }
    let pseudonym = document.body["account"].as_str().unwrap_or_default();
    let Some(account) = super::find(store, pseudonym)? else { return Ok(None) };
    if account.erased_at.is_some() {
        return Ok(None);
    }
    if expires_at - now < LIFE_MS - RENEW_MS {
        let body = json!({"account": pseudonym, "expires_at": now + LIFE_MS});
        store.put_document("session", key, &body, Expected::Version(document.version))?;
    }
    Ok(Some(account))
}

/// Ends every session of an account.
pub(crate) fn end_all(store: &dyn Store, pseudonym: &str) -> Result<(), StoreError> {
    for document in store.documents("session")? {
        if document.body["account"].as_str() == Some(pseudonym) {
            store.delete_document("session", &document.key)?;
        }
    }
    Ok(())
}

/// How long after its end a session is still there: a clock that is wrong for a while ends none for good.
const KEPT_MS: i64 = 30 * 86_400_000;

/// Removes what has expired long ago.
pub(crate) fn sweep(store: &dyn Store, now: i64) -> Result<(), StoreError> {
    for kind in ["session", "invitation", "reset"] {
        for document in store.documents(kind)? {
            if document.body["expires_at"].as_i64().unwrap_or(0) + KEPT_MS <= now {
                store.delete_document(kind, &document.key)?;
            }
        }
    }
    Ok(())
}
