//! Constitutional AI: a model criticizes and revises its own answers by principles, and compares answers by them.
//!
//! Bai et al. 2022, arXiv:2212.08073. [`run`] gives what trainers read: revised answers as demonstrations, revisions over first
//! answers as pairs, and comparisons with soft labels; and the whole chain of every prompt.
//!
//! Not here: training on them.

mod config;
mod principles;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hearken_data::{Content, Message, Prompt, Role, write_jsonl};
use hearken_judge::model::{AnswerDraw, LanguageModel};
use hearken_judge::pairwise::{
    ChatJudge, ChatJudgeOptions, CompletionPair, Orders, Rules, Template, Unreadable, in_parallel,
    preferences,
};
use hearken_judge::{ChoiceOptions, JudgeError, Reasoning};
use hearken_reward_source::api::Conduct;
use hearken_reward_source::judging::{Asking, open_model, prompt_text};
use hearken_run::seeds::Seeds;
use hearken_tensor::Device;
use rand::RngExt as _;
use serde::Serialize;
use serde_json::{Map, Value, json};

pub use config::{
    ComparisonConfig, ConstitutionConfig, PatienceConfig, PrinciplesConfig, PromptsConfig,
    ResultsConfig, RevisionConfig,
};
pub use principles::{Principle, PrincipleError, principles};

/// Asks for reasons, and for the choice behind them.
const ASK_REASONS: &str = "\nBefore you decide, compare both answers by this in a few sentences. Do not name a decision yet.\n";
const THEN_CHOOSE: &str =
    "Which answer is it, then? Answer with one letter, A or B, and nothing else.";

/// Behind a request for a revision: the revision becomes an answer of its own.
const ANSWER_ALONE: &str = " Write nothing but the new answer.";

/// A critique with its revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RevisionRound {
    /// The principle, by its name.
    pub principle: String,
    /// What the model found.
    pub critique: String,
    /// What it made of it.
    pub revision: String,
}

/// What became of a prompt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Chain {
    /// The prompt.
    #[serde(serialize_with = "as_json")]
    pub prompt: Vec<Message>,
    /// The first answer.
    pub initial: String,
    /// Critiques and revisions, in order.
    pub rounds: Vec<RevisionRound>,
    /// Another answer to the prompt, with which the first is compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<String>,
    /// The names of the principles by which the two are compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub compared_by: Vec<String>,
    /// The probability that the first answer is better than the other one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
}

fn as_json<S: serde::Serializer>(messages: &[Message], to: S) -> Result<S::Ok, S::Error> {
    let all: Value = messages.iter().map(Message::to_json).collect();
    all.serialize(to)
}

/// How many records there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WrittenCounts {
    /// Prompts.
    pub chains: usize,
    /// Revised answers.
    pub demonstrations: usize,
    /// Revisions over first answers.
    pub revisions: usize,
    /// Pairs of answers with soft labels.
    pub comparisons: usize,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum ConstitutionError {
    /// The model cannot be asked.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// The principles cannot be read.
    #[error(transparent)]
    Principles(#[from] PrincipleError),
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] hearken_data::WriteError),
    /// A prompt that is no text.
    #[error("{0}: found token ids, expected text or messages: a model that talks reads no ids")]
    Ids(hearken_data::Source),
    /// There is nothing to work by.
    #[error("the principles have no {0}, which the configuration asks for")]
    Unused(&'static str),
}

/// What is asked of every prompt.
struct RevisionPlan<'a> {
    config: &'a ConstitutionConfig,
    model: Arc<dyn LanguageModel>,
    principles: Vec<Principle>,
    asking: &'a Asking,
    parallel: usize,
}

/// Answers, criticizes, revises and compares; writes the results into the folder of the run once all of them are there. What the
/// model has said is kept as it says it, so that a run that ends early goes on where it was.
///
/// # Errors
/// If the model cannot be asked, a prompt or the principles not be read, or a file not be written.
pub fn run<D: Device>(
    device: &D,
    config: &ConstitutionConfig,
    prompts: &[Prompt],
    asking: &Asking,
    on_prompt: &(dyn Fn() + Sync),
) -> Result<WrittenCounts, ConstitutionError> {
    let principles = principles(config.principles.file.as_deref())?;
    let can_revise = principles.iter().any(|one| !one.critique.is_empty());
    let can_compare = principles.iter().any(|one| !one.compare.is_empty());
    if 0 < config.revision.rounds && !can_revise {
        return Err(ConstitutionError::Unused("critiques and revisions"));
    }
    if config.comparison.pairs && !can_compare {
        return Err(ConstitutionError::Unused("texts to compare by"));
    }
    let conversations = prompts.iter().map(conversation).collect::<Result<Vec<_>, _>>()?;
    let conduct = Conduct { limit: config.ask.timeout_s.duration(), retries: config.ask.retries };
    let (model, ..) = open_model(device, &config.model, conduct, asking)?
        .ok_or(ConstitutionError::Unused("model"))?;
    let parallel = *config.ask.parallel;
    let work = RevisionPlan { config, model, principles, asking, parallel };
    let mut chains = work.chains(&conversations, on_prompt)?;
    if config.comparison.pairs {
        work.compare(&mut chains)?;
    }
    work.write(&chains)
}

fn conversation(prompt: &Prompt) -> Result<Vec<Message>, ConstitutionError> {
    match &prompt.prompt {
        Content::Text(text) => Ok(vec![Message::new(Role::User, text.clone())]),
        Content::Messages(messages) => Ok(messages.clone()),
        Content::Ids(_) => Err(ConstitutionError::Ids(prompt.source.clone())),
    }
}

impl RevisionPlan<'_> {
    /// Draws one of the principles for which `is_usable`.
    fn draw(
        &self,
        purpose: &str,
        prompt: usize,
        number: usize,
        is_usable: fn(&Principle) -> bool,
    ) -> usize {
        let usable: Vec<usize> =
            (0..self.principles.len()).filter(|at| is_usable(&self.principles[*at])).collect();
        let seeds = Seeds::new(self.config.run.seed);
        let seed = seeds.derive(purpose, prompt as u64, number as u64);
        usable[Seeds::new(seed).stream(purpose, 0).random_range(0..usable.len())]
    }

    fn chains(
        &self,
        conversations: &[Vec<Message>],
        on_prompt: &(dyn Fn() + Sync),
    ) -> Result<Vec<Chain>, JudgeError> {
        let numbered: Vec<(usize, &Vec<Message>)> = conversations.iter().enumerate().collect();
        let has_failed = AtomicBool::new(false);
        in_parallel(&numbered, self.parallel, &has_failed, |(at, prompt)| {
            let chain = self.chain(*at, prompt, &has_failed)?;
            on_prompt();
            Ok(chain)
        })
    }

    fn chain(
        &self,
        at: usize,
        prompt: &[Message],
        has_failed: &AtomicBool,
    ) -> Result<Chain, JudgeError> {
        let RevisionConfig { rounds, max_tokens, temperature, system } = &self.config.revision;
        let go_on =
            || !has_failed.load(Ordering::Relaxed) && !self.asking.is_over.load(Ordering::Relaxed);
        let draw = |number: u64| AnswerDraw {
            max_tokens: Some(**max_tokens),
            temperature: Some(**temperature),
            number,
        };
        let mut start = prompt.to_vec();
        if !system.is_empty() && start.first().is_none_or(|first| first.role != Role::System) {
            start.insert(0, Message::new(Role::System, system.clone()));
        }
        let say = |conversation: &[Message], number| {
            self.model.reply(conversation, &draw(number), &go_on).map(|reply| reply.text)
        };
        let initial = say(&start, 0)?;
        let mut answer = initial.clone();
        let mut done = Vec::with_capacity(*rounds);
        for round in 0..*rounds {
            let principle =
                &self.principles[self.draw("principle", at, round, |one| !one.critique.is_empty())];
            let mut talk = start.clone();
            talk.push(Message::new(Role::Assistant, answer.clone()));
            talk.push(Message::new(Role::User, principle.critique.clone()));
            let critique = say(&talk, 0)?;
            talk.push(Message::new(Role::Assistant, critique.clone()));
            talk.push(Message::new(Role::User, principle.revision.clone() + ANSWER_ALONE));
            let revision = say(&talk, 0)?;
            answer.clone_from(&revision);
            done.push(RevisionRound { principle: principle.name.clone(), critique, revision });
        }
        let other = if self.config.comparison.pairs { Some(say(&start, 1)?) } else { None };
        let prompt = prompt.to_vec();
        Ok(Chain {
            prompt,
            initial,
            rounds: done,
            other,
            compared_by: Vec::new(),
            probability: None,
        })
    }

    /// Compares the two answers of every prompt by the principles drawn for it.
    fn compare(&self, chains: &mut [Chain]) -> Result<(), JudgeError> {
        let mut by_principle: Vec<Vec<usize>> = vec![Vec::new(); self.principles.len()];
        for at in 0..chains.len() {
            let mut drawn: Vec<usize> = Vec::new();
            let usable = self.principles.iter().filter(|one| !one.compare.is_empty()).count();
            let wanted = (*self.config.comparison.principles).min(usable);
            let mut number = 0;
            while drawn.len() < wanted {
                let next = self.draw("comparison", at, number, |one| !one.compare.is_empty());
                number += 1;
                if !drawn.contains(&next) {
                    drawn.push(next);
                }
            }
            for principle in drawn {
                by_principle[principle].push(at);
            }
        }
        let fields = Map::new();
        let mut sums = vec![(0.0, 0_u32); chains.len()];
        for (principle, places) in self.principles.iter().zip(&by_principle) {
            let prompts: Vec<String> =
                places.iter().map(|&at| prompt_text(&chains[at].prompt)).collect();
            let comparison = |(&at, prompt): (&usize, &'_ String)| {
                let chain = &chains[at];
                (chain, prompt.clone())
            };
            let owned: Vec<_> = places.iter().zip(&prompts).map(comparison).collect();
            let comparisons: Vec<CompletionPair<'_>> = owned
                .iter()
                .map(|(chain, prompt)| CompletionPair {
                    prompt,
                    messages: Some(&chain.prompt),
                    completions: [&chain.initial, chain.other.as_deref().unwrap_or_default()],
                    fields: &fields,
                })
                .collect();
            if comparisons.is_empty() {
                continue;
            }
            let found = preferences(&mut self.judge(principle), &comparisons)?;
            for (&at, probability) in places.iter().zip(found.probabilities) {
                let Some(probability) = probability else { continue };
                sums[at] = (sums[at].0 + probability, sums[at].1 + 1);
            }
            for &at in places {
                chains[at].compared_by.push(principle.name.clone());
            }
        }
        let clamp = *self.config.comparison.clamp;
        for (chain, (sum, count)) in chains.iter_mut().zip(sums) {
            chain.probability =
                (0 < count).then(|| (sum / f64::from(count)).clamp(clamp, 1.0 - clamp));
        }
        Ok(())
    }

    fn judge(&self, principle: &Principle) -> ChatJudge {
        let ComparisonConfig { question, both_orders, method, votes, reasons, .. } =
            &self.config.comparison;
        let reasoning = reasons.then(|| Reasoning {
            ask: ASK_REASONS.to_owned(),
            then: THEN_CHOOSE.to_owned(),
            max_tokens: *self.config.revision.max_tokens,
        });
        let question = question.replace("{principle}", &principle.compare);
        let options = ChatJudgeOptions {
            system: String::new(),
            question: Template::new(question).expect("the places are checked"),
            choice: ChoiceOptions {
                choices: ["A", "B"].map(str::to_owned).into(),
                method: (*method).into(),
                votes: u32::try_from(**votes).unwrap_or(u32::MAX),
                draw: AnswerDraw { max_tokens: Some(16), ..AnswerDraw::default() },
                reasoning,
            },
            parallel: self.parallel,
            rules: Rules {
                orders: if *both_orders { Orders::Both } else { Orders::Alternating },
                unreadable: Unreadable::Drop,
            },
        };
        ChatJudge::new(Arc::clone(&self.model), options).until(Arc::clone(&self.asking.is_over))
    }

    /// Writes what trainers read; what has no text, or says nothing, is left out.
    fn write(&self, chains: &[Chain]) -> Result<WrittenCounts, ConstitutionError> {
        let at = |name: &str| self.config.run.dir.join(name);
        let said = |text: &str| json!([{ "role": "assistant", "content": text }]);
        let prompt =
            |chain: &Chain| -> Value { chain.prompt.iter().map(Message::to_json).collect() };
        let is_text = |text: &str| !text.trim().is_empty();
        let mut demonstrations = Vec::new();
        let mut revisions = Vec::new();
        let mut comparisons = Vec::new();
        for chain in chains {
            if let Some(last) = chain.rounds.last().filter(|last| is_text(&last.revision)) {
                let completion = said(&last.revision);
                demonstrations.push(json!({ "prompt": prompt(chain), "completion": completion }));
                if is_text(&chain.initial) && chain.initial != last.revision {
                    let (chosen, rejected) = (said(&last.revision), said(&chain.initial));
                    revisions.push(
                        json!({ "prompt": prompt(chain), "chosen": chosen, "rejected": rejected }),
                    );
                }
            }
            let (Some(probability), Some(other)) = (chain.probability, &chain.other) else {
                continue;
            };
            if !is_text(&chain.initial) || !is_text(other) || chain.initial == *other {
                continue;
            }
            let (better, worse, probability) = if 0.5 <= probability {
                (&chain.initial, other, probability)
            } else {
                (other, &chain.initial, 1.0 - probability)
            };
            comparisons.push(json!({
                "prompt": prompt(chain),
                "chosen": said(better),
                "rejected": said(worse),
                "probability": probability,
                "principles": chain.compared_by,
            }));
        }
        let written = WrittenCounts {
            chains: chains.len(),
            demonstrations: demonstrations.len(),
            revisions: revisions.len(),
            comparisons: comparisons.len(),
        };
        write_jsonl(&at("chains.jsonl"), chains)?;
        if 0 < self.config.revision.rounds {
            write_jsonl(&at("demonstrations.jsonl"), demonstrations)?;
            write_jsonl(&at("revisions.jsonl"), revisions)?;
        }
        if self.config.comparison.pairs {
            write_jsonl(&at("comparisons.jsonl"), comparisons)?;
        }
        Ok(written)
    }
}
