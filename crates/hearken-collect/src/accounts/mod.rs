//! People: accounts, passwords, sessions, invitations.
//!
//! An account is a document under its pseudonym, the random name that judgements carry; a second
//! document leads from the name a person chose to the pseudonym. Erasing removes what is about the
//! person and leaves the pseudonym.

pub mod invitations;
mod password;
pub(crate) mod resets;
mod role;
pub(crate) mod sessions;

use hearken_store::{Document, Expected, Store, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use password::PASSWORD_MIN;
pub(crate) use password::{check as check_password, verify_nobody};
pub use role::{Permission, Role};

use crate::codec;
use crate::error::AppError;

/// The longest name of an account, in characters.
const NAME_MAX: usize = 64;

/// Somebody who may sign in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// The random name that judgements carry; the key of the document.
    #[serde(skip)]
    pub pseudonym: String,
    /// The name they sign in with; empty once the account is erased.
    #[serde(default)]
    pub name: String,
    /// What they are.
    pub role: Role,
    /// The argon2id hash of the password, in PHC form; empty once the account is erased.
    #[serde(default)]
    pub(crate) password: String,
    /// When it was made: milliseconds since 1970 in UTC.
    pub created_at: i64,
    /// When the personal data were erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<i64>,
}

impl Account {
    fn of(document: Document) -> Option<Self> {
        let mut account: Account = serde_json::from_value(document.body).ok()?;
        account.pseudonym = document.key;
        Some(account)
    }

    /// Whether the password is right. Takes as long either way, and tens of milliseconds.
    pub(crate) fn verify(&self, password: &str) -> bool {
        password::verify(password, &self.password)
    }
}

/// Whether somebody could administer the service.
pub(crate) fn any_administrator(store: &dyn Store) -> Result<bool, StoreError> {
    let accounts = all(store)?;
    Ok(accounts.iter().any(|one| one.role == Role::Administrator && one.erased_at.is_none()))
}

/// Every account, in the order in which they were made.
///
/// # Errors
///
/// The store cannot be read.
pub fn all(store: &dyn Store) -> Result<Vec<Account>, StoreError> {
    let documents = store.documents("account")?;
    let mut accounts: Vec<Account> = documents.into_iter().filter_map(Account::of).collect();
    accounts.sort_by_key(|account| account.created_at);
    Ok(accounts)
}

/// The account of this pseudonym.
///
/// # Errors
///
/// The store cannot be read.
pub fn find(store: &dyn Store, pseudonym: &str) -> Result<Option<Account>, StoreError> {
    Ok(store.document("account", pseudonym)?.and_then(Account::of))
}

/// The account that signs in with this name.
///
/// # Errors
///
/// The store cannot be read.
pub fn named(store: &dyn Store, name: &str) -> Result<Option<Account>, StoreError> {
    let key = folded(name);
    if key.is_empty() || key.contains('\0') {
        return Ok(None);
    }
    let Some(document) = store.document("name", &key)? else { return Ok(None) };
    match document.body["account"].as_str() {
        Some(pseudonym) => find(store, pseudonym),
        None => Ok(None),
    }
}

/// The form in which names are compared: upper and lower case are the same.
fn folded(name: &str) -> String {
    name.trim().to_lowercase()
}

/// What a person chooses.
#[derive(Clone, Copy, Debug)]
pub struct NewAccount<'a> {
    /// The name to sign in with.
    pub name: &'a str,
    /// The password.
    pub password: &'a str,
    /// What they are.
    pub role: Role,
}

/// Makes an account; gives its pseudonym. Takes tens of milliseconds.
///
/// # Errors
///
/// The name or the password is unfit, or the name is taken; the store cannot be written.
pub fn create(store: &dyn Store, new: NewAccount<'_>, now: i64) -> Result<Account, AppError> {
    let name = new.name.trim();
    check_name(name).map_err(AppError::Unprocessable)?;
    password::check(new.password).map_err(AppError::Unprocessable)?;
    let account = Account {
        pseudonym: format!("a-{}", codec::random_hex::<6>()),
        name: name.to_owned(),
        role: new.role,
        password: password::hash(new.password),
        created_at: now,
        erased_at: None,
    };
    let leads_to = json!({"account": account.pseudonym});
    if store.put_document("name", &folded(name), &leads_to, Expected::Nothing)?.is_none() {
        return Err(AppError::Conflict(format!("the name {name:?} is taken")));
    }
    store.put_document("account", &account.pseudonym, &json!(account), Expected::Nothing)?;
    Ok(account)
}

fn check_name(name: &str) -> Result<(), String> {
    let characters = name.chars().count();
    if !(2..=NAME_MAX).contains(&characters) || name.chars().any(char::is_control) {
        return Err(format!("a name has 2 to {NAME_MAX} characters"));
    }
    Ok(())
}

/// Gives the account another role.
///
/// # Errors
///
/// There is no such account, or it is the last administrator; the store cannot be written.
pub fn set_role(store: &dyn Store, pseudonym: &str, role: Role) -> Result<(), AppError> {
    change(store, pseudonym, role != Role::Administrator, |account| account.role = role)
}

/// Gives the account another password and ends its sessions.
///
/// # Errors
///
/// The password is unfit; there is no such account; the store cannot be written.
pub fn set_password(store: &dyn Store, pseudonym: &str, password: &str) -> Result<(), AppError> {
    password::check(password).map_err(AppError::Unprocessable)?;
    let hash = password::hash(password);
    change(store, pseudonym, false, |account| account.password = hash)?;
    Ok(sessions::end_all(store, pseudonym)?)
}

/// Removes everything about the person: name, password, sessions. The judgements stay, under the
/// pseudonym that leads to nobody.
///
/// # Errors
///
/// There is no such account, or it is the last administrator; the store cannot be written.
pub fn erase(store: &dyn Store, pseudonym: &str, now: i64) -> Result<(), AppError> {
    let account = find(store, pseudonym)?;
    let account = account.ok_or_else(no_account)?;
    change(store, pseudonym, true, |account| {
        account.name.clear();
        account.password.clear();
        account.erased_at = Some(now);
    })?;
    if !account.name.is_empty() {
        store.delete_document("name", &folded(&account.name))?;
    }
    for document in store.documents(OPENID)? {
        if document.body["account"] == pseudonym {
            store.delete_document(OPENID, &document.key)?;
        }
    }
    Ok(sessions::end_all(store, pseudonym)?)
}

/// The kind of the documents that say whose account at a provider of OpenID Connect is whose here.
pub(crate) const OPENID: &str = "openid";

/// The kind of the documents that say who was admitted by a lead.
const ADMISSION: &str = "admission";

/// Whether a lead has admitted somebody, whatever came of the screening.
pub(crate) fn is_admitted(store: &dyn Store, pseudonym: &str) -> Result<bool, StoreError> {
    Ok(store.document(ADMISSION, pseudonym)?.is_some())
}

/// Says at `at` that somebody is admitted whatever came of the screening; `None`: not any more.
pub(crate) fn set_admitted(
    store: &dyn Store,
    pseudonym: &str,
    by: &str,
    at: Option<i64>,
) -> Result<(), StoreError> {
    match at {
        Some(at) => {
            let body = json!({"by": by, "at": at});
            store.put_document(ADMISSION, pseudonym, &body, Expected::Anything).map(|_| ())
        }
        None => store.delete_document(ADMISSION, pseudonym).map(|_| ()),
    }
}

fn no_account() -> AppError {
    AppError::NotFound("there is no such account".into())
}

fn change(
    store: &dyn Store,
    pseudonym: &str,
    weakens: bool,
    change: impl FnOnce(&mut Account),
) -> Result<(), AppError> {
    let document = store.document("account", pseudonym)?.ok_or_else(no_account)?;
    let version = document.version;
    let mut account = Account::of(document).ok_or_else(no_account)?;
    if account.erased_at.is_some() {
        return Err(AppError::Conflict("the account was erased".into()));
    }
    if weakens && account.role == Role::Administrator {
        let others = all(store)?.into_iter().filter(|one| {
            one.role == Role::Administrator && one.erased_at.is_none() && one.pseudonym != pseudonym
        });
        if others.count() == 0 {
            return Err(AppError::Conflict("this is the last administrator".into()));
        }
    }
    change(&mut account);
    let written =
        store.put_document("account", pseudonym, &json!(account), Expected::Version(version))?;
    match written {
        Some(_) => Ok(()),
        None => Err(AppError::Conflict("somebody else changed the account; try again".into())),
    }
}
