//! A small world to learn in: nothing to download.
//!
//! A grammar writes restaurant reviews, a hidden *gold* preference ([`gold()`]) says how good a review
//! is, and noisy comparisons are all that a reward model gets to see of it. Everything is a function
//! of the seed.
//!
//! The gold preference can be asked at any time, which real preferences cannot: so this world shows
//! what is usually invisible, the distance between the reward model's score (the *proxy*) and what
//! was wanted. Comparisons are few and noisy and the grammar repeats itself seldom, so the reward
//! model has no way to know that gold counts a word of praise only once.
//!
//! [`gold()`]: hearken_reward_source::gold()

mod grammar;

mod corpus;

mod base;

pub use base::{BaseOptions, write_base};
pub use corpus::{Corpus, CorpusFiles, CorpusOptions};
