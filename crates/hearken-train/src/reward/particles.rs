//! A reward model that says where its score is a guess: particles beside the score head, which learn from the same pairs.

use hearken_model::{Keep, Model, ParticleShape, Pass};
use hearken_objective::bradley_terry::{BradleyTerry, ScoredComparison};
use hearken_objective::epistemic::{choice_probabilities, particle_loss};
use hearken_run::encode::{Example, PreferenceExample};
use hearken_run::error::TrainError;
use hearken_run::run::{Nothing, Opening, Run};
use hearken_stats::calibration::{Prediction, expected_calibration_error};
use hearken_stats::design::Worth;
use hearken_stats::mean::mean;
use hearken_tensor::Device;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::PairMicrobatch;
use super::evaluation::{BINS, ROUNDS};
use super::metrics::ParticleEvaluation;
use hearken_model::microbatch::microbatches;

/// What particles make of a pair before an update.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ParticleFinding {
    /// Their loss, mean over particles.
    pub(super) loss: f64,
    /// The standard deviation of the probability that chosen is preferred.
    pub(super) spread: f64,
}

/// Adds the particles that a run goes on with, those of the model that it starts from, or new ones from the run's seed.
pub(super) fn load<D: Device>(
    model: &mut Model<D>,
    shape: ParticleShape,
    opening: &mut Opening<'_>,
) -> Result<(), TrainError> {
    let dir = opening.model_dir();
    if !model.load_particles(&dir).map_err(TrainError::from)? {
        model.add_particles(shape, opening.seeds.derive("particles", 0, 0));
    } else if model.particle_count() != shape.count {
        return Err(TrainError::Other(format!(
            "`reward.particles`: found {}, expected {}, as {} has them",
            shape.count,
            model.particle_count(),
            dir.display()
        )));
    }
    let of_particles = shape.parameters(model.config().width);
    let (_, all) = model.params().counts();
    opening.progress.note(&format!(
        "{} particles: {of_particles} parameters beside {}, {:.1} %",
        model.particle_count(),
        all - of_particles,
        100.0 * of_particles as f64 / (all - of_particles) as f64
    ));
    Ok(())
}

/// Adds the particles' gradients of the mean loss over `count` pairs, of which `comparisons` are read in `pass`.
pub(super) fn learn<D: Device>(
    run: &mut Run<D, Nothing>,
    pass: &Pass<D>,
    rows: &[usize],
    objective: BradleyTerry,
    comparisons: &[ScoredComparison],
    count: usize,
) -> Vec<ParticleFinding> {
    let mut found = Vec::with_capacity(comparisons.len());
    let particles = run.model.particle_count();
    run.model.train_particles(pass, rows, &mut run.gradients, |scores| {
        let mut grads = Vec::with_capacity(scores.len());
        for (scores, &comparison) in scores.chunks_exact(2 * particles).zip(comparisons) {
            let [chosen, rejected] = split(scores);
            let loss = particle_loss(objective, &chosen, &rejected, comparison);
            let spread = Worth::Disagreement.of(&choice_probabilities(&chosen, &rejected)).sqrt();
            found.push(ParticleFinding { loss: loss.loss, spread });
            let of_pair = loss.grad_chosen.iter().chain(&loss.grad_rejected);
            grads.extend(of_pair.map(|grad| (grad / count as f64) as f32));
        }
        grads
    });
    found
}

/// The particles' scores of chosen and rejected.
fn split(scores: &[f32]) -> [Vec<f64>; 2] {
    let (chosen, rejected) = scores.split_at(scores.len() / 2);
    [chosen, rejected].map(|own| own.iter().map(|score| f64::from(*score)).collect())
}

/// What particles say of held-out pairs; `None` without any.
pub(super) fn evaluate<D: Device>(
    model: &Model<D>,
    pairs: &[PreferenceExample],
    tokens_max: usize,
    rng: &mut impl Rng,
) -> Option<ParticleEvaluation> {
    let rows: Vec<usize> = pairs.iter().map(Example::rows).collect();
    let (mut spreads, mut losses, mut predictions) = (Vec::new(), Vec::new(), Vec::new());
    for group in microbatches(&rows, tokens_max) {
        let group: Vec<&PreferenceExample> = pairs[group].iter().collect();
        let microbatch = PairMicrobatch::new(&group);
        let pass = model.forward(&microbatch.batch, Keep::Nothing);
        let scores = model.particle_scores(&pass, &microbatch.rows);
        for scores in scores.chunks_exact(2 * model.particle_count()) {
            let [chosen, rejected] = split(scores);
            let probabilities = choice_probabilities(&chosen, &rejected);
            let mixture = probabilities.iter().sum::<f64>() / probabilities.len() as f64;
            spreads.push(Worth::Disagreement.of(&probabilities).sqrt());
            losses.push(-mixture.max(f64::MIN_POSITIVE).ln());
            let other = (1.0 - mixture).max(f64::MIN_POSITIVE);
            predictions
                .push(Prediction::from_margin((mixture.max(f64::MIN_POSITIVE) / other).ln()));
        }
    }
    Some(ParticleEvaluation {
        eval_spread: mean(&spreads)?,
        eval_mixture_loss: mean(&losses)?,
        eval_mixture_calibration_error: expected_calibration_error(
            &predictions,
            BINS,
            ROUNDS,
            rng,
        )?,
    })
}
