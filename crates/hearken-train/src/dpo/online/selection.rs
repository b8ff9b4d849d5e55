//! Which completions are paired or kept, by their scores or by what a judge says.

use hearken_objective::Mean;
use hearken_objective::online::{best, best_and_worst, top, win_probability};
use hearken_run::seeds::Seeds;
use rand::RngExt;

use super::gather::Scored;
use super::judged::Tournament;
use super::section::{Labels, Selection};
use crate::dpo::tree::{Tree, TreeLabel};
use crate::rollout::Rollout;

/// Records, and what their making says.
#[derive(Debug, Default)]
pub(super) struct SelectedRecords {
    pub(super) trees: Vec<Tree>,
    /// Score of the chosen minus that of the rejected completion.
    pub(super) margins: Mean,
    /// Scores of what was kept.
    pub(super) kept: Mean,
    /// How often the policy's completion wins.
    pub(super) wins: Mean,
    /// Whether neither is better.
    pub(super) ties: Mean,
}

impl SelectedRecords {
    fn observe(&mut self, duel: Duel<'_>) {
        if let Some(margin) = duel.margin {
            self.margins.push(margin);
        }
        self.ties.push(f64::from(u8::from(duel.lead == 0.0)));
    }
}

/// What says which completions are better.
#[derive(Debug)]
pub(super) enum Standing {
    /// Their scores.
    Scores,
    /// A judge who saw every two completions of a prompt.
    Tournament(Tournament),
    /// A judge who saw each completion of the policy and its opponent: P(the policy's wins).
    Duels(Vec<Option<f64>>),
}

/// Makes records of completions of which some are better.
pub(super) struct Selector {
    pub(super) labels: Labels,
    /// Completions of a prompt.
    pub(super) completions: usize,
    pub(super) standing: Standing,
    pub(super) seeds: Seeds,
    pub(super) iteration: u64,
}

/// Two completions, and what is known of which is better.
#[derive(Clone, Copy)]
struct Duel<'a> {
    first: &'a Rollout,
    second: &'a Rollout,
    /// P(the first is preferred), where labels are soft.
    soft: f64,
    /// How much better the first is: above 0 if it is.
    lead: f64,
    /// Score of the first minus that of the second; `None` where nobody scored them.
    margin: Option<f64>,
}

impl<'a> Duel<'a> {
    fn scored((first, score): (&'a Rollout, f64), (second, other): (&'a Rollout, f64)) -> Self {
        let margin = score - other;
        let soft = win_probability(score, other);
        Self { first, second, soft, lead: margin, margin: Some(margin) }
    }

    fn judged(first: &'a Rollout, second: &'a Rollout, probability: f64) -> Self {
        Self { first, second, soft: probability, lead: probability - 0.5, margin: None }
    }

    fn swapped(self) -> Self {
        Self {
            first: self.second,
            second: self.first,
            soft: 1.0 - self.soft,
            lead: -self.lead,
            margin: self.margin.map(|margin| -margin),
        }
    }
}

impl Selector {
    /// The probability that a duel's first completion is preferred.
    fn probability(&self, duel: Duel<'_>) -> f64 {
        match self.labels {
            Labels::Soft => duel.soft,
            Labels::Hard if 0.0 < duel.lead => 1.0,
            Labels::Hard if duel.lead < 0.0 => 0.0,
            Labels::Hard => 0.5,
        }
    }

    /// The first completion as the chosen one.
    fn pair(&self, duel: Duel<'_>, records: &mut SelectedRecords) {
        records.observe(duel);
        let label = TreeLabel { probability: self.probability(duel), margin: 0.0 };
        let completions = [duel.first, duel.second].map(|one| one.completion.ids.as_slice());
        records.trees.push(Tree::pair(&duel.first.prompt.ids, completions, label));
    }

    pub(super) fn best_against_worst(&self, own: &Scored) -> SelectedRecords {
        let (mut records, size) = (SelectedRecords::default(), self.completions);
        for (group, rollouts) in own.rollouts.chunks(size).enumerate() {
            let Some(standing) = self.of_group(own, group) else { continue };
            let [chosen, rejected] = best_and_worst(&standing).expect("at least two completions");
            let (first, second) = (&rollouts[chosen], &rollouts[rejected]);
            let duel = match &self.standing {
                Standing::Tournament(played) => played
                    .probability(group, chosen, rejected)
                    .map(|probability| Duel::judged(first, second, probability)),
                _ => Some(Duel::scored((first, standing[chosen]), (second, standing[rejected]))),
            };
            if let Some(duel) = duel {
                self.pair(duel, &mut records);
            }
        }
        records
    }

    /// How good each completion of a prompt is; `None` where nobody says.
    fn of_group(&self, own: &Scored, group: usize) -> Option<Vec<f64>> {
        let size = self.completions;
        match &self.standing {
            Standing::Tournament(played) => played.wins(group),
            _ => Some(own.scores[group * size..(group + 1) * size].to_vec()),
        }
    }

    /// The policy's completions, each against its opponent, with their place.
    fn duels<'r>(&'r self, own: &'r Scored, other: &'r Scored) -> impl Iterator<Item = Duel<'r>> {
        (0..own.rollouts.len()).filter_map(|index| {
            let (first, second) = (&own.rollouts[index], &other.rollouts[index]);
            match &self.standing {
                Standing::Duels(wins) => Some(Duel::judged(first, second, wins[index]?)),
                _ => Some(Duel::scored((first, own.scores[index]), (second, other.scores[index]))),
            }
        })
    }

    /// The policy's completion is the chosen one of a tie, as in TRL.
    pub(super) fn against_reference(&self, own: &Scored, other: &Scored) -> SelectedRecords {
        let mut records = SelectedRecords::default();
        for duel in self.duels(own, other) {
            let wins = 0.0 <= duel.lead;
            records.wins.push(self.probability(duel));
            self.pair(if wins { duel } else { duel.swapped() }, &mut records);
            let tree = records.trees.last_mut().expect("a pair was made");
            tree.explored = Some(usize::from(wins));
        }
        records
    }

    pub(super) fn wins(&self, own: &Scored, other: &Scored) -> SelectedRecords {
        let mut records = SelectedRecords::default();
        for duel in self.duels(own, other) {
            let probability = self.probability(duel);
            records.wins.push(probability);
            records.observe(duel);
            let (prompt, completion) = (&duel.first.prompt.ids, &duel.first.completion.ids);
            records.trees.push(Tree::single(
                prompt,
                completion,
                TreeLabel { probability, margin: 0.0 },
            ));
        }
        records
    }

    pub(super) fn one_of_each(&self, own: &Scored, selection: Selection) -> SelectedRecords {
        let size = self.completions;
        let mut rng = self.seeds.stream("selection", self.iteration);
        let kept = (0..own.rollouts.len() / size).filter_map(|group| {
            let within = match selection {
                Selection::Score => {
                    best(&self.of_group(own, group)?).expect("at least one completion")
                }
                Selection::Random => rng.random_range(0..size),
            };
            Some(group * size + within)
        });
        kept_records(own, &kept.collect::<Vec<_>>())
    }

    pub(super) fn share(&self, own: &Scored, share: f64, selection: Selection) -> SelectedRecords {
        let all = own.scores.len();
        let count = ((share * all as f64).round() as usize).clamp(1, all);
        let kept = match selection {
            Selection::Score => top(&own.scores, count),
            Selection::Random => {
                let mut rng = self.seeds.stream("selection", self.iteration);
                let mut indices: Vec<usize> = (0..all).collect();
                for at in 0..count {
                    indices.swap(at, rng.random_range(at..all));
                }
                indices.truncate(count);
                indices.sort_unstable();
                indices
            }
        };
        kept_records(own, &kept)
    }
}

fn kept_records(own: &Scored, kept: &[usize]) -> SelectedRecords {
    let tree = |&index: &usize| {
        let rollout = &own.rollouts[index];
        Tree::single(&rollout.prompt.ids, &rollout.completion.ids, TreeLabel::GOOD)
    };
    SelectedRecords {
        trees: kept.iter().map(tree).collect(),
        kept: kept.iter().map(|&index| own.scores[index]).collect(),
        ..SelectedRecords::default()
    }
}

/// A demonstration is preferred to whatever the policy writes.
pub(super) fn against_demonstrations<'a>(
    own: &Scored,
    demonstration: impl Fn(usize) -> &'a [u32],
) -> SelectedRecords {
    let tree = |(index, rollout): (usize, &Rollout)| {
        let completions = [demonstration(index), &rollout.completion.ids];
        let label = TreeLabel::GOOD;
        Tree::pair(&rollout.prompt.ids, completions, label)
    };
    let trees = own.rollouts.iter().enumerate().map(tree).collect();
    SelectedRecords { trees, ..SelectedRecords::default() }
}
