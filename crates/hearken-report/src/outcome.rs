//! What the stages of a run cost, and what they bought.
//!
//! Plain data: `rlhf` writes it as `outcome.json` into its run directory, the command line prints it,
//! the report draws it.

use hearken_stats::Estimate;
use serde::{Deserialize, Serialize};

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicyComparisons {
    /// The stages, in order.
    pub stages: Vec<StageSummary>,
    /// The policy before and after reinforcement learning, on prompts that neither has seen.
    pub evaluation: Option<Evaluation>,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageSummary {
    /// "sft", "reward", "ppo", …
    pub name: String,
    /// Tokens that went through a model forward and backward.
    pub tokens: u64,
    /// Floating-point operations, estimated from the sizes of the models and the tokens each saw.
    pub flops: f64,
    /// Time on the clock, all sessions of the stage together.
    pub seconds: f64,
    /// The most memory that the process held while the stage ran, where the system says so.
    pub peak_memory_bytes: Option<u64>,
    /// What came of it: names and numbers, the most important first.
    pub bought: Vec<Figure>,
}

/// A named number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The metric's name, or words.
    pub name: String,
    /// The number.
    pub value: f64,
}

impl Figure {
    /// Names a number.
    pub fn new(name: impl Into<String>, value: f64) -> Self {
        Self { name: name.into(), value }
    }
}

/// Two policies on the same prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Prompts, each completed once by either policy.
    pub prompts: usize,
    /// The policy that the other started from.
    pub before: String,
    /// The policy that came of it.
    pub after: String,
    /// What was measured on both.
    pub quantities: Vec<PolicyComparison>,
    /// How often the later policy's completion has the greater score of the judge named by
    /// `win_rate_by`; a tie counts half.
    pub win_rate: Option<Estimate>,
    /// Whose scores decide a win.
    pub win_rate_by: String,
    /// KL(after ‖ before) of a completion in nats, k1 summed over its tokens.
    pub kl_nats: Estimate,
    /// The limit that was set for it.
    pub kl_limit_nats: Option<f64>,
    /// Completions side by side.
    pub examples: Vec<SideBySide>,
}

/// One quantity of two policies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyComparison {
    /// What it is.
    pub quantity: String,
    /// Mean under the earlier policy.
    pub before: Estimate,
    /// Mean under the later policy.
    pub after: Estimate,
    /// Mean of the difference, prompt by prompt.
    pub difference: Estimate,
}

impl PolicyComparison {
    /// The difference in units of its standard error; `None` where the interval is unbounded.
    pub fn standard_errors(&self) -> Option<f64> {
        const NORMAL_QUANTILE: f64 = 1.959_963_984_540_054;
        let error = self.difference.half_width() / NORMAL_QUANTILE;
        (error.is_finite() && 0.0 < error).then(|| self.difference.value / error)
    }
}

/// One prompt, completed twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SideBySide {
    /// The prompt.
    pub prompt: String,
    /// By the earlier policy.
    pub before: String,
    /// By the later policy.
    pub after: String,
    /// Scores of the earlier completion.
    pub scores_before: Vec<Figure>,
    /// Scores of the later completion.
    pub scores_after: Vec<Figure>,
}
