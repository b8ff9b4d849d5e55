//! The iterations of this trainer, timed: sampling, scores, credit and all epochs.

use std::path::Path;

use hearken_model::Head;
use hearken_tensor::Device;
use serde_json::json;
use toml::Table;

use super::{Ppo, PpoConfig, within_memory};
use crate::bench::{Clock, Materials, dtype_value, integer, path_value};
use crate::config::{Layers, ScoreReading, open_scores};
use crate::error::TrainError;
use crate::progress::Silent;
use crate::rollout::opening::Opening;
use crate::run_dir::Start;

/// Epochs over the rollouts of an iteration, each one optimizer step.
const EPOCHS: u64 = 4;
/// Two models are trained and two are read: a pass of all rows at once would be the most that is held.
const MICROBATCH_TOKENS: usize = 512;

/// Random prompts; critic and reward model are networks of their own.
pub(crate) fn run<D: Device>(
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
    let config = &within_memory(&loaded.config)?;

    let opening = Opening::new(config.settings(), &loaded.frozen, Start::Fresh, &mut Silent)?;
    let reading = ScoreReading {
        normalize: config.ppo.normalize_scores,
        microbatch_tokens: config.train.microbatch_tokens,
    };
    let mut sources = open_scores(&config.scores, &device, None, reading)?;
    let mut ppo = Ppo::open(device, config, opening)?;
    for _ in 0..iterations {
        clock.lap(|| {
            let before = ppo.session.counters.cost.flops;
            let iteration = ppo.roll_out(&mut sources)?;
            ppo.update(&iteration, &mut Silent)?;
            ppo.session.kl.observe(iteration.metrics.kl_k1_nats, iteration.experience.len());
            ppo.session.counters.iteration += 1;
            let scoring = scoring_flops(&ppo, materials);
            Ok(ppo.session.counters.cost.flops - before + scoring)
        })?;
    }
    Ok(())
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

/// Operations of the reward model, which has the critic's shape; the session counts all the rest.
fn scoring_flops<D: Device>(ppo: &Ppo<'_, D>, materials: &Materials<'_>) -> f64 {
    let sizes = materials.bench.sizes;
    let rows = sizes.length() as f64;
    let critic = ppo.session.companion.as_ref().expect("a critic of its own");
    sizes.batch as f64 * rows * critic.model.forward_flops(rows.midpoint(1.0))
}
