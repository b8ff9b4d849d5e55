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

/// Verdicts, counted item by item: what is said of one item can be taken out again and replaced, at the cost of that item alone.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// Of people and of language models. The latter count where nobody else judged.
    by: [Votes; 2],
    /// Items of which people say something.
    by_people: usize,
}

/// Votes of one kind of annotators.
#[derive(Clone, Debug, Default)]
struct Votes {
    /// By the numbers of two models: for the first, ties, for the second.
    pairs: BTreeMap<(u32, u32), [u32; 3]>,
    /// How many pairs of candidates there are with these numbers of annotators by their first choice.
    units: BTreeMap<[u32; 3], usize>,
}

/// What is said of one item, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemCounts {
    /// By people and by language models.
    by: [Box<[PairCounts]>; 2],
    has_people: bool,
}

/// What is said of two candidates of an item: for the first, ties, for the second.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PairCounts {
    candidates: (usize, usize),
    /// The numbers of the models that wrote them, where two different ones did.
    models: Option<(u32, u32)>,
    /// What decides who wins.
    votes: [u32; 3],
    /// Annotators by their first choice.
    unit: [u32; 3],
}

impl ItemCounts {
    /// Counts what is said of an item: the numbers of the models that wrote its candidates, every verdict in the order of the
    /// judgements, and the final one, which takes the place of the others in who wins.
    pub fn new(
        models: &[Option<u32>],
        said: &[StandingVote<'_>],
        decided: Option<&Verdict>,
    ) -> Self {
        let counts = |is_ai: bool| {
            let mut pairs: Vec<PairCounts> = Vec::new();
            let mut seen: HashSet<(u32, usize, usize)> = HashSet::new();
            for StandingVote { annotator, verdict, .. } in
                said.iter().filter(|it| it.is_ai == is_ai)
            {
                for (one, other, choice, _) in pairs_of(verdict) {
                    let pair = PairCounts::of(&mut pairs, models, (one, other));
                    pair.votes[choice as usize] += u32::from(decided.is_none());
                    let is_first = other < models.len() && seen.insert((*annotator, one, other));
                    pair.unit[choice as usize] += u32::from(is_first);
                }
            }
            for (one, other, choice, _) in decided.map(pairs_of).unwrap_or_default() {
                let pair = PairCounts::of(&mut pairs, models, (one, other));
                pair.votes[choice as usize] += 1;
            }
            pairs.into_boxed_slice()
        };
        Self { by: [counts(false), counts(true)], has_people: said.iter().any(|said| !said.is_ai) }
    }
}

impl PairCounts {
    /// The place of two candidates.
    fn of<'a>(
        pairs: &'a mut Vec<Self>,
        models: &[Option<u32>],
        candidates: (usize, usize),
    ) -> &'a mut Self {
        let place = pairs.iter().position(|pair| pair.candidates == candidates);
        let place = place.unwrap_or_else(|| {
            let of = |candidate: usize| models.get(candidate).copied().flatten();
            let models = of(candidates.0).zip(of(candidates.1)).filter(|(one, other)| one != other);
            pairs.push(Self { candidates, models, votes: [0; 3], unit: [0; 3] });
            pairs.len() - 1
        });
        &mut pairs[place]
    }
}

impl Counted {
    /// Adds what is said of an item.
    pub fn add(&mut self, item: &ItemCounts) {
        self.by_people += usize::from(item.has_people);
        for (votes, pairs) in self.by.iter_mut().zip(&item.by) {
            pairs.iter().for_each(|pair| votes.add(pair));
        }
    }

    /// Takes out what was added of an item.
    ///
    /// # Panics
    /// If it was never added.
    pub fn take_out(&mut self, item: &ItemCounts) {
        self.by_people -= usize::from(item.has_people);
        for (votes, pairs) in self.by.iter_mut().zip(&item.by) {
            pairs.iter().for_each(|pair| votes.take_out(pair));
        }
    }

    /// What they come to; `names` are those of the models by their numbers.
    pub fn standing(&self, names: &[&str], options: &Options) -> Standing {
        let votes = &self.by[usize::from(self.by_people == 0)];
        let (tally, models) = votes.tally(names);
        let rounds = options.bootstrap_rounds;
        let units = votes.units.iter().map(|(unit, units)| (unit.to_vec(), *units));
        let table = Table::counted(3, units);
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
    fn add(&mut self, pair: &PairCounts) {
        if let Some(models) = pair.models.filter(|_| pair.votes != [0; 3]) {
            let votes = self.pairs.entry(models).or_default();
            votes.iter_mut().zip(pair.votes).for_each(|(all, more)| *all += more);
        }
        *self.units.entry(pair.unit).or_default() += 1;
    }

    fn take_out(&mut self, pair: &PairCounts) {
        const ADDED: &str = "invariant: what is taken out was added";
        if let Some(models) = pair.models.filter(|_| pair.votes != [0; 3]) {
            let votes = self.pairs.get_mut(&models).expect(ADDED);
            votes.iter_mut().zip(pair.votes).for_each(|(all, less)| *all -= less);
            if *votes == [0; 3] {
                self.pairs.remove(&models);
            }
        }
        let units = self.units.get_mut(&pair.unit).expect(ADDED);
        *units -= 1;
        if *units == 0 {
            self.units.remove(&pair.unit);
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
