//! What has been done, to learn from again: the newest steps, as many as there is room for.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Rows of the replay.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) observations: Vec<f32>,
    pub(crate) actions: Vec<f32>,
    pub(crate) rewards: Vec<f32>,
    pub(crate) next: Vec<f32>,
    /// 1 where the task goes on.
    pub(crate) goes_on: Vec<f32>,
}

impl Batch {
    /// Writes observations with the actions behind them, row by row.
    pub(crate) fn join(&self, joined: &mut Vec<f32>, len: usize) {
        joined.clear();
        let rows = self.rewards.len();
        let dimensions = self.actions.len() / rows;
        for row in 0..rows {
            joined.extend_from_slice(&self.observations[row * len..][..len]);
            joined.extend_from_slice(&self.actions[row * dimensions..][..dimensions]);
        }
    }
}

/// A step, as a reward is told of it.
#[derive(Clone, Copy, Debug)]
pub struct Experienced<'a> {
    /// What was seen.
    pub seen: &'a [f32],
    /// What was done.
    pub action: &'a [f32],
    /// The reward that it has.
    pub reward: f32,
}

/// Steps in a ring.
#[derive(Clone, Debug)]
pub struct Replay {
    capacity: usize,
    observation_len: usize,
    action_len: usize,
    /// Where the next step goes.
    next: usize,
    observations: Vec<f32>,
    actions: Vec<f32>,
    following: Vec<f32>,
    rewards: Vec<f32>,
    goes_on: Vec<f32>,
}

impl Replay {
    /// Room for `capacity` steps.
    pub fn new(capacity: usize, observation_len: usize, action_len: usize) -> Self {
        Self {
            capacity,
            observation_len,
            action_len,
            next: 0,
            observations: Vec::new(),
            actions: Vec::new(),
            following: Vec::new(),
            rewards: Vec::new(),
            goes_on: Vec::new(),
        }
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.rewards.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rewards.is_empty()
    }

    /// Adds a step: what was seen, what was done, what was seen next; the reward; whether the task goes on. The
    /// oldest gives way.
    pub fn push(
        &mut self,
        seen: &[f32],
        action: &[f32],
        following: &[f32],
        reward: f32,
        goes_on: bool,
    ) {
        let at = self.next;
        put(&mut self.observations, at, seen);
        put(&mut self.actions, at, action);
        put(&mut self.following, at, following);
        put(&mut self.rewards, at, &[reward]);
        put(&mut self.goes_on, at, &[f32::from(u8::from(goes_on))]);
        self.next = (at + 1) % self.capacity;
    }

    /// Draws steps with replacement, in place of those in the batch.
    pub(crate) fn sample(&self, count: usize, rng: &mut ChaCha8Rng, batch: &mut Batch) {
        batch.observations.clear();
        batch.actions.clear();
        batch.next.clear();
        batch.rewards.clear();
        batch.goes_on.clear();
        self.sample_more(count, rng, batch);
    }

    /// Draws steps with replacement, behind those in the batch.
    pub(crate) fn sample_more(&self, count: usize, rng: &mut ChaCha8Rng, batch: &mut Batch) {
        let (observation, action) = (self.observation_len, self.action_len);
        for _ in 0..count {
            let at = rng.random_range(0..self.len());
            batch
                .observations
                .extend_from_slice(&self.observations[at * observation..][..observation]);
            batch.actions.extend_from_slice(&self.actions[at * action..][..action]);
            batch.next.extend_from_slice(&self.following[at * observation..][..observation]);
            batch.rewards.push(self.rewards[at]);
            batch.goes_on.push(self.goes_on[at]);
        }
    }

    /// Length of what is seen.
    pub fn observation_len(&self) -> usize {
        self.observation_len
    }

    /// What was seen, step by step.
    pub fn observations(&self) -> &[f32] {
        &self.observations
    }

    /// Replaces every reward by what `reward` says of the step.
    pub fn relabel(&mut self, mut reward: impl FnMut(Experienced<'_>) -> f32) {
        let (observation, action) = (self.observation_len, self.action_len);
        for at in 0..self.len() {
            let seen = &self.observations[at * observation..][..observation];
            let action = &self.actions[at * action..][..action];
            self.rewards[at] = reward(Experienced { seen, action, reward: self.rewards[at] });
        }
    }

    /// How many steps there are, and where the next goes.
    pub(crate) fn place(&self) -> [usize; 2] {
        [self.len(), self.next]
    }

    /// Makes room for what a checkpoint has.
    pub(crate) fn set_place(&mut self, [len, next]: [usize; 2]) -> Result<(), String> {
        if self.capacity < len || self.capacity <= next {
            let capacity = self.capacity;
            return Err(format!("found a replay of {len} steps, expected at most {capacity}"));
        }
        self.next = next;
        self.observations.resize(len * self.observation_len, 0.0);
        self.actions.resize(len * self.action_len, 0.0);
        self.following.resize(len * self.observation_len, 0.0);
        self.rewards.resize(len, 0.0);
        self.goes_on.resize(len, 0.0);
        Ok(())
    }

    /// Everything, by name and shape.
    pub(crate) fn vectors(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let (len, observation, action) = (self.len(), self.observation_len, self.action_len);
        vec![
            ("observations".to_owned(), vec![len, observation], self.observations.clone()),
            ("actions".to_owned(), vec![len, action], self.actions.clone()),
            ("following".to_owned(), vec![len, observation], self.following.clone()),
            ("rewards".to_owned(), vec![len], self.rewards.clone()),
            ("goes_on".to_owned(), vec![len], self.goes_on.clone()),
        ]
    }

    /// Takes what [`Replay::vectors`] gave.
    pub(crate) fn restore<E>(
        &mut self,
        read: impl Fn(&str, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<(), E> {
        let (len, observation, action) = (self.len(), self.observation_len, self.action_len);
        self.observations = read("observations", &[len, observation])?;
        self.actions = read("actions", &[len, action])?;
        self.following = read("following", &[len, observation])?;
        self.rewards = read("rewards", &[len])?;
        self.goes_on = read("goes_on", &[len])?;
        Ok(())
    }
}

/// Writes a row at its place, or behind the last one.
fn put(rows: &mut Vec<f32>, at: usize, row: &[f32]) {
    let start = at * row.len();
    if start == rows.len() {
        rows.extend_from_slice(row);
    } else {
        rows[start..start + row.len()].copy_from_slice(row);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn the_newest_steps_are_kept() {
        let mut replay = Replay::new(3, 1, 1);
        for step in 0..5_u8 {
            let x = [f32::from(step)];
            replay.push(&x, &x, &x, x[0], step % 2 == 0);
        }
        assert_eq!(replay.place(), [3, 2]);
        assert_eq!(replay.rewards, [3.0, 4.0, 2.0]);
        let mut batch = Batch::default();
        replay.sample(50, &mut ChaCha8Rng::seed_from_u64(1), &mut batch);
        let matches = |row: usize| batch.rewards[row] == batch.observations[row];
        assert!((0..50).all(matches));
        replay.relabel(|step| -step.seen[0]);
        assert_eq!(replay.rewards, [-3.0, -4.0, -2.0]);
    }
}
