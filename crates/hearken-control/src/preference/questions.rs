//! Comparisons that a teacher is asked for, and the reward model that learns from them.

use hearken_env::{Environments, Spaces};
use hearken_run::seeds::Seeds;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use super::ensemble::{Ensemble, Fit};
use super::segment::{ComparedSegments, Segment, Utility, rows_of, segments_of};
use crate::config::PreferenceConfig;
use crate::network::Network;
use crate::normalization::RunningMoments;
use crate::rollout::Rollout;
use crate::teacher::UtilityRange;

/// Names of the members in files.
const MEMBERS: [&str; 10] = [
    "reward_1",
    "reward_2",
    "reward_3",
    "reward_4",
    "reward_5",
    "reward_6",
    "reward_7",
    "reward_8",
    "reward_9",
    "reward_10",
];
/// The most segments of earlier iterations that pairs are made of.
const POOL: usize = 400;

/// A reward model, the comparisons that it has learned from, and what others are made of.
#[derive(Clone, Debug)]
pub struct Questions {
    ensemble: Ensemble,
    compared: Vec<ComparedSegments>,
    /// Queries shown, skipped ones among them.
    shown: usize,
    skipped: usize,
    range: UtilityRange,
    pool: Vec<Segment>,
    settings: PreferenceConfig,
    /// The first iteration in which it is asked, and the number of them that the run has.
    iterations: [u64; 2],
}

/// What a round of questions came to.
#[derive(Clone, Debug)]
pub struct QuestionRound {
    /// The rows of the iteration's steps, as a reward model reads them.
    pub rows: Vec<f32>,
    /// Whether the reward model has changed.
    pub is_fitted: bool,
    /// What is written down of it.
    pub record: Map<String, Value>,
}

impl Questions {
    /// None yet; the first are asked in iteration `first` of `total`.
    pub fn new(
        settings: &PreferenceConfig,
        Spaces { observation, actions }: Spaces,
        [first, total]: [u64; 2],
        seeds: Seeds,
    ) -> Self {
        let mut rng = seeds.stream("reward weights", 0);
        Self {
            ensemble: Ensemble::new(settings, observation, actions.outputs(), &mut rng),
            compared: Vec::new(),
            shown: 0,
            skipped: 0,
            range: UtilityRange::default(),
            pool: Vec::new(),
            settings: settings.clone(),
            iterations: [first, total],
        }
    }

    /// Takes note of what was done in an iteration, asks what is due, and fits the reward model to all answers.
    ///
    /// # Errors
    /// The name of what holds a NaN or an infinity.
    pub fn ask_about(
        &mut self,
        rollout: &Rollout,
        environments: &Environments,
        seeds: Seeds,
        iteration: u64,
    ) -> Result<QuestionRound, &'static str> {
        let rows = rows_of(rollout, environments.spaces().actions);
        self.ensemble.note(&rows);
        let task = environments.id().task();
        let utility = Utility::new(self.settings.utility.as_ref(), task);
        let utilities = utility.utilities(rollout, task);
        self.note(segments_of(rollout, &rows, &utilities, *self.settings.segment));
        let due = self.due(iteration);
        let mut rng = seeds.stream("queries", iteration);
        let mut fit = None;
        if 0 < due && 2 <= self.pool.len() {
            self.ask(due, &mut rng);
            if 2 <= self.compared.len() {
                fit = Some(self.ensemble.fit(&self.compared, &self.pool, &mut rng)?);
            }
        }
        let record = self.record(rollout, &rows, &utilities, fit);
        Ok(QuestionRound { rows, is_fitted: fit.is_some(), record })
    }

    /// What is written down of an iteration.
    fn record(
        &mut self,
        rollout: &Rollout,
        rows: &[f32],
        utilities: &[f64],
        fit: Option<Fit>,
    ) -> Map<String, Value> {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let learned = self.ensemble.rewards(rows);
        let mut record = Map::new();
        let mut write = |name: &str, value: Value| {
            record.insert(format!("preference/{name}"), value);
        };
        write("shown", json!(self.shown));
        write("skipped", json!(self.skipped));
        write("utility", json!(mean(utilities)));
        write("utility_correlation", json!(correlation(&learned, utilities)));
        write("reward_correlation", json!(correlation(&learned, &rollout.rewards)));
        // Before the first answers the networks are what chance made them.
        if 2 <= self.compared.len() {
            write("learned_reward", json!(mean(&learned)));
        }
        if let Some(fit) = fit {
            write("loss", json!(fit.loss));
            write("held_out_loss", json!(fit.held_out_loss));
            write("held_out_accuracy", json!(fit.held_out_accuracy));
            if 0 < self.settings.pseudo_labels {
                write("pseudo_share", json!(fit.pseudo_share));
            }
        }
        record
    }

    /// The iteration in which the first questions are asked.
    pub fn first_iteration(&self) -> u64 {
        self.iterations[0]
    }

    /// How many queries an iteration has.
    fn due(&self, iteration: u64) -> usize {
        let [first, total] = self.iterations;
        let Some(since) = iteration.checked_sub(first) else { return 0 };
        let share = since as f64 / (total - first).saturating_sub(1).max(1) as f64;
        let (labels, initial) = (self.settings.labels, *self.settings.initial);
        let due = self.settings.schedule.due(labels, initial, share).saturating_sub(self.shown);
        let round = (*self.settings.round).min(labels / 10);
        let is_small = due < round && self.shown + due < labels;
        if is_small && 0 < since { 0 } else { due }
    }

    /// The learned reward of each row.
    pub fn rewards(&mut self, rows: &[f32]) -> Vec<f64> {
        self.ensemble.rewards(rows)
    }

    /// The networks of the reward model by name.
    pub fn networks(&self) -> impl Iterator<Item = (&'static str, &Network)> {
        let members = self.ensemble.members.iter().map(|member| &member.network);
        MEMBERS.into_iter().zip(members)
    }

    /// The same, to change them.
    pub fn networks_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut Network)> {
        let members = self.ensemble.members.iter_mut().map(|member| &mut member.network);
        MEMBERS.into_iter().zip(members)
    }

    /// Asks the teacher about `count` pairs.
    fn ask(&mut self, count: usize, rng: &mut ChaCha8Rng) {
        let pairs = if self.compared.is_empty() { 1 } else { *self.settings.candidates };
        let pick = |rng: &mut ChaCha8Rng| {
            let first = rng.random_range(0..self.pool.len());
            let other = rng.random_range(0..self.pool.len() - 1);
            [first, if other < first { other } else { other + 1 }]
        };
        let candidates: Vec<[usize; 2]> = (0..count * pairs).map(|_| pick(rng)).collect();
        let predictions: Vec<Vec<f64>> = candidates
            .iter()
            .map(|&[a, b]| self.ensemble.predictions(&self.pool[a], &self.pool[b]))
            .collect();
        let features = |segments: [&Segment; 2]| -> Vec<f64> {
            segments.iter().flat_map(|one| self.means(one)).collect()
        };
        let of = candidates.iter().map(|&[a, b]| features([&self.pool[a], &self.pool[b]]));
        let of: Vec<Vec<f64>> = of.collect();
        let asked: Vec<Vec<f64>> = self
            .compared
            .iter()
            .map(|one| features([&one.segments[0], &one.segments[1]]))
            .collect();
        let chosen = self.settings.selection.choose(count, &predictions, &of, &asked, rng);
        for place in chosen {
            let [a, b] = candidates[place];
            let segments = [self.pool[a].clone(), self.pool[b].clone()];
            let utilities = [segments[0].utilities.as_slice(), &segments[1].utilities];
            self.shown += 1;
            match self.settings.teacher.compare(utilities, self.range, rng) {
                Some(first_is_better) => {
                    self.compared.push(ComparedSegments { segments, first_is_better });
                }
                None => self.skipped += 1,
            }
        }
    }

    /// The means of a segment's rows, as the reward model reads them.
    fn means(&self, segment: &Segment) -> Vec<f64> {
        let len = self.ensemble.row_len();
        let steps = segment.rows.len() / len;
        let mut means = vec![0.0; len];
        let mut scaled = vec![0.0; len];
        for row in segment.rows.chunks(len) {
            self.ensemble.scale_row(row, &mut scaled);
            for (mean, x) in means.iter_mut().zip(&scaled) {
                *mean += f64::from(*x) / steps as f64;
            }
        }
        means
    }

    /// Adds an iteration's segments to those that pairs are made of; the oldest give way.
    fn note(&mut self, segments: Vec<Segment>) {
        for one in &segments {
            self.range.include(&one.utilities);
        }
        self.pool.extend(segments);
        let surplus = self.pool.len().saturating_sub(POOL);
        self.pool.drain(..surplus);
    }

    /// Numbers and moments that a checkpoint keeps.
    pub fn kept(&self) -> (Vec<f64>, Vec<RunningMoments>) {
        let members = &self.ensemble.members;
        let mut own = vec![self.shown as f64, self.skipped as f64, self.compared.len() as f64];
        own.push(self.pool.len() as f64);
        // Before the first segment there is no range, and JSON has no infinity.
        let range =
            if self.pool.is_empty() { [0.0; 2] } else { [self.range.least, self.range.greatest] };
        own.extend(range);
        own.extend(members.iter().flat_map(|member| [member.penalty, member.step as f64]));
        let moments = members.iter().map(|member| member.moments.clone());
        let moments = moments.chain([self.ensemble.row_moments.clone()]).collect();
        (own, moments)
    }

    /// Takes what [`Questions::kept`] gave.
    ///
    /// # Errors
    /// If that is of another reward model.
    pub fn restore(&mut self, own: &[f64], all_moments: Vec<RunningMoments>) -> Result<(), String> {
        let row_len = self.ensemble.row_len();
        let members = &mut self.ensemble.members;
        let expected = 6 + 2 * members.len();
        let (found, moments) = (own.len(), all_moments.len());
        if found != expected || moments != members.len() + 1 {
            return Err(format!(
                "found {found} numbers and {moments} moments of the reward model, expected {expected} and {}",
                members.len() + 1
            ));
        }
        let count = |index: usize| own[index] as usize;
        (self.shown, self.skipped) = (count(0), count(1));
        let segment = |row_len: usize, steps: usize| Segment {
            rows: vec![0.0; row_len * steps],
            utilities: vec![0.0; steps],
        };
        let empty = segment(row_len, *self.settings.segment);
        self.pool = vec![empty.clone(); count(3)];
        let segments = [empty.clone(), empty];
        self.compared = vec![ComparedSegments { segments, first_is_better: 0.0 }; count(2)];
        if !self.pool.is_empty() {
            self.range = UtilityRange { least: own[4], greatest: own[5] };
        }
        for (member, numbers) in members.iter_mut().zip(own[6..].chunks(2)) {
            (member.penalty, member.step) = (numbers[0], numbers[1] as u64);
        }
        let mut moments = all_moments.into_iter();
        members.iter_mut().zip(&mut moments).for_each(|(member, of)| member.moments = of);
        if let Some(rows) = moments.next() {
            self.ensemble.row_moments = rows;
        }
        Ok(())
    }

    /// Rows and labels that a checkpoint keeps, by name and shape.
    pub fn vectors(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let compared = self.compared.iter().flat_map(|one| &one.segments);
        let of = |segments: Vec<&Segment>| {
            let rows = segments.iter().flat_map(|one| one.rows.iter().copied()).collect();
            let utilities = segments.iter().flat_map(|one| one.utilities.iter().copied());
            (rows, utilities.collect())
        };
        let (rows, utilities): (Vec<f32>, Vec<f32>) = of(compared.collect());
        let (pool_rows, pool_utilities): (Vec<f32>, Vec<f32>) = of(self.pool.iter().collect());
        let labels = self.compared.iter().map(|one| one.first_is_better as f32).collect();
        let all = [
            ("compared/rows", rows),
            ("compared/utilities", utilities),
            ("compared/labels", labels),
            ("pool/rows", pool_rows),
            ("pool/utilities", pool_utilities),
        ];
        all.into_iter()
            .map(|(name, values)| (name.to_owned(), vec![values.len()], values))
            .collect()
    }

    /// Takes what [`Questions::vectors`] gave.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn restore_vectors<E>(
        &mut self,
        read: impl Fn(&str, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<(), E> {
        let steps = *self.settings.segment;
        let width = self.ensemble.row_len() * steps;
        let fill = |segments: Vec<&mut Segment>, name: &str| -> Result<(), E> {
            let rows = read(&format!("{name}/rows"), &[segments.len() * width])?;
            let utilities = read(&format!("{name}/utilities"), &[segments.len() * steps])?;
            let parts = rows.chunks(width).zip(utilities.chunks(steps));
            for (segment, (rows, utilities)) in segments.into_iter().zip(parts) {
                segment.rows.copy_from_slice(rows);
                segment.utilities.copy_from_slice(utilities);
            }
            Ok(())
        };
        fill(self.compared.iter_mut().flat_map(|one| &mut one.segments).collect(), "compared")?;
        fill(self.pool.iter_mut().collect(), "pool")?;
        let labels = read("compared/labels", &[self.compared.len()])?;
        for (one, label) in self.compared.iter_mut().zip(labels) {
            one.first_is_better = f64::from(label);
        }
        Ok(())
    }
}

/// Pearson's correlation; `None` where one of the two does not vary.
pub(crate) fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut product, mut square_a, mut square_b) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        product += (x - mean_a) * (y - mean_b);
        square_a += (x - mean_a).powi(2);
        square_b += (y - mean_b).powi(2);
    }
    let scale = (square_a * square_b).sqrt();
    (0.0 < scale).then(|| product / scale)
}

#[cfg(test)]
mod tests {
    use hearken_config::Configuration as _;
    use hearken_env::ControlTask;

    use super::*;
    use crate::config::ControlConfig;

    fn asked(labels: usize, round: usize, iterations: [u64; 2]) -> Vec<usize> {
        let file = std::path::Path::new("control.toml");
        let mut layers = ControlConfig::defaults(file);
        let (labels, round) =
            (format!("preference.labels={labels}"), format!("preference.round={round}"));
        let settings = [
            "run.dir=x",
            "environment.id=Pendulum-v1",
            "train.environment_steps=1",
            "preference.schedule=constant",
            &labels,
            &round,
        ];
        settings.iter().try_for_each(|text| layers.set(text)).unwrap();
        let config = ControlConfig::from_layers(layers).unwrap().config;
        let spaces = ControlTask::Pendulum.spaces();
        let mut questions = Questions::new(&config.preference, spaces, iterations, Seeds::new(0));
        let ask = |iteration: u64| {
            let due = questions.due(iteration);
            questions.shown += due;
            due
        };
        (0..iterations[1]).map(ask).collect()
    }

    #[test]
    fn queries_are_made_in_rounds_the_first_at_once_and_all_by_the_end() {
        let of = |asked: &[usize]| -> Vec<usize> {
            asked.iter().copied().filter(|&count| 0 < count).collect()
        };
        let each = asked(200, 1, [0, 100]);
        assert_eq!((each[0], each.iter().sum::<usize>()), (50, 200));
        assert!(each[1..].iter().all(|&count| count < 3));
        let rounds = asked(200, 15, [5, 105]);
        assert_eq!(rounds[..5], [0; 5]);
        assert_eq!(of(&rounds), [50, 15, 15, 15, 15, 15, 15, 16, 15, 15, 14]);
        let last = of(&asked(205, 20, [0, 100]));
        assert_eq!(last.iter().sum::<usize>(), 205);
        assert!(last[1..last.len() - 1].iter().all(|&count| 20 <= count), "{last:?}");
        // No more than a tenth of few queries waits.
        assert_eq!(of(&asked(20, 10, [0, 100])), [5, 2, 2, 2, 2, 2, 2, 2, 1]);
        assert_eq!(of(&asked(3, 10, [0, 100])).iter().sum::<usize>(), 3);
    }
}
