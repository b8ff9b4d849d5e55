//! Rewards learned from comparisons of segments.
//!
//! Christiano et al. 2017, arXiv:1706.03741: a policy acts, pairs of short segments of what it did are shown to a teacher,
//! a reward model learns from what the teacher prefers, and the policy is trained on that reward, all at the same time.
//!
//! Not here: the pages on which people compare clips, and the reward that the environment itself has, which only the teachers of
//! [`crate::teacher`] see.

pub mod ensemble;
pub mod learner;
pub mod novelty;
pub mod pebble;
pub mod people;
pub mod questions;
pub mod segment;
