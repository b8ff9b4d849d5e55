//! What is drawn from rows of logits: a token of each, by settings of its own.
//!
//! In this order: what is added to logits, then −∞ in place of what is not allowed; the temperature
//! divides; top-k, top-p (over what top-k left, renormalized) and min-p cut off; a uniform number
//! chooses among the tokens that are left, likelier ones first where anything is cut off, else in the
//! order of their ids. Among equally likely tokens the one with the lower id counts as likelier.

use crate::device::View;

/// How a token is chosen from a distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Logits are divided by it; 0 takes the likeliest token.
    pub temperature: f64,
    /// At most this many tokens are kept, the likeliest; `None` for all.
    pub top_k: Option<usize>,
    /// The tokens kept are the fewest, likeliest first, whose probabilities sum to at least this.
    pub top_p: f64,
    /// Tokens less than this fraction as likely as the likeliest are dropped; 0 keeps all.
    pub min_p: f64,
    /// In [0, 1); says which token it is. Where the temperature is 0 it does not matter.
    pub uniform: f64,
}

/// Which tokens may come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Token i may come if bit i % 32 of element i / 32 is set; beyond the end none may.
    pub bits: Vec<u32>,
    /// What comes, each alike, where no token that may come has a logit above −∞.
    pub otherwise: Vec<u32>,
}

impl Allowed {
    /// Whether token `id` may come.
    pub fn contains(&self, id: usize) -> bool {
        self.bits.get(id / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
    }
}

/// A row that a token is drawn from. B is the device's [`crate::Device::Buffer`].
#[derive(Clone, Debug)]
pub struct DrawRow<'a, B> {
    /// The logits `[V]`: one row.
    pub logits: View<'a, B>,
    /// How the token is chosen.
    pub choice: Choice,
    /// What is added to the logits of tokens, one after the other.
    pub added: Vec<(u32, f32)>,
    /// Which tokens may come; `None` for all.
    pub allowed: Option<Allowed>,
    /// Whether the token is reported under the logits themselves, beside this many of the likeliest.
    pub likeliest: Option<usize>,
}

/// A token that was drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// The token.
    pub id: u32,
    /// ln softmax(logits/temperature)`[id]` after what was added and not allowed, before anything is cut
    /// off, in nats; at temperature 1 where it is 0.
    pub logprob: f64,
    /// The token under the logits themselves, if that was asked for.
    pub report: Option<TokenReport>,
}

/// A token under the model itself: at temperature 1, with nothing added or cut off.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenReport {
    /// The token's log-probability in nats.
    pub logprob: f64,
    /// The likeliest tokens with theirs, in order; among equals the lower id comes first.
    pub likeliest: Vec<(u32, f64)>,
}

/// A logit that makes a row no distribution: NaN or +∞, or −∞ where there is nothing else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BadLogit {
    /// The first token that has it.
    pub id: usize,
    /// What was found.
    pub value: f32,
}
