//! Links with which somebody who has forgotten a password sets another one: good once, for a day.

use hearken_store::{Expected, Store};
use serde_json::json;

use super::Account;
use crate::codec;
use crate::error::AppError;

/// The kind of the documents.
const KIND: &str = "reset";
/// How long a link holds.
pub(crate) const LIFE_MS: i64 = 86_400_000;

/// Makes a link for an account, and takes earlier ones back; gives its secret, 256 random bits. The password that there is
/// holds until the link is used.
///
/// # Errors
///
/// There is no such account, or it was erased; the store cannot be written.
pub(crate) fn create(
    store: &dyn Store,
    pseudonym: &str,
    by: &str,
    now: i64,
) -> Result<String, AppError> {
    let account = super::find(store, pseudonym)?.filter(|account| account.erased_at.is_none());
    account.ok_or_else(super::no_account)?;
    withdraw(store, pseudonym)?;
    let secret = codec::random_hex::<32>();
    let key = codec::sha256_hex(secret.as_bytes());
    let body = json!({"account": pseudonym, "by": by, "expires_at": now + LIFE_MS});
    store.put_document(KIND, &key, &body, Expected::Nothing)?;
    Ok(secret)
}

/// Takes every link for an account back.
fn withdraw(store: &dyn Store, pseudonym: &str) -> Result<(), AppError> {
    for document in store.documents(KIND)? {
        if document.body["account"].as_str() == Some(pseudonym) {
            store.delete_document(KIND, &document.key)?;
        }
    }
    Ok(())
}

/// The account for which a link was made.
///
/// # Errors
///
/// It was used or taken back, has expired, or never was; the store cannot be read.
pub(crate) fn find(store: &dyn Store, secret: &str, now: i64) -> Result<Account, AppError> {
    let document = store.document(KIND, &codec::sha256_hex(secret.as_bytes()))?;
    let body = document.map(|document| document.body);
    let body = body.filter(|body| now < body["expires_at"].as_i64().unwrap_or(0));
    let pseudonym = body.as_ref().and_then(|body| body["account"].as_str()).unwrap_or_default();
    let account = if pseudonym.is_empty() { None } else { super::find(store, pseudonym)? };
    account.filter(|account| account.erased_at.is_none()).ok_or_else(|| {
        AppError::NotFound(
            "this link was used or has expired; ask an administrator for another".into(),
        )
    })
}

/// Uses the link: sets the password and ends every session. Of two at the same time one does.
///
/// # Errors
///
/// As [`find`], and the password is unfit.
pub(crate) fn accept(
    store: &dyn Store,
    secret: &str,
    password: &str,
    now: i64,
) -> Result<Account, AppError> {
    let account = find(store, secret, now)?;
    super::check_password(password).map_err(AppError::Unprocessable)?;
    if !store.delete_document(KIND, &codec::sha256_hex(secret.as_bytes()))? {
        let used = find(store, secret, now).err();
        return Err(used.unwrap_or_else(|| AppError::Conflict("try again".into())));
    }
    super::set_password(store, &account.pseudonym, password)?;
    super::find(store, &account.pseudonym)?.ok_or_else(super::no_account)
}
