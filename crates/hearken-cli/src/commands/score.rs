//! `hearken score`.

mod items;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use hearken_config::Truncation;
use hearken_data::{Answer, AnswerContent, Content, Solution, Source};
use hearken_hub::ModelPart;
use hearken_model::microbatch::microbatches;
use hearken_model::steps::{STEP_SEPARATOR, StepTokens};
use hearken_model::{Head, Tokenizer, stored_head};
use hearken_recipes::search::Scorer;
use hearken_reward_source::process_file::ProcessRewardFile;
use hearken_reward_source::{StepAggregation, StepScorer};
use hearken_run::encode::{Encoder, LengthLimit};
use hearken_tensor::AnyDevice;
use serde::Serialize;
use serde_json::{Map, Value};

use super::logprobs::check_ids;
use super::model_arguments::ModelArguments;
use super::output_lines::{LineArguments, OutputLines, WithColumns};
use crate::counter::Counter;
use crate::hub;
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::output;

/// Scores of given answers under a reward model
///
/// Every line of the input becomes a line {"score": 1.25}. A reward model of preferences or outcomes reads the whole:
/// {"prompt": ..., "completion": ...}, {"messages": [...]}, {"text": "..."}, {"input_ids": [...]} or {"prompt_ids": [...],
/// "completion_ids": [...]}; its score is the number that its head gives at the last token. A process reward model reads
/// steps: {"prompt": ..., "completions": [...]}, {"problem": "...", "steps": [...]}, {"prompt": ..., "completion": "..."},
/// whose steps the separator ends, or {"input_ids": [...], "step_ends": [...]}; its line is {"step_scores": [...],
/// "score": 0.7}: for each step the probability that it is right, and one number of all of them. A file of PRM800K and a store in
/// which people judged steps are read as their solutions: each alternative of a step is one, and a line of the output.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Score {
    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    lines: LineArguments,

    /// How the scores of steps become one
    #[arg(long, value_parser = aggregations(), default_value = "product")]
    aggregate: StepAggregation,

    /// What stands behind each step; without it what the model was trained with, else a line break
    #[arg(long, value_name = "TEXT")]
    separator: Option<String>,

    /// The model is a language model that was trained on outcomes (`hearken dpo` with loss = "outcome"), and this is its
    /// reference: steps are scored by the ratio of both
    #[arg(long, value_name = "DIR_OR_NAME")]
    reference: Option<PathBuf>,

    /// With --reference: the β of that training
    #[arg(long, default_value_t = 0.1, value_name = "X", requires = "reference")]
    beta: f64,

    /// The name of the score's column, for scores of several models beside each other; those of steps get _steps behind it
    #[arg(long, value_name = "NAME")]
    column: Option<String>,

    /// The most tokens that go through the model at once; changes no result
    #[arg(long, default_value_t = 4096, value_name = "N")]
    microbatch_tokens: usize,

    #[command(flatten)]
    items: items::ItemArguments,
}

/// The ways in which the scores of steps become one, by their names.
pub(super) fn aggregations() -> impl TypedValueParser<Value = StepAggregation> {
    let names = StepAggregation::NAMES.map(|(name, _)| name);
    PossibleValuesParser::new(names).map(|given| {
        let found = StepAggregation::NAMES.into_iter().find(|(name, _)| *name == given);
        found.map(|(_, how)| how).expect("one of the names")
    })
}

const EXAMPLES: &str = "\
Examples:
  echo '{\"prompt\": \"Review of the toast:\", \"completion\": \" Warm.\"}' > in.jsonl
  hearken score --model runs/quickstart/reward/final --input in.jsonl \\
      --output scores.jsonl --keep
  # what a labelling service asks by, from one reward model after another
  hearken score --items --model runs/quickstart/reward/final \\
      --input runs/quickstart/data/preferences_eval.jsonl --output items.jsonl
  # a model of steps, as docs/process.md trains it:
  # hearken score --model runs/process/final --input solutions.jsonl \\
  #     --output scores.jsonl --aggregate min";

impl WithColumns for Answer {
    fn columns(&self) -> (&Map<String, Value>, &Source) {
        (&self.extra, &self.source)
    }
}

#[derive(Serialize)]
struct ScoreLine<'a> {
    #[serde(flatten)]
    kept: Option<&'a Map<String, Value>>,
    #[serde(flatten)]
    scored: Map<String, Value>,
}

impl Score {
    pub(crate) fn run(self) -> Result<ExitCode> {
        self.lines.check(&self.model.model)?;
        if self.items.are_read() {
            let (scorer, tokenizer) = self.load()?;
            let name = self.model.model.display().to_string();
            return self.items.score(&self.lines, (scorer, tokenizer), &name);
        }
        let own = self.columns()?;
        let answers: Vec<Answer> = self.lines.read(&[own[0].as_str(), own[1].as_str()])?;
        let expected = answers.len();
        let is_own = |_: usize, line: &Map<String, Value>| line.contains_key(&own[0]);
        let present = self.lines.present(expected, is_own)?;
        if present == expected {
            output::say(&format!("{expected} lines are there already"));
            return Ok(ExitCode::SUCCESS);
        }
        let (scorer, tokenizer) = self.load()?;
        let answers = &answers[present..];
        let encoded = encode(&scorer, tokenizer.as_ref(), answers)?;
        self.model.say_built_in_format(tokenizer.as_ref());
        let lengths: Vec<usize> = encoded.iter().map(|one| one.ids.len()).collect();
        let interrupt = Interrupt::install("stopping after this batch")?;
        let mut lines: OutputLines<ScoreLine<'_>> = self.lines.open(present)?;
        let mut counter = Counter::new(answers.len());
        let mut written = present;
        for group in microbatches(&lengths, self.microbatch_tokens) {
            if interrupt.requested() {
                break;
            }
            counter.add(group.len(), lengths[group.clone()].iter().sum());
            let scored = scorer.scores(&encoded[group.clone()], self.aggregate, usize::MAX);
            for (scored, answer) in scored.into_iter().zip(&answers[group]) {
                if !scored.score.is_finite() {
                    bail!("{}: the score is {}", answer.source, scored.score);
                }
                let steps = scored.steps.map(|steps| (own[1].clone(), Value::from(steps)));
                let score = (own[0].clone(), Value::from(scored.score));
                let scored = steps.into_iter().chain([score]).collect();
                lines.write(ScoreLine { kept: self.lines.kept(answer), scored })?;
                written += 1;
            }
        }
        counter.finish("answer");
        if written < expected {
            lines.stop(written, expected)?;
            return Ok(ExitCode::from(INTERRUPTED));
        }
        lines.finish()?;
        Ok(ExitCode::SUCCESS)
    }

    /// The columns of the score and of the steps' scores.
    fn columns(&self) -> Result<[String; 2]> {
        match self.column.as_deref() {
            None => Ok(["score".to_owned(), "step_scores".to_owned()]),
            Some("") => bail!("--column: found an empty text, expected a name"),
            Some(name) => Ok([name.to_owned(), format!("{name}_steps")]),
        }
    }

    /// The model, as its head says, and its tokenizer.
    fn load(&self) -> Result<(Scorer<AnyDevice>, Option<Tokenizer>)> {
        let place = self.model.reading_place()?;
        let head = stored_head(&place)?;
        let file = ProcessRewardFile::load(&place)?.unwrap_or_default();
        let file = match &self.separator {
            Some(separator) if separator.is_empty() => {
                bail!("--separator: found an empty text, expected what stands behind each step")
            }
            Some(separator) => ProcessRewardFile { step_separator: separator.clone(), ..file },
            None => file,
        };
        if let Some(reference) = &self.reference {
            if head != Head::LanguageModel {
                bail!(
                    "{}: has a head of its own; expected a language model beside --reference",
                    place.display()
                );
            }
            if !(self.beta.is_finite() && 0.0 < self.beta) {
                bail!("--beta: found {}, expected a number above 0", self.beta);
            }
            let (policy, tokenizer) = self.model.load()?;
            let reference = hub::model(reference, ModelPart::Whole)?;
            let reference = self.model.load_beside(&reference)?;
            let (of_policy, of_reference) = (policy.config().vocab, reference.config().vocab);
            if of_policy != of_reference {
                bail!(
                    "--reference: found a vocabulary of {of_reference}, expected that of --model, {of_policy}"
                );
            }
            let scorer = StepScorer::implicit((policy, reference), self.beta, file);
            return Ok((Scorer::Steps(Box::new(scorer)), tokenizer));
        }
        match head {
            Head::Score | Head::ScoreAndLength | Head::StepClasses(2 | 3) => {
                let (model, tokenizer) = self.model.load_as(head)?;
                Ok((Scorer::new(model, file).expect("a head that scores"), tokenizer))
            }
            Head::StepClasses(classes) => bail!(
                "{}: found a head of {classes} classes, expected 2 (bad, good) or 3 (bad, neutral, good)",
                place.display()
            ),
            Head::LanguageModel => bail!(
                "{}: found a language model without a score head, expected a reward model (`hearken reward` trains one), \
                 or --reference beside a model that was trained on outcomes",
                place.display()
            ),
        }
    }
}

pub(super) fn encode(
    scorer: &Scorer<AnyDevice>,
    tokenizer: Option<&Tokenizer>,
    answers: &[Answer],
) -> Result<Vec<StepTokens>> {
    let model = scorer.model();
    let step_separator = scorer.separator().unwrap_or(STEP_SEPARATOR);
    let config = model.config();
    let encoder = Encoder {
        tokenizer,
        vocab: config.vocab,
        length: LengthLimit { tokens_max: config.max_positions, truncation: Truncation::Error },
        completion_only: true,
        step_separator,
    };
    let reads_steps = scorer.separator().is_some();
    answers.iter().map(|answer| tokens(answer, &encoder, reads_steps)).collect()
}

/// The tokens at which a model reads; the ends of steps, where it reads these.
fn tokens(answer: &Answer, encoder: &Encoder<'_>, reads_steps: bool) -> Result<StepTokens> {
    let Answer { content, extra, source: at } = answer;
    let whole = |prompt: Option<&Content>, completion: &Content| -> Result<StepTokens> {
        let ids = encoder.completed(prompt, completion, extra, at)?;
        Ok(StepTokens { ids, ends: Vec::new(), prompt_len: 0 })
    };
    let separator = encoder.step_separator;
    let tokens = match (content, reads_steps) {
        (AnswerContent::Steps(solution), true) => encoder.solution(solution, extra, at)?,
        (AnswerContent::Whole(Some(prompt), completion), true) => {
            let steps = completion.steps(separator);
            if steps.is_empty() {
                bail!("{at}: found no step in the completion, expected a text with at least one");
            }
            let solution = Solution::Texts { prompt: prompt.clone(), steps };
            encoder.solution(&solution, extra, at)?
        }
        (AnswerContent::Whole(None, _), true) => bail!(
            "{at}: found a whole text, expected steps, which a process reward model scores: `prompt` + `completions`, \
             `problem` + `steps`, `prompt` + `completion`, or `input_ids` + `step_ends`"
        ),
        (AnswerContent::Whole(prompt, completion), false) => whole(prompt.as_ref(), completion)?,
        (AnswerContent::Steps(solution), false) => {
            let (prompt, completion) = solution.whole(separator);
            whole(prompt.as_ref(), &completion)?
        }
    };
    check_ids(&tokens.ids, at, encoder.vocab, encoder.length.tokens_max)?;
    Ok(tokens)
}
