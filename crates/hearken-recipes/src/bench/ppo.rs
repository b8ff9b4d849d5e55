//! The iterations of this trainer, timed: sampling, scores, credit and all epochs.

use std::path::Path;

use hearken_config::{Configuration, Layers};
use hearken_model::Head;
use hearken_reward_source::scorers::{ScoreReading, open_scores};
use hearken_run::error::TrainError;
use hearken_tensor::Device;
use hearken_train::ppo::{Ppo, PpoConfig};
use hearken_train::rollout::session::RolloutSession;
use hearken_train::rollout::train::Iterations;
use serde_json::json;
use toml::Table;

use super::steps::of_rollouts;
use super::{Clock, Materials, Sizes, dtype_value, integer, path_value};

/// Epochs over the rollouts of an iteration, each one optimizer step.
const EPOCHS: u64 = 4;
/// Two models are trained and two are read: a pass of all rows at once would be the most that is held.
const MICROBATCH_TOKENS: usize = 512;

/// Random prompts; critic and reward model are networks of their own.
pub(super) fn run<D: Device>(
    device: D,
    materials: &mut Materials<'_>,
    clock: &mut Clock,
) -> Result<(), TrainError> {
    let (sizes, iterations) = (materials.bench.sizes, materials.bench.steps_made());
    let policy = materials.model_dir(&device, Head::LanguageModel)?;
    let scorer = materials.model_dir(&device, Head::Score)?;
    let records =
        materials.records(|materials| Ok(json!({ "prompt_ids": materials.ids(sizes.prompt)? })))?;
    let mut layers = PpoConfig::defaults(Path::new("bench"));
    materials.configure(&mut layers, &policy, &records, EPOCHS * iterations);
    configure(&mut layers, &scorer, materials);
    let loaded = PpoConfig::from_layers(layers)?;
    let reading = ScoreReading {
        normalize: loaded.config.ppo.learning.normalize_scores,
        microbatch_tokens: loaded.config.shared.train.microbatch_tokens,
    };
    let mut sources = open_scores(&loaded.config.scores, &device, None, reading)?;
    let scoring = |run: &Iterations<'_, '_, D, Ppo>| scoring_flops(&run.session, sizes);
    of_rollouts::<D, Ppo>(device, &loaded, &mut sources, iterations, scoring, clock)
}

fn configure(layers: &mut Layers, scorer: &Path, materials: &Materials<'_>) {
    let table = |pairs: &[(&str, toml::Value)]| {
        toml::Value::Table(
            pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect::<Table>(),
        )
    };
    let new_tokens = integer(materials.bench.sizes.completion);
    let score = [
        ("kind", "model".into()),
        ("path", path_value(scorer)),
        ("dtype", dtype_value(materials.bench.dtype)),
    ];
    let epochs = toml::Value::Integer(EPOCHS.cast_signed());
    let microbatch = integer(MICROBATCH_TOKENS);
    let sections = [
        ("train", table(&[("microbatch_tokens", microbatch)])),
        ("rollout", table(&[("max_new_tokens", new_tokens)])),
        ("ppo", table(&[("critic", path_value(scorer)), ("epochs", epochs)])),
        ("score", toml::Value::Array(vec![table(&score)])),
    ];
    layers.merge(sections.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
}

/// Operations of the reward model, which has the critic's shape; the run counts all the rest.
fn scoring_flops<D: Device>(session: &RolloutSession<D>, sizes: Sizes) -> f64 {
    let rows = sizes.length() as f64;
    let critic = session.run.companion.as_ref().expect("a critic of its own");
    sizes.batch as f64 * rows * critic.model.forward_flops(rows.midpoint(1.0))
}
