//! Estimates with intervals for preference data.
//!
//! A number that is shown to somebody as an estimate is an [`Estimate`]: a value, the two ends of its
//! interval, the number of observations and the method. Everything here is a pure function: no files, no
//! clock, no state, no tensors. Where randomness is needed the generator is an argument, and a result
//! depends on the generator's seed alone, never on the number of threads.
//!
//! | to answer | module |
//! |---|---|
//! | how often, how much, how different | [`proportion`], [`mean`], [`quantile`], [`win_rate`] |
//! | how sure, without a formula | [`bootstrap`] |
//! | how sure, looked at again and again | [`betting`] |
//! | who is better, from votes | [`comparison`], [`bradley_terry`], [`ties`], [`elo`], [`triads`], [`style`] |
//! | what a group wants | [`social_choice`] |
//! | whom to believe | [`agreement`], [`dawid_skene`], [`side_bias`], [`corrections`] |
//! | what people would say, from few of their labels and many of a judge | [`prediction_powered`] |
//! | what holds of all, from a part that was not drawn evenly | [`propensity`] |
//! | what to ask next | [`design`] |
//! | how far is this from those, what goes with what | [`mahalanobis`], [`correlation`] |
//! | how good is a reward model | [`accuracy`], [`calibration`], [`first_error`], [`logistic`], [`reranking`], [`reward_bench`] |
//!
//! What is *not* here: reading judgements from anywhere, and drawing the results.

#![deny(missing_docs)]
// Tests compare exact results exactly.
#![cfg_attr(test, allow(clippy::float_cmp))]

pub mod accuracy;
pub mod agreement;
pub mod betting;
pub mod bootstrap;
pub mod bradley_terry;
pub mod calibration;
pub mod comparison;
pub mod corrections;
pub mod correlation;
pub mod dawid_skene;
pub mod design;
pub mod elo;
pub mod estimate;
pub mod first_error;
mod linear;
pub mod logistic;
pub mod mahalanobis;
pub mod mean;
mod multinomial;
mod newton;
pub mod prediction_powered;
pub mod propensity;
pub mod proportion;
pub mod quantile;
pub mod reranking;
pub mod reward_bench;
pub mod side_bias;
pub mod significance;
pub mod social_choice;
pub mod style;
pub mod ties;
pub mod triads;
pub mod win_rate;

pub use estimate::{CONFIDENCE, Estimate, IntervalMethod};
pub use significance::Significance;
