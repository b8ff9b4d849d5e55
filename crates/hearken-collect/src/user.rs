//! Who is asking.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::accounts::{Permission, Role};
use crate::error::AppError;

/// Who is asking. As an argument of a handler it is there on every path but the public ones.
#[derive(Clone, Debug)]
pub struct CurrentUser {
    /// The pseudonym under which judgements are stored.
    pub annotator: String,
    /// What the pages call them.
    pub name: String,
    /// What they are.
    pub role: Role,
    /// The token that forms send as the field `csrf` and scripts as the header `X-CSRF-Token`.
    pub csrf: String,
    /// The key of the session's document; `None` without accounts.
    pub(crate) session: Option<String>,
    /// The address under which they have reached the service.
    pub(crate) reached: String,
}

impl CurrentUser {
    /// Refuses one who may not.
    ///
    /// # Errors
    ///
    /// [`AppError::Forbidden`].
    pub fn must(&self, permission: Permission) -> Result<(), AppError> {
        if self.role.may(permission) {
            return Ok(());
        }
        Err(AppError::Forbidden(format!("this is not for the role of {}", self.role)))
    }

    pub(crate) fn for_templates(&self) -> minijinja::Value {
        minijinja::context! {
            name => self.name.clone(),
            annotator => self.annotator.clone(),
            role => self.role.as_str(),
            csrf => self.csrf.clone(),
            may_label => self.role.may(Permission::Label),
            may_see_results => self.role.may(Permission::SeeResults),
            may_review => self.role.may(Permission::Review),
            may_export => self.role.may(Permission::Export),
            may_manage => self.role.may(Permission::Manage),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for CurrentUser {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AppError> {
        parts.extensions.get::<CurrentUser>().cloned().ok_or(AppError::NotSignedIn)
    }
}
