//! Records with names exchanged for numbers.

mod votes;

use std::collections::{BTreeMap, HashMap};

use hearken_data::feedback::{Item, Judgement, Origin, in_force};

use crate::records::JudgedItems;
pub(crate) use votes::{Unit, Vote, VoteChoice, Votes, pairs_of};

/// A judgement that counts.
#[derive(Clone, Copy)]
pub(crate) struct CountedJudgement<'a> {
    /// Position in [`Index::items`].
    pub(crate) item: usize,
    /// Position in [`Index::annotators`], or in [`Index::judges`] for a language model.
    pub(crate) annotator: usize,
    /// Whether a language model judged.
    pub(crate) judge: bool,
    pub(crate) judgement: &'a Judgement,
}

/// What was not counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeftOut {
    pub(crate) revised: usize,
    pub(crate) unknown_item: usize,
    pub(crate) unfit: usize,
    /// What is wrong with the first that does not fit.
    pub(crate) first_unfit: Option<String>,
}

/// Everything the sections read.
pub(crate) struct Index<'a> {
    pub(crate) items: &'a [Item],
    /// People and simulated annotators; language models where nobody else judged.
    pub(crate) annotators: Vec<&'a str>,
    /// Language models that judged beside people.
    pub(crate) judges: Vec<&'a str>,
    /// Names of models that wrote candidates, ascending.
    pub(crate) models: Vec<&'a str>,
    pub(crate) entries: Vec<CountedJudgement<'a>>,
    /// Final judgements, in the order of the items. Their annotator is none of the list: they measure nobody.
    pub(crate) finals: Vec<CountedJudgement<'a>>,
    /// Pairwise votes of annotators.
    pub(crate) votes: Votes,
    /// The same where items with a final judgement have that alone; `None` where there is no such item.
    decided: Option<Votes>,
    /// Pairwise votes of judges.
    pub(crate) judge_votes: Votes,
    pub(crate) left_out: LeftOut,
    model_of: HashMap<&'a str, usize>,
}

impl<'a> Index<'a> {
    pub(crate) fn new(records: &'a JudgedItems) -> Self {
        Self::with(records, false)
    }

    /// The same, in which language models are judges even where nobody else judged.
    pub(crate) fn of_judges(records: &'a JudgedItems) -> Self {
        Self::with(records, true)
    }

    fn with(records: &'a JudgedItems, judges_alone: bool) -> Self {
        let items = &records.items;
        let by_id: HashMap<&str, usize> =
            items.iter().enumerate().map(|(i, item)| (item.id.as_str(), i)).collect();
        let (mut counted, left_out) = counted(records, &by_id);
        let finals = finals(&mut counted);
        let any_person = judges_alone || counted.iter().any(|(_, j)| j.origin != Origin::Ai);
        let is_judge = |j: &Judgement| any_person && j.origin == Origin::Ai;
        let names = |judges: bool| {
            let of = counted.iter().filter(|(_, j)| is_judge(j) == judges);
            sorted_names(of.map(|(_, j)| j.annotator.as_str()))
        };
        let (annotators, judges) = (names(false), names(true));
        let (number, judge_number) = (numbers(&annotators), numbers(&judges));
        let entry = |&(item, judgement): &(usize, &'a Judgement)| {
            let judge = is_judge(judgement);
            let names = if judge { &judge_number } else { &number };
            CountedJudgement {
                item,
                annotator: names[judgement.annotator.as_str()],
                judge,
                judgement,
            }
        };
        let entries: Vec<CountedJudgement<'a>> = counted.iter().map(entry).collect();
        let annotator = annotators.len();
        let finals: Vec<CountedJudgement<'a>> = finals
            .into_iter()
            .map(|(item, judgement)| CountedJudgement { item, annotator, judge: false, judgement })
            .collect();
        let decided = (!finals.is_empty()).then(|| {
            let all = entries.iter().filter(|entry| !entry.judge);
            Votes::new(items, deciding(all, &finals))
        });
        let candidates = items.iter().flat_map(|item| &item.candidates);
        let models = sorted_names(candidates.filter_map(|c| c.model.as_deref()));
        Self {
            votes: Votes::new(items, entries.iter().filter(|e| !e.judge)),
            judge_votes: Votes::new(items, entries.iter().filter(|e| e.judge)),
            model_of: numbers(&models),
            items,
            annotators,
            judges,
            models,
            entries,
            finals,
            decided,
            left_out,
        }
    }

    /// Judgements of annotators.
    pub(crate) fn by_people(&self) -> impl Iterator<Item = &CountedJudgement<'a>> {
        self.entries.iter().filter(|entry| !entry.judge)
    }

    /// Judgements of annotators, and in their place the final one where an item has one.
    pub(crate) fn deciding(&self) -> impl Iterator<Item = &CountedJudgement<'a>> {
        deciding(self.by_people(), &self.finals)
    }

    /// Pairwise votes of which results are made: those of annotators, and in their place the final one where an item has one.
    pub(crate) fn results(&self) -> &Votes {
        self.decided.as_ref().unwrap_or(&self.votes)
    }

    /// The model that wrote a candidate.
    pub(crate) fn model(&self, item: usize, candidate: usize) -> Option<usize> {
        let model = self.items[item].candidates[candidate].model.as_deref()?;
        self.model_of.get(model).copied()
    }
}

/// Judgements in force whose item is there and whose verdict fits it, with the item's position.
fn counted<'a>(
    records: &'a JudgedItems,
    by_id: &HashMap<&str, usize>,
) -> (Vec<(usize, &'a Judgement)>, LeftOut) {
    let held = in_force(&records.judgements);
    let mut left_out =
        LeftOut { revised: records.judgements.len() - held.len(), ..LeftOut::default() };
    let mut counted = Vec::with_capacity(held.len());
    for judgement in held {
        let Some(&item) = by_id.get(judgement.item.as_str()) else {
            left_out.unknown_item += 1;
            continue;
        };
        match judgement.check(&records.items[item]) {
            Ok(()) => counted.push((item, judgement)),
            Err(what) => {
                left_out.unfit += 1;
                left_out.first_unfit.get_or_insert(format!("{}: {what}", judgement.id));
            }
        }
    }
    (counted, left_out)
}

/// Takes the final judgement of each item out of the counted ones, the last where there are several.
fn finals<'a>(counted: &mut Vec<(usize, &'a Judgement)>) -> BTreeMap<usize, &'a Judgement> {
    let finals = counted.iter().filter(|(_, judgement)| judgement.is_final).copied().collect();
    counted.retain(|(_, judgement)| !judgement.is_final);
    finals
}

/// The entries, and in their place the final one where an item has one; `finals` are in the order of the items.
fn deciding<'a, 'b: 'a>(
    entries: impl Iterator<Item = &'a CountedJudgement<'b>>,
    finals: &'a [CountedJudgement<'b>],
) -> impl Iterator<Item = &'a CountedJudgement<'b>> {
    let is_open = |entry: &&CountedJudgement<'b>| {
        finals.binary_search_by_key(&entry.item, |decided| decided.item).is_err()
    };
    entries.filter(is_open).chain(finals)
}

/// Each name once; names that end in a number in the order of the number.
pub(crate) fn sorted_names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let distinct: std::collections::BTreeSet<&str> = names.collect();
    let mut names: Vec<&str> = distinct.into_iter().collect();
    names.sort_by_cached_key(|name| {
        let word = name.trim_end_matches(|c: char| c.is_ascii_digit());
        (word, name[word.len()..].parse::<u64>().ok(), *name)
    });
    names
}

fn numbers<'a>(names: &[&'a str]) -> HashMap<&'a str, usize> {
    names.iter().enumerate().map(|(i, &name)| (name, i)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_their_number() {
        let names = sorted_names(["w10", "w2", "ada", "w2", "3", "20"].into_iter());
        assert_eq!(names, ["3", "20", "ada", "w2", "w10"]);
    }
}
