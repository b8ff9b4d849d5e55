//! `hearken steps`: solutions into steps, and labels for them without people.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use hearken_data::{Answer, AnswerContent, Content, Solution};
use hearken_generate::GenerateError;
use hearken_model::steps::{STEP_SEPARATOR, encode_steps};
use hearken_model::{Model, Tokenizer};
use hearken_recipes::step_labels::{
    Rollouts, StepEstimate, Unlabelled, by_arithmetic, by_rollouts, consensus,
};
use hearken_reward_source::StepSplit;
use hearken_run::encode::{Encoder, LengthLimit};
use hearken_tensor::AnyDevice;
use serde_json::{Map, Value};

use super::best_of::VerifierArgument;
use super::model_arguments::{ModelArguments, OptionalModelArguments};
use super::output_lines::{LineArguments, OutputLines};
use super::sampling_arguments::{SamplingArguments, from_one};
use crate::counter::Counter;
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::output;

/// Divide solutions into steps, and label them without people
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Steps {
    #[command(subcommand)]
    what: What,
}

const EXAMPLES: &str = "\
Examples:
  echo '{\"prompt\": \"1+2+3\", \"completion\": \"1+2=3\\n3+3=6\", \"answer\": 6}' \\
      > solutions.jsonl
  hearken steps split --input solutions.jsonl --output steps.jsonl
  hearken steps label --input steps.jsonl --output labelled.jsonl \\
      --by arithmetic";

#[derive(Debug, Subcommand)]
enum What {
    Split(SplitArguments),
    Label(Box<Label>),
}

impl Steps {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.what {
            What::Split(split) => split.run(),
            What::Label(label) => label.run(),
        }
    }
}

/// Divide solutions into steps
///
/// Every line of the input, with `prompt` and `completion`, becomes a line with `prompt` and `completions`, a list of steps.
#[derive(Args, Debug)]
#[command(after_help = SPLIT_EXAMPLES)]
struct SplitArguments {
    #[command(flatten)]
    lines: LineArguments,

    /// Where a step ends
    #[arg(long, value_enum, default_value = "lines", conflicts_with = "pattern")]
    by: By,

    /// Wherever this regular expression matches instead; what matches belongs to no step
    #[arg(long, value_name = "REGEX")]
    pattern: Option<String>,
}

const SPLIT_EXAMPLES: &str = "\
Examples:
  hearken steps split --input solutions.jsonl --output steps.jsonl \\
      --by sentences
  hearken steps split --input solutions.jsonl --output steps.jsonl \\
      --pattern '\\n\\n+'";

/// Where a step ends.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    /// At the end of a line
    Lines,
    /// At a blank line
    BlankLines,
    /// At the end of a sentence
    Sentences,
    /// Before a line that begins with a number, as "2." or "Step 2:"
    Numbered,
}

impl SplitArguments {
    fn run(self) -> Result<ExitCode> {
        let split = match (&self.pattern, self.by) {
            (Some(pattern), _) => match StepSplit::pattern(pattern) {
                Ok(split) => split,
                Err(reason) => bail!("--pattern: expected a regular expression: {reason}"),
            },
            (None, By::Lines) => StepSplit::Lines,
            (None, By::BlankLines) => StepSplit::BlankLines,
            (None, By::Sentences) => StepSplit::Sentences,
            (None, By::Numbered) => StepSplit::Numbered,
        };
        self.lines.check(Path::new(""))?;
        let answers: Vec<Answer> = self.lines.read(&["completions"])?;
        let mut lines: OutputLines<Map<String, Value>> = self.lines.open(0)?;
        let mut count = 0;
        for answer in &answers {
            let at = &answer.source;
            let AnswerContent::Whole(Some(_), completion) = &answer.content else {
                bail!("{at}: expected `prompt` and `completion`");
            };
            let text = match completion {
                Content::Text(text) => text.as_str(),
                Content::Messages(messages) => {
                    messages.last().map_or("", |message| message.content.as_str())
                }
                Content::Ids(_) => bail!("{at}: found token ids, expected text"),
            };
            let steps = split.steps(text);
            if steps.is_empty() {
                bail!("{at}: found no step in `completion`, expected a text");
            }
            count += steps.len();
            let mut line = answer.extra.clone();
            line.remove("completion");
            line.insert("completions".to_owned(), Value::from(steps));
            lines.write(line)?;
        }
        lines.finish()?;
        output::say(&format!("{} solutions, {count} steps", answers.len()));
        Ok(ExitCode::SUCCESS)
    }
}

/// Label the steps of solutions by completions from each of them, by arithmetic, or by both
///
/// Every line of the input, with `prompt`, `completions` (or `completion`, whose lines are steps) and the right answer,
/// becomes the same line with `labels`, which `hearken reward` with kind = "process" is trained on. From the end of each
/// step the model completes the solution several times: the step is as good as the share that reaches the right answer.
/// Arithmetic says whether the equations of a step hold, and nothing of a step without any; it needs no model. With both, a step on which
/// they disagree has no label.
#[derive(Args, Debug)]
#[command(after_help = LABEL_EXAMPLES)]
struct Label {
    // Labels by arithmetic need none.
    #[command(flatten)]
    model: OptionalModelArguments,

    #[command(flatten)]
    labelling: Labelling,
}

/// How steps are labelled, with a model or without.
#[derive(Args, Debug)]
struct Labelling {
    #[command(flatten)]
    lines: LineArguments,

    /// What labels are made of
    #[arg(long, value_enum, default_value = "rollouts")]
    by: LabelBy,

    /// Completions from each step
    #[arg(long, default_value = "8", value_name = "N", value_parser = from_one)]
    rollouts: usize,

    /// What completions say of a step
    #[arg(long, value_enum, default_value = "hard")]
    estimate: Estimate,

    /// The most tokens of a completion
    #[arg(long, default_value = "256", value_name = "N", value_parser = from_one)]
    max_new_tokens: usize,

    /// What is compared with the right answer
    #[arg(long, value_enum, default_value = "numeric")]
    verifier: VerifierArgument,

    /// The column with the right answer
    #[arg(long, default_value = "answer", value_name = "COLUMN")]
    answer: String,

    /// What stands behind each step
    #[arg(long, default_value = STEP_SEPARATOR, value_name = "TEXT", hide_default_value = true)]
    separator: String,

    #[command(flatten)]
    sampling: SamplingArguments,
}

const LABEL_EXAMPLES: &str = "\
Examples:
  hearken steps label --input steps.jsonl --output labelled.jsonl \\
      --by arithmetic
  hearken steps label --model runs/sft/final --input steps.jsonl \\
      --output labelled.jsonl --rollouts 8
  hearken steps label --model runs/sft/final --input steps.jsonl \\
      --output labelled.jsonl --by both --estimate soft";

/// What labels are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LabelBy {
    /// Completions from each step
    Rollouts,
    /// Equations
    Arithmetic,
    /// Both, where they agree
    Both,
}

impl LabelBy {
    fn name(self) -> &'static str {
        match self {
            Self::Rollouts => "rollouts",
            Self::Arithmetic => "arithmetic",
            Self::Both => "both",
        }
    }
}

/// What completions say of a step.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Estimate {
    /// 1 where any is right, else 0
    Hard,
    /// The share that is right
    Soft,
}

/// Solutions whose completions are sampled together.
const TOGETHER: usize = 16;

/// A solution with its steps.
struct Stepped<'a> {
    answer: &'a Answer,
    prompt: &'a Content,
    steps: Vec<String>,
    right: String,
}

/// The model that completes solutions, with its tokenizer.
fn completing(arguments: &ModelArguments) -> Result<(Model<AnyDevice>, Tokenizer)> {
    let (model, tokenizer) = arguments.load()?;
    let Some(tokenizer) = tokenizer else {
        bail!(
            "{}: has no tokenizer.json; expected one, since steps are texts",
            arguments.model.display()
        );
    };
    Ok((model, tokenizer))
}

impl Label {
    fn run(self) -> Result<ExitCode> {
        let Self { model, labelling } = self;
        let arguments = match (labelling.by, model.named()) {
            (LabelBy::Arithmetic, _) => None,
            (LabelBy::Rollouts | LabelBy::Both, Some(arguments)) => Some(arguments),
            (by @ (LabelBy::Rollouts | LabelBy::Both), None) => bail!(
                "--model: is missing; expected the model that completes solutions, which --by {} \
                 asks for: --by arithmetic alone needs none",
                by.name()
            ),
        };
        labelling.run(arguments.as_ref())
    }
}

impl Labelling {
    fn run(self, arguments: Option<&ModelArguments>) -> Result<ExitCode> {
        let place = arguments.map_or(Path::new(""), |arguments| &arguments.model);
        self.lines.check(place)?;
        let answers: Vec<Answer> = self.lines.read(&[])?;
        let stepped: Vec<Stepped<'_>> =
            answers.iter().map(|answer| self.stepped(answer)).collect::<Result<_>>()?;
        let expected = stepped.len();
        let is_own = |_: usize, line: &Map<String, Value>| line.contains_key("labels");
        let present = self.lines.present(expected, is_own)?;
        if present == expected {
            output::say(&format!("{expected} lines are there already"));
            return Ok(ExitCode::SUCCESS);
        }
        let by = arguments.map(completing).transpose()?;
        let interrupt = Interrupt::install("stopping after these solutions")?;
        let mut lines: OutputLines<Map<String, Value>> = self.lines.open(present)?;
        let mut counter = Counter::new(expected - present);
        let mut counts = StepLabelCounts::default();
        let mut written = present;
        while written < expected && !interrupt.requested() {
            let together = &stepped[written..expected.min(written + TOGETHER)];
            let estimates = match &by {
                None => vec![Vec::new(); together.len()],
                Some(by) => match self.estimates(together, by, &interrupt, written)? {
                    Some(estimates) => estimates,
                    None => break,
                },
            };
            for (solution, estimates) in together.iter().zip(&estimates) {
                counter.add(1, estimates.iter().map(|one| one.count).sum());
                lines.write(self.line(solution, estimates, &mut counts)?)?;
                written += 1;
            }
        }
        counter.finish("solution");
        output::say(&counts.text(self.by));
        if written < expected {
            lines.stop(written, expected)?;
            return Ok(ExitCode::from(INTERRUPTED));
        }
        lines.finish()?;
        Ok(ExitCode::SUCCESS)
    }

    fn stepped<'a>(&self, answer: &'a Answer) -> Result<Stepped<'a>> {
        let at = &answer.source;
        let (prompt, steps) = match &answer.content {
            AnswerContent::Steps(Solution::Texts { prompt, steps }) => (prompt, steps.clone()),
            AnswerContent::Whole(Some(prompt), completion) => {
                (prompt, completion.steps(&self.separator))
            }
            _ => bail!("{at}: expected `prompt` with `completions` or `completion`"),
        };
        if steps.is_empty() {
            bail!("{at}: found no step, expected at least one");
        }
        let right = match answer.extra.get(&self.answer) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ if self.by == LabelBy::Arithmetic => String::new(),
            _ => bail!(
                "{at}: found no text or number in the column `{}`, expected the right answer",
                self.answer
            ),
        };
        Ok(Stepped { answer, prompt, steps, right })
    }

    fn estimates(
        &self,
        solutions: &[Stepped<'_>],
        (model, tokenizer): &(Model<AnyDevice>, Tokenizer),
        interrupt: &Interrupt,
        first: usize,
    ) -> Result<Option<Vec<Vec<StepEstimate>>>> {
        let encoder = Encoder {
            tokenizer: Some(tokenizer),
            vocab: model.config().vocab,
            length: LengthLimit {
                tokens_max: model.config().max_positions,
                truncation: hearken_config::Truncation::Error,
            },
            completion_only: true,
            step_separator: &self.separator,
        };
        let mut unlabelled = Vec::with_capacity(solutions.len());
        for solution in solutions {
            let Answer { extra, source: at, .. } = solution.answer;
            let prompt = encoder.prompt(solution.prompt, extra, at)?;
            let tokens = encode_steps(tokenizer, &prompt, &solution.steps, &self.separator)
                .with_context(|| at.to_string())?;
            super::logprobs::check_ids(&tokens.ids, at, encoder.vocab, encoder.length.tokens_max)?;
            unlabelled.push(Unlabelled { tokens, steps: &solution.steps, answer: &solution.right });
        }
        let sampling = self.sampling.sampling(self.max_new_tokens);
        let rollouts = Rollouts {
            count: self.rollouts,
            sampling: &sampling,
            verifier: self.verifier.into(),
            separator: &self.separator,
            seed: self.sampling.seed.wrapping_add(first as u64),
        };
        let mut observer = |_: hearken_generate::TokenSampled<'_>| match interrupt.requested() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        match by_rollouts(model, tokenizer, &unlabelled, &rollouts, &mut observer) {
            Err(GenerateError::Stopped { .. }) => Ok(None),
            estimates => Ok(Some(estimates?)),
        }
    }

    fn line(
        &self,
        solution: &Stepped<'_>,
        estimates: &[StepEstimate],
        counts: &mut StepLabelCounts,
    ) -> Result<Map<String, Value>> {
        let of_rollouts: Vec<Option<f64>> = estimates
            .iter()
            .map(|one| {
                Some(match self.estimate {
                    Estimate::Hard => one.hard(),
                    Estimate::Soft => one.soft(),
                })
            })
            .collect();
        let labels = match self.by {
            LabelBy::Rollouts => of_rollouts,
            LabelBy::Arithmetic => by_arithmetic(&solution.steps),
            LabelBy::Both => {
                let (labels, (agree, both)) =
                    consensus(&of_rollouts, &by_arithmetic(&solution.steps));
                counts.agree += agree;
                counts.both += both;
                labels
            }
        };
        counts.add(&labels);
        let mut line = solution.answer.extra.clone();
        line.remove("completion");
        if !line.contains_key("prompt") {
            // Columns of ProcessBench and Math-Shepherd would be read in place of the new labels.
            for name in ["problem", "steps", "input", "label"] {
                line.remove(name);
            }
            line.insert("prompt".to_owned(), serde_json::to_value(solution.prompt)?);
        }
        line.insert("completions".to_owned(), Value::from(solution.steps.clone()));
        line.insert("labels".to_owned(), Value::from(labels));
        if !estimates.is_empty() {
            let right: Vec<usize> = estimates.iter().map(|one| one.right).collect();
            line.insert("rollouts_right".to_owned(), Value::from(right));
        }
        Ok(line)
    }
}

/// What labels say.
#[derive(Default)]
struct StepLabelCounts {
    good: usize,
    bad: usize,
    none: usize,
    agree: usize,
    both: usize,
}

impl StepLabelCounts {
    fn add(&mut self, labels: &[Option<f64>]) {
        for label in labels {
            match label {
                None => self.none += 1,
                Some(label) if *label < 0.5 => self.bad += 1,
                Some(_) => self.good += 1,
            }
        }
    }

    fn text(&self, by: LabelBy) -> String {
        let Self { good, bad, none, agree, both } = self;
        let text = format!("{good} good steps, {bad} bad, {none} without a label");
        match by {
            LabelBy::Both => format!(
                "{text}; completions and arithmetic agree on {agree} of {both} that both judge"
            ),
            LabelBy::Rollouts | LabelBy::Arithmetic => text,
        }
    }
}
