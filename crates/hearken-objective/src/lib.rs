//! Reinforcement-learning and preference objectives as pure functions.
//!
//! Every function here takes slices of `f64`, one completion or one batch of pairs at a time, and
//! returns a loss *with its derivative* with respect to each log-probability, value or score. The
//! trainer hands that derivative to the model's backward pass. Losses are minimized; log-probabilities
//! are natural logarithms of the tokens that count, prompt excluded.
//!
//! | module            | what it holds                                                               |
//! |-------------------|-----------------------------------------------------------------------------|
//! | [`numerics`]      | `log_sigmoid` and relatives that survive large arguments                    |
//! | [`mean`]          | a sum with its count                                                        |
//! | [`moments`]       | mean and variance that merge                                                |
//! | [`kl`]            | estimators k1, k2, k3 and the controllers of β                              |
//! | [`reward`]        | per-token rewards, missing-end penalty, score normalization                 |
//! | [`ensemble`]      | one score of several reward models                                          |
//! | [`epistemic`]     | reward models that say how sure they are                                    |
//! | [`bounded`]       | scores that flatten above those of the reference                            |
//! | [`advantage`]     | GAE, whitening, group baselines                                             |
//! | [`surrogate`]     | policy losses: REINFORCE, clipped, CISPO, SAPO, GMPO, VESPO; ratio metrics  |
//! | [`distribution`]  | actions of control tasks: log-probabilities and entropies                   |
//! | [`aggregation`]   | per-token weights from the counts of an optimizer step                      |
//! | [`value`]         | squared error of a critic, plain or clipped                                 |
//! | [`bradley_terry`] | reward-model losses                                                         |
//! | [`decorrelation`] | reward models with a head for length                                        |
//! | [`cross_entropy`] | supervised fine-tuning                                                      |
//! | [`distillation`]  | a student's distributions beside a teacher's: forward, reverse KL, JSD      |
//! | [`process`]       | steps and outcomes: classes, correctness, one score of many steps           |
//! | [`dpo`]           | losses on preferences without a reward model: DPO and its family, KTO       |
//! | [`online`]        | best-of-n, RAFT, XPO, Nash-MD: learning from a policy's own completions        |
//! | [`grpo`]          | on-policy algorithms as products of choices: PPO, GRPO, RLOO, DAPO …        |
//! | [`best_of_n`]     | the policy that best-of-N sampling is, its KL, unbiased curves               |
//! | [`constraint`]    | a Lagrange multiplier for a cost that must stay below a limit                |
//! | [`guard`]         | when a policy has begun to exploit what scores it                            |
//! | [`overoptimization`] | gold score as a function of distance from the reference                   |
//!
//! What is not here: tensors, files, clocks, random numbers, and any division by a batch size that
//! the caller cannot see. Sums and counts leave these functions; the trainer divides once per
//! optimizer step, so any split into microbatches gives the same gradient.

#![deny(missing_docs)]
#![allow(clippy::doc_markdown)] // Formulas in the docs have subscripts, r_t and π_θ; those are no identifiers.
#![cfg_attr(test, allow(clippy::float_cmp))] // Tests compare numbers that are exact by construction.

pub mod numerics;

pub mod mean;
pub mod moments;

pub mod kl;
pub mod reward;

pub mod bounded;
pub mod ensemble;
pub mod epistemic;

pub mod advantage;

pub mod distribution;

pub mod surrogate;

pub mod aggregation;
pub mod value;

pub mod bradley_terry;
pub mod cross_entropy;
pub mod decorrelation;
pub mod distillation;
pub mod process;

pub mod adversarial;

pub mod dpo;
pub mod grpo;
pub mod online;

pub mod best_of_n;
pub mod constraint;
pub mod guard;
pub mod overoptimization;

#[cfg(test)]
mod finite_difference;

pub use mean::Mean;
pub use moments::Moments;
