//! Opens language models that judge, and those of them that rate.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hearken_config::{AtLeastTwo, Complaint};
use hearken_data::{Message, Role};
use hearken_judge::chat::Api;
use hearken_judge::model::{
    AnswerDraw, Budget, KeptAnswers, KeptModel, LanguageModel, Price, SpendingLimits,
};
use hearken_judge::rating::{RatingJudge, RatingOptions};
use hearken_judge::{ChoiceOptions, JudgeError, Reasoning};
use hearken_tensor::Device;
use serde::Deserialize;

use super::LocalModel;
use super::config::{
    AxisConfig, BudgetConfig, JudgingConfig, MemberConfig, MemberKind, TemplateConfig,
};
use crate::api::{Conduct, open_api};

/// The axis of a rating that is about the whole.
pub const WHOLE: &str = "quality";

/// Why judges cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum JudgingError {
    /// A judge cannot be used.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// The file of a template cannot be used.
    #[error("{}: {reason}", file.display())]
    Template {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
    /// With the file of the template the configuration contradicts itself.
    #[error("{0}")]
    Complaint(Complaint),
}

/// What questions share: where answers are kept, what they may cost, and whether they are still wanted.
#[derive(Clone, Debug)]
pub struct Asking {
    /// Answers that are there already.
    pub kept: Arc<KeptAnswers>,
    /// What may be spent.
    pub budget: Arc<Budget>,
    /// Set where no answer is wanted any more.
    pub is_over: Arc<AtomicBool>,
}

impl Asking {
    /// Questions within a budget, of which the kept answers have cost something.
    pub fn new(budget: &BudgetConfig, kept: KeptAnswers) -> Self {
        let limits = SpendingLimits {
            tokens: budget.tokens.map(|tokens| *tokens as u64),
            money: budget.money.map(|money| *money),
        };
        let budget = Arc::new(Budget::new(limits, kept.spent()));
        Self { kept: Arc::new(kept), budget, is_over: Arc::default() }
    }
}

/// A prompt as a judge reads it: what a single message says, or who says what.
pub fn prompt_text(messages: &[Message]) -> String {
    let who = |role: Role| match role {
        Role::User => "Human",
        Role::Assistant => "Assistant",
        Role::System | Role::Developer => "Instructions",
        Role::Tool => "Tool",
    };
    match messages {
        [Message { role: Role::User, content, .. }] => content.clone(),
        several => {
            let said = several.iter().map(|one| format!("{}: {}", who(one.role), one.content));
            said.collect::<Vec<_>>().join("\n\n")
        }
    }
}

/// What judgements are signed with.
pub fn named(member: &MemberConfig, own: &str) -> String {
    member.name.clone().unwrap_or_else(|| own.to_owned())
}

/// A language model whose answers are kept; whether it is one in this process; and its name.
pub type Opened = (Arc<dyn LanguageModel>, bool, String);

/// Opens a language model; `None` of what is none.
///
/// # Errors
/// If the model, its URL or its key cannot be used.
pub fn open_model<D: Device>(
    device: &D,
    member: &MemberConfig,
    conduct: Conduct,
    asking: &Asking,
) -> Result<Option<Opened>, JudgeError> {
    let (model, is_local, name): Opened = match &member.who {
        MemberKind::Openai(api) => {
            let model = open_api(api, Api::OpenAi, conduct)?;
            (Arc::new(model), false, named(member, &api.model))
        }
        MemberKind::Anthropic(api) => {
            let model = open_api(api, Api::Anthropic, conduct)?;
            (Arc::new(model), false, named(member, &api.model))
        }
        MemberKind::Local { path, dtype, base } => {
            let name = named(member, &path.display().to_string());
            let (precision, masters) = ((*dtype).into(), (*base).into());
            let model = LocalModel::load(device.clone(), path, &name, precision, masters)?;
            (Arc::new(model), true, name)
        }
        MemberKind::Reward { .. } | MemberKind::Command { .. } => return Ok(None),
    };
    let price = Price {
        per_million_prompt: *member.prompt_price,
        per_million_completion: *member.completion_price,
    };
    let (kept, budget) = (Arc::clone(&asking.kept), Arc::clone(&asking.budget));
    let model: Arc<dyn LanguageModel> = Arc::new(KeptModel::new(model, kept, budget, price));
    Ok(Some((model, is_local, name)))
}

/// The axes with their texts and weights; the whole where there are none.
pub fn axes(config: &JudgingConfig) -> Vec<(String, &str, f64)> {
    if config.axes.is_empty() {
        return vec![(WHOLE.to_owned(), "", 1.0)];
    }
    let of = |axis: &'_ AxisConfig| (axis.name.clone(), *axis.weight);
    let all = config.axes.iter().map(|axis| {
        let (name, weight) = of(axis);
        (name, axis.text.as_str(), weight)
    });
    all.collect()
}

/// A language model that rates, by axis; it breaks off where the answers are wanted no more.
pub fn rating(
    config: &JudgingConfig,
    model: &Arc<dyn LanguageModel>,
    parallel: usize,
    asking: &Asking,
) -> Vec<(String, RatingJudge)> {
    let TemplateConfig { rating, then_rate, system, scale, .. } = &config.template;
    let numbers: Vec<String> = (1..=**scale).map(|number| number.to_string()).collect();
    let judge = |(name, text, _): (String, &str, f64)| {
        let options = RatingOptions {
            system: system.clone(),
            question: rating.replace("{axis}", text),
            choice: choice(config, numbers.clone(), then_rate),
            parallel,
        };
        (name, RatingJudge::new(Arc::clone(model), options, Arc::clone(&asking.is_over)))
    };
    axes(config).into_iter().map(judge).collect()
}

/// How one of the `choices` is found out; `then` asks for it behind reasons.
pub fn choice(config: &JudgingConfig, choices: Vec<String>, then: &str) -> ChoiceOptions {
    let ask = &config.ask;
    let reasoning = ask.reasons.then(|| Reasoning {
        ask: config.template.ask_reasons.clone(),
        then: then.to_owned(),
        max_tokens: *ask.reason_tokens,
    });
    ChoiceOptions {
        choices,
        method: ask.method.into(),
        votes: u32::try_from(*ask.votes).unwrap_or(u32::MAX),
        draw: AnswerDraw { max_tokens: Some(*ask.max_tokens), ..AnswerDraw::default() },
        reasoning,
    }
}

/// What is wrong with a TOML file, with its line.
pub fn toml_complaint(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map(|before| before.matches('\n').count() + 1);
    let message = error.message().replace('\n', "; ");
    line.map_or_else(|| message.clone(), |line| format!("line {line}: {message}"))
}

/// What the file of a template may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateFile {
    system: Option<String>,
    question: Option<String>,
    choices: Option<Vec<String>>,
    rating: Option<String>,
    ranking: Option<String>,
    scale: Option<AtLeastTwo>,
    ask_reasons: Option<String>,
    then_choose: Option<String>,
    then_rate: Option<String>,
    then_rank: Option<String>,
}

/// The configuration with the file of its template read.
///
/// # Errors
/// If it cannot be read, or contradicts the configuration.
pub fn with_template(config: &JudgingConfig) -> Result<JudgingConfig, JudgingError> {
    let mut config = config.clone();
    let Some(file) = config.template.file.clone() else { return Ok(config) };
    let failed = |reason: String| JudgingError::Template { file: file.clone(), reason };
    let text =
        fs::read_to_string(&file).map_err(|error| failed(format!("cannot be read: {error}")))?;
    let own: TemplateFile =
        toml::from_str(&text).map_err(|error| failed(toml_complaint(&text, &error)))?;
    let template = &mut config.template;
    let texts = [
        (&mut template.system, own.system),
        (&mut template.question, own.question),
        (&mut template.rating, own.rating),
        (&mut template.ranking, own.ranking),
        (&mut template.ask_reasons, own.ask_reasons),
        (&mut template.then_choose, own.then_choose),
        (&mut template.then_rate, own.then_rate),
        (&mut template.then_rank, own.then_rank),
    ];
    for (place, text) in texts {
        *place = text.unwrap_or_else(|| place.clone());
    }
    template.choices = own.choices.unwrap_or_else(|| template.choices.clone());
    template.scale = own.scale.unwrap_or(template.scale);
    config.check_template().map_err(|complaint| failed(complaint.to_string()))?;
    Ok(config)
}
