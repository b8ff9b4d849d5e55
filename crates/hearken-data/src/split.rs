//! Splitting records into train and eval by prompt.

use std::collections::BTreeSet;

use crate::content::{Content, Message};

/// A hash of a prompt's content: equal prompts have equal keys on every machine and in every
/// version of the compiler. The kind of the content goes into the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PromptKey(u64);

impl PromptKey {
    /// The key of a text.
    pub fn of_text(text: &str) -> Self {
        Self(field(tagged(b't'), text.as_bytes()))
    }

    /// The key of a list of messages.
    pub fn of_messages(messages: &[Message]) -> Self {
        Self(messages.iter().fold(tagged(b'm'), |hash, message| {
            let hash = field(hash, message.role.as_str().as_bytes());
            match message.has_more() {
                false => field(hash, message.content.as_bytes()),
                true => field(hash, message.to_json().to_string().as_bytes()),
            }
        }))
    }

    /// The key of a list of token ids.
    pub fn of_ids(ids: &[u32]) -> Self {
        Self(ids.iter().fold(tagged(b'i'), |hash, id| fnv1a(hash, &id.to_le_bytes())))
    }

    /// The key of a content of any kind.
    pub fn of(content: &Content) -> Self {
        match content {
            Content::Text(text) => Self::of_text(text),
            Content::Messages(messages) => Self::of_messages(messages),
            Content::Ids(ids) => Self::of_ids(ids),
        }
    }

    /// The key of two contents together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(fnv1a(self.0, &other.0.to_le_bytes()))
    }

    /// Whether the prompt is among a share of all prompts that there could be: one that depends on the seed, and of
    /// which a larger one holds a smaller.
    pub fn lies_below(self, share: f64, seed: u64) -> bool {
        // 2⁶⁴, beyond the largest rank.
        (self.rank(seed) as f64) < share * 18_446_744_073_709_551_616.0
    }

    /// The place of the prompt in an order that depends on `seed`.
    fn rank(self, seed: u64) -> u64 {
        mix(self.0 ^ mix(seed))
    }
}

/// A record that knows its prompt.
pub trait Prompted {
    /// The key of the prompt.
    fn prompt_key(&self) -> PromptKey;
}

/// Records split in two, each half in the order of the input.
#[derive(Clone, Debug, PartialEq)]
pub struct Split<T> {
    /// What is trained on.
    pub train: Vec<T>,
    /// What is held out.
    pub eval: Vec<T>,
}

/// Why records cannot be split.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SplitError {
    /// A fraction outside [0, 1).
    #[error("found an eval fraction of {found}, expected at least 0 and less than 1")]
    Fraction {
        /// The fraction.
        found: f64,
    },
    /// Too few prompts to have some on both sides.
    #[error("found {prompts} distinct prompts, expected at least 2 to hold some of them out")]
    TooFewPrompts {
        /// The number of distinct prompts.
        prompts: usize,
    },
}

/// Holds out `eval_fraction` of the distinct prompts, with all the records of each: rounded to
/// whole prompts, at least one prompt on either side. A fraction of 0 holds out nothing.
///
/// The split depends on the set of prompts, the fraction and the seed, not on the order of the
/// records; a larger fraction holds out a superset.
///
/// # Errors
/// If the fraction is outside [0, 1), or there are fewer than two distinct prompts.
///
/// ```
/// use hearken_data::{Prompt, split_by_prompt};
///
/// let prompts: Vec<Prompt> = (0..20)
///     .map(|n| serde_json::from_str(&format!(r#"{{"prompt": "Count to {}."}}"#, n % 10)).unwrap())
///     .collect();
/// let split = split_by_prompt(prompts, 0.2, 7)?;
/// assert_eq!((split.train.len(), split.eval.len()), (16, 4));
/// # Ok::<(), hearken_data::SplitError>(())
/// ```
pub fn split_by_prompt<T: Prompted>(
    records: Vec<T>,
    eval_fraction: f64,
    seed: u64,
) -> Result<Split<T>, SplitError> {
    let keys: Vec<PromptKey> = records.iter().map(Prompted::prompt_key).collect();
    let held_out = held_out(&keys, eval_fraction, seed)?;
    let mut split = Split { train: Vec::new(), eval: Vec::new() };
    for (record, is_held_out) in records.into_iter().zip(held_out) {
        let side = if is_held_out { &mut split.eval } else { &mut split.train };
        side.push(record);
    }
    Ok(split)
}

/// Which records [`split_by_prompt`] holds out, told by their keys alone: the records themselves need
/// not be in memory.
///
/// # Errors
/// As there.
pub fn held_out(
    keys: &[PromptKey],
    eval_fraction: f64,
    seed: u64,
) -> Result<Vec<bool>, SplitError> {
    if !(0.0..1.0).contains(&eval_fraction) {
        return Err(SplitError::Fraction { found: eval_fraction });
    }
    if eval_fraction == 0.0 {
        return Ok(vec![false; keys.len()]);
    }
    let ranks: BTreeSet<u64> = keys.iter().map(|key| key.rank(seed)).collect();
    if ranks.len() < 2 {
        return Err(SplitError::TooFewPrompts { prompts: ranks.len() });
    }
    let share = eval_fraction * ranks.len() as f64;
    #[expect(clippy::cast_sign_loss, reason = "a share of a count is not negative")]
    let prompts = (share.round() as usize).clamp(1, ranks.len() - 1);
    let lowest: BTreeSet<u64> = ranks.into_iter().take(prompts).collect();
    Ok(keys.iter().map(|key| lowest.contains(&key.rank(seed))).collect())
}

/// FNV-1a, 64 bits: Fowler, Noll and Vo, <http://www.isthe.com/chongo/tech/comp/fnv/>.
fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// The start of a hash for one kind of content.
fn tagged(kind: u8) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    fnv1a(OFFSET_BASIS, &[kind])
}

/// Bytes behind their length, so that no two lists of fields read alike.
fn field(hash: u64, bytes: &[u8]) -> u64 {
    fnv1a(fnv1a(hash, &(bytes.len() as u64).to_le_bytes()), bytes)
}

/// The output function of `SplitMix64`: Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published test vectors of FNV-1a 64 for "" and "a", and of `SplitMix64` for seed 0.
    #[test]
    fn hashes_match_published_vectors() {
        assert_eq!(fnv1a(0xcbf2_9ce4_8422_2325, b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(0xcbf2_9ce4_8422_2325, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn message_boundaries_count() {
        use crate::Role::User;
        let joined = [Message::new(User, "ab")];
        let apart = [Message::new(User, "a"), Message::new(User, "b")];
        assert_ne!(PromptKey::of_messages(&joined), PromptKey::of_messages(&apart));
        assert_ne!(PromptKey::of_text("ab"), PromptKey::of_messages(&joined));
        assert_ne!(PromptKey::of_text("a"), PromptKey::of_ids(&[97]));
    }
}
