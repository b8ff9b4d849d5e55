//! Policies and networks in files.

use std::path::{Path, PathBuf};

use hearken_env::{
    ActionSpace, EnvironmentId, EnvironmentSetup, Environments, Making, ObservationSpace,
    ServerError, ServerOptions, Spaces,
};
use hearken_model::checkpoint::{
    CheckpointError, TensorFiles, save_tensors_with, write_json_atomically,
};
use hearken_tensor::dense::Nonlinearity;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::actions::Actions;
use crate::convolution::{Convolution, fit};
use crate::network::{Network, Pass, Trunk, WeightDraw, normal};
use crate::normalization::{RunningMoments, normalize};
use crate::policy::{Head, Judgements, Policy, squashed};

/// The file that says what a policy's network is for.
const DESCRIPTION: &str = "control.json";
/// The file of its weights.
const WEIGHTS: &str = "model.safetensors";

/// Why a policy or a network cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// The tensors are not those that are expected.
    #[error(transparent)]
    Tensors(#[from] CheckpointError),
    /// The description cannot be read.
    #[error("{}: cannot be read: {source}; expected the folder of a policy, as `control train` leaves it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The description says something that is not so.
    #[error("{}: {message}", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// What was found, and what was expected.
        message: String,
    },
}

/// Why a policy cannot act in an environment.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The policy is for another one.
    #[error("found {environment} with {found}, expected {expected}, which the policy is for")]
    Spaces {
        /// The environment.
        environment: String,
        /// What is there.
        found: Box<Spaces>,
        /// What the policy is for.
        expected: Box<Spaces>,
    },
    /// A process serves it, and fails.
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// What a policy's network is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Description {
    environment: String,
    /// What an environment of another process is made with; what starts it is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    served: Option<DescribedServer>,
    observation_len: usize,
    actions: usize,
    head: Head,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    convolutions: Vec<Convolution>,
    hidden: Vec<usize>,
    activation: String,
    observation_moments: Option<RunningMoments>,
}

/// An environment of another process, as far as this program does not know it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct DescribedServer {
    making: Making,
    observation: ObservationSpace,
    /// Of continuous actions.
    bound: Option<f64>,
}

impl Description {
    /// The environment, and its spaces.
    fn environment(&self) -> Result<(EnvironmentSetup, Spaces), String> {
        let id: EnvironmentId = self.environment.parse().map_err(|error| format!("{error}"))?;
        if let Some(task) = id.task() {
            let (spaces, len) = (task.spaces(), task.observation_len());
            if [self.observation_len, self.actions] != [len, spaces.actions.outputs()] {
                return Err(format!(
                    "found observations of {} numbers and {} actions, expected {len} and {}, those of {id}",
                    self.observation_len,
                    self.actions,
                    spaces.actions.outputs()
                ));
            }
            return Ok((id.into(), spaces));
        }
        let Some(DescribedServer { making, observation, bound }) = &self.served else {
            return Err(format!("found no `served`, expected what {id} is made with"));
        };
        let actions = match (self.head, bound) {
            (Head::Categorical, None) => ActionSpace::Discrete { count: self.actions },
            (Head::Gaussian | Head::Squashed, Some(bound)) if 0.0 < *bound => {
                ActionSpace::Continuous { dimensions: self.actions, bound: *bound }
            }
            (head, bound) => {
                return Err(format!("found the head {head:?} with the bound {bound:?}"));
            }
        };
        if [self.observation_len, self.actions].contains(&0)
            || observation.len() != self.observation_len
        {
            return Err(format!(
                "found {} numbers of {observation} and {} actions",
                self.observation_len, self.actions
            ));
        }
        let server = ServerOptions { making: making.clone(), ..ServerOptions::default() };
        Ok((EnvironmentSetup { id, server }, Spaces { observation: *observation, actions }))
    }
}

/// A policy that acts: its network, and how it reads what is observed.
#[derive(Clone, Debug)]
pub struct Acting {
    /// The environment that it was trained in.
    pub environment: EnvironmentSetup,
    /// π.
    pub policy: Policy,
    /// How observations are brought to scale, where they are.
    pub moments: Option<RunningMoments>,
}

impl Acting {
    /// A copy of an environment for the policy to act in.
    ///
    /// # Errors
    /// If the policy is for other observations or actions, or a process serves the environment, and fails.
    pub fn enter(&self, environment: &EnvironmentSetup) -> Result<Environments, EnterError> {
        let environments = environment.open(1)?;
        self.check(&environments)?;
        Ok(environments)
    }

    /// Whether the policy is for such an environment.
    ///
    /// # Errors
    /// If not.
    pub fn check(&self, environments: &Environments) -> Result<(), EnterError> {
        let (found, expected) = (environments.spaces(), self.policy.spaces());
        if found == expected {
            return Ok(());
        }
        let environment = environments.id().to_string();
        let (found, expected) = (Box::new(found), Box::new(expected));
        Err(EnterError::Spaces { environment, found, expected })
    }

    /// Appends the likeliest action for what is seen.
    pub fn choose(&self, seen: &[f32], actions: &mut Actions, row: &mut Vec<f32>, pass: &mut Pass) {
        row.resize(seen.len(), 0.0);
        normalize(self.moments.as_ref(), seen, row);
        self.policy.network.forward(row, pass);
        self.policy.choose(pass.output(), actions);
    }

    /// Appends an action from the policy's distribution for what is seen.
    pub fn sample(
        &self,
        seen: &[f32],
        actions: &mut Actions,
        row: &mut Vec<f32>,
        pass: &mut Pass,
        rng: &mut ChaCha8Rng,
    ) {
        row.resize(seen.len(), 0.0);
        normalize(self.moments.as_ref(), seen, row);
        self.policy.network.forward(row, pass);
        match actions {
            Actions::Continuous { dimensions, values, .. }
                if self.policy.head() == Head::Squashed =>
            {
                let of = |at| squashed(pass.output(), at, *dimensions, normal(rng)).action;
                values.extend((0..*dimensions).map(of));
            }
            _ => {
                let (mut logprobs, mut judgements) = (Vec::new(), Judgements::default());
                self.policy.sample(pass.output(), actions, &mut logprobs, &mut judgements, rng);
            }
        }
    }

    /// Writes a folder.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), SavedError> {
        let shape = self.policy.network.shape();
        let spaces = self.policy.spaces();
        let served = self.environment.id.task().is_none().then(|| DescribedServer {
            making: self.environment.server.making.clone(),
            observation: spaces.observation,
            bound: match spaces.actions {
                ActionSpace::Discrete { .. } => None,
                ActionSpace::Continuous { bound, .. } => Some(bound),
            },
        });
        let description = Description {
            environment: self.environment.id.to_string(),
            served,
            observation_len: self.policy.network.inputs(),
            actions: self.policy.space().outputs(),
            head: self.policy.head(),
            convolutions: shape.convolutions.clone(),
            hidden: shape.hidden().to_vec(),
            activation: activation_name(shape.nonlinearity).to_owned(),
            observation_moments: self.moments.clone(),
        };
        let description = serde_json::to_value(description).expect("a description is plain");
        write_json_atomically(&dir.join(DESCRIPTION), &description)?;
        save_networks(&dir.join(WEIGHTS), &[("policy", &self.policy.network)])
    }

    /// Reads the policy of a run directory, which has it as `final/`, or of a folder.
    ///
    /// # Errors
    /// Those of [`Acting::load`].
    pub fn load_run(dir: &Path) -> Result<Self, SavedError> {
        let inner = dir.join("final");
        Self::load(if inner.is_dir() { &inner } else { dir })
    }

    /// Reads a folder that [`Acting::save`] wrote.
    ///
    /// # Errors
    /// If a file cannot be read, or does not describe a policy of an environment that is known.
    pub fn load(dir: &Path) -> Result<Self, SavedError> {
        let path = dir.join(DESCRIPTION);
        let text = std::fs::read_to_string(&path)
            .map_err(|source| SavedError::Unreadable { path: path.clone(), source })?;
        let wrong = |message: String| SavedError::Description { path: path.clone(), message };
        let found: Description = serde_json::from_str(&text)
            .map_err(|error| wrong(format!("not the description of a policy: {error}")))?;
        let (environment, spaces) = found.environment().map_err(wrong)?;
        let len = spaces.observation.len();
        let moments = found.observation_moments.clone();
        if let Some(moments) = moments.as_ref().filter(|moments| moments.len() != len) {
            let count = moments.len();
            return Err(wrong(format!("found moments of {count} numbers, expected {len}")));
        }
        let nonlinearity = nonlinearity_of(&found.activation).map_err(wrong)?;
        if found.hidden.contains(&0) {
            return Err(wrong("found a hidden layer of 0, expected at least 1".to_owned()));
        }
        fit(&found.convolutions, spaces.observation).map_err(wrong)?;
        let Description { convolutions, hidden, .. } = &found;
        let trunk = Trunk { convolutions, hidden, nonlinearity };
        let shape = Policy::shape(spaces, trunk, found.head);
        let mut network =
            Network::new(&shape, WeightDraw::Uniform, &mut ChaCha8Rng::seed_from_u64(0));
        load_networks(dir, &mut [("policy", &mut network)])?;
        Ok(Self { environment, policy: Policy::of(network, spaces, found.head), moments })
    }
}

/// What has this name in a description.
///
/// # Errors
/// What was found, and what was expected.
pub(crate) fn nonlinearity_of(name: &str) -> Result<Nonlinearity, String> {
    let all = [Nonlinearity::Tanh, Nonlinearity::Relu, Nonlinearity::LeakyRelu];
    let found = all.into_iter().find(|nonlinearity| activation_name(*nonlinearity) == name);
    found.ok_or_else(|| {
        format!("found the activation {name:?}, expected \"tanh\", \"relu\" or \"leaky_relu\"")
    })
}

pub(crate) fn activation_name(nonlinearity: Nonlinearity) -> &'static str {
    match nonlinearity {
        Nonlinearity::Tanh => "tanh",
        Nonlinearity::Relu => "relu",
        Nonlinearity::LeakyRelu => "leaky_relu",
    }
}

/// Writes the parameters of networks into one file, each under its name.
///
/// # Errors
/// If it cannot be written.
pub fn save_networks(path: &Path, networks: &[(&str, &Network)]) -> Result<(), SavedError> {
    let all = networks.iter().flat_map(|(name, network)| tensors(name, network));
    let vectors = all.map(|(name, shape, network, range)| (name, shape, &network.values()[range]));
    save_vectors(path, &vectors.collect::<Vec<_>>())
}

/// Writes Adam's moments of networks into one file.
///
/// # Errors
/// If it cannot be written.
pub fn save_moments(path: &Path, networks: &[(&str, &Network)]) -> Result<(), SavedError> {
    let all = networks.iter().flat_map(|(name, network)| tensors(name, network));
    let vectors = all.flat_map(|(name, shape, network, range)| {
        let [first, second] = network.moments();
        [
            (format!("{name}/first_moment"), shape.clone(), &first[range.clone()]),
            (format!("{name}/second_moment"), shape, &second[range]),
        ]
    });
    save_vectors(path, &vectors.collect::<Vec<_>>())
}

/// Writes named tensors.
///
/// # Errors
/// If the file cannot be written.
pub fn save_vectors(
    path: &Path,
    vectors: &[(String, Vec<usize>, &[f32])],
) -> Result<(), SavedError> {
    let described: Vec<(String, Vec<usize>)> =
        vectors.iter().map(|(name, shape, _)| (name.clone(), shape.clone())).collect();
    Ok(save_tensors_with(path, &described, |index| vectors[index].2.to_vec().into())?)
}

/// Reads the parameters of networks from a folder's `model.safetensors`.
///
/// # Errors
/// Names a tensor that is missing or misshapen, or that no network has.
pub fn load_networks(dir: &Path, networks: &mut [(&str, &mut Network)]) -> Result<(), SavedError> {
    let files = TensorFiles::open(dir)?;
    let mut expected = Vec::new();
    for (name, network) in networks.iter_mut() {
        for (tensor, shape, range) in network.tensors() {
            let full = format!("{name}/{tensor}");
            let values = files.read(&full, &shape)?;
            network.values_mut()[range].copy_from_slice(&values);
            expected.push(full);
        }
    }
    refuse_more(&files, &expected)
}

/// Reads what [`save_moments`] wrote.
///
/// # Errors
/// Names a tensor that is missing or misshapen, or that no network has.
pub fn load_moments(path: &Path, networks: &mut [(&str, &mut Network)]) -> Result<(), SavedError> {
    let files = TensorFiles::open_file(path)?;
    let mut expected = Vec::new();
    for (name, network) in networks.iter_mut() {
        for (tensor, shape, range) in network.tensors() {
            for (index, moment) in ["first_moment", "second_moment"].into_iter().enumerate() {
                let full = format!("{name}/{tensor}/{moment}");
                let values = files.read(&full, &shape)?;
                network.moments_mut()[index][range.clone()].copy_from_slice(&values);
                expected.push(full);
            }
        }
    }
    refuse_more(&files, &expected)
}

fn refuse_more(files: &TensorFiles, expected: &[String]) -> Result<(), SavedError> {
    match files.names().find(|name| !expected.iter().any(|known| known == name)) {
        None => Ok(()),
        Some(name) => {
            let (path, count) = (files.path().to_owned(), expected.len());
            let message = format!("found a tensor `{name}`, expected the {count} of this network");
            Err(SavedError::Description { path, message })
        }
    }
}

type Tensor<'a> = (String, Vec<usize>, &'a Network, std::ops::Range<usize>);

fn tensors<'a>(name: &str, network: &'a Network) -> Vec<Tensor<'a>> {
    let named = network.tensors().into_iter();
    named
        .map(|(tensor, shape, range)| (format!("{name}/{tensor}"), shape, network, range))
        .collect()
}
