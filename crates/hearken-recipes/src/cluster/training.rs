//! Optimizer steps that ranks make together.

use hearken_run::ranks::Shares;
use hearken_run::seeds::Seeds;

use super::events::Foreseen;
use super::lengths::Lengths;
use super::network::{Network, Summation, Transfer};

/// Bytes of memory that adding a number to a sum touches: both addends and the sum.
const ADDED_BYTES: f64 = 12.0;
/// Bytes of memory that AdamW touches for a number: weight, gradient and two moments are read, all but the gradient written.
const UPDATED_BYTES: f64 = 28.0;

/// What a rank does by itself, and how ranks are connected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trainer {
    /// Tokens a second, forward and backward, of one rank.
    pub tokens_per_s: f64,
    /// Numbers that are trained.
    pub numbers: usize,
    /// Bytes a second of a rank's memory.
    pub memory_bytes_per_s: f64,
    /// What connects ranks.
    pub network: Network,
    /// How their gradients are added up.
    pub summation: Summation,
}

/// What a step trains on, and who makes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepPlan {
    /// Records.
    pub records: usize,
    /// Tokens of records.
    pub lengths: Lengths,
    /// Ranks.
    pub ranks: usize,
}

/// How many steps or iterations are averaged over, and what their lengths are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draws {
    /// How many.
    pub count: usize,
    /// The seed.
    pub seed: u64,
}

/// Where the time of a step goes: means over ranks, in seconds, that add up to the step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Step {
    /// Forward and backward passes over the rank's own records.
    pub computing_s: f64,
    /// Waiting for the rank that has the most.
    pub waiting_s: f64,
    /// Bytes of gradients and weights under way.
    pub bytes_s: f64,
    /// What messages take beside their bytes.
    pub messages_s: f64,
    /// Adding gradients up, and the optimizer.
    pub updating_s: f64,
}

/// What a step spends most of its time on, computing aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Less than a tenth of a step is anything but computing.
    Computing,
    /// Records that are shared out unevenly, or too few of them.
    Shares,
    /// The bandwidth between ranks.
    Bandwidth,
    /// The number of messages.
    Messages,
    /// The memory of a rank.
    Memory,
}

impl Step {
    /// All of it.
    pub fn seconds(self) -> f64 {
        self.computing_s + self.waiting_s + self.bytes_s + self.messages_s + self.updating_s
    }

    /// What it spends its time on.
    pub fn bound(self) -> Bound {
        let others = [
            (Bound::Shares, self.waiting_s),
            (Bound::Bandwidth, self.bytes_s),
            (Bound::Messages, self.messages_s),
            (Bound::Memory, self.updating_s),
        ];
        let most = others.into_iter().max_by(|(_, one), (_, other)| one.total_cmp(other));
        most.filter(|_| self.computing_s < 0.9 * self.seconds())
            .map_or(Bound::Computing, |(bound, _)| bound)
    }

    /// One after the other.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            computing_s: self.computing_s + other.computing_s,
            waiting_s: self.waiting_s + other.waiting_s,
            bytes_s: self.bytes_s + other.bytes_s,
            messages_s: self.messages_s + other.messages_s,
            updating_s: self.updating_s + other.updating_s,
        }
    }

    /// One of so many.
    pub(super) fn part(self, of: f64) -> Self {
        Self {
            computing_s: self.computing_s / of,
            waiting_s: self.waiting_s / of,
            bytes_s: self.bytes_s / of,
            messages_s: self.messages_s / of,
            updating_s: self.updating_s / of,
        }
    }
}

/// What ends in a step.
#[derive(Clone, Copy, Debug)]
enum Ended {
    /// The passes of a rank.
    Passes,
    /// A transfer of gradients or weights.
    Transfer,
}

impl Trainer {
    /// A step over records of so many tokens each, by so many ranks.
    pub(super) fn step(&self, tokens: &[usize], ranks: usize) -> Step {
        let shares = Shares::of(tokens, 0, ranks);
        let passes: Vec<f64> = (0..ranks)
            .map(|rank| {
                let own: usize = shares.of_rank(rank).iter().map(|&record| tokens[record]).sum();
                own as f64 / self.tokens_per_s
            })
            .collect();
        let mut events = Foreseen::starting_at(0.0);
        for seconds in &passes {
            events.after(*seconds, Ended::Passes);
        }
        let (mut step, mut waited) = (Step::default(), 0.0);
        step.computing_s = passes.iter().sum::<f64>() / ranks as f64;
        let mut passing = ranks;
        let mut transfers = self.transfers(ranks).into_iter();
        while let Some(ended) = events.next() {
            if matches!(ended, Ended::Passes) {
                passing -= 1;
                waited = events.now_s();
            }
            // Nothing is given before everybody has something to give.
            let next = if passing == 0 { transfers.next() } else { None };
            if let Some(Transfer { bytes_s, messages_s, .. }) = next {
                step.bytes_s += bytes_s;
                step.messages_s += messages_s;
                events.after(bytes_s + messages_s, Ended::Transfer);
            }
        }
        step.waiting_s = waited - step.computing_s;
        step.updating_s = self.updating_s(ranks);
        step
    }

    /// All transfers of a step, one by one.
    fn transfers(&self, ranks: usize) -> Vec<Transfer> {
        let all = self.network.transfers(self.summation, ranks, self.numbers);
        all.into_iter().flat_map(|one| std::iter::repeat_n(one, one.count)).collect()
    }

    /// Each rank adds up a share of the numbers, addend by addend, and updates it.
    fn updating_s(&self, ranks: usize) -> f64 {
        let (numbers, n) = (self.numbers as f64, ranks as f64);
        let added = numbers * (n - 1.0) / n * ADDED_BYTES;
        (added + numbers / n * UPDATED_BYTES) / self.memory_bytes_per_s
    }
}

/// The mean of steps.
pub fn steps(trainer: &Trainer, plan: &StepPlan, draws: Draws) -> Step {
    let seeds = Seeds::new(draws.seed);
    let of = |step: usize| {
        let mut rng = seeds.stream("cluster/records", step as u64);
        let tokens: Vec<usize> = (0..plan.records).map(|_| plan.lengths.draw(&mut rng)).collect();
        trainer.step(&tokens, plan.ranks)
    };
    (0..draws.count).map(of).fold(Step::default(), Step::plus).part(draws.count as f64)
}
