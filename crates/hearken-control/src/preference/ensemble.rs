//! A reward model: several small networks that learn from the same comparisons, each in its own way.

use hearken_env::ObservationSpace;
use hearken_objective::bradley_terry::{BradleyTerry, LabelNoise, ScoredComparison};
use hearken_objective::numerics::sigmoid;
use hearken_tensor::dense::Nonlinearity;
use hearken_tensor::device::AdamW;
use rand::RngExt;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use super::segment::{ComparedSegments, Segment};
use crate::config::PreferenceConfig;
use crate::network::{Down, Network, NetworkShape, Pass, Trunk, WeightDraw};
use crate::normalization::RunningMoments;

/// Share of the comparisons that a member does not learn from, but is checked on: 1/e.
const HELD_OUT: f64 = 0.367_879_441_171_442_33;
/// The loss on held-out comparisons should be between these times that on the others: below, the penalty falls, above, it
/// rises. Christiano et al. 2017, section 2.2.3.
const LOSS_RATIO: (f64, f64) = (1.1, 1.5);
/// How fast the penalty moves with an epoch.
const PENALTY_RATE: f64 = 1.1;
/// The penalty stays within these.
const PENALTY_RANGE: (f64, f64) = (1e-8, 1e-1);

/// One network, and what its rewards are brought to scale by.
#[derive(Clone, Debug)]
pub struct Member {
    /// The network: a row of what was seen and done becomes a reward.
    pub network: Network,
    /// Mean and deviation of its rewards of what was compared.
    pub moments: RunningMoments,
    /// λ of ½λ‖θ‖².
    pub penalty: f64,
    /// Updates made.
    pub step: u64,
}

/// Several members.
#[derive(Clone, Debug)]
pub struct Ensemble {
    /// The members.
    pub members: Vec<Member>,
    /// How rows are brought to scale, behind the pixels that they may begin with.
    pub row_moments: RunningMoments,
    pixels: usize,
    settings: PreferenceConfig,
    pass: Pass,
    rows: Vec<f32>,
}

/// What a fit came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fit {
    /// Mean loss on what was learned from.
    pub loss: f64,
    /// Mean loss on what was held out; of few comparisons `None`.
    pub held_out_loss: Option<f64>,
    /// Share of the held-out comparisons that are predicted as they were judged; ties aside.
    pub held_out_accuracy: Option<f64>,
}

impl Ensemble {
    /// Fresh networks, for rows of what is seen and of `more` numbers.
    pub fn new(
        settings: &PreferenceConfig,
        observation: ObservationSpace,
        more: usize,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let trunk = Trunk {
            convolutions: &settings.convolutions,
            hidden: &settings.hidden,
            nonlinearity: Nonlinearity::LeakyRelu,
        };
        let shape = NetworkShape::of(trunk, observation, more, 1);
        let pixels = match observation {
            ObservationSpace::Image { .. } => observation.len(),
            ObservationSpace::Vector { .. } => 0,
        };
        let member = |_| Member {
            network: Network::new(&shape, WeightDraw::Uniform, rng),
            moments: RunningMoments::new(1),
            penalty: *settings.penalty,
            step: 0,
        };
        Self {
            members: (0..*settings.members).map(member).collect(),
            row_moments: RunningMoments::new(observation.len() + more - pixels),
            pixels,
            settings: settings.clone(),
            pass: Pass::default(),
            rows: Vec::new(),
        }
    }

    /// Takes note of rows that the policy made.
    pub fn note(&mut self, rows: &[f32]) {
        for row in rows.chunks(self.row_len()) {
            self.row_moments.push(row[self.pixels..].iter().map(|&x| f64::from(x)));
        }
    }

    /// Length of a row.
    pub fn row_len(&self) -> usize {
        self.pixels + self.row_moments.len()
    }

    /// Brings a row to scale; pixels are.
    pub fn scale_row(&self, row: &[f32], scaled: &mut [f32]) {
        let pixels = self.pixels;
        scaled[..pixels].copy_from_slice(&row[..pixels]);
        self.row_moments.normalize(&row[pixels..], &mut scaled[pixels..]);
    }

    /// Brings rows to scale.
    fn scale(&mut self, rows: &[f32]) {
        let len = self.row_len();
        let mut all = std::mem::take(&mut self.rows);
        all.resize(rows.len(), 0.0);
        for (row, scaled) in rows.chunks(len).zip(all.chunks_mut(len)) {
            self.scale_row(row, scaled);
        }
        self.rows = all;
    }

    /// The rewards of one member, as its network gives them.
    fn raw(&mut self, member: usize, rows: &[f32]) -> &[f32] {
        self.scale(rows);
        self.members[member].network.forward(&self.rows, &mut self.pass);
        self.pass.output()
    }

    /// The reward of each row: the mean over members, each brought to mean 0 and deviation 1 over what was compared.
    pub fn rewards(&mut self, rows: &[f32]) -> Vec<f64> {
        let mut rewards = vec![0.0; rows.len() / self.row_len()];
        let share = 1.0 / self.members.len() as f64;
        for member in 0..self.members.len() {
            let raw: Vec<f64> =
                self.raw(member, rows).iter().map(|&reward| f64::from(reward)).collect();
            let moments = &self.members[member].moments;
            let (mean, std) = (moments.mean(0), moments.std(0));
            for (sum, reward) in rewards.iter_mut().zip(&raw) {
                *sum += share * (reward - mean) / std;
            }
        }
        rewards
    }

    /// What each member thinks of the probability that the first of two segments is the better one.
    pub fn predictions(&mut self, first: &Segment, second: &Segment) -> Vec<f64> {
        let noise = *self.settings.label_error;
        let of = |ensemble: &mut Self, member: usize, segment: &Segment| -> f64 {
            ensemble.raw(member, &segment.rows).iter().map(|&reward| f64::from(reward)).sum()
        };
        (0..self.members.len())
            .map(|member| {
                let margin = of(self, member, first) - of(self, member, second);
                (1.0 - noise) * sigmoid(margin) + 0.5 * noise
            })
            .collect()
    }

    /// Fits every member to the comparisons, from where it is.
    ///
    /// # Errors
    /// The name of what holds a NaN or an infinity.
    pub fn fit(
        &mut self,
        compared: &[ComparedSegments],
        rng: &mut ChaCha8Rng,
    ) -> Result<Fit, &'static str> {
        let mut sums = Fit::default();
        let (mut held_out, mut accuracies) = (Vec::new(), Vec::new());
        for member in 0..self.members.len() {
            let fit = self.fit_member(member, compared, rng)?;
            sums.loss += fit.loss / self.members.len() as f64;
            held_out.extend(fit.held_out_loss);
            accuracies.extend(fit.held_out_accuracy);
            self.members[member].moments = self.moments_of(member, compared);
        }
        let mean = |values: &[f64]| {
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        Ok(Fit { held_out_loss: mean(&held_out), held_out_accuracy: mean(&accuracies), ..sums })
    }

    /// Moments of a member's rewards of everything that was compared.
    fn moments_of(&mut self, member: usize, compared: &[ComparedSegments]) -> RunningMoments {
        let mut moments = RunningMoments::new(1);
        for segment in compared.iter().flat_map(|one| &one.segments) {
            let raw = self.raw(member, &segment.rows);
            for &reward in raw {
                moments.push(std::iter::once(f64::from(reward)));
            }
        }
        moments
    }

    fn fit_member(
        &mut self,
        member: usize,
        compared: &[ComparedSegments],
        rng: &mut ChaCha8Rng,
    ) -> Result<Fit, &'static str> {
        let mut order: Vec<usize> = (0..compared.len()).collect();
        order.shuffle(rng);
        let held_out = (HELD_OUT * compared.len() as f64) as usize;
        let (checked, learned) = order.split_at(held_out);
        // Every member learns from a sample of its own, as large as what there is.
        let draw = |_| learned[rng.random_range(0..learned.len())];
        let mut sample: Vec<usize> = (0..learned.len()).map(draw).collect();
        let mut fit = Fit::default();
        for _ in 0..self.settings.epochs.get() {
            sample.shuffle(rng);
            let mut loss = 0.0;
            for batch in sample.chunks(*self.settings.batch) {
                loss += self.update(member, compared, batch)?;
            }
            fit.loss = loss / sample.len() as f64;
            if checked.is_empty() {
                continue;
            }
            let (loss, right, judged) = self.check(member, compared, checked);
            fit.held_out_loss = Some(loss);
            fit.held_out_accuracy = (0.0 < judged).then(|| right / judged);
            let penalty = &mut self.members[member].penalty;
            if LOSS_RATIO.1 * fit.loss < loss {
                *penalty *= PENALTY_RATE;
            } else if loss < LOSS_RATIO.0 * fit.loss {
                *penalty /= PENALTY_RATE;
            }
            *penalty = penalty.clamp(PENALTY_RANGE.0, PENALTY_RANGE.1);
        }
        Ok(fit)
    }

    fn objective(&self) -> BradleyTerry {
        let epsilon = *self.settings.label_error;
        let noise = if epsilon == 0.0 { LabelNoise::None } else { LabelNoise::Uniform { epsilon } };
        BradleyTerry { noise, centering: 0.0 }
    }

    /// The sums of both segments' rewards.
    fn sums(&mut self, member: usize, compared: &ComparedSegments) -> [f64; 2] {
        [0, 1].map(|which| {
            let raw = self.raw(member, &compared.segments[which].rows);
            raw.iter().map(|&reward| f64::from(reward)).sum()
        })
    }

    /// Mean loss, how many comparisons are predicted as they were judged, and how many are no ties.
    fn check(
        &mut self,
        member: usize,
        compared: &[ComparedSegments],
        which: &[usize],
    ) -> (f64, f64, f64) {
        let objective = self.objective();
        let (mut loss, mut right, mut judged) = (0.0, 0.0, 0.0);
        for &index in which {
            let one = &compared[index];
            let [chosen, rejected] = self.sums(member, one);
            let probability = one.first_is_better;
            loss += objective
                .loss(ScoredComparison { chosen, rejected, margin: 0.0, probability })
                .loss;
            if 0.25 < (probability - 0.5).abs() {
                judged += 1.0;
                right += f64::from(u8::from((rejected < chosen) == (0.5 < probability)));
            }
        }
        (loss / which.len() as f64, right, judged)
    }

    /// One update; returns the sum of the losses before it.
    fn update(
        &mut self,
        member: usize,
        compared: &[ComparedSegments],
        batch: &[usize],
    ) -> Result<f64, &'static str> {
        let objective = self.objective();
        let share = 1.0 / batch.len() as f64;
        let rows: Vec<f32> = batch
            .iter()
            .flat_map(|&index| compared[index].segments.iter().flat_map(|one| &one.rows).copied())
            .collect();
        self.scale(&rows);
        let Self { members, rows, pass, settings, .. } = self;
        let own = &mut members[member];
        own.network.forward(rows, pass);
        let steps = pass.output().len() / (2 * batch.len());
        let mut doutput = std::mem::take(pass.doutput());
        doutput.clear();
        let mut loss = 0.0;
        for (&index, outputs) in batch.iter().zip(pass.output().chunks(2 * steps)) {
            let sum =
                |rewards: &[f32]| rewards.iter().map(|&reward| f64::from(reward)).sum::<f64>();
            let (chosen, rejected) = (sum(&outputs[..steps]), sum(&outputs[steps..]));
            let probability = compared[index].first_is_better;
            let of =
                objective.loss(ScoredComparison { chosen, rejected, margin: 0.0, probability });
            loss += of.loss;
            doutput.extend(std::iter::repeat_n((share * of.grad_chosen) as f32, steps));
            doutput.extend(std::iter::repeat_n((share * of.grad_rejected) as f32, steps));
        }
        *pass.doutput() = doutput;
        own.network.backward(rows, pass, Down::ToParameters);
        own.network.add_penalty(own.penalty as f32);
        if !own.network.gradient_squares().is_finite() {
            return Err("the gradients of the reward model");
        }
        own.step += 1;
        own.network.update(AdamW {
            lr: *settings.lr,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            step: own.step,
            grad_scale: 1.0,
        });
        Ok(loss)
    }
}

#[cfg(test)]
mod tests {
    use hearken_config::Configuration as _;
    use rand::SeedableRng;

    use super::*;
    use crate::config::ControlConfig;

    fn settings() -> PreferenceConfig {
        let file = std::path::Path::new("control.toml");
        let mut layers = ControlConfig::defaults(file);
        for text in ["run.dir=x", "environment.id=Pendulum-v1", "train.environment_steps=1"] {
            layers.set(text).unwrap();
        }
        ControlConfig::from_layers(layers).unwrap().config.preference
    }

    /// A segment of ten rows of which the first number is what it is worth.
    fn segment(rng: &mut ChaCha8Rng) -> Segment {
        let level: f32 = rng.random_range(-1.0..1.0);
        let mut row = || [level + rng.random_range(-0.5..0.5), rng.random_range(-1.0..1.0)];
        let rows: Vec<f32> = (0..10).flat_map(|_| row()).collect();
        let utilities = rows.chunks(2).map(|row| row[0]).collect();
        Segment { rows, utilities }
    }

    #[test]
    fn a_reward_is_learned_from_comparisons_up_to_its_scale() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut ensemble =
            Ensemble::new(&settings(), ObservationSpace::Vector { length: 1 }, 1, &mut rng);
        let compared: Vec<ComparedSegments> = (0..100)
            .map(|_| {
                let segments = [segment(&mut rng), segment(&mut rng)];
                let [a, b] = [0, 1].map(|which| segments[which].utilities.iter().sum::<f32>());
                ComparedSegments { segments, first_is_better: if b < a { 1.0 } else { 0.0 } }
            })
            .collect();
        for one in &compared {
            one.segments.iter().for_each(|segment| ensemble.note(&segment.rows));
        }
        let fit = ensemble.fit(&compared, &mut rng).unwrap();
        assert!(0.85 < fit.held_out_accuracy.unwrap(), "{fit:?}");
        let rewards = ensemble.rewards(&[-0.8, 0.3, 0.0, -0.9, 0.8, 0.1]);
        assert!(rewards[0] < rewards[1] && rewards[1] < rewards[2], "{rewards:?}");
        let all = compared.iter().flat_map(|one| &one.segments).flat_map(|one| &one.rows);
        let rewards = ensemble.rewards(&all.copied().collect::<Vec<f32>>());
        let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
        assert!(mean.abs() < 1e-6, "rewards are brought to mean 0: {mean}");
        let better = ensemble.predictions(&compared[0].segments[0], &compared[0].segments[1]);
        assert!(better.iter().all(|p| (0.05..=0.95).contains(p)), "{better:?}");
    }
}
