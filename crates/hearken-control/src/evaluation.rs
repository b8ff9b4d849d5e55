//! How good a policy is: episodes with its likeliest actions.

use hearken_env::{EnvironmentSetup, StepEnd};
use hearken_run::seeds::Seeds;
use hearken_stats::Estimate;
use hearken_stats::mean::mean;
use serde::Serialize;

use crate::actions::Actions;
use crate::kept::Episode;
use crate::network::Pass;
use crate::rollout::Stage;
use crate::saved::{Acting, EnterError};

/// What episodes of a policy came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Mean of the undiscounted returns of whole episodes.
    pub eval_return: Estimate,
    /// Mean number of steps.
    pub eval_length: Estimate,
}

/// Lets a policy act in `episodes` episodes, each with an initial state of its own.
///
/// # Errors
/// If the environment is none that the policy fits, or a process serves it, and fails.
///
/// # Panics
/// If there are none.
pub fn evaluate(
    acting: &Acting,
    environment: &EnvironmentSetup,
    episodes: usize,
    seeds: Seeds,
) -> Result<Evaluation, EnterError> {
    let returns = play(acting, environment, episodes, seeds)?;
    let of = |value: fn(&Episode) -> f64| {
        let values: Vec<f64> = returns.iter().map(value).collect();
        mean(&values).expect("there are episodes")
    };
    Ok(Evaluation {
        eval_return: of(|episode| episode.total),
        eval_length: of(|episode| f64::from(episode.steps)),
    })
}

/// The episodes themselves.
///
/// # Errors
/// If the environment is none that the policy fits, or a process serves it, and fails.
pub fn play(
    acting: &Acting,
    environment: &EnvironmentSetup,
    episodes: usize,
    seeds: Seeds,
) -> Result<Vec<Episode>, EnterError> {
    let mut stage = Stage::new(acting.enter(environment)?, seeds)?;
    let mut actions = Actions::new(stage.spaces().actions);
    let (mut seen, mut row) = (vec![0.0; stage.spaces().observation.len()], Vec::new());
    let mut pass = Pass::default();
    let mut ended = Vec::new();
    while ended.len() < episodes {
        stage.environments.observe(0, &mut seen);
        actions.clear();
        acting.choose(&seen, &mut actions, &mut row, &mut pass);
        if stage.step(0, &actions, 0)?.end != StepEnd::Running {
            ended.push(stage.episodes[0]);
            stage.reset(0)?;
        }
    }
    Ok(ended)
}
