//! What several voting rules would choose, and where they disagree.
//!
//! The candidates are models. Rankings whose candidates have models are ballots, possibly partial, possibly with equals; together
//! with all other votes they make a matrix of support on pairs. Rules on pairs read the matrix, plurality and instant run-off
//! the ballots.

mod election;
mod items;

use hearken_data::feedback::Verdict;
use hearken_stats::social_choice::{
    self, Ballot, InstantRunoff, Lottery, PairMatrix, Profile, Search, Stakes, borda,
    condorcet_winner, copeland, instant_runoff, kemeny, maximal_lottery, maximin, plurality,
    ranked_pairs, schulze, smith_set,
};
use serde::{Deserialize, Serialize};

pub use election::{Election, ElectionAnalysis, ElectionError, ElectionForm, ElectionVotes};
pub use items::{ItemDisagreement, ItemWinners, PerItem};

use crate::index::Index;
use crate::leaderboard::ModelVotes;

/// The verdicts of the rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Voting {
    /// The models.
    pub candidates: Vec<String>,
    /// Rankings that were read as ballots.
    pub ballots: usize,
    /// Votes in the matrix of pairs.
    pub votes: usize,
    /// What rules on pairs read.
    pub basis: Basis,
    /// Pairs of models with votes, of all pairs.
    pub pairs_compared: usize,
    /// All pairs of models.
    pub pairs: usize,
    /// One per rule.
    pub rules: Vec<RuleResult>,
    /// Models that some rule would choose.
    pub winners: Vec<String>,
    /// Whether all rules name the same winners.
    pub agree: bool,
    /// The model with a majority over every other, if there is one.
    pub condorcet_winner: Option<String>,
    /// The smallest set whose members all have a majority over everybody outside.
    pub smith_set: Vec<String>,
    /// Rankings of several answers, item by item.
    pub per_item: PerItem,
    /// What a reader should know.
    pub notes: Vec<String>,
}

impl Voting {
    /// In sentences: who beats everybody, and whether rules agree; nothing where no rule was asked.
    pub fn verdict(&self) -> Vec<String> {
        if self.rules.is_empty() {
            return Vec::new();
        }
        let condorcet = match &self.condorcet_winner {
            Some(winner) => format!("{winner} beats every other candidate by a majority."),
            None => "No candidate beats every other by a majority.".to_owned(),
        };
        let agree = if self.agree {
            "All rules choose the same.".to_owned()
        } else {
            format!("Rules disagree: some rule would choose {}.", self.winners.join(", "))
        };
        vec![condorcet, agree]
    }
}

/// What rules on pairs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Counts of votes: every compared pair has the same number.
    Votes,
    /// Shares of the votes on each pair, because numbers differ from pair to pair and would decide.
    Shares,
}

/// What one rule says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleResult {
    /// `plurality`, `instant_runoff`, `borda`, `copeland`, `maximin`, `schulze`, `ranked_pairs`, `kemeny`, `maximal_lottery`.
    pub rule: String,
    /// Who wins; several where they tie (or, in a lottery, have a chance).
    pub winners: Vec<String>,
    /// The order where the rule makes one: groups of equals, best first.
    pub order: Vec<Vec<String>>,
    /// Scores in the order of [`Voting::candidates`] where the rule makes some: points, or chances in a lottery.
    pub scores: Vec<f64>,
    /// What to know about it.
    pub note: Option<String>,
}

/// Above this some rules take too long, and nobody reads the table.
const CANDIDATES_MAX: usize = 200;

pub(crate) fn voting(index: &Index<'_>) -> Voting {
    let votes = ModelVotes::new(index);
    let names: Vec<&str> = votes.models.iter().map(|&m| index.models[m]).collect();
    let mut voting = Voting { per_item: items::per_item(index), ..undecided(&names) };
    voting.votes = votes.list.len();
    if names.len() < 2 {
        voting.notes.push("No votes between answers of two named models.".to_owned());
        return voting;
    }
    let counts = PairMatrix::from_tally(&votes.tally());
    decide(&mut voting, &counts, ballots(index, &votes.models).as_ref());
    voting
}

/// Before any rule is asked.
fn undecided(names: &[&str]) -> Voting {
    Voting {
        candidates: names.iter().map(|&name| name.to_owned()).collect(),
        ballots: 0,
        votes: 0,
        basis: Basis::Votes,
        pairs_compared: 0,
        pairs: names.len() * names.len().saturating_sub(1) / 2,
        rules: Vec::new(),
        winners: Vec::new(),
        agree: true,
        condorcet_winner: None,
        smith_set: Vec::new(),
        per_item: PerItem { items: 0, agree: 0, disagreements: Vec::new() },
        notes: Vec::new(),
    }
}

/// Asks every rule.
fn decide(voting: &mut Voting, counts: &PairMatrix, profile: Option<&Profile>) {
    let names = voting.candidates.clone();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if names.len() > CANDIDATES_MAX {
        voting.notes.push(format!(
            "{} candidates: voting rules are computed for at most {CANDIDATES_MAX}.",
            names.len()
        ));
        return;
    }
    let (matrix, basis, compared) = read(counts);
    voting.basis = basis;
    voting.pairs_compared = compared;
    voting.ballots = profile.map_or(0, cast);
    voting.rules = rules(&matrix, profile, &names);
    voting.notes = notes(voting);
    summarize(voting, &matrix, &names);
}

/// Ballots that were cast.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "weights are counts of voters"
)]
fn cast(profile: &Profile) -> usize {
    profile.ballots().iter().map(|ballot| ballot.weight).sum::<f64>().round() as usize
}

fn notes(voting: &Voting) -> Vec<String> {
    let mut notes = Vec::new();
    if voting.pairs_compared < voting.pairs {
        notes.push(format!(
            "{} of {} pairs of candidates were never compared; rules on pairs read them as no majority, and the scores of \
             Borda and Copeland are means over the models compared with.",
            voting.pairs - voting.pairs_compared,
            voting.pairs
        ));
    }
    if voting.basis == Basis::Shares {
        notes.push(
            "Pairs have different numbers of votes; rules on pairs read shares instead of votes."
                .to_owned(),
        );
    }
    if voting.ballots == 0 {
        notes.push("Plurality and instant run-off need rankings of the candidates.".to_owned());
    }
    notes
}

fn summarize(voting: &mut Voting, matrix: &PairMatrix, names: &[&str]) {
    let name = |&c: &usize| names[c].to_owned();
    voting.condorcet_winner = condorcet_winner(matrix).as_ref().map(name);
    voting.smith_set = smith_set(matrix).iter().map(name).collect();
    let winners: std::collections::BTreeSet<&String> =
        voting.rules.iter().flat_map(|rule| &rule.winners).collect();
    voting.agree = voting.rules.iter().all(|rule| rule.winners == voting.rules[0].winners);
    voting.winners = winners.into_iter().cloned().collect();
}

/// The matrix to read, and how many pairs have votes: as it is if all compared pairs have the same number of votes, else shares.
fn read(counts: &PairMatrix) -> (PairMatrix, Basis, usize) {
    let n = counts.candidates();
    let pairs = (0..n).flat_map(|a| (0..a).map(move |b| (a, b)));
    let total = |(a, b): (usize, usize)| counts.support(a, b) + counts.support(b, a);
    let compared: Vec<(usize, usize)> = pairs.filter(|&pair| total(pair) > 0.0).collect();
    let same = compared.windows(2).all(|w| (total(w[0]) - total(w[1])).abs() < 1e-9);
    if same {
        return (counts.clone(), Basis::Votes, compared.len());
    }
    let mut shares = PairMatrix::new(n);
    for &(a, b) in &compared {
        shares.add(a, b, counts.support(a, b) / total((a, b)));
        shares.add(b, a, counts.support(b, a) / total((a, b)));
    }
    (shares, Basis::Shares, compared.len())
}

/// Rankings as ballots over models. A model that wrote several candidates of an item stands where its best one does.
fn ballots(index: &Index<'_>, models: &[usize]) -> Option<Profile> {
    let place = |model: usize| models.binary_search(&model).ok();
    let mut ballots = Vec::new();
    for entry in index.deciding() {
        let Verdict::Ranking { order } = &entry.judgement.verdict else { continue };
        let mut seen = Vec::new();
        let mut tiers = Vec::new();
        for tier in order {
            let mut group = Vec::new();
            for &candidate in tier {
                let model = index.model(entry.item, candidate).and_then(place);
                if let Some(model) = model.filter(|m| !seen.contains(m)) {
                    seen.push(model);
                    group.push(model);
                }
            }
            tiers.extend((!group.is_empty()).then_some(group));
        }
        if seen.len() >= 2 {
            ballots.push(Ballot { tiers, weight: 1.0 });
        }
    }
    let profile =
        Profile::new(models.len(), ballots).expect("each model once, of those that exist");
    (!profile.ballots().is_empty()).then_some(profile)
}

fn rules(matrix: &PairMatrix, profile: Option<&Profile>, names: &[&str]) -> Vec<RuleResult> {
    let named = |who: &[usize]| who.iter().map(|&c| names[c].to_owned()).collect::<Vec<_>>();
    let scored = |rule: &str, scores: Vec<f64>| RuleResult {
        rule: rule.to_owned(),
        winners: named(&social_choice::best(&scores)),
        order: tiers_by_score(&scores).iter().map(|tier| named(tier)).collect(),
        scores,
        note: None,
    };
    let ordered = |rule: &str, tiers: Vec<Vec<usize>>, note: Option<String>| RuleResult {
        rule: rule.to_owned(),
        winners: named(&tiers[0]),
        order: tiers.iter().map(|tier| named(tier)).collect(),
        scores: Vec::new(),
        note,
    };
    let mut rules = Vec::new();
    if let Some(profile) = profile {
        rules.push(scored("plurality", plurality(profile)));
        rules.push(runoff(profile, &named));
    }
    rules.push(scored("borda", per_opponent(matrix, borda(matrix))));
    rules.push(scored("copeland", per_opponent(matrix, copeland(matrix))));
    rules.push(scored("maximin", maximin(matrix)));
    rules.push(ordered("schulze", schulze(matrix), None));
    let pairs = ranked_pairs(matrix);
    let contested = (!pairs.contested.is_empty()).then(|| {
        "Majorities of equal strength contradict each other; their order decides.".to_owned()
    });
    rules.push(ordered("ranked_pairs", pairs.tiers, contested));
    let best = kemeny(matrix);
    let note = match best.search {
        Search::Exact { optima: 1 } => None,
        Search::Exact { optima } => Some(format!("One of {optima} equally good orders.")),
        Search::Local => Some("Found by local search; there may be better orders.".to_owned()),
    };
    let order = best.order.into_iter().map(|c| vec![c]).collect();
    rules.push(RuleResult { winners: named(&best.winners), ..ordered("kemeny", order, note) });
    rules.push(lottery(matrix, &named));
    rules
}

/// Scores that are sums over opponents: their means where some pairs were never compared, so that nobody gains by
/// having been compared with more.
fn per_opponent(matrix: &PairMatrix, scores: Vec<f64>) -> Vec<f64> {
    let n = matrix.candidates();
    let compared = |a: usize| {
        let with = |b: &usize| *b != a && matrix.support(a, *b) + matrix.support(*b, a) > 0.0;
        (0..n).filter(with).count()
    };
    let opponents: Vec<usize> = (0..n).map(compared).collect();
    if opponents.iter().all(|&m| m == n - 1) {
        return scores;
    }
    scores.iter().zip(opponents).map(|(s, m)| s / m.max(1) as f64).collect()
}

fn runoff(profile: &Profile, named: &dyn Fn(&[usize]) -> Vec<String>) -> RuleResult {
    let InstantRunoff { winners, complete } = instant_runoff(profile);
    let note = if !complete {
        Some("So many equals could leave first that not every order was followed.".to_owned())
    } else if winners.len() > 1 {
        Some("Who leaves first among equals decides; each could win.".to_owned())
    } else {
        None
    };
    RuleResult {
        rule: "instant_runoff".to_owned(),
        winners: named(&winners),
        order: Vec::new(),
        scores: Vec::new(),
        note,
    }
}

fn lottery(matrix: &PairMatrix, named: &dyn Fn(&[usize]) -> Vec<String>) -> RuleResult {
    let Lottery { chances, possible, unique } = maximal_lottery(matrix, Stakes::Margins);
    let note = match (unique, possible.len()) {
        (false, _) => Some(
            "Several lotteries are optimal: the scores are the chances in one of them, and \
             everybody named has a chance in some."
                .to_owned(),
        ),
        (true, 0..=1) => None,
        (true, _) => Some("A lottery: the scores are chances.".to_owned()),
    };
    RuleResult {
        rule: "maximal_lottery".to_owned(),
        winners: named(&possible),
        order: Vec::new(),
        scores: chances,
        note,
    }
}

/// Candidates by descending score, equals together.
fn tiers_by_score(scores: &[f64]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let equal = |a: &usize, b: &usize| (scores[*a] - scores[*b]).abs() < 1e-9;
    order.chunk_by(equal).map(<[usize]>::to_vec).collect()
}
