//! Passwords: argon2id with the parameters of the crate (19 MiB, 2 passes), a salt of 16 bytes each.

use std::sync::LazyLock;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _};
use rand::Rng as _;

/// The shortest password, in characters.
pub const PASSWORD_MIN: usize = 10;
/// The longest password, in bytes: hashing has to end.
const PASSWORD_MAX: usize = 256;

/// What is wrong with a password that somebody wants to set, if anything.
pub(crate) fn check(password: &str) -> Result<(), String> {
    if password.chars().count() < PASSWORD_MIN {
        return Err(format!("a password has at least {PASSWORD_MIN} characters"));
    }
    if PASSWORD_MAX < password.len() {
        return Err(format!("a password has at most {PASSWORD_MAX} bytes"));
    }
    Ok(())
}

pub(super) fn hash(password: &str) -> String {
    let mut salt = [0; 16];
    rand::rng().fill_bytes(&mut salt);
    Argon2::default()
        .hash_password_with_salt(password.as_bytes(), &salt)
        .expect("invariant: argon2 takes passwords of at most 256 bytes")
        .to_string()
}

pub(super) fn verify(password: &str, hash: &str) -> bool {
    if PASSWORD_MAX < password.len() {
        return false;
    }
    let Ok(hash) = PasswordHash::new(hash) else { return false };
    Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
}

/// Spends as long as [`verify`] does, for a name that nobody has: how long a refusal takes does not
/// tell which names exist.
pub(crate) fn verify_nobody(password: &str) {
    static NOBODY: LazyLock<String> = LazyLock::new(|| hash("the password of nobody"));
    verify(password, &NOBODY);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_knows_its_password_and_no_other() {
        let hash = hash("correct horse battery");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(verify("correct horse battery", &hash));
        assert!(!verify("correct horse batterz", &hash));
        assert!(!verify("", ""));
    }
}
