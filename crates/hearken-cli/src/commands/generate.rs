//! `hearken generate`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hearken_data::{Completion, Content, Form, Record, Source, StopReason};
use hearken_generate::{
    Engine, EngineOptions, GenerateError, Sampling, SamplingRequest, completion_text,
};
use hearken_model::chat::{Conversation, encode_prompt};
use hearken_model::tokenizer::Bos;
use hearken_model::{Model, Tokenizer};
use hearken_run::seeds::Seeds;
use hearken_tensor::Device;
use serde::Serialize;
use serde_json::{Map, Value};

use super::logprobs::check_ids;
use super::model_arguments::ModelArguments;
use super::output_lines::{LineArguments, OutputLines, WithColumns};
use super::sampling_arguments::{SamplingArguments, from_one};
use crate::counter::Counter;
use crate::interrupt::{INTERRUPTED, Interrupt};

/// Complete prompts
///
/// Every line of the input has a `prompt`, `messages` (which the model's chat template renders, with
/// `tools` and whatever else it reads from the line) or `prompt_ids`, which are used as they are. It becomes a line with `completion`, `completion_ids` (an end token
/// included where one was sampled), `logprobs` (under the sampling temperature; at temperature 0
/// under 1) and `stop_reason`: "end_of_text", "stop_sequence", "length" (--max-new-tokens) or
/// "positions" (the model has no further ones). The text of a completion is what follows the prompt,
/// its first space included, and ends before its end token or stop sequence.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Generate {
    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    lines: LineArguments,

    /// The most tokens of a completion
    #[arg(long, value_name = "N", value_parser = from_one)]
    max_new_tokens: usize,

    /// Completions per prompt; the output then has that many consecutive lines, numbered by `sample`
    #[arg(short = 'n', long, value_name = "SAMPLES", value_parser = clap::value_parser!(u32).range(1..))]
    samples: Option<u32>,

    #[command(flatten)]
    sampling: SamplingArguments,
}

const EXAMPLES: &str = "\
Examples:
  echo '{\"prompt\": \"Review of the toast:\"}' > in.jsonl
  hearken generate --model runs/quickstart/ppo/final --input in.jsonl \\
      --output out.jsonl --max-new-tokens 64 --temperature 0.8 --top-p 0.95 -n 4
  hearken generate --model runs/quickstart/ppo/final --input in.jsonl \\
      --output greedy.jsonl --max-new-tokens 32 --temperature 0
  # Go on where that was stopped
  hearken generate --model runs/quickstart/ppo/final --input in.jsonl \\
      --output greedy.jsonl --max-new-tokens 32 --temperature 0 --resume
  hearken generate --model runs/quickstart/ppo/final --input - --output - \\
      --max-new-tokens 32 --keep < in.jsonl";

/// The columns of a line.
const COLUMNS: [&str; 5] = ["sample", "completion", "completion_ids", "logprobs", "stop_reason"];

/// A prompt, and where it stands.
pub(super) struct PromptLine {
    pub(super) prompt: Content,
    pub(super) columns: Map<String, Value>,
    pub(super) source: Source,
}

impl PromptLine {
    fn new(prompt: Content, row: &hearken_data::Row<'_>) -> Self {
        Self { prompt, columns: row.all_but(&[]), source: row.source() }
    }
}

impl Record for PromptLine {
    const FORMS: &'static [Form<Self>] = &[
        Form {
            required: &["prompt_ids"],
            optional: &[],
            parse: |row| Ok(Self::new(Content::Ids(row.ids("prompt_ids")?), row)),
        },
        Form {
            required: &["messages"],
            optional: &[],
            parse: |row| Ok(Self::new(Content::Messages(row.messages("messages")?), row)),
        },
        Form {
            required: &["prompt"],
            optional: &[],
            parse: |row| Ok(Self::new(row.content("prompt")?, row)),
        },
    ];
}

impl WithColumns for PromptLine {
    fn columns(&self) -> (&Map<String, Value>, &Source) {
        (&self.columns, &self.source)
    }
}

#[derive(Serialize)]
struct CompletionLine<'a> {
    #[serde(flatten)]
    kept: Option<&'a Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample: Option<usize>,
    /// Without a tokenizer there is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    completion: Option<String>,
    completion_ids: Vec<u32>,
    logprobs: Vec<f64>,
    stop_reason: StopReason,
}

impl Generate {
    pub(crate) fn run(self) -> Result<ExitCode> {
        self.lines.check(&self.model.model)?;
        let prompts: Vec<PromptLine> = self.lines.read(&COLUMNS)?;
        let expected = prompts.len() * self.samples_each();
        let present = self.lines.present(expected, |index, line| self.is_own(index, line))?;
        if present == expected {
            crate::output::say(&format!("{expected} lines are there already"));
            return Ok(ExitCode::SUCCESS);
        }
        let (model, tokenizer) = self.model.load()?;
        let work = GenerateRun {
            command: &self,
            tokenizer: tokenizer.as_ref(),
            sampling: self.sampling.sampling(self.max_new_tokens),
            first: present / self.samples_each(),
            prompts: &prompts,
        };
        let requests = work.requests(&model)?;
        self.model.say_built_in_format(work.tokenizer);
        let engine = Engine::with_requests(
            &model,
            work.tokenizer,
            &requests,
            &work.sampling,
            &EngineOptions::default(),
        );
        let engine = engine.map_err(|error| work.located(error))?;
        let interrupt = Interrupt::install("stopping after this token")?;
        let written = work.write(engine, present, &interrupt)?;
        Ok(if written == expected { ExitCode::SUCCESS } else { ExitCode::from(INTERRUPTED) })
    }

    fn samples_each(&self) -> usize {
        self.samples.unwrap_or(1) as usize
    }

    /// Whether an output's line can be of this command.
    fn is_own(&self, index: usize, line: &Map<String, Value>) -> bool {
        let sample = self.samples.map(|samples| Value::from(index % samples as usize));
        line.contains_key("completion_ids") && line.get("sample") == sample.as_ref()
    }
}

/// What is to be completed and how its lines are made.
struct GenerateRun<'a> {
    command: &'a Generate,
    tokenizer: Option<&'a Tokenizer>,
    sampling: Sampling,
    prompts: &'a [PromptLine],
    /// The first prompt that has not all of its lines.
    first: usize,
}

impl<'a> GenerateRun<'a> {
    fn requests<D: Device>(&self, model: &Model<D>) -> Result<Vec<SamplingRequest>> {
        let seeds = Seeds::new(self.command.sampling.seed);
        let samples = self.command.samples_each();
        let request = |(index, line): (usize, &PromptLine)| {
            let prompt_ids = encode(line, self.tokenizer, model)?;
            let seed = seeds.derive("generate", index as u64, 0);
            Ok(SamplingRequest { prompt_ids, samples, seed })
        };
        self.prompts.iter().enumerate().skip(self.first).map(request).collect()
    }

    /// Samples, and writes the lines after the first `present` in order; gives how many there are then.
    fn write<D: Device>(
        &self,
        mut engine: Engine<'_, D>,
        present: usize,
        interrupt: &Interrupt,
    ) -> Result<usize> {
        let samples = self.command.samples_each();
        let expected = self.prompts.len() * samples;
        let mut lines: OutputLines<CompletionLine<'_>> = self.command.lines.open(present)?;
        let mut counter = Counter::new(expected - self.first * samples);
        let mut waiting = BTreeMap::new();
        let mut written = present;
        while !engine.is_idle() && !interrupt.requested() {
            let ended = engine.step(&mut |event| {
                counter.add(usize::from(event.stop_reason.is_some()), 1);
                ControlFlow::Continue(())
            });
            for ended in ended.map_err(|error| self.located(error))? {
                let index = (self.first + ended.request) * samples + ended.sample;
                waiting.insert(index, ended.completion);
            }
            while let Some(completion) = waiting.remove(&written) {
                lines.write(self.line(written, completion))?;
                written += 1;
            }
            // Samples of the first prompt that are written are sampled again, for the others.
            waiting.retain(|index, _| written < *index);
        }
        counter.finish("completion");
        match written == expected {
            true => lines.finish()?,
            false => lines.stop(written, expected)?,
        }
        Ok(written)
    }

    fn line(&self, index: usize, completion: Completion) -> CompletionLine<'a> {
        let samples = self.command.samples_each();
        let text = |tokenizer| completion_text(tokenizer, &completion, &self.sampling.stop);
        CompletionLine {
            kept: self.command.lines.kept(&self.prompts[index / samples]),
            sample: self.command.samples.map(|_| index % samples),
            completion: self.tokenizer.map(text),
            completion_ids: completion.ids,
            logprobs: completion.logprobs,
            stop_reason: completion.stop_reason,
        }
    }

    /// An error with the line that is to blame.
    fn located(&self, error: GenerateError) -> anyhow::Error {
        match error.request() {
            Some(request) => {
                let at = &self.prompts[self.first + request].source;
                anyhow::Error::new(error).context(at.to_string())
            }
            None => error.into(),
        }
    }
}

pub(super) fn encode<D: Device>(
    line: &PromptLine,
    tokenizer: Option<&Tokenizer>,
    model: &Model<D>,
) -> Result<Vec<u32>> {
    let at = &line.source;
    let ids = match (&line.prompt, tokenizer) {
        (Content::Ids(ids), _) => ids.clone(),
        (Content::Text(text), Some(tokenizer)) => {
            tokenizer.encode(text, Bos::AsConfigured).with_context(|| at.to_string())?
        }
        (Content::Messages(messages), Some(tokenizer)) => {
            let conversation = Conversation { messages, columns: &line.columns };
            encode_prompt(tokenizer, conversation).with_context(|| at.to_string())?
        }
        (_, None) => bail!(
            "{at}: found text, but the model's folder has no tokenizer.json; expected `prompt_ids`"
        ),
    };
    let positions = model.config().max_positions;
    check_ids(&ids, at, model.config().vocab, positions)?;
    let found = ids.len();
    if found == positions {
        bail!(
            "{at}: found a prompt of {found} tokens, which leaves no room for a completion: the model \
             has {positions} positions in all"
        );
    }
    Ok(ids)
}
