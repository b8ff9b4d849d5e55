//! `hearken logprobs`.

use std::ops::Range;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hearken_data::{Content, Form, Record, Row, Source};
use hearken_model::chat::{Conversation, encode_closed};
use hearken_model::microbatch::microbatches;
use hearken_model::tokenizer::Bos;
use hearken_model::{Batch, Keep, Model, Tokenizer};
use hearken_tensor::Device;
use hearken_tensor::device::HeadOptions;
use serde::Serialize;
use serde_json::{Map, Value};

use super::model_arguments::ModelArguments;
use super::output_lines::{LineArguments, OutputLines, WithColumns};
use crate::counter::Counter;
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::output;

/// Log-probabilities of given sequences under a model
///
/// Every line of the input, {"input_ids": [...]}, {"text": "..."} or {"messages": [...]} (which the
/// model's chat template renders), becomes a line {"logprobs": [...]}: natural logarithms of the
/// probabilities of its tokens, each given those before it; the first token has none.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Logprobs {
    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    lines: LineArguments,

    /// The most tokens that go through the model at once; changes no result
    #[arg(long, default_value_t = 4096, value_name = "N")]
    microbatch_tokens: usize,
}

const EXAMPLES: &str = "\
Example:
  echo '{\"text\": \"Review of the toast: It was warm.\"}' > texts.jsonl
  hearken logprobs --model runs/quickstart/sft/final --input texts.jsonl \\
      --output logprobs.jsonl";

/// A sequence, and where it stands.
struct InputSequence {
    content: Content,
    columns: Map<String, Value>,
    source: Source,
}

impl InputSequence {
    fn new(content: Content, row: &Row<'_>) -> Self {
        Self { content, columns: row.all_but(&[]), source: row.source() }
    }
}

impl Record for InputSequence {
    const FORMS: &'static [Form<Self>] = &[
        Form {
            required: &["input_ids"],
            optional: &[],
            parse: |row| Ok(Self::new(Content::Ids(row.ids("input_ids")?), row)),
        },
        Form {
            required: &["text"],
            optional: &[],
            parse: |row| Ok(Self::new(Content::Text(row.text("text")?), row)),
        },
        Form {
            required: &["messages"],
            optional: &[],
            parse: |row| Ok(Self::new(Content::Messages(row.messages("messages")?), row)),
        },
    ];
}

impl WithColumns for InputSequence {
    fn columns(&self) -> (&Map<String, Value>, &Source) {
        (&self.columns, &self.source)
    }
}

#[derive(Serialize)]
struct LogprobLine<'a> {
    #[serde(flatten)]
    kept: Option<&'a Map<String, Value>>,
    logprobs: Vec<f32>,
}

impl Logprobs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        self.lines.check(&self.model.model)?;
        let sequences: Vec<InputSequence> = self.lines.read(&["logprobs"])?;
        let expected = sequences.len();
        let is_own = |_: usize, line: &Map<String, Value>| {
            line.contains_key("logprobs") && !line.contains_key("completion_ids")
        };
        let present = self.lines.present(expected, is_own)?;
        if present == expected {
            output::say(&format!("{expected} lines are there already"));
            return Ok(ExitCode::SUCCESS);
        }
        let (model, tokenizer) = self.model.load()?;
        let sequences = &sequences[present..];
        let encoded = sequences.iter().map(|one| encode(one, tokenizer.as_ref(), &model));
        let ids: Vec<Vec<u32>> = encoded.collect::<Result<_>>()?;
        self.model.say_built_in_format(tokenizer.as_ref());
        let lengths: Vec<usize> = ids.iter().map(Vec::len).collect();
        let interrupt = Interrupt::install("stopping after this batch")?;
        let mut lines: OutputLines<LogprobLine<'_>> = self.lines.open(present)?;
        let mut counter = Counter::new(sequences.len());
        let mut written = present;
        for group in microbatches(&lengths, self.microbatch_tokens) {
            if interrupt.requested() {
                break;
            }
            counter.add(group.len(), lengths[group.clone()].iter().sum());
            let computed = logprobs(&model, &ids, group.clone());
            for (logprobs, sequence) in computed.into_iter().zip(&sequences[group]) {
                lines.write(LogprobLine { kept: self.lines.kept(sequence), logprobs })?;
                written += 1;
            }
        }
        counter.finish("sequence");
        if written < expected {
            lines.stop(written, expected)?;
            return Ok(ExitCode::from(INTERRUPTED));
        }
        lines.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn encode<D: Device>(
    sequence: &InputSequence,
    tokenizer: Option<&Tokenizer>,
    model: &Model<D>,
) -> Result<Vec<u32>> {
    let at = &sequence.source;
    let ids = match (&sequence.content, tokenizer) {
        (Content::Ids(ids), _) => ids.clone(),
        (Content::Text(text), Some(tokenizer)) => {
            tokenizer.encode(text, Bos::AsConfigured).with_context(|| at.to_string())?
        }
        (Content::Messages(messages), Some(tokenizer)) => {
            let conversation = Conversation { messages, columns: &sequence.columns };
            encode_closed(tokenizer, conversation).with_context(|| at.to_string())?
        }
        _ => bail!(
            "{at}: found text, but the model's folder has no tokenizer.json; expected `input_ids`"
        ),
    };
    let config = model.config();
    check_ids(&ids, at, config.vocab, config.max_positions)?;
    Ok(ids)
}

/// Refuses tokens that the model does not have, and more than it has positions for.
pub(super) fn check_ids(ids: &[u32], at: &Source, vocab: usize, limit: usize) -> Result<()> {
    if let Some(id) = ids.iter().find(|&&id| vocab <= id as usize) {
        bail!("{at}: found token id {id}, expected less than the model's vocabulary of {vocab}");
    }
    if limit < ids.len() {
        let found = ids.len();
        bail!("{at}: found {found} tokens, expected at most the model's {limit} positions");
    }
    Ok(())
}

/// The log-probabilities of some sequences that go through the model together.
fn logprobs<D: Device>(model: &Model<D>, ids: &[Vec<u32>], group: Range<usize>) -> Vec<Vec<f32>> {
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
    let own = ids[group].iter().map(|ids| {
        let (own, others) = rest.split_at(ids.len() - 1);
        rest = others;
        own.to_vec()
    });
    own.collect()
}
