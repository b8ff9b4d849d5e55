//! `hearken best-of`.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use hearken_config::Verifier;
use hearken_data::Content;
use hearken_generate::GenerateError;
use hearken_hub::ModelPart;
use hearken_model::steps::StepTokens;
use hearken_model::{LoadOptions, Masters, Model, Tokenizer};
use hearken_recipes::search::{
    SampleSettings, SampledAnswer, Scored, ScoredPrompt, Scorer, TreeSearch, sample, search,
};
use hearken_reward_source::{StepAggregation, answer_of, groups_of, verify};
use hearken_run::seeds::Seeds;
use hearken_run::trained_model::load_tokenizer;
use hearken_stats::proportion::wilson;
use hearken_stats::reranking::{Candidate, RerankingRule, choose};
use hearken_tensor::AnyDevice;
use serde::Serialize;
use serde_json::{Map, Value};

use super::generate::{PromptLine, encode};
use super::model_arguments::ModelArguments;
use super::output_lines::{LineArguments, OutputLines};
use super::sampling_arguments::{SamplingArguments, from_one};
use super::score::aggregations;
use crate::counter::Counter;
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::{device, hub, output};

/// The best of several answers, chosen by a reward model or by votes
///
/// Every line of the input has a `prompt` or `messages` and becomes a line with the chosen `completion`, its `score` under the
/// reward model, and `votes`, the share of answers that say the same. With --search, answers are grown step by step and a
/// process reward model says which go on.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BestOf {
    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    lines: LineArguments,

    /// A reward model: of preferences, of outcomes, or of steps; needed unless --choose majority
    #[arg(long, value_name = "DIR_OR_NAME")]
    reward: Option<PathBuf>,

    /// Answers to each prompt
    #[arg(short = 'n', long, default_value = "8", value_name = "N", value_parser = from_one)]
    samples: usize,

    /// How one of them is chosen
    #[arg(long, value_enum, default_value = "best")]
    choose: ChooseArgument,

    /// How answers come about
    #[arg(long, value_enum, default_value = "sample")]
    search: SearchArgument,

    /// With --search beam or diverse: steps that are tried behind each answer, of which one goes on
    #[arg(long, default_value = "4", value_name = "N", value_parser = from_one)]
    width: usize,

    /// With --search beam or diverse: the most steps of an answer
    #[arg(long, default_value = "32", value_name = "N", value_parser = from_one)]
    max_steps: usize,

    /// The most tokens of an answer
    #[arg(long, default_value = "256", value_name = "N", value_parser = from_one)]
    max_new_tokens: usize,

    /// How the scores of steps become one
    #[arg(long, value_parser = aggregations(), default_value = "product")]
    aggregate: StepAggregation,

    /// What is compared to say which answers are the same, and whether one is right
    #[arg(long, value_enum, default_value = "numeric")]
    verifier: VerifierArgument,

    /// The column with the right answer: every line then says whether the chosen one is `right`
    #[arg(long, value_name = "COLUMN")]
    answer: Option<String>,

    /// Every line has all answers too: `completions` and `scores`
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    sampling: SamplingArguments,
}

/// How one answer is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ChooseArgument {
    /// The one with the highest score
    Best,
    /// One of those that say what most say
    Majority,
    /// One of those that say the same and have the largest sum of scores
    Weighted,
}

impl From<ChooseArgument> for RerankingRule {
    fn from(choose: ChooseArgument) -> Self {
        match choose {
            ChooseArgument::Best => Self::Best,
            ChooseArgument::Majority => Self::Majority,
            ChooseArgument::Weighted => Self::Weighted,
        }
    }
}

/// How answers come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SearchArgument {
    /// Each is sampled whole
    Sample,
    /// Step by step; the best beginnings of all go on
    Beam,
    /// Step by step; each of several trees goes on with its own best beginning
    Diverse,
}

/// What is compared.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum VerifierArgument {
    /// The number behind the last ####, else the last number
    Numeric,
    /// What stands in the last \boxed{}
    Boxed,
    /// The whole text
    Exact,
}

impl From<VerifierArgument> for Verifier {
    fn from(verifier: VerifierArgument) -> Self {
        match verifier {
            VerifierArgument::Numeric => Self::Numeric,
            VerifierArgument::Boxed => Self::Boxed,
            VerifierArgument::Exact => Self::Exact,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  hearken best-of --model runs/quickstart/sft/final \\
      --reward runs/quickstart/reward/final \\
      --input runs/quickstart/data/prompts_eval.jsonl --output best.jsonl \\
      -n 4 --max-new-tokens 16
  echo '{\"prompt\": \"1+2+3\", \"answer\": \"6\"}' > problems.jsonl
  hearken best-of --model runs/quickstart/sft/final --input problems.jsonl \\
      --output voted.jsonl -n 4 --max-new-tokens 16 --choose majority \\
      --answer answer
  # with a model of steps, as docs/process.md trains it:
  # hearken best-of --model DIR --reward runs/process/final \\
  #     --input problems.jsonl --output out.jsonl -n 16 --search beam";

/// The columns of a line.
const COLUMNS: [&str; 7] =
    ["completion", "score", "votes", "answers", "right", "completions", "scores"];

/// Prompts whose answers are sampled together.
const TOGETHER: usize = 16;

#[derive(Serialize)]
struct BestOfLine<'a> {
    #[serde(flatten)]
    kept: Option<&'a Map<String, Value>>,
    completion: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    votes: f64,
    answers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    right: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completions: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<Vec<f64>>,
}

/// The answers to a prompt, with what a reward model says of them.
type RankedAnswers = Vec<(SampledAnswer, Option<Scored>)>;

/// A reward model with its tokenizer.
struct Judge {
    scorer: Scorer<AnyDevice>,
    tokenizer: Tokenizer,
}

impl BestOf {
    pub(crate) fn run(self) -> Result<ExitCode> {
        self.lines.check(&self.model.model)?;
        self.check()?;
        let prompts: Vec<PromptLine> = self.lines.read(&COLUMNS)?;
        let expected = prompts.len();
        let is_own = |_: usize, line: &Map<String, Value>| line.contains_key("votes");
        let present = self.lines.present(expected, is_own)?;
        if present == expected {
            output::say(&format!("{expected} lines are there already"));
            return Ok(ExitCode::SUCCESS);
        }
        let judge = self.judge()?;
        let (policy, tokenizer) = self.model.load()?;
        let Some(tokenizer) = tokenizer else {
            bail!(
                "{}: has no tokenizer.json; expected one, since answers are texts",
                self.model.model.display()
            );
        };
        self.model.say_built_in_format(Some(&tokenizer));
        let work = BestOfRun { command: &self, policy, tokenizer, judge };
        let interrupt = Interrupt::install("stopping after these prompts")?;
        let mut lines: OutputLines<BestOfLine<'_>> = self.lines.open(present)?;
        let mut counter = Counter::new(expected - present);
        let (mut written, mut right) = (present, 0);
        while written < expected && !interrupt.requested() {
            let together = &prompts[written..expected.min(written + TOGETHER)];
            let answers = work.answers(together, written, &interrupt)?;
            let Some(answers) = answers else { break };
            for (line, answers) in together.iter().zip(answers) {
                let tokens = answers.iter().map(|(answer, _)| answer.ids.len()).sum();
                counter.add(1, tokens);
                let chosen = work.choose(line, &answers)?;
                right += usize::from(chosen.right == Some(true));
                lines.write(chosen)?;
                written += 1;
            }
        }
        counter.finish("prompt");
        if let (Some(share), Some(_)) = (wilson(right as f64, written - present), &self.answer) {
            output::say(&format!(
                "{right} of {} right: {:.1} % [{:.1}, {:.1}]",
                written - present,
                100.0 * share.value,
                100.0 * share.low,
                100.0 * share.high
            ));
        }
        if written < expected {
            lines.stop(written, expected)?;
            return Ok(ExitCode::from(INTERRUPTED));
        }
        lines.finish()?;
        Ok(ExitCode::SUCCESS)
    }

    fn check(&self) -> Result<()> {
        if self.reward.is_none()
            && (self.choose != ChooseArgument::Majority || self.search != SearchArgument::Sample)
        {
            bail!("--reward: expected a reward model; only --choose majority goes without one");
        }
        if self.search != SearchArgument::Sample && !self.samples.is_multiple_of(self.width) {
            let (found, width) = (self.samples, self.width);
            bail!(
                "-n: found {found}, expected a multiple of --width {width}: one of so many steps goes on"
            );
        }
        Ok(())
    }

    fn judge(&self) -> Result<Option<Judge>> {
        let Some(reward) = &self.reward else { return Ok(None) };
        let place = hub::model(reward, ModelPart::Whole)?;
        let options = LoadOptions { masters: Masters::Drop, ..LoadOptions::scorer() };
        let scorer = Scorer::load(device::open(), &place, &options)?.with_context(|| {
            format!("{}: has no score head, expected a reward model", place.display())
        })?;
        if self.search != SearchArgument::Sample && scorer.separator().is_none() {
            bail!(
                "{}: scores whole answers; expected a process reward model for --search",
                place.display()
            );
        }
        let tokenizer = load_tokenizer(&place)?.with_context(|| {
            format!(
                "{}: has no tokenizer.json, expected one, since answers are texts",
                place.display()
            )
        })?;
        Ok(Some(Judge { scorer, tokenizer }))
    }
}

struct BestOfRun<'a> {
    command: &'a BestOf,
    policy: Model<AnyDevice>,
    tokenizer: Tokenizer,
    judge: Option<Judge>,
}

impl<'a> BestOfRun<'a> {
    /// The answers to some prompts, of which the first has this number, and their scores; `None` where it was
    /// interrupted.
    fn answers(
        &self,
        prompts: &[PromptLine],
        first: usize,
        interrupt: &Interrupt,
    ) -> Result<Option<Vec<RankedAnswers>>> {
        let command = self.command;
        let seeds = Seeds::new(command.sampling.seed);
        let sampling = command.sampling.sampling(command.max_new_tokens);
        let ids: Vec<Vec<u32>> = prompts
            .iter()
            .map(|line| encode(line, Some(&self.tokenizer), &self.policy))
            .collect::<Result<_>>()?;
        let seed = |index: usize| seeds.derive("best_of", (first + index) as u64, 0);
        if command.search == SearchArgument::Sample {
            let all: Vec<u64> = (0..prompts.len()).map(seed).collect();
            let draw = SampleSettings {
                prompts: &ids,
                samples: command.samples,
                sampling: &sampling,
                seeds: &all,
            };
            let mut observer = |_: hearken_generate::TokenSampled<'_>| match interrupt.requested() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
            let answers = match sample(&self.policy, &self.tokenizer, &draw, &mut observer) {
                Err(GenerateError::Stopped { .. }) => return Ok(None),
                answers => answers?,
            };
            let scored =
                prompts.iter().zip(answers).map(|(line, answers)| self.scored(line, answers));
            return scored.collect::<Result<Vec<_>>>().map(Some);
        }
        let judge = self.judge.as_ref().context("a reward model")?;
        let mut all = Vec::with_capacity(prompts.len());
        for (index, (line, ids)) in prompts.iter().zip(&ids).enumerate() {
            if interrupt.requested() {
                return Ok(None);
            }
            let how = TreeSearch {
                beams: command.samples,
                width: command.width,
                diverse: command.search == SearchArgument::Diverse,
                steps_max: command.max_steps,
                sampling: &sampling,
                aggregate: command.aggregate,
                tokens_max: command.max_new_tokens,
                seed: seed(index),
            };
            let reads = encode(line, Some(&judge.tokenizer), judge.scorer.model())?;
            let prompt = ScoredPrompt { ids: &reads, is_text: is_text(line) };
            let found = search(
                &self.policy,
                &self.tokenizer,
                &judge.scorer,
                &judge.tokenizer,
                ids,
                prompt,
                &how,
            )
            .with_context(|| line.source.to_string())?;
            all.push(found.into_iter().map(|(answer, scored)| (answer, Some(scored))).collect());
        }
        Ok(Some(all))
    }

    /// Answers with what the reward model says of them.
    fn scored(&self, line: &PromptLine, answers: Vec<SampledAnswer>) -> Result<RankedAnswers> {
        let Some(Judge { scorer, tokenizer }) = &self.judge else {
            return Ok(answers.into_iter().map(|answer| (answer, None)).collect());
        };
        let ids = encode(line, Some(tokenizer), scorer.model())?;
        let prompt = ScoredPrompt { ids: &ids, is_text: is_text(line) };
        let limit = scorer.model().config().max_positions;
        let mut tokens: Vec<StepTokens> = Vec::with_capacity(answers.len());
        for answer in &answers {
            let read = scorer.tokens(tokenizer, prompt, &answer.text, answer.ended)?;
            if limit < read.ids.len() {
                bail!(
                    "{}: found an answer of {} tokens with its prompt, expected at most the reward model's {limit} \
                     positions",
                    line.source,
                    read.ids.len()
                );
            }
            tokens.push(read);
        }
        let steps = scorer.separator().is_some();
        // An answer without a step has nothing that could be right.
        let is_read = |tokens: &StepTokens| !steps || !tokens.ends.is_empty();
        let read: Vec<StepTokens> = tokens.iter().filter(|one| is_read(one)).cloned().collect();
        let mut scores = scorer.scores(&read, self.command.aggregate, 4096).into_iter();
        let scored = answers.into_iter().zip(&tokens).map(|(answer, tokens)| {
            let scored = match is_read(tokens) {
                true => scores.next(),
                false => Some(Scored { steps: Some(Vec::new()), score: 0.0 }),
            };
            (answer, scored)
        });
        Ok(scored.collect())
    }

    /// The line of a prompt's answers.
    fn choose(&self, line: &'a PromptLine, answers: &RankedAnswers) -> Result<BestOfLine<'a>> {
        let command = self.command;
        let verifier = command.verifier.into();
        let right = |text: &str| -> Result<Option<bool>> {
            let Some(column) = &command.answer else { return Ok(None) };
            let expected = match line.columns.get(column) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                _ => bail!("{}: found no text or number in the column `{column}`", line.source),
            };
            Ok(Some(1.0 <= verify(verifier, text, &expected)))
        };
        let said: Vec<Option<String>> =
            answers.iter().map(|(answer, _)| answer_of(verifier, &answer.text)).collect();
        let groups = groups_of(verifier, &said);
        let weighs = self.judge.as_ref().is_some_and(|judge| judge.scorer.separator().is_none());
        let candidates: Vec<Candidate> = answers
            .iter()
            .zip(&groups)
            .map(|((_, scored), group)| {
                let score = scored.as_ref().map_or(1.0, |scored| scored.score);
                // Votes are weighted by probabilities: a score of the whole is a log-odds.
                let is_vote = weighs && command.choose == ChooseArgument::Weighted;
                let score = if is_vote { 1.0 / (1.0 + (-score).exp()) } else { score };
                Candidate { group: *group, score, right: false }
            })
            .collect();
        let index = choose(&candidates, command.choose.into())
            .with_context(|| format!("{}: no answer came about", line.source))?;
        let same =
            groups.iter().filter(|group| group.is_some() && **group == groups[index]).count();
        let (answer, scored) = &answers[index];
        let all = || answers.iter().map(|(answer, _)| answer.text.clone()).collect();
        let scores: Option<Vec<f64>> =
            answers.iter().map(|(_, scored)| scored.as_ref().map(|one| one.score)).collect();
        Ok(BestOfLine {
            kept: command.lines.kept(line),
            right: right(&answer.text)?,
            completion: answer.text.clone(),
            score: scored.as_ref().map(|scored| scored.score),
            votes: same as f64 / answers.len() as f64,
            answers: answers.len(),
            completions: command.all.then(all),
            scores: scores.filter(|_| command.all),
        })
    }
}

fn is_text(line: &PromptLine) -> bool {
    matches!(line.prompt, Content::Text(_))
}
