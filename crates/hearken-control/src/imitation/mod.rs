//! Policies that do as demonstrations do.
//!
//! [`cloning`] fits a policy to what was done, [`dagger`] to what an expert would do where the policy gets; [`adversarial`]
//! finds a reward under which the policy is taken for the demonstrator (GAIL, AIRL). SQIL is SAC with other rewards, and
//! lies there.

pub mod adversarial;
pub mod bc;
pub mod cloning;
pub mod dagger;
pub mod discriminator;
