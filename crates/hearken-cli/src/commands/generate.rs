//! `hearken generate`.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hearken_data::{Content, Form, ReadOptions, Record, Source, StopReason, read, write_jsonl};
use hearken_generate::{Request, completion_text, generate};
use hearken_model::chat::encode_messages;
use hearken_model::tokenizer::Bos;
use hearken_model::{Model, Tokenizer};
use hearken_tensor::Device;
use hearken_train::seeds::Seeds;
use serde::Serialize;

use super::logprobs::check_ids;
use super::model_arguments::ModelArguments;
use super::output_file::check_folder;
use super::sampling_arguments::{SamplingArguments, from_one};
use crate::counter::Counter;

/// Complete prompts
///
/// Every line of the input has a `prompt`, `messages` (in the built-in chat format) or `prompt_ids`,
/// which are used as they are. It becomes a line with `completion`, `completion_ids` (an end token
/// included where one was sampled), `logprobs` (under the sampling temperature; at temperature 0
/// under 1) and `stop_reason`: "end_of_text", "stop_sequence" or "length". The text of a completion
/// ends before its end token or stop sequence.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Generate {
    #[command(flatten)]
    model: ModelArguments,

    /// The prompts, as JSON lines
    #[arg(long, value_name = "IN.jsonl")]
    input: PathBuf,

    /// Where the completions go
    #[arg(long, value_name = "OUT.jsonl")]
    output: PathBuf,

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
  echo '{\"prompt\": \"ROMEO:\"}' > in.jsonl
  hearken generate --model runs/sft/final --input in.jsonl --output out.jsonl \\
      --max-new-tokens 64 --temperature 0.8 --top-p 0.95 -n 4
  hearken generate --model DIR --input in.jsonl --output out.jsonl --max-new-tokens 32 --temperature 0";

/// A prompt, and where it stands.
struct PromptLine {
    prompt: Content,
    source: Source,
}

impl Record for PromptLine {
    const FORMS: &'static [Form<Self>] = &[
        Form {
            required: &["prompt_ids"],
            optional: &[],
            parse: |row| {
                Ok(Self { prompt: Content::Ids(row.ids("prompt_ids")?), source: row.source() })
            },
        },
        Form {
            required: &["messages"],
            optional: &[],
            parse: |row| {
                let prompt = Content::Messages(row.messages("messages")?);
                Ok(Self { prompt, source: row.source() })
            },
        },
        Form {
            required: &["prompt"],
            optional: &[],
            parse: |row| Ok(Self { prompt: row.content("prompt")?, source: row.source() }),
        },
    ];
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sample: Option<usize>,
    /// Without a tokenizer there is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    completion: Option<String>,
    completion_ids: &'a [u32],
    logprobs: &'a [f64],
    stop_reason: StopReason,
}

impl Generate {
    pub(crate) fn run(self) -> Result<ExitCode> {
        check_folder(&self.output)?;
        let (prompts, _) = read::<PromptLine>(&self.input, &ReadOptions::default())?;
        let (model, tokenizer) = self.model.load()?;
        let tokenizer = tokenizer.as_ref();
        let samples = self.samples.unwrap_or(1) as usize;
        let seeds = Seeds::new(self.sampling.seed);
        let mut requests = Vec::with_capacity(prompts.len());
        for (index, line) in prompts.iter().enumerate() {
            let prompt_ids = encode(line, tokenizer, &model)?;
            requests.push(Request {
                prompt_ids,
                samples,
                seed: seeds.derive("generate", index as u64, 0),
            });
        }
        let sampling = self.sampling.sampling(self.max_new_tokens);
        let mut counter = Counter::new(requests.len() * samples);
        let completions = generate(&model, tokenizer, &requests, &sampling, &mut |event| {
            counter.count(&event);
            ControlFlow::Continue(())
        })?;
        counter.finish();
        let is_numbered = self.samples.is_some();
        let lines = completions.iter().flat_map(|group| {
            group.iter().enumerate().map(|(sample, completion)| Line {
                sample: is_numbered.then_some(sample),
                completion: tokenizer
                    .map(|tokenizer| completion_text(tokenizer, completion, &sampling.stop)),
                completion_ids: &completion.ids,
                logprobs: &completion.logprobs,
                stop_reason: completion.stop_reason,
            })
        });
        write_jsonl(&self.output, lines)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn encode<D: Device>(
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
            encode_messages(tokenizer, messages, true).with_context(|| at.to_string())?.ids
        }
        (_, None) => bail!(
            "{at}: found text, but the model's folder has no tokenizer.json; expected `prompt_ids`"
        ),
    };
    check_ids(&ids, at, model)?;
    Ok(ids)
}
