//! `hearken init`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{ArgGroup, Args};
use hearken_hub::ModelPart;
use hearken_model::checkpoint::WeightFormat;
use hearken_model::tokenizer::SpecialTokens;
use hearken_model::{Head, Model, ModelConfig, Tokenizer};
use hearken_tensor::AnyDevice;
use hearken_tensor::device::Precision;
use serde_json::{Map, Value, json};

use super::new_folder::{ShardArguments, Stored, write_folder};
use super::shape::Shape;
use crate::{device, hub, output};

/// Make a model with random weights, to be trained from nothing
///
/// The shape is that of a Hugging Face config.json, or is given in one word. The tokenizer is that of
/// another model, or a byte-level BPE of one's own trained on text files (or on the texts in JSON
/// lines). Prints the folder of the model.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
#[command(group = ArgGroup::new("dimensions").required(true).args(["config", "shape"]))]
#[command(group = ArgGroup::new("vocabulary").required(true).args(["tokenizer", "train_tokenizer"]))]
pub(crate) struct Init {
    /// A config.json; its vocab_size may be missing
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// FAMILY,layers=N,width=N,heads=N and, if wanted, kv_heads=N, inner=N, positions=N, tied=false;
    /// families: gpt2, llama, mistral, qwen2, qwen3, smollm3, phi3, olmo2, olmo3, granite, gemma, gemma2,
    /// gemma3_text, gpt_neox
    #[arg(long)]
    shape: Option<Shape>,

    /// A model directory, or its name on the hub, whose tokenizer is taken
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,

    /// Text files, or .jsonl files, to train a tokenizer on
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "vocab_size")]
    train_tokenizer: Vec<PathBuf>,

    /// How many tokens a trained tokenizer has at most
    #[arg(long, value_name = "N", requires = "train_tokenizer")]
    vocab_size: Option<usize>,

    /// Where the model goes: a folder that is not there yet, or empty
    #[arg(long, value_name = "DIR")]
    output: PathBuf,

    /// How weights are written
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Stored,

    #[command(flatten)]
    shards: ShardArguments,

    /// Seed of the weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

const EXAMPLES: &str = "\
Examples:
  hearken init --shape llama,layers=4,width=256,heads=4 --vocab-size 512 \\
      --train-tokenizer runs/quickstart/data/demonstrations.jsonl \\
      --output models/small
  hearken init --config models/small/config.json --tokenizer models/small \\
      --output models/scratch --seed 1";

impl Init {
    pub(crate) fn run(self) -> Result<ExitCode> {
        check_output(&self.output)?;
        let (path, mut raw) = self.raw_config()?;
        let tokenizer = self.tokenizer()?;
        complete(&path, &mut raw, &tokenizer)?;
        let config = ModelConfig::from_json(&path, &raw)?;
        let model =
            Model::init(device::open(), config, Head::LanguageModel, Precision::F32, self.seed);
        let format = self.shards.format(self.dtype.format());
        save(&model, &tokenizer, format, &self.output)?;
        let (_, parameters) = model.parameter_counts();
        let tokens = tokenizer.vocab_size();
        output::say(&format!("{parameters} parameters, {tokens} tokens"));
        output::print(&format!("{}\n", self.output.display()))?;
        Ok(ExitCode::SUCCESS)
    }

    /// What will be config.json, and the name it has in errors.
    fn raw_config(&self) -> Result<(PathBuf, Map<String, Value>)> {
        match (&self.config, &self.shape) {
            (Some(path), _) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("{}: cannot be read", path.display()))?;
                let raw = serde_json::from_str(&text)
                    .with_context(|| format!("{}: expected a JSON object", path.display()))?;
                Ok((path.clone(), raw))
            }
            (None, Some(shape)) => Ok((PathBuf::from("--shape"), shape.config())),
            (None, None) => unreachable!("one of the two is required"),
        }
    }

    fn tokenizer(&self) -> Result<Tokenizer> {
        if let Some(dir) = &self.tokenizer {
            return Ok(Tokenizer::load(&hub::model(dir, ModelPart::Tokenizer)?)?);
        }
        let mut texts = Vec::new();
        for path in &self.train_tokenizer {
            read_texts(path, &mut texts)?;
        }
        let wanted = self.vocab_size.expect("required with --train-tokenizer");
        let special = SpecialTokens::default();
        let mut said = Instant::now();
        let mut progress = |tokens: usize| {
            if LINE_EVERY <= said.elapsed() {
                said = Instant::now();
                output::say(&format!("tokenizer: {tokens} of {wanted} tokens"));
            }
        };
        let texts = texts.into_iter();
        let tokenizer = Tokenizer::train_bpe_watched(texts, wanted, &special, &mut progress)?;
        let found = tokenizer.vocab_size();
        if found < wanted {
            output::say(&format!("the texts have pairs for {found} of the {wanted} tokens"));
        }
        Ok(tokenizer)
    }
}

/// Lines that say how far the tokenizer is are at least this far apart.
const LINE_EVERY: Duration = Duration::from_secs(2);

fn check_output(dir: &Path) -> Result<()> {
    let is_free =
        !dir.exists() || std::fs::read_dir(dir).is_ok_and(|mut files| files.next().is_none());
    if !is_free {
        bail!("{}: is there already, expected a new folder", dir.display());
    }
    Ok(())
}

/// Adds what the tokenizer knows, and refuses a vocabulary that it does not fit into.
fn complete(path: &Path, raw: &mut Map<String, Value>, tokenizer: &Tokenizer) -> Result<()> {
    let tokens = tokenizer.vocab_size();
    match raw.get("vocab_size").filter(|value| !value.is_null()) {
        None => {
            raw.insert("vocab_size".into(), json!(tokens));
        }
        Some(found) => {
            if found.as_u64().is_none_or(|vocab| vocab < tokens as u64) {
                let path = path.display();
                bail!(
                    "{path}: vocab_size is {found}, expected at least the tokenizer's {tokens} tokens"
                );
            }
        }
    }
    let ids = [
        ("bos_token_id", tokenizer.bos()),
        ("eos_token_id", tokenizer.eos_for_training()),
        ("pad_token_id", tokenizer.pad()),
    ];
    for (key, id) in ids {
        if raw.get(key).is_none_or(Value::is_null) && id.is_some() {
            raw.insert(key.into(), json!(id));
        }
    }
    Ok(())
}

fn save(
    model: &Model<AnyDevice>,
    tokenizer: &Tokenizer,
    format: WeightFormat,
    output: &Path,
) -> Result<()> {
    write_folder(output, |folder| {
        // Drawn weights are small, whatever the format.
        model.save_as(folder, format)?;
        Ok(tokenizer.save(folder)?)
    })
}

/// Pieces of about this many bytes, cut at line ends, keep the training's memory flat.
const PIECE_BYTES: usize = 1 << 16;

/// Appends the texts of a file.
fn read_texts(path: &Path, texts: &mut Vec<String>) -> Result<()> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{}: cannot be read as text", path.display()))?;
    let before = texts.len();
    if path.extension().is_some_and(|extension| extension == "jsonl") {
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let value: Value = serde_json::from_str(line)
                .with_context(|| format!("{}:{}: expected JSON", path.display(), index + 1))?;
            collect_strings(&value, texts);
        }
    } else {
        let mut piece = String::new();
        for line in text.split_inclusive('\n') {
            piece.push_str(line);
            if PIECE_BYTES <= piece.len() {
                texts.push(std::mem::take(&mut piece));
            }
        }
        texts.extend((!piece.is_empty()).then_some(piece));
    }
    if texts.len() == before {
        bail!("{}: found no text", path.display());
    }
    Ok(())
}

fn collect_strings(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| collect_strings(value, texts)),
        Value::Object(values) => values.values().for_each(|value| collect_strings(value, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
