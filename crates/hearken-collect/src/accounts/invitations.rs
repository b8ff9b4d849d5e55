//! Invitations: links that make one account of one role, once, for a while.

use hearken_store::{Expected, Store};
use serde_json::json;

use super::{Account, NewAccount, Role};
use crate::codec;
use crate::error::AppError;

/// An invitation that nobody has used yet, without its secret.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Invitation {
    /// The key of its document: the hash of the secret.
    pub key: String,
    /// The role it gives.
    pub role: Role,
    /// When it ends.
    pub expires_at: i64,
    /// Who made it: a pseudonym.
    pub by: String,
    /// For whom it is, where the one who made it said so: what the form begins with.
    pub name: String,
}

/// Makes an invitation, for somebody where a name is given; gives the secret of its link, 256 random bits.
///
/// # Errors
///
/// The store cannot be written.
pub fn create(
    store: &dyn Store,
    role: Role,
    name: &str,
    by: &str,
    expires_at: i64,
) -> Result<String, AppError> {
    let secret = codec::random_hex::<32>();
    let key = codec::sha256_hex(secret.as_bytes());
    let body = json!({"role": role, "expires_at": expires_at, "by": by, "name": name});
    store.put_document("invitation", &key, &body, Expected::Nothing)?;
    Ok(secret)
}

fn of(document: &hearken_store::Document, now: i64) -> Option<Invitation> {
    let body = &document.body;
    let expires_at = body["expires_at"].as_i64()?;
    let role = Role::named(body["role"].as_str()?)?;
    let by = body["by"].as_str().unwrap_or_default().to_owned();
    let name = body["name"].as_str().unwrap_or_default().to_owned();
    (now < expires_at).then(|| Invitation { key: document.key.clone(), role, expires_at, by, name })
}

/// Invitations that can still be used.
///
/// # Errors
///
/// The store cannot be read.
pub fn open(store: &dyn Store, now: i64) -> Result<Vec<Invitation>, AppError> {
    Ok(store.documents("invitation")?.iter().filter_map(|document| of(document, now)).collect())
}

/// The invitation of this secret.
///
/// # Errors
///
/// It was used, has expired, or never was; the store cannot be read.
pub fn find(store: &dyn Store, secret: &str, now: i64) -> Result<Invitation, AppError> {
    let document = store.document("invitation", &codec::sha256_hex(secret.as_bytes()))?;
    document.as_ref().and_then(|document| of(document, now)).ok_or_else(|| {
        AppError::NotFound(
            "this invitation was used or has expired; ask an administrator for another".into(),
        )
    })
}

/// Uses the invitation: makes the account. Of two people at the same time one gets it.
///
/// # Errors
///
/// As [`find`] and [`super::create`].
pub fn accept(
    store: &dyn Store,
    secret: &str,
    name: &str,
    password: &str,
    now: i64,
) -> Result<Account, AppError> {
    let invitation = find(store, secret, now)?;
    let new = NewAccount { name, password, role: invitation.role };
    let account = super::create(store, new, now)?;
    if store.delete_document("invitation", &invitation.key)? {
        return Ok(account);
    }
    // Somebody else was faster: the account made a moment ago goes again.
    store.delete_document("account", &account.pseudonym)?;
    store.delete_document("name", &super::folded(&account.name))?;
    Err(find(store, secret, now).err().unwrap_or_else(|| AppError::Conflict("try again".into())))
}

/// Takes an invitation back; `false` where there was none.
///
/// # Errors
///
/// The store cannot be written.
pub fn withdraw(store: &dyn Store, key: &str) -> Result<bool, AppError> {
    Ok(store.delete_document("invitation", key)?)
}
