//! Comparisons that a teacher is asked for, and the reward model that learns from them.

use hearken_env::{Environments, Spaces};
use hearken_run::seeds::Seeds;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use super::ensemble::{Ensemble, Fit};
use super::people::{People, take_over};
use super::segment::{ComparedSegments, Segment, Utility, rows_of, segments_of};
use crate::config::{ControlConfig, PreferenceConfig};
use crate::learner::{AdvanceError, Awaited};
use crate::network::Network;
use crate::normalization::RunningMoments;
use crate::rollout::Rollout;
use crate::teacher::{Teacher, UtilityRange};

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
    /// Numbers of a state that segments keep: none where nobody looks at them.
    state_len: usize,
    /// Those who compare, where they are people.
    people: Option<People>,
    /// The query of each comparison by people.
    places: Vec<usize>,
    /// What the reward model made of what they have said since the last record.
    heard: Option<Fit>,
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
        config: &ControlConfig,
        Spaces { observation, actions }: Spaces,
        [first, total]: [u64; 2],
        seeds: Seeds,
    ) -> Self {
        let mut rng = seeds.stream("reward weights", 0);
        let settings = &config.preference;
        let ensemble = Ensemble::new(settings, observation, actions.outputs(), &mut rng);
        let asks_people = settings.teacher == Teacher::People;
        let drawn = config.environment.id.task().filter(|_| asks_people);
        let people = asks_people.then(|| People::new(config, ensemble.row_len()));
        // What people would say after the last iteration comes too late.
        let total = if asks_people { total.saturating_sub(1).max(first + 1) } else { total };
        Self {
            ensemble,
            compared: Vec::new(),
            shown: 0,
            skipped: 0,
            range: UtilityRange::default(),
            pool: Vec::new(),
            settings: settings.clone(),
            state_len: drawn.map_or(0, |task| task.state_names().len()),
            people,
            places: Vec::new(),
            heard: None,
            iterations: [first, total],
        }
    }

    /// What people have to say before the next iteration.
    ///
    /// # Errors
    /// If the store in which they say it cannot be read.
    pub fn awaited(&mut self) -> Result<Option<Awaited>, AdvanceError> {
        Ok(self.people.as_mut().map_or(Ok(None), People::awaited)?)
    }

    /// Takes over what people have said, and fits the reward model to it; whether it has changed.
    ///
    /// # Errors
    /// If the store cannot be read, or the name of what holds a NaN or an infinity.
    pub fn hear(&mut self, seeds: Seeds, iteration: u64) -> Result<bool, AdvanceError> {
        let Some(people) = &mut self.people else { return Ok(false) };
        people.look()?;
        let is_new = take_over(people.queries()?, &mut self.places, &mut self.compared);
        (self.shown, self.skipped) = (people.queries()?.len(), people.skipped());
        if !is_new || !self.has_learned() {
            return Ok(false);
        }
        let mut rng = seeds.stream("answers", iteration);
        self.heard = Some(self.ensemble.fit(&self.compared, &self.pool, &mut rng)?);
        Ok(true)
    }

    /// Whether there are comparisons enough to learn from; without, the networks are what chance made them.
    pub fn has_learned(&self) -> bool {
        2 <= self.compared.len()
    }

    /// Takes note of what was done in an iteration, asks what is due, and fits the reward model to all answers.
    ///
    /// # Errors
    /// The name of what holds a NaN or an infinity, or why people cannot be asked.
    pub fn ask_about(
        &mut self,
        rollout: &Rollout,
        environments: &Environments,
        seeds: Seeds,
        iteration: u64,
    ) -> Result<QuestionRound, AdvanceError> {
        let rows = rows_of(rollout, environments.spaces().actions);
        self.ensemble.note(&rows);
        let task = environments.id().task();
        let utility = Utility::new(self.settings.utility.as_ref(), task);
        let utilities = utility.utilities(rollout, task);
        let length = *self.settings.segment;
        self.note(segments_of(rollout, &rows, &utilities, length, self.state_len));
        let due = self.due(iteration);
        let mut rng = seeds.stream("queries", iteration);
        let mut fit = self.heard.take();
        // Who is behind with their answers is asked no more.
        let is_last = self.iterations[1] <= iteration;
        let is_time = self.people.as_ref().is_none_or(|people| people.is_enough() && !is_last);
        if 0 < due && 2 <= self.pool.len() && is_time {
            let pairs = self.choose(due, &mut rng);
            self.ask(pairs, iteration, &mut rng)?;
            if self.people.is_none() && self.has_learned() {
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
        if self.people.is_some() {
            write("answered", json!(self.compared.len()));
        }
        write("utility", json!(mean(utilities)));
        write("utility_correlation", json!(correlation(&learned, utilities)));
        write("reward_correlation", json!(correlation(&learned, &rollout.rewards)));
        if self.has_learned() {
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

    /// The `count` pairs that are asked about.
    fn choose(&mut self, count: usize, rng: &mut ChaCha8Rng) -> Vec<[Segment; 2]> {
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
        // What people have not answered yet is asked all the same.
        let asked: Vec<&[Segment; 2]> = match &self.people {
            None => self.compared.iter().map(|one| &one.segments).collect(),
            Some(people) => people.asked().collect(),
        };
        let asked: Vec<Vec<f64>> = asked.iter().map(|[a, b]| features([a, b])).collect();
        let chosen = self.settings.selection.choose(count, &predictions, &of, &asked, rng);
        let pair = |place: usize| candidates[place].map(|of| self.pool[of].clone());
        chosen.into_iter().map(pair).collect()
    }

    /// Asks about pairs: a teacher at once, people in time.
    fn ask(
        &mut self,
        pairs: Vec<[Segment; 2]>,
        iteration: u64,
        rng: &mut ChaCha8Rng,
    ) -> Result<(), AdvanceError> {
        if let Some(people) = &mut self.people {
            self.shown += pairs.len();
            return Ok(people.ask(pairs, iteration)?);
        }
        for segments in pairs {
            let utilities = [segments[0].utilities.as_slice(), &segments[1].utilities];
            self.shown += 1;
            match self.settings.teacher.compare(utilities, self.range, rng) {
                Some(first_is_better) => {
                    self.compared.push(ComparedSegments { segments, first_is_better });
                }
                None => self.skipped += 1,
            }
        }
        Ok(())
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
        let steps = *self.settings.segment;
        let empty = Segment {
            rows: vec![0.0; row_len * steps],
            utilities: vec![0.0; steps],
            states: vec![0.0; self.state_len * steps],
        };
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
        let labels: Vec<f32> = self.compared.iter().map(|one| one.first_is_better as f32).collect();
        let mut all = vec![("compared/labels".to_owned(), labels)];
        let mut write = |name: &str, segments: Vec<&Segment>| {
            let mut part = |part: &str, of: fn(&Segment) -> &[f32]| {
                let numbers = segments.iter().flat_map(|one| of(one).iter().copied());
                all.push((format!("{name}/{part}"), numbers.collect()));
            };
            part("rows", |one| &one.rows);
            part("utilities", |one| &one.utilities);
            if 0 < self.state_len {
                part("states", |one| &one.states);
            }
        };
        write("compared", compared.collect());
        write("pool", self.pool.iter().collect());
        if self.people.is_some() {
            let places = self.places.iter().map(|&place| place as f32).collect();
            all.push(("compared/queries".to_owned(), places));
        }
        all.into_iter().map(|(name, values)| (name, vec![values.len()], values)).collect()
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
        let (width, state_width) = (self.ensemble.row_len() * steps, self.state_len * steps);
        let fill = |segments: Vec<&mut Segment>, name: &str| -> Result<(), E> {
            let rows = read(&format!("{name}/rows"), &[segments.len() * width])?;
            let utilities = read(&format!("{name}/utilities"), &[segments.len() * steps])?;
            let states = match state_width {
                0 => Vec::new(),
                _ => read(&format!("{name}/states"), &[segments.len() * state_width])?,
            };
            for (index, segment) in segments.into_iter().enumerate() {
                segment.rows.copy_from_slice(&rows[index * width..][..width]);
                segment.utilities.copy_from_slice(&utilities[index * steps..][..steps]);
                segment.states.copy_from_slice(&states[index * state_width..][..state_width]);
            }
            Ok(())
        };
        fill(self.compared.iter_mut().flat_map(|one| &mut one.segments).collect(), "compared")?;
        fill(self.pool.iter_mut().collect(), "pool")?;
        let labels = read("compared/labels", &[self.compared.len()])?;
        for (one, label) in self.compared.iter_mut().zip(labels) {
            one.first_is_better = f64::from(label);
        }
        if self.people.is_some() {
            let places = read("compared/queries", &[self.compared.len()])?;
            self.places = places.into_iter().map(|place| place as usize).collect();
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
        let mut questions = Questions::new(&config, spaces, iterations, Seeds::new(0));
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
