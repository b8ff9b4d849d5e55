//! Roles and what they may do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What somebody is in a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May do everything.
    Administrator,
    /// Labels, sees results and every judgement, decides where people differ, exports.
    Reviewer,
    /// Labels, and sees the own judgements.
    Annotator,
    /// Sees results.
    Viewer,
}

/// What a page or an act asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// To be somebody.
    SignedIn,
    /// To judge items.
    Label,
    /// To see progress and the analysis.
    SeeResults,
    /// To see every judgement, to decide where people differ, to comment.
    Review,
    /// To take judgements out.
    Export,
    /// To change the project and its people.
    Manage,
}

impl Role {
    /// Every role, the mightiest first.
    pub const ALL: [Role; 4] = [Role::Administrator, Role::Reviewer, Role::Annotator, Role::Viewer];

    /// The name in documents and forms.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Administrator => "administrator",
            Role::Reviewer => "reviewer",
            Role::Annotator => "annotator",
            Role::Viewer => "viewer",
        }
    }

    /// The role of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// Whether the role has the permission. The only place where that is decided.
    pub fn may(self, permission: Permission) -> bool {
        use Permission::{Export, Label, Manage, Review, SeeResults, SignedIn};
        match permission {
            SignedIn => true,
            Label => self != Role::Viewer,
            SeeResults => self != Role::Annotator,
            Review | Export => matches!(self, Role::Administrator | Role::Reviewer),
            Manage => self == Role::Administrator,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
