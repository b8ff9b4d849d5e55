//! A reward model: several small networks that learn from the same comparisons, each in its own way.

use hearken_env::ObservationSpace;
use hearken_objective::bradley_terry::{BradleyTerry, LabelNoise, ScoredComparison};
use hearken_objective::numerics::sigmoid;
use hearken_tensor::dense::Nonlinearity;
use hearken_tensor::device::AdamW;
use rand::seq::SliceRandom as _;
use rand::{RngExt, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::segment::{ComparedSegments, Segment};
use crate::config::PreferenceConfig;
use crate::network::{Down, Network, NetworkShape, Pass, Trunk, WeightDraw};
use crate::normalization::RunningMoments;

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
    /// What decides how often a member learns from a comparison.
    sampling_seed: u64,
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
    /// Share of the pairs without an answer that a member was sure enough of to take its own for it; without
    /// such pairs `None`.
    pub pseudo_share: Option<f64>,
}

/// A pair that an update is made from.
#[derive(Clone, Copy, Debug)]
struct Pair<'a> {
    segments: [&'a Segment; 2],
    first_is_better: f64,
    /// Its share of the loss.
    weight: f64,
}

/// How often a member learns from each of `count` comparisons, in their order: those of 0 it is checked on.
///
/// As a bootstrap sample has each of them, which is Poisson's distribution of mean 1 where they are many (Oza and Russell
/// 2001): 0 with probability 1/e. Of a comparison it is the same however many follow, so that what is held out has never
/// been learned from.
fn multiplicities(seed: u64, member: usize, count: usize) -> Vec<usize> {
    // Beyond, what is left of the distribution is less than the rounding of its shares.
    const TIMES_MAX: usize = 12;
    let mut rng = ChaCha8Rng::seed_from_u64(seed.wrapping_add(member as u64));
    let draw = |_| {
        let (mut left, mut times) = (rng.random::<f64>(), 0);
        let mut share = (-1.0_f64).exp();
        while share <= left && times < TIMES_MAX {
            left -= share;
            times += 1;
            share /= times as f64;
        }
        times
    };
    (0..count).map(draw).collect()
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
            sampling_seed: rng.random(),
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

    /// Fits every member to the comparisons, from where it is; pairs of `pool` may join those that were judged.
    ///
    /// # Errors
    /// The name of what holds a NaN or an infinity.
    pub fn fit(
        &mut self,
        compared: &[ComparedSegments],
        pool: &[Segment],
        rng: &mut ChaCha8Rng,
    ) -> Result<Fit, &'static str> {
        let mut loss = 0.0;
        let (mut held_out, mut accuracies, mut shares) = (Vec::new(), Vec::new(), Vec::new());
        for member in 0..self.members.len() {
            let fit = self.fit_member(member, compared, pool, rng)?;
            loss += fit.loss / self.members.len() as f64;
            held_out.extend(fit.held_out_loss);
            accuracies.extend(fit.held_out_accuracy);
            shares.extend(fit.pseudo_share);
            self.members[member].moments = self.moments_of(member, compared);
        }
        let mean = |values: &[f64]| {
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        Ok(Fit {
            loss,
            held_out_loss: mean(&held_out),
            held_out_accuracy: mean(&accuracies),
            pseudo_share: mean(&shares),
        })
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
        pool: &[Segment],
        rng: &mut ChaCha8Rng,
    ) -> Result<Fit, &'static str> {
        let times = multiplicities(self.sampling_seed, member, compared.len());
        let of = |index: usize| std::iter::repeat_n(index, times[index]);
        let mut sample: Vec<usize> = (0..compared.len()).flat_map(of).collect();
        let mut checked: Vec<usize> =
            (0..compared.len()).filter(|&index| times[index] == 0).collect();
        if sample.is_empty() {
            // Of very few comparisons none may be drawn.
            std::mem::swap(&mut sample, &mut checked);
        }
        let mut fit = Fit::default();
        for _ in 0..self.settings.epochs.get() {
            sample.shuffle(rng);
            let (mut loss, mut taken, mut proposed) = (0.0, 0, 0);
            for batch in sample.chunks(*self.settings.batch) {
                let share = 1.0 / batch.len() as f64;
                let judged = batch.iter().map(|&index| {
                    let ComparedSegments { segments: [a, b], first_is_better } = &compared[index];
                    Pair { segments: [a, b], first_is_better: *first_is_better, weight: share }
                });
                let mut pairs: Vec<Pair<'_>> = judged.collect();
                let wanted = self.settings.pseudo_labels * batch.len();
                self.add_sure(member, pool, wanted, &mut pairs, rng);
                proposed += wanted;
                taken += pairs.len() - batch.len();
                loss += self.update(member, &pairs, batch.len(), rng)?;
            }
            fit.loss = loss / sample.len() as f64;
            fit.pseudo_share = (0 < proposed).then(|| taken as f64 / proposed as f64);
            if checked.is_empty() {
                continue;
            }
            let (loss, right, judged) = self.check(member, compared, &checked);
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

    /// Draws `count` pairs that nobody has judged, and adds those of which the member is sure, as it would judge them.
    ///
    /// Park et al. 2022, arXiv:2203.10050 (SURF), section 4.1. Their shares of the loss are those of `count` pairs, however many
    /// are taken.
    fn add_sure<'a>(
        &mut self,
        member: usize,
        pool: &'a [Segment],
        count: usize,
        pairs: &mut Vec<Pair<'a>>,
        rng: &mut ChaCha8Rng,
    ) {
        for _ in 0..count {
            let [first, other] = [0, 1].map(|_| &pool[rng.random_range(0..pool.len())]);
            let margin = self.sum(member, first) - self.sum(member, other);
            let first_is_better = if 0.0 < margin { 1.0 } else { 0.0 };
            if *self.settings.confidence < sigmoid(margin.abs()) {
                let weight = *self.settings.pseudo_weight / count as f64;
                pairs.push(Pair { segments: [first, other], first_is_better, weight });
            }
        }
    }

    fn objective(&self) -> BradleyTerry {
        let epsilon = *self.settings.label_error;
        let noise = if epsilon == 0.0 { LabelNoise::None } else { LabelNoise::Uniform { epsilon } };
        BradleyTerry { noise, centering: 0.0 }
    }

    /// The sum of a segment's rewards.
    fn sum(&mut self, member: usize, segment: &Segment) -> f64 {
        self.raw(member, &segment.rows).iter().map(|&reward| f64::from(reward)).sum()
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
            let [chosen, rejected] = [0, 1].map(|which| self.sum(member, &one.segments[which]));
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

    /// The rows of pairs one behind another, all segments cut to the same length, each at a place of its own.
    ///
    /// What is better as a whole is taken to be better in parts of about its length. SURF, section 4.2.
    fn cropped(&self, pairs: &[Pair<'_>], rng: &mut ChaCha8Rng) -> Vec<f32> {
        let (width, crop) = (self.row_len(), self.settings.crop);
        let steps = pairs[0].segments[0].rows.len() / width;
        let len = if crop == 0 { steps } else { rng.random_range(steps - crop..=steps) };
        let mut rows = Vec::with_capacity(2 * pairs.len() * len * width);
        for segment in pairs.iter().flat_map(|pair| pair.segments) {
            let start = if len == steps { 0 } else { rng.random_range(0..=steps - len) };
            rows.extend_from_slice(&segment.rows[start * width..][..len * width]);
        }
        rows
    }

    /// One update; returns the sum of the losses of the first `judged` pairs before it.
    fn update(
        &mut self,
        member: usize,
        pairs: &[Pair<'_>],
        judged: usize,
        rng: &mut ChaCha8Rng,
    ) -> Result<f64, &'static str> {
        let objective = self.objective();
        let rows = self.cropped(pairs, rng);
        self.scale(&rows);
        let Self { members, rows, pass, settings, .. } = self;
        let own = &mut members[member];
        own.network.forward(rows, pass);
        let steps = pass.output().len() / (2 * pairs.len());
        let mut doutput = std::mem::take(pass.doutput());
        doutput.clear();
        let mut loss = 0.0;
        for (index, (pair, outputs)) in
            pairs.iter().zip(pass.output().chunks(2 * steps)).enumerate()
        {
            let sum =
                |rewards: &[f32]| rewards.iter().map(|&reward| f64::from(reward)).sum::<f64>();
            let (chosen, rejected) = (sum(&outputs[..steps]), sum(&outputs[steps..]));
            let probability = pair.first_is_better;
            let of =
                objective.loss(ScoredComparison { chosen, rejected, margin: 0.0, probability });
            if index < judged {
                loss += of.loss;
            }
            let weighed = |gradient: f64| (pair.weight * gradient) as f32;
            doutput.extend(std::iter::repeat_n(weighed(of.grad_chosen), steps));
            doutput.extend(std::iter::repeat_n(weighed(of.grad_rejected), steps));
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
        Segment { rows, utilities, states: Vec::new() }
    }

    #[test]
    fn a_member_learns_from_a_bootstrap_sample_and_is_checked_on_the_rest() {
        let times = multiplicities(7, 0, 20_000);
        let share = |times: &[usize], wanted: usize| {
            times.iter().filter(|&&of| of == wanted).count() as f64 / times.len() as f64
        };
        for (wanted, expected) in [(0, 0.3679), (1, 0.3679), (2, 0.1839), (3, 0.0613)] {
            assert!((share(&times, wanted) - expected).abs() < 0.01, "{wanted}");
        }
        assert_eq!(multiplicities(7, 0, 50), times[..50], "what follows changes nothing");
        assert_ne!(multiplicities(7, 1, 50), times[..50]);
    }

    #[test]
    fn a_pair_without_an_answer_joins_where_a_member_is_sure() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut settings = settings();
        let vector = ObservationSpace::Vector { length: 1 };
        let pool: Vec<Segment> = (0..30).map(|_| segment(&mut rng)).collect();
        let mut taken = Vec::new();
        for confidence in ["0", "0.5", "0.6", "0.999999"] {
            settings.confidence =
                toml::Value::Float(confidence.parse().unwrap()).try_into().unwrap();
            settings.pseudo_weight = toml::Value::Float(3.0).try_into().unwrap();
            let mut ensemble =
                Ensemble::new(&settings, vector, 1, &mut ChaCha8Rng::seed_from_u64(1));
            for segment in &pool {
                ensemble.note(&segment.rows);
            }
            let mut pairs = Vec::new();
            ensemble.add_sure(0, &pool, 200, &mut pairs, &mut ChaCha8Rng::seed_from_u64(2));
            for pair in &pairs {
                let [first, other] = pair.segments.map(|segment| ensemble.sum(0, segment));
                assert_eq!(pair.first_is_better, f64::from(u8::from(other < first)));
                assert_eq!(pair.weight, 3.0 / 200.0);
            }
            taken.push(pairs.len());
        }
        assert_eq!(taken[0], 200);
        assert!(190 < taken[1] && 0 < taken[2] && taken[2] < taken[1], "{taken:?}");
        assert_eq!(taken[3], 0);
    }

    #[test]
    fn segments_are_shortened_to_one_length_at_places_of_their_own() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut settings = settings();
        settings.crop = 4;
        let vector = ObservationSpace::Vector { length: 1 };
        let ensemble = Ensemble::new(&settings, vector, 1, &mut rng);
        let segments: Vec<Segment> = (0..6).map(|_| segment(&mut rng)).collect();
        let pairs = [0, 2, 4].map(|at| Pair {
            segments: [&segments[at], &segments[at + 1]],
            first_is_better: 1.0,
            weight: 1.0,
        });
        let mut lengths = Vec::new();
        for _ in 0..200 {
            let rows = ensemble.cropped(&pairs, &mut rng);
            let len = rows.len() / segments.len();
            for (part, segment) in rows.chunks(len).zip(&segments) {
                assert!(segment.rows.windows(len).step_by(2).any(|window| window == part));
            }
            lengths.push(len / 2);
        }
        lengths.sort_unstable();
        lengths.dedup();
        assert_eq!(lengths, [6, 7, 8, 9, 10]);
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
        let fit = ensemble.fit(&compared, &[], &mut rng).unwrap();
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
