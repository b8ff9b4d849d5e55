//! Maximum likelihood of what was done, given what was seen.

use hearken_config::OptimizerConfig;
use hearken_env::Spaces;
use hearken_objective::distribution::Slopes;
use hearken_run::schedule::Schedule;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use crate::actions::Actions;
use crate::config::ControlConfig;
use crate::learner::{adam, clipped_update};
use crate::network::{Down, Pass};
use crate::normalization::{RunningMoments, normalize};
use crate::policy::{Judgements, Policy};

/// A policy that is fitted to pairs of what was seen and what was done.
#[derive(Clone, Debug)]
pub struct Cloning {
    /// π.
    pub policy: Policy,
    /// How observations are brought to scale, where they are.
    pub moments: Option<RunningMoments>,
    /// Optimizer steps made.
    pub step: u64,
    batch: usize,
    optimizer: OptimizerConfig,
    schedule: Schedule,
    work: CloningWorkspace,
}

/// What an update writes into, kept from one to the next.
#[derive(Clone, Debug, Default)]
struct CloningWorkspace {
    observations: Vec<f32>,
    pass: Pass,
    judgements: Judgements,
}

/// What was seen, row by row, and what was done.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a> {
    /// `[steps, observation]`.
    pub seen: &'a [f32],
    /// As many actions.
    pub actions: &'a Actions,
}

impl Cloning {
    /// A fresh policy, for a run of `total` optimizer steps.
    pub fn new(config: &ControlConfig, spaces: Spaces, total: u64, rng: &mut ChaCha8Rng) -> Self {
        let len = spaces.observation.len();
        Self {
            policy: Policy::new(spaces, config.network.trunk(), rng),
            moments: config.network.normalize_observations.then(|| RunningMoments::new(len)),
            step: 0,
            batch: *config.imitation.batch,
            optimizer: config.optimizer.clone(),
            schedule: Schedule::new(&config.optimizer, total),
            work: CloningWorkspace::default(),
        }
    }

    /// Takes note of what was seen.
    pub fn note(&mut self, seen: &[f32]) {
        if let Some(moments) = &mut self.moments {
            for row in seen.chunks(moments.len()) {
                moments.push(row.iter().map(|&x| f64::from(x)));
            }
        }
    }

    /// One pass over `entries`, which it shuffles; the mean loss of its updates.
    ///
    /// # Errors
    /// The name of what holds a NaN or an infinity.
    pub fn epoch(
        &mut self,
        pairs: Pairs<'_>,
        entries: &mut [usize],
        rng: &mut ChaCha8Rng,
    ) -> Result<f64, &'static str> {
        entries.shuffle(rng);
        let mut loss = 0.0;
        for batch in entries.chunks(self.batch) {
            loss += self.forward(pairs, batch) * batch.len() as f64 / entries.len() as f64;
            let share = 1.0 / batch.len() as f64;
            let Self { policy, work, .. } = self;
            let slopes = |_| Slopes { logprob: -share, entropy: 0.0 };
            let CloningWorkspace { judgements, pass, .. } = work;
            policy.backward(pairs.actions, batch, slopes, judgements, pass.doutput());
            policy.network.backward(&work.observations, &mut work.pass, Down::ToParameters);
            self.step += 1;
            let step = adam(&self.optimizer, &self.schedule, self.step);
            let network = &mut self.policy.network;
            clipped_update(network, step, &self.optimizer, "the gradients of the policy")?;
        }
        Ok(loss)
    }

    /// −mean log π(a|s) of entries.
    pub fn loss(&mut self, pairs: Pairs<'_>, entries: &[usize]) -> f64 {
        let parts = entries.chunks(self.batch);
        let sum: f64 = parts.map(|part| self.forward(pairs, part) * part.len() as f64).sum();
        sum / entries.len() as f64
    }

    fn forward(&mut self, pairs: Pairs<'_>, entries: &[usize]) -> f64 {
        let len = self.policy.network.inputs();
        let Self { policy, moments, work, .. } = self;
        work.observations.resize(entries.len() * len, 0.0);
        for (row, &entry) in work.observations.chunks_mut(len).zip(entries) {
            normalize(moments.as_ref(), &pairs.seen[entry * len..][..len], row);
        }
        policy.network.forward(&work.observations, &mut work.pass);
        policy.judge(work.pass.output(), pairs.actions, entries, &mut work.judgements);
        let judged = &work.judgements.judged;
        -judged.iter().map(|judged| judged.logprob).sum::<f64>() / judged.len() as f64
    }
}
