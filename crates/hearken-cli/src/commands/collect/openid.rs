//! Sign-in by the account of an organization.

use anyhow::{Result, bail};
use clap::Args;
use hearken_collect::OpenId;
use hearken_collect::accounts::Role;

use crate::api_key;

#[derive(Args, Debug)]
#[command(next_help_heading = "Sign-in by OpenID Connect")]
pub(super) struct OpenIdArguments {
    /// The provider that signs people in, beside their passwords: the address of the issuer
    #[arg(long = "openid-issuer", value_name = "URL", requires = "client")]
    issuer: Option<String>,

    /// What the provider calls this service; its address for coming back is …/openid/callback
    #[arg(long = "openid-client", value_name = "ID", requires = "issuer")]
    client: Option<String>,

    /// The environment variable that has the client's secret
    #[arg(
        long = "openid-secret",
        value_name = "VARIABLE",
        default_value = "HEARKEN_OPENID_SECRET"
    )]
    secret: String,

    /// What somebody becomes who signs in for the first time: annotator, reviewer, viewer; without it they need an
    /// invitation
    #[arg(long = "openid-role", value_name = "ROLE", requires = "issuer")]
    role: Option<String>,
}

impl OpenIdArguments {
    pub(super) fn provider(&self) -> Result<Option<OpenId>> {
        let (Some(issuer), Some(client_id)) = (&self.issuer, &self.client) else {
            return Ok(None);
        };
        let role = self.role.as_deref().map(role).transpose()?;
        let secret = api_key::secret(&self.secret)?;
        Ok(Some(OpenId { issuer: issuer.clone(), client_id: client_id.clone(), secret, role }))
    }
}

fn role(name: &str) -> Result<Role> {
    match Role::named(name).filter(|role| *role != Role::Administrator) {
        Some(role) => Ok(role),
        None => bail!("--openid-role: found {name:?}, expected annotator, reviewer or viewer"),
    }
}
