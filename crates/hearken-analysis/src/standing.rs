//! Who wins and how far people agree, from verdicts alone: the first two things that a reader asks, at a small part of the work
//! of an [`Analysis`], so that a page can tell them anew after every label.
//!
//! The numbers are those of the analysis of the same judgements with the same options. What is *not* here: texts, times, single annotators.

use std::collections::{BTreeMap, HashSet};

use hearken_data::feedback::Verdict;
use hearken_stats::agreement::{Coefficient, Distance, Table};
use hearken_stats::comparison::{Comparison, Tally};

use crate::Analysis;
use crate::agreement::{NOT_TWICE, figure};
use crate::figure::Figure;
use crate::index::{pairs_of, sorted_names};
use crate::leaderboard::{Contender, OUTCOMES, contenders};
use crate::records::Options;

/// One verdict on an item that stands.
#[derive(Clone, Copy, Debug)]
pub struct StandingVote<'a> {
    /// Who says it, as a number.
    pub annotator: u32,
    /// Whether a language model does.
    pub is_ai: bool,
    /// What.
    pub verdict: &'a Verdict,
}

/// Verdicts, counted item by item.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// Of people and of language models. The latter count where nobody else judged.
    by: [Votes; 2],
    has_people: bool,
}

/// Votes of one kind of annotators.
#[derive(Clone, Debug, Default)]
struct Votes {
    /// By the numbers of two models: for the first, ties, for the second.
    pairs: BTreeMap<(u32, u32), [u32; 3]>,
    /// Annotators by their first choice, for every two candidates of an item.
    units: Vec<[u32; 3]>,
}

impl Counted {
    /// Adds what is said of an item: the numbers of the models that wrote its candidates, every verdict in the order of the
    /// judgements, and the final one, which takes the place of the others in who wins.
    pub fn add(
        &mut self,
        models: &[Option<u32>],
        said: &[StandingVote<'_>],
        decided: Option<&Verdict>,
    ) {
        self.has_people |= said.iter().any(|said| !said.is_ai);
        for is_ai in [false, true] {
            let votes = &mut self.by[usize::from(is_ai)];
            let of_kind = || said.iter().filter(|said| said.is_ai == is_ai);
            votes.agree(models.len(), of_kind());
            let deciding = of_kind().map(|said| said.verdict).filter(|_| decided.is_none());
            for verdict in deciding.chain(decided) {
                votes.compare(models, verdict);
            }
        }
    }

    /// What they come to; `names` are those of the models by their numbers.
    pub fn standing(&self, names: &[&str], options: &Options) -> Standing {
        let votes = &self.by[usize::from(!self.has_people)];
        let (tally, models) = votes.tally(names);
        let rounds = options.bootstrap_rounds;
        let table = Table::new(3, votes.units.iter().map(|unit| unit.to_vec()));
        let nominal = Coefficient::Alpha(Distance::Nominal, &[0.0, 0.5, 1.0]);
        let found = table.estimates(&[Coefficient::Raw, nominal], rounds, &mut options.rng(1));
        let mut found = found.into_iter().map(|it| figure(it, NOT_TWICE));
        let mut next = || found.next().unwrap_or_else(|| Figure::missing(NOT_TWICE));
        let (agreement, alpha) = (next(), next());
        Standing {
            votes: votes.pairs.values().flatten().map(|votes| *votes as usize).sum(),
            contenders: contenders(&tally, &models, options),
            agreement,
            alpha,
        }
    }
}

impl Votes {
    fn agree<'a>(&mut self, candidates: usize, said: impl Iterator<Item = &'a StandingVote<'a>>) {
        let first = self.units.len();
        let mut places: Vec<(usize, usize)> = Vec::new();
        let mut seen: HashSet<(u32, usize, usize)> = HashSet::new();
        for StandingVote { annotator, verdict, .. } in said {
            for (one, other, choice, _) in pairs_of(verdict) {
                if candidates <= other || !seen.insert((*annotator, one, other)) {
                    continue;
                }
                let place = places.iter().position(|place| *place == (one, other));
                let place = place.unwrap_or_else(|| {
                    places.push((one, other));
                    self.units.push([0; 3]);
                    places.len() - 1
                });
                self.units[first + place][choice as usize] += 1;
            }
        }
    }

    fn compare(&mut self, models: &[Option<u32>], verdict: &Verdict) {
        for (one, other, choice, _) in pairs_of(verdict) {
            let of = |candidate: usize| models.get(candidate).copied().flatten();
            if let (Some(one), Some(other)) = (of(one), of(other))
                && one != other
            {
                self.pairs.entry((one, other)).or_default()[choice as usize] += 1;
            }
        }
    }

    /// Votes between the models that have any, and the names of these, both in the order of an analysis.
    fn tally<'a>(&self, names: &[&'a str]) -> (Tally, Vec<&'a str>) {
        let mut has_votes = vec![false; names.len()];
        for (one, other) in self.pairs.keys() {
            has_votes[*one as usize] = true;
            has_votes[*other as usize] = true;
        }
        let voted = (0..names.len()).filter(|number| has_votes[*number]);
        let models = sorted_names(voted.map(|number| names[number]));
        let place = |number: usize| models.iter().position(|name| *name == names[number]);
        let places: Vec<usize> =
            (0..names.len()).map(|number| place(number).unwrap_or(usize::MAX)).collect();
        let comparisons = self.pairs.iter().flat_map(|((one, other), votes)| {
            let (left, right) = (places[*one as usize], places[*other as usize]);
            OUTCOMES.into_iter().zip(votes).map(move |(outcome, votes)| {
                let weight = f64::from(*votes);
                Comparison { left, right, outcome, weight }
            })
        });
        let tally = Tally::new(models.len(), comparisons);
        (tally.expect("invariant: votes between two models that exist"), models)
    }
}

/// Who wins, and how far people agree.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Votes on answers of two different models.
    pub votes: usize,
    /// One per model with votes, the strongest first.
    pub contenders: Vec<Contender>,
    /// Share of equal verdicts among pairs of verdicts on the same candidates.
    pub agreement: Figure,
    /// Krippendorff's alpha on first, tie, second as names.
    pub alpha: Figure,
}

impl Standing {
    /// What an analysis says of it.
    pub(crate) fn of(analysis: &Analysis) -> Self {
        let (board, compared) = (&analysis.leaderboard, &analysis.agreement.comparisons);
        Self {
            votes: board.votes,
            contenders: board.models.iter().map(Contender::of).collect(),
            agreement: compared.raw.clone(),
            alpha: compared.alpha_nominal.clone(),
        }
    }
}
