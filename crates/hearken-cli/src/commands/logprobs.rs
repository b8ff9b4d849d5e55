//! `hearken logprobs`.

use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hearken_data::{Content, Form, ReadOptions, Record, Source, read, write_jsonl};
use hearken_model::tokenizer::Bos;
use hearken_model::{Batch, Keep, Model, Tokenizer};
use hearken_tensor::Device;
use hearken_tensor::device::HeadOptions;
use hearken_train::microbatch::microbatches;
use serde::Serialize;

use super::model_arguments::ModelArguments;
use super::output_file::check_folder;

/// Log-probabilities of given sequences under a model
///
/// Every line of the input, {"input_ids": [...]} or {"text": "..."}, becomes a line
/// {"logprobs": [...]}: natural logarithms of the probabilities of its tokens, each given those
/// before it; the first token has none.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Logprobs {
    #[command(flatten)]
    model: ModelArguments,

    /// The sequences, as JSON lines
    #[arg(long, value_name = "IN.jsonl")]
    input: PathBuf,

    /// Where the log-probabilities go
    #[arg(long, value_name = "OUT.jsonl")]
    output: PathBuf,

    /// The most tokens that go through the model at once; changes no result
    #[arg(long, default_value_t = 4096, value_name = "N")]
    microbatch_tokens: usize,
}

const EXAMPLES: &str = "\
Example:
  echo '{\"text\": \"To be, or not to be\"}' > in.jsonl
  hearken logprobs --model runs/sft/final --input in.jsonl --output out.jsonl";

/// A sequence, and where it stands.
struct Sequence {
    content: Content,
    source: Source,
}

impl Record for Sequence {
    const FORMS: &'static [Form<Self>] = &[
        Form {
            required: &["input_ids"],
            optional: &[],
            parse: |row| {
                Ok(Self { content: Content::Ids(row.ids("input_ids")?), source: row.source() })
            },
        },
        Form {
            required: &["text"],
            optional: &[],
            parse: |row| {
                Ok(Self { content: Content::Text(row.text("text")?), source: row.source() })
            },
        },
    ];
}

#[derive(Serialize)]
struct Line {
    logprobs: Vec<f32>,
}

impl Logprobs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        check_folder(&self.output)?;
        let (sequences, _) = read::<Sequence>(&self.input, &ReadOptions::default())?;
        let (model, tokenizer) = self.model.load()?;
        let ids: Vec<Vec<u32>> = sequences
            .iter()
            .map(|sequence| encode(sequence, tokenizer.as_ref(), &model))
            .collect::<Result<_>>()?;
        let lengths: Vec<usize> = ids.iter().map(Vec::len).collect();
        let mut lines = Vec::with_capacity(ids.len());
        for group in microbatches(&lengths, self.microbatch_tokens) {
            lines.extend(logprobs(&model, &ids, group));
        }
        write_jsonl(&self.output, lines)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn encode<D: Device>(
    sequence: &Sequence,
    tokenizer: Option<&Tokenizer>,
    model: &Model<D>,
) -> Result<Vec<u32>> {
    let at = &sequence.source;
    let ids = match (&sequence.content, tokenizer) {
        (Content::Ids(ids), _) => ids.clone(),
        (Content::Text(text), Some(tokenizer)) => {
            tokenizer.encode(text, Bos::AsConfigured).with_context(|| at.to_string())?
        }
        _ => bail!(
            "{at}: found text, but the model's folder has no tokenizer.json; expected `input_ids`"
        ),
    };
    check_ids(&ids, at, model)?;
    Ok(ids)
}

/// Refuses tokens that the model does not have, and more than it has positions for.
pub(super) fn check_ids<D: Device>(ids: &[u32], at: &Source, model: &Model<D>) -> Result<()> {
    let config = model.config();
    if let Some(id) = ids.iter().find(|&&id| config.vocab <= id as usize) {
        let vocab = config.vocab;
        bail!("{at}: found token id {id}, expected less than the model's vocabulary of {vocab}");
    }
    if config.max_positions < ids.len() {
        let (found, limit) = (ids.len(), config.max_positions);
        bail!("{at}: found {found} tokens, expected at most the model's {limit} positions");
    }
    Ok(())
}

/// The lines of some sequences that go through the model together.
fn logprobs<D: Device>(model: &Model<D>, ids: &[Vec<u32>], group: Range<usize>) -> Vec<Line> {
    let mut batch = Batch::new();
    let mut predictions = Vec::new();
    for ids in &ids[group.clone()] {
        let segment = batch.push(None, ids);
        let first_row = batch.row(segment, 0);
        predictions.extend(Model::<D>::next_token_predictions(ids, first_row));
    }
    let pass = model.forward(&batch, Keep::Nothing);
    let output = model.logprobs(&pass, &predictions, HeadOptions::default());
    let mut rest = output.logprobs.as_slice();
    let lines = ids[group].iter().map(|ids| {
        let (own, others) = rest.split_at(ids.len() - 1);
        rest = others;
        Line { logprobs: own.to_vec() }
    });
    lines.collect()
}
