//! Mean and deviation of a reward model's scores, measured after training and stored beside it.
//!
//! The model itself stays as it was trained: its logits are raw, and who wants normalized scores
//! applies (score − mean) / std.

use std::path::Path;

use hearken_config::{MICROBATCH_TOKENS, Truncation};
use hearken_data::{Demonstration, ReadOptions};
use hearken_model::checkpoint::NoRoom;
use hearken_model::{Batch, Head, Keep, Model, ModelConfig, Tokenizer};
use hearken_objective::Moments;
use hearken_objective::moments::Variance;
use hearken_reward_source::score_normalization::{NORMALIZATION_FILE, ScoreNormalizationFile};
use hearken_run::encode::{DemonstrationExample, Encoded, Encoder, Example as _, LengthLimit};
use hearken_run::error::TrainError;
use hearken_run::run::{Nothing, Opening, Run};
use hearken_run::run_dir::write_atomically;
use hearken_store::read_records;
use hearken_tensor::Device;

use super::RewardConfig;
use hearken_model::microbatch::microbatches;

/// Scores `sequences` at their last tokens; `None` where the scores have no spread.
fn measure<D: Device>(
    model: &Model<D>,
    sequences: &[Vec<u32>],
    tokens_max: usize,
) -> Option<ScoreNormalizationFile> {
    let rows: Vec<usize> = sequences.iter().map(Vec::len).collect();
    let mut scores = Vec::with_capacity(sequences.len());
    for group in microbatches(&rows, tokens_max) {
        let mut batch = Batch::new();
        let last = |ids: &Vec<u32>| {
            let segment = batch.push(None, ids);
            batch.last_row(segment).expect("a sequence has tokens")
        };
        let rows: Vec<usize> = sequences[group].iter().map(last).collect();
        let pass = model.forward(&batch, Keep::Nothing);
        scores.extend(model.scalars(&pass, &rows).into_iter().map(f64::from));
    }
    let moments = Moments::of(&scores);
    let std = moments.std(Variance::Sample).filter(|std| 0.0 < *std)?;
    Some(ScoreNormalizationFile { mean: moments.mean()?, std, n: scores.len() })
}

/// Mean and deviation of a model's scores on the first `count` completions of a file.
///
/// # Errors
/// If a record cannot be used, or the scores have no spread.
pub fn measure_scores<D: Device>(
    model: &Model<D>,
    tokenizer: Option<&Tokenizer>,
    path: &Path,
    count: usize,
) -> Result<ScoreNormalizationFile, TrainError> {
    let ModelConfig { vocab, max_positions: tokens_max, .. } = *model.config();
    let length = LengthLimit { tokens_max, truncation: Truncation::Error };
    let encoder = Encoder { tokenizer, vocab, length, completion_only: true, step_separator: "\n" };
    let options = ReadOptions { limit: Some(count), ..ReadOptions::default() };
    let sequences = encoded(path, &options, &encoder)?;
    measure(model, &sequences, MICROBATCH_TOKENS).ok_or_else(|| {
        TrainError::Other(format!(
            "{}: found {} completions whose scores are all the same, expected some that differ",
            path.display(),
            sequences.len()
        ))
    })
}

/// The sequences of a file of demonstrations.
fn encoded(
    path: &Path,
    options: &ReadOptions,
    encoder: &Encoder<'_>,
) -> Result<Vec<Vec<u32>>, TrainError> {
    let (records, _) = read_records::<Demonstration>(path, options)?;
    let mut sequences = Vec::with_capacity(records.len());
    for record in &records {
        match DemonstrationExample::encode(record, encoder)? {
            Encoded::Whole(example) | Encoded::Truncated(example) => sequences.push(example.ids),
            Encoded::Dropped => {}
        }
    }
    Ok(sequences)
}

/// Writes the file into a model directory.
///
/// # Errors
/// If the system refuses.
pub fn save_normalization(measured: &ScoreNormalizationFile, dir: &Path) -> Result<(), TrainError> {
    let text = serde_json::to_vec_pretty(measured).expect("three numbers");
    Ok(write_atomically(&dir.join(NORMALIZATION_FILE), &text)?)
}

/// Saves the model with mean and deviation of its scores on `sequences`.
pub(super) fn save_model<D: Device>(
    run: &Run<D, Nothing>,
    name: &str,
    sequences: &[Vec<u32>],
) -> Result<Option<NoRoom>, TrainError> {
    let Run { model, tokenizer, settings, .. } = run;
    let alone = (model.head() == Head::ScoreAndLength).then(|| model.without_length_head());
    let model = alone.as_ref().unwrap_or(model);
    let measured = measure(model, sequences, settings.train.microbatch_tokens);
    run.dir.save_model(name, model, tokenizer.as_ref(), |dir| {
        measured.map_or(Ok(()), |measured| save_normalization(&measured, dir))
    })
}

/// The sequences to measure: those of `reward.normalize_on`, or the first of `train`.
pub(super) fn reference_sequences(
    config: &RewardConfig,
    train: impl IntoIterator<Item = Vec<u32>>,
    opening: &mut Opening<'_>,
) -> Result<Vec<Vec<u32>>, TrainError> {
    let count = config.reward.normalize_count;
    let Some(path) = &config.reward.normalize_on else {
        return Ok(train.into_iter().take(*count).collect());
    };
    let mut options = config.shared.data.read_options();
    options.columns.clear();
    options.limit = Some(*count);
    let sequences = encoded(path, &options, &opening.encoder(&config.shared.data)?)?;
    let (measured, at) = (sequences.len(), path.display());
    opening.progress.note(&format!("scores are measured on {measured} sequences of {at}"));
    Ok(sequences)
}
