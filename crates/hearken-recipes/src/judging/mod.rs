//! Items judged by models: in both orders, by one judge or a panel, as a whole or by axes.
//!
//! [`Panel`] opens what [`JudgingConfig`](hearken_reward_source::judging::JudgingConfig) names and judges items; a [`JudgedItem`] has the verdict and what each judge said.
//!
//! Not here: where verdicts are kept (`hearken-store`), what judges are worth (`hearken-analysis`).

mod panel;
mod reward_judge;

pub use panel::{JudgedItem, Opinion, Panel};
pub use reward_judge::RewardJudge;
