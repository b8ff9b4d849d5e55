//! A reward that was learned, as a network in a folder: what AIRL and GAIL leave, and what PPO can be run on elsewhere.

use std::path::Path;

use hearken_env::{EnvironmentId, ObservationSpace, Spaces};
use hearken_model::checkpoint::write_json_atomically;
use hearken_objective::adversarial::AdversarialReward;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::actions::Actions;
use crate::network::{Network, NetworkShape, Pass, Trunk, WeightDraw};
use crate::normalization::{RunningMoments, normalize};
use crate::saved::{SavedError, activation_name, load_networks, nonlinearity_of, save_networks};

/// The file that says what the network reads.
const DESCRIPTION: &str = "reward.json";

/// What becomes of the network's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// It is the reward.
    Reward,
    /// It is a discriminator's logit, and the reward is softplus of it.
    Positive,
    /// … and the reward is −softplus(−L).
    Negative,
    /// … and the reward is the logit itself.
    Logit,
}

impl From<AdversarialReward> for Output {
    fn from(form: AdversarialReward) -> Self {
        match form {
            AdversarialReward::Positive => Self::Positive,
            AdversarialReward::Negative => Self::Negative,
            AdversarialReward::Logit => Self::Logit,
        }
    }
}

impl Output {
    fn of(self, output: f64) -> f64 {
        match self {
            Self::Reward | Self::Logit => output,
            Self::Positive => AdversarialReward::Positive.of(output),
            Self::Negative => AdversarialReward::Negative.of(output),
        }
    }
}

/// What a network reads of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardInput {
    /// What is observed.
    State,
    /// What is observed, and the action.
    StateAndAction,
}

/// A reward of steps in an environment.
#[derive(Clone, Debug)]
pub struct RewardModel {
    /// The environment that it was learned in.
    pub environment: EnvironmentId,
    /// What is seen there, and what may be done.
    pub spaces: Spaces,
    /// The network.
    pub network: Network,
    /// What that reads.
    pub reads: RewardInput,
    /// What becomes of its output.
    pub output: Output,
    /// How observations are brought to scale, where they are.
    pub moments: Option<RunningMoments>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Description {
    environment: String,
    reads: RewardInput,
    output: Output,
    hidden: Vec<usize>,
    activation: String,
    observation_moments: Option<RunningMoments>,
}

impl RewardInput {
    /// Length of the row that a network reads, in an environment.
    pub fn row_len(self, spaces: Spaces) -> usize {
        let actions = if self == Self::State { 0 } else { spaces.actions.outputs() };
        spaces.observation.len() + actions
    }

    /// Appends the row of step `entry`, whose observation is at scale.
    pub fn row(
        self,
        observation: &[f32],
        actions: &Actions,
        entry: usize,
        spaces: Spaces,
        rows: &mut Vec<f32>,
    ) {
        rows.extend_from_slice(observation);
        if self == Self::StateAndAction {
            actions.encode(entry, spaces.actions, rows);
        }
    }
}

impl RewardModel {
    /// The reward of each step, by what was seen before it, as the environment shows it, and what was done.
    pub fn rewards(&self, seen: &[f32], actions: &Actions) -> Vec<f64> {
        let len = self.spaces.observation.len();
        let (mut rows, mut observation) = (Vec::new(), vec![0.0; len]);
        for (entry, seen) in seen.chunks(len).enumerate() {
            normalize(self.moments.as_ref(), seen, &mut observation);
            self.reads.row(&observation, actions, entry, self.spaces, &mut rows);
        }
        let mut pass = Pass::default();
        self.network.forward(&rows, &mut pass);
        pass.output().iter().map(|&output| self.output.of(f64::from(output))).collect()
    }

    /// Writes a folder.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), SavedError> {
        let unwritten = |error: std::io::Error| SavedError::Description {
            path: dir.to_owned(),
            message: format!("cannot be created: {error}"),
        };
        std::fs::create_dir_all(dir).map_err(unwritten)?;
        let shape = self.network.shape();
        let description = Description {
            environment: self.environment.to_string(),
            reads: self.reads,
            output: self.output,
            hidden: shape.hidden().to_vec(),
            activation: activation_name(shape.nonlinearity).to_owned(),
            observation_moments: self.moments.clone(),
        };
        let description = serde_json::to_value(description).expect("a description is plain");
        write_json_atomically(&dir.join(DESCRIPTION), &description)?;
        save_networks(&dir.join("model.safetensors"), &[("reward", &self.network)])
    }

    /// Reads a folder that [`RewardModel::save`] wrote, for an environment with the same observations and actions.
    ///
    /// # Errors
    /// If a file cannot be read, or is of no reward of such an environment.
    pub fn load(dir: &Path, id: &EnvironmentId, spaces: Spaces) -> Result<Self, SavedError> {
        let path = dir.join(DESCRIPTION);
        let wrong = |message: String| SavedError::Description { path: path.clone(), message };
        let text = std::fs::read_to_string(&path).map_err(|error| {
            wrong(format!(
                "cannot be read: {error}; expected the folder of a reward, which a run of imitation by \"gail\" or \
                 \"airl\" leaves as final/reward"
            ))
        })?;
        let found: Description = serde_json::from_str(&text)
            .map_err(|error| wrong(format!("not the description of a reward: {error}")))?;
        let environment: EnvironmentId =
            found.environment.parse().map_err(|error| wrong(format!("{error}")))?;
        // Of what another process serves the spaces are not known here; the shapes of the tensors tell.
        if environment.task().is_some_and(|task| task.spaces() != spaces) {
            return Err(wrong(format!(
                "found a reward of {environment}, expected one of an environment with the observations and actions of {id}"
            )));
        }
        let len = spaces.observation.len();
        if let Some(moments) = found.observation_moments.as_ref().filter(|of| of.len() != len) {
            let count = moments.len();
            return Err(wrong(format!("found moments of {count} numbers, expected {len}")));
        }
        let nonlinearity = nonlinearity_of(&found.activation).map_err(wrong)?;
        if found.hidden.contains(&0) {
            return Err(wrong("found a hidden layer of 0, expected at least 1".to_owned()));
        }
        let trunk = Trunk { convolutions: &[], hidden: &found.hidden, nonlinearity };
        let row = ObservationSpace::Vector { length: found.reads.row_len(spaces) };
        let shape = NetworkShape::of(trunk, row, 0, 1);
        let mut network =
            Network::new(&shape, WeightDraw::Uniform, &mut ChaCha8Rng::seed_from_u64(0));
        load_networks(dir, &mut [("reward", &mut network)])?;
        let Description { reads, output, observation_moments: moments, .. } = found;
        Ok(Self { environment: id.clone(), spaces, network, reads, output, moments })
    }
}
