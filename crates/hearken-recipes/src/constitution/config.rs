//! What `hearken constitution` reads; `configs/constitution.toml` says what each key does.

use std::path::PathBuf;

use hearken_config::{
    AtLeastOne, BelowHalf, Complaint, Configuration, Named, NonNegative, Parallel, Seconds, Tokens,
};
use schemars::JsonSchema;
use serde::Deserialize;

use hearken_reward_source::judging::{BudgetConfig, MemberConfig, MemberKind, MethodName};

/// The configuration of `hearken constitution`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConstitutionConfig {
    /// `[run]`: where results go.
    pub run: ResultsConfig,
    /// `[data]`: what is answered.
    pub data: PromptsConfig,
    /// `[model]`: who answers, criticizes, revises and compares.
    pub model: MemberConfig,
    /// `[principles]`: by what.
    pub principles: PrinciplesConfig,
    /// `[revision]`: answers, critiques and revisions.
    pub revision: RevisionConfig,
    /// `[comparison]`: comparisons by principle.
    pub comparison: ComparisonConfig,
    /// `[ask]`: how patiently the model is asked.
    pub ask: PatienceConfig,
    /// `[budget]`: what it may cost.
    pub budget: BudgetConfig,
}

/// `[run]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResultsConfig {
    /// The folder that is written.
    pub dir: PathBuf,
    /// Which principles are drawn.
    pub seed: u64,
}

/// `[data]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromptsConfig {
    /// A file of prompts.
    pub prompts: PathBuf,
    /// The most prompts; 0 is all.
    pub limit: usize,
}

/// `[principles]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrinciplesConfig {
    /// A file of principles.
    pub file: Option<PathBuf>,
}

/// `[revision]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevisionConfig {
    /// Critiques with a revision each.
    pub rounds: usize,
    /// The most tokens of an answer, a critique or a revision.
    pub max_tokens: Tokens,
    /// Their sampling temperature.
    pub temperature: NonNegative,
    /// What the model is told before every prompt; nothing where it is empty.
    pub system: String,
}

/// `[comparison]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComparisonConfig {
    /// Whether two answers to every prompt are compared.
    pub pairs: bool,
    /// Principles that a pair is compared by.
    pub principles: AtLeastOne,
    /// Whether every pair is asked about in both orders.
    pub both_orders: bool,
    /// How the choice is found out.
    pub method: MethodName,
    /// Answers of which the choice is the mean, where it is found out by votes.
    pub votes: AtLeastOne,
    /// Whether the model first gives reasons.
    pub reasons: bool,
    /// How far probabilities are kept from 0 and 1.
    pub clamp: BelowHalf,
    /// What is asked, with places for {prompt}, {a}, {b} and {principle}.
    pub question: String,
}

/// `[ask]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PatienceConfig {
    /// Prompts at a time.
    pub parallel: Parallel,
    /// Seconds for an API's answer, repetitions included.
    pub timeout_s: Seconds,
    /// Repetitions of a question after an error that may pass.
    pub retries: usize,
}

impl Configuration for ConstitutionConfig {
    const COMMAND: &'static str = "constitution";
    const DEFAULTS: &'static str = include_str!("../../../../configs/constitution.toml");

    fn settle(&mut self) -> Result<(), Complaint> {
        if let MemberKind::Reward { .. } | MemberKind::Command { .. } = self.model.who {
            return Err(Complaint::unexpected(
                "model.kind",
                "a judge that writes nothing".to_owned(),
                "\"local\", \"openai\" or \"anthropic\"",
            ));
        }
        if 0.0 < (*self.model.weight - 1.0).abs() {
            let found = self.model.weight.to_string();
            return Err(Complaint::unexpected("model.weight", found, "none: there is one model"));
        }
        for place in ["{a}", "{b}", "{principle}"] {
            if !self.comparison.question.contains(place) {
                let found = format!("no `{place}`");
                return Err(Complaint::unexpected("comparison.question", found, "one in the text"));
            }
        }
        if self.revision.rounds == 0 && !self.comparison.pairs {
            return Err(Complaint::unexpected(
                "revision.rounds",
                "0 without comparison.pairs".to_owned(),
                "something to do",
            ));
        }
        Ok(())
    }

    fn named(&mut self) -> Vec<Named<'_>> {
        let mut named = vec![Named::records("data.prompts", &mut self.data.prompts)];
        if let MemberKind::Local { path, .. } = &mut self.model.who {
            named.push(Named::model("model.path", path));
        }
        named
    }
}
