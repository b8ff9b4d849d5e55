//! Iterations that sample completions and train on them.

use std::collections::VecDeque;

use hearken_run::ranks::Shares;
use hearken_run::seeds::Seeds;

use super::events::Foreseen;
use super::lengths::Lengths;
use super::training::{Draws, Step, Trainer};

/// How fast one who samples is: a step gives every running sequence a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Seconds of a step, whatever runs: what reading the weights takes.
    pub step_s: f64,
    /// Seconds that each running sequence adds to it.
    pub sequence_s: f64,
    /// The most sequences that run at a time.
    pub slots: usize,
}

/// What an iteration samples and trains on, and who does it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IterationPlan {
    /// Prompts.
    pub prompts: usize,
    /// Completions of each.
    pub completions: usize,
    /// Tokens of a prompt.
    pub prompt_tokens: usize,
    /// Tokens of completions.
    pub lengths: Lengths,
    /// Ranks that train.
    pub ranks: usize,
    /// Servers that sample; without any the ranks do, before they train.
    pub servers: usize,
    /// Whether servers sample while ranks train on what was sampled before. How many iterations before changes
    /// nothing: one is under way at a time.
    pub is_ahead: bool,
    /// Seconds in which servers get new weights.
    pub loading_s: f64,
}

/// Where the time of an iteration goes, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Iterated {
    /// All of it.
    pub seconds: f64,
    /// Until the last completion has ended.
    pub sampling_s: f64,
    /// Of this, what those who sample have nothing to do, mean over them.
    pub idle_s: f64,
    /// The step.
    pub training: Step,
    /// Tokens that were sampled.
    pub tokens: f64,
}

/// Sequences that a sampler completes at a time: tokens that each still lacks.
#[derive(Clone, Debug, Default)]
struct Running {
    left: Vec<usize>,
    /// Tokens until the next of them ends.
    until: usize,
}

impl Running {
    /// Foresees the next end; gives the seconds until then.
    fn foresee(&mut self, sampler: Sampler) -> Option<f64> {
        self.until = self.left.iter().copied().min()?;
        let step_s = sampler.step_s + sampler.sequence_s * self.left.len() as f64;
        Some(self.until as f64 * step_s)
    }

    fn pass(&mut self) {
        let until = self.until;
        self.left.iter_mut().for_each(|left| *left -= until);
        self.left.retain(|left| 0 < *left);
    }
}

impl Sampler {
    /// Takes in a prompt with all of its completions, where one waits and there is room, or nothing runs; whether it did.
    fn take_in(self, running: &mut Running, waiting: &mut VecDeque<Vec<usize>>) -> bool {
        let Some(next) = waiting.front() else { return false };
        if !running.left.is_empty() && self.slots < running.left.len() + next.len() {
            return false;
        }
        running.left.extend(waiting.pop_front().into_iter().flatten());
        true
    }

    /// How long each of `samplers` is busy with prompts of such completions, which wait in one queue for all of them, or in one
    /// for each.
    fn complete(self, mut queues: Vec<VecDeque<Vec<usize>>>, samplers: usize) -> Vec<f64> {
        let is_shared = queues.len() == 1;
        let queue_of = |sampler: usize| if is_shared { 0 } else { sampler };
        let mut running = vec![Running::default(); samplers];
        let (mut events, mut busy_s) = (Foreseen::starting_at(0.0), vec![0.0; samplers]);
        // All of them ask at once, and get one prompt after the other.
        let mut took = true;
        while took {
            took = false;
            for (of, running) in running.iter_mut().enumerate() {
                took |= self.take_in(running, &mut queues[queue_of(of)]);
            }
        }
        for (of, running) in running.iter_mut().enumerate() {
            if let Some(seconds) = running.foresee(self) {
                events.after(seconds, of);
            }
        }
        while let Some(of) = events.next() {
            busy_s[of] = events.now_s();
            running[of].pass();
            while self.take_in(&mut running[of], &mut queues[queue_of(of)]) {}
            if let Some(seconds) = running[of].foresee(self) {
                events.after(seconds, of);
            }
        }
        busy_s
    }
}

/// The prompts of each rank.
fn shared_out(prompts: &[Vec<usize>], ranks: usize) -> Vec<VecDeque<Vec<usize>>> {
    let shares = Shares::of(&vec![1; prompts.len()], 0, ranks);
    let own = |rank| shares.of_rank(rank).iter().map(|&prompt| prompts[prompt].clone());
    (0..ranks).map(|rank| own(rank).collect()).collect()
}

/// The mean of iterations.
pub fn iterations(
    trainer: &Trainer,
    sampler: Sampler,
    plan: &IterationPlan,
    draws: Draws,
) -> Iterated {
    let seeds = Seeds::new(draws.seed);
    let mut all = Iterated::default();
    for iteration in 0..draws.count {
        let mut rng = seeds.stream("cluster/completions", iteration as u64);
        let mut completion = || plan.lengths.draw(&mut rng);
        let mut prompt = || (0..plan.completions).map(|_| completion()).collect::<Vec<usize>>();
        let prompts: Vec<Vec<usize>> = (0..plan.prompts).map(|_| prompt()).collect();
        let is_shared = 0 < plan.servers;
        let samplers = if is_shared { plan.servers } else { plan.ranks };
        let queues = if is_shared {
            vec![prompts.iter().cloned().collect()]
        } else {
            shared_out(&prompts, samplers)
        };
        let busy_s = sampler.complete(queues, samplers);
        let sampling_s = busy_s.iter().copied().fold(0.0, f64::max);
        let sampled = |tokens: &Vec<usize>| tokens.iter().sum::<usize>();
        let trees: Vec<usize> =
            prompts.iter().map(|own| plan.prompt_tokens + sampled(own)).collect();
        let training = trainer.step(&trees, plan.ranks);
        all.sampling_s += sampling_s;
        all.idle_s += busy_s.iter().map(|busy| sampling_s - busy).sum::<f64>() / samplers as f64;
        all.training = all.training.plus(training);
        all.tokens += prompts.iter().map(sampled).sum::<usize>() as f64;
        all.seconds += match (is_shared, plan.is_ahead) {
            (true, true) => plan.loading_s + sampling_s.max(training.seconds()),
            (true, false) => plan.loading_s + sampling_s + training.seconds(),
            (false, _) => sampling_s + training.seconds(),
        };
    }
    let n = draws.count as f64;
    Iterated {
        seconds: all.seconds / n,
        sampling_s: all.sampling_s / n,
        idle_s: all.idle_s / n,
        training: all.training.part(n),
        tokens: all.tokens / n,
    }
}
