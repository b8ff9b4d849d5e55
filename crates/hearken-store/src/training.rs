//! Judgements made ready to train on: chosen, and those on one pair made one.

use std::collections::{BTreeMap, HashMap, HashSet};

use hearken_data::RecordKind;
use hearken_data::feedback::formats::{ContestWinner, contests_of};
use hearken_data::feedback::{
    Candidate, Combine, Item, Judgement, Origin, Selection, Task, Verdict, decisive, in_force,
};
use hearken_stats::dawid_skene::{AnnotatorLabel, Sizes, Stopping, dawid_skene};

use crate::better;

/// The annotator of what several have said.
const TOGETHER: &str = "votes";

/// What is trained on, as items and judgements that any format writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selected {
    /// The items, and a pair of its own for each two candidates of a list that several have judged.
    pub items: Vec<Item>,
    /// What holds: of a pair on which several have voted, what they say together.
    pub judgements: Vec<Judgement>,
    /// What was left out, and how much of it.
    pub left_out: Vec<(String, usize)>,
}

/// Chooses judgements and combines those on one pair, for records of `kind`. Two items with the same prompt and the same
/// two answers are one pair, whatever their order. Judgements that say nothing of pairs or of single answers stay as they
/// are, and so do, for demonstrations, those on more than two answers.
///
/// # Errors
/// If an annotator to be excluded has judged nothing.
pub fn select(
    items: &[Item],
    judgements: &[Judgement],
    selection: &Selection,
    kind: RecordKind,
) -> Result<Selected, String> {
    for name in &selection.exclude_annotators {
        if !judgements.iter().any(|judgement| judgement.annotator == *name) {
            return Err(format!("found no judgement by the excluded annotator {name:?}"));
        }
    }
    let holding = in_force(judgements);
    let mut left_out = LeftOut::default();
    left_out.add("revised by a later judgement", judgements.len() - holding.len());
    let items_by_id: HashMap<&str, &Item> =
        items.iter().map(|item| (item.id.as_str(), item)).collect();
    let mut taken = Vec::new();
    for judgement in holding {
        let item = items_by_id.get(judgement.item.as_str()).copied();
        match refusal(item, judgement, selection) {
            Some(reason) => left_out.add(reason, 1),
            None => taken.push((item, judgement)),
        }
    }
    let judgements: Vec<&Judgement> = taken.iter().map(|(_, judgement)| *judgement).collect();
    let deciding: HashSet<&str> =
        decisive(&judgements).into_iter().map(|judgement| judgement.id.as_str()).collect();
    left_out.add(DECIDED, taken.len() - deciding.len());
    taken.retain(|(_, judgement)| deciding.contains(judgement.id.as_str()));
    let written: Vec<(Item, Judgement)> = taken
        .iter()
        .flat_map(|(item, judgement)| better::records(*item, judgement, kind))
        .collect();
    if kind == RecordKind::Demonstrations {
        // What somebody has written a better answer to is not what to learn from.
        taken.retain(|(_, judgement)| judgement.better.is_none());
    }
    let mut selected = Selected { items: items.to_vec(), ..Selected::default() };
    if selection.combine == Combine::Each {
        selected.judgements = taken.into_iter().map(|(_, judgement)| judgement.clone()).collect();
    } else {
        let mut ballots = Ballots::of(&taken, kind);
        ballots.settle(&mut left_out);
        ballots.count(selection, &mut selected, &mut left_out);
    }
    for judgement in &mut selected.judgements {
        judgement.better = None;
    }
    let (items, judgements): (Vec<_>, Vec<_>) = written.into_iter().unzip();
    selected.items.extend(items);
    selected.judgements.extend(judgements);
    selected.left_out = left_out.0.into_iter().collect();
    Ok(selected)
}

/// Why a judgement is not taken.
fn refusal(
    item: Option<&Item>,
    judgement: &Judgement,
    selection: &Selection,
) -> Option<&'static str> {
    let gold = item.and_then(|item| item.gold.as_ref());
    if let Some(gold) = gold.filter(|_| !selection.gold) {
        return Some(match gold.screening {
            true => "on a screening item",
            false => "on a gold item",
        });
    }
    if judgement.origin == Origin::Ai && !selection.ai {
        return Some("by a language model");
    }
    let is_excluded = selection.exclude_annotators.contains(&judgement.annotator);
    is_excluded.then_some("by an excluded annotator")
}

/// Why a judgement is not taken on whose item there is a final one.
const DECIDED: &str = "on an item with a final verdict";

#[derive(Default)]
struct LeftOut(BTreeMap<String, usize>);

impl LeftOut {
    fn add(&mut self, what: &str, count: usize) {
        if 0 < count {
            *self.0.entry(what.to_owned()).or_default() += count;
        }
    }
}

/// One vote on a pair, or on a single answer.
struct TrainingVote<'a> {
    judgement: &'a Judgement,
    /// Of the pair in its own order; an answer that is approved of is a first one that is better.
    outcome: ContestWinner,
}

/// What was voted on: two candidates of an item in their order, or one.
struct Ballot<'a> {
    /// The place of its first vote among the judgements.
    place: usize,
    item: &'a Item,
    candidates: Vec<usize>,
    votes: Vec<TrainingVote<'a>>,
}

/// Prompt and answers: what makes two pairs the same.
type PairText = (String, Vec<String>);

struct Ballots<'a> {
    ballots: Vec<Ballot<'a>>,
    /// What is no vote, with its place.
    others: Vec<(usize, &'a Judgement)>,
}

impl<'a> Ballots<'a> {
    fn of(taken: &[(Option<&'a Item>, &'a Judgement)], kind: RecordKind) -> Self {
        let mut on_item: HashMap<&str, usize> = HashMap::new();
        for (_, judgement) in taken {
            *on_item.entry(&judgement.item).or_default() += 1;
        }
        let mut all = Self { ballots: Vec::new(), others: Vec::new() };
        let mut known: HashMap<PairText, usize> = HashMap::new();
        for (place, (item, judgement)) in taken.iter().enumerate() {
            // A list that one has judged stays that, and for demonstrations every list.
            let is_list = |item: &Item| {
                let answers = item.candidates.len();
                2 < answers
                    && (kind == RecordKind::Demonstrations || on_item[judgement.item.as_str()] == 1)
            };
            let votes =
                item.filter(|item| !is_list(item)).map(|item| (item, votes(item, judgement)));
            let Some((item, votes)) = votes.filter(|(_, votes)| !votes.is_empty()) else {
                all.others.push((place, judgement));
                continue;
            };
            for (mut candidates, outcome) in votes {
                let outcome = in_order(item, &mut candidates, outcome);
                let texts = candidates.iter().map(|at| text(&item.candidates[*at])).collect();
                let prompt = serde_json::json!([item.prompt, item.media]).to_string();
                let index = *known.entry((prompt, texts)).or_insert(all.ballots.len());
                if index == all.ballots.len() {
                    all.ballots.push(Ballot { place, item, candidates, votes: Vec::new() });
                }
                all.ballots[index].votes.push(TrainingVote { judgement, outcome });
            }
        }
        all
    }

    /// Where the same pair is two items, and one of them has a final verdict, the votes on the other count no more.
    fn settle(&mut self, left_out: &mut LeftOut) {
        for ballot in &mut self.ballots {
            if ballot.is_final() {
                let before = ballot.votes.len();
                ballot.votes.retain(|vote| vote.judgement.is_final);
                left_out.add(DECIDED, before - ballot.votes.len());
            }
        }
    }

    /// Adds what the votes come to.
    fn count(self, selection: &Selection, selected: &mut Selected, left_out: &mut LeftOut) {
        let probabilities = match selection.combine {
            Combine::Model => by_model(&self.ballots),
            _ => self.ballots.iter().map(Ballot::share).collect(),
        };
        let mut judged: Vec<(usize, Judgement)> =
            self.others.into_iter().map(|(place, judgement)| (place, judgement.clone())).collect();
        for (ballot, probability) in self.ballots.iter().zip(probabilities) {
            let is_final = ballot.is_final();
            if !is_final && ballot.votes.len() < selection.votes_min {
                left_out.add(&format!("pair with fewer than {} votes", selection.votes_min), 1);
                continue;
            }
            if selection.combine == Combine::Majority && ballot.is_undecided() {
                let places = ballot.one_of_each();
                judged.extend(places.map(|vote| (ballot.place, vote.judgement.clone())));
                continue;
            }
            let (verdict, agreement) = match ballot.verdict(selection.combine, probability) {
                Ok(found) => found,
                Err(reason) => {
                    left_out.add(reason, 1);
                    continue;
                }
            };
            if !is_final && agreement < selection.agreement_min {
                let what = format!("pair with an agreement below {}", selection.agreement_min);
                left_out.add(&what, 1);
                continue;
            }
            judged.push((ballot.place, ballot.judgement(selection.combine, verdict, selected)));
        }
        judged.sort_by_key(|(place, _)| *place);
        selected.judgements = judged.into_iter().map(|(_, judgement)| judgement).collect();
    }
}

/// The votes that a judgement amounts to: candidates, and who of them is better.
fn votes(item: &Item, judgement: &Judgement) -> Vec<(Vec<usize>, ContestWinner)> {
    if let Verdict::Approval { good } = judgement.verdict {
        let outcome = if good { ContestWinner::First(None) } else { ContestWinner::Second(None) };
        return vec![(vec![0], outcome)];
    }
    let contests = contests_of(item, &judgement.verdict).unwrap_or_default();
    contests.into_iter().map(|it| (vec![it.first, it.second], it.outcome)).collect()
}

fn text(candidate: &Candidate) -> String {
    serde_json::json!([candidate.text, candidate.steps, candidate.media]).to_string()
}

/// Puts two candidates in the order of their texts, so that a pair is the same whatever the order of its item.
fn in_order(item: &Item, candidates: &mut [usize], outcome: ContestWinner) -> ContestWinner {
    let [first, second] = candidates else { return outcome };
    if text(&item.candidates[*first]) <= text(&item.candidates[*second]) {
        return outcome;
    }
    std::mem::swap(first, second);
    match outcome {
        ContestWinner::First(strength) => ContestWinner::Second(strength),
        ContestWinner::Second(strength) => ContestWinner::First(strength),
        ContestWinner::Soft(probability) => ContestWinner::Soft(1.0 - probability),
        same @ (ContestWinner::Tie | ContestWinner::BothBad) => same,
    }
}

/// How much a vote says that the first is better: 1, 0, or between; none where both are bad.
fn lean(outcome: ContestWinner) -> Option<f64> {
    match outcome {
        ContestWinner::First(_) => Some(1.0),
        ContestWinner::Second(_) => Some(0.0),
        ContestWinner::Tie => Some(0.5),
        ContestWinner::Soft(probability) => Some(probability),
        ContestWinner::BothBad => None,
    }
}

impl Ballot<'_> {
    /// Whether a reviewer has decided.
    fn is_final(&self) -> bool {
        self.votes.iter().any(|vote| vote.judgement.is_final)
    }

    /// The mean of what the votes say; none where all say that both are bad.
    fn share(&self) -> Option<f64> {
        let leans: Vec<f64> = self.votes.iter().filter_map(|vote| lean(vote.outcome)).collect();
        (!leans.is_empty()).then(|| leans.iter().sum::<f64>() / leans.len() as f64)
    }

    /// Whether nobody says that one of two answers is better.
    fn is_undecided(&self) -> bool {
        let is_whole = self.item.candidates.len() == self.candidates.len();
        let is_none = |vote: &TrainingVote<'_>| {
            matches!(vote.outcome, ContestWinner::Tie | ContestWinner::BothBad)
        };
        is_whole && self.votes.iter().all(is_none)
    }

    /// The first tie and the first of those who say that both are bad.
    fn one_of_each(&self) -> impl Iterator<Item = &TrainingVote<'_>> {
        let first = |outcome| self.votes.iter().find(move |vote| vote.outcome == outcome);
        [first(ContestWinner::Tie), first(ContestWinner::BothBad)].into_iter().flatten()
    }

    /// What the votes say of the pair in its own order, and how far they agree.
    fn verdict(
        &self,
        combine: Combine,
        probability: Option<f64>,
    ) -> Result<(Verdict, f64), &'static str> {
        if combine != Combine::Majority {
            let probability = probability.ok_or("pair of which both are bad")?;
            return Ok((Verdict::Soft { probability }, probability.max(1.0 - probability)));
        }
        let mut counts = [0_usize; 4];
        for vote in &self.votes {
            counts[match vote.outcome {
                ContestWinner::BothBad => 3,
                outcome => match lean(outcome).map(|lean| lean.total_cmp(&0.5)) {
                    Some(std::cmp::Ordering::Greater) => 0,
                    Some(std::cmp::Ordering::Less) => 1,
                    _ => 2,
                },
            }] += 1;
        }
        let most = counts.iter().copied().max().unwrap_or(0);
        let mut leading = (0..counts.len()).filter(|class| counts[*class] == most);
        let (Some(said), None) = (leading.next(), leading.next()) else {
            return Err("pair without a majority");
        };
        let verdict = match said {
            0 => Verdict::preferred(0),
            1 => Verdict::preferred(1),
            2 => Verdict::Tie,
            _ => Verdict::BothBad,
        };
        Ok((verdict, most as f64 / self.votes.len() as f64))
    }

    /// The one judgement that stands for all of them.
    fn judgement(&self, combine: Combine, verdict: Verdict, selected: &mut Selected) -> Judgement {
        let is_whole = self.item.candidates.len() == self.candidates.len();
        if let ([vote], Combine::Majority, true) = (&*self.votes, combine, is_whole) {
            return vote.judgement.clone();
        }
        // A probability of an approval is what most say.
        let verdict = match (&*self.candidates, verdict) {
            ([_], Verdict::Preferred { candidate, .. }) => {
                Verdict::Approval { good: candidate == 0 }
            }
            ([_], Verdict::Soft { probability }) => Verdict::Approval { good: 0.5 <= probability },
            (_, verdict) => verdict,
        };
        let (item, verdict) = if is_whole {
            let is_turned = self.candidates.first() == Some(&1);
            (self.item.clone(), if is_turned { turned(verdict) } else { verdict })
        } else {
            let of = |at: &usize| self.item.candidates[*at].clone();
            let candidates = self.candidates.iter().map(of).collect();
            let mut pair = Item::new(Task::Pairwise, self.item.prompt.clone(), candidates);
            pair.id = format!("{}: {:?}", self.item.id, self.candidates);
            pair.media.clone_from(&self.item.media);
            pair.meta.clone_from(&self.item.meta);
            selected.items.push(pair.clone());
            (pair, verdict)
        };
        Judgement::new(format!("{TOGETHER}: {}", item.id), &item, TOGETHER, verdict)
    }
}

/// The same verdict on two candidates in the other order.
fn turned(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Preferred { candidate, strength } => {
            Verdict::Preferred { candidate: 1 - candidate, strength }
        }
        Verdict::Soft { probability } => Verdict::Soft { probability: 1.0 - probability },
        same => same,
    }
}

/// The probability of each ballot that its first answer is better, by the model of Dawid and Skene. Every ballot stands in
/// it a second time in the other order: which of two answers is called the first says nothing.
fn by_model(ballots: &[Ballot<'_>]) -> Vec<Option<f64>> {
    let mut annotators: HashMap<&str, usize> = HashMap::new();
    let mut labels = Vec::new();
    let mut tasks: HashMap<usize, usize> = HashMap::new();
    // What was decided says nothing of those who voted: it takes no part, and is what was decided.
    for (index, ballot) in ballots.iter().enumerate().filter(|(_, ballot)| !ballot.is_final()) {
        for vote in &ballot.votes {
            let Some(lean) = lean(vote.outcome).filter(|lean| (lean - 0.5).abs() > 0.0) else {
                continue;
            };
            let next = annotators.len();
            let annotator = *annotators.entry(&vote.judgement.annotator).or_insert(next);
            let next = tasks.len();
            let task = 2 * *tasks.entry(index).or_insert(next);
            let class = usize::from(lean < 0.5);
            labels.push(AnnotatorLabel { task, annotator, class });
            labels.push(AnnotatorLabel { task: task + 1, annotator, class: 1 - class });
        }
    }
    let sizes = Sizes { tasks: 2 * tasks.len(), annotators: annotators.len(), classes: 2 };
    if labels.is_empty() {
        return ballots.iter().map(Ballot::share).collect();
    }
    let fit = dawid_skene(&labels, sizes, Stopping::default());
    let fit = fit.expect("invariant: every task has a label, and every number is below its size");
    let of = |(index, ballot): (usize, &Ballot<'_>)| match tasks.get(&index) {
        Some(task) => Some(fit.posteriors[2 * task][0]),
        // Nothing but ties, or two bad answers.
        None => ballot.share(),
    };
    ballots.iter().enumerate().map(of).collect()
}
