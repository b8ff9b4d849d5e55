//! Judgements: a verdict, and everything about how it came to be.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Item, Verdict};

/// Where a judgement comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A person.
    #[default]
    Human,
    /// A language model that was asked.
    Ai,
    /// A simulated annotator.
    Synthetic,
}

/// What became of a model's suggestion of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Suggested {
    /// It was on the page.
    Shown,
    /// There was one, and the annotator did not see it.
    Hidden,
}

/// An answer that an annotator wrote, better than those of the item: a demonstration, and the better one of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BetterAnswer {
    /// The answer as Markdown.
    #[schemars(length(min = 1))]
    pub text: String,
    /// The candidate that was edited; `None` where it was written without one: then it is better than each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<usize>,
}

impl BetterAnswer {
    /// What is wrong with it as an answer to `item`, if anything.
    ///
    /// # Errors
    ///
    /// A sentence that says what was found and what was expected.
    pub fn check(&self, item: &Item) -> Result<(), String> {
        if !item.takes_better_answers() {
            return Err(format!("a {} item of these answers takes no better one", item.task));
        }
        if self.text.trim().is_empty() {
            return Err("the better answer is empty".into());
        }
        let Some(candidate) = self.candidate else { return Ok(()) };
        let n = item.candidates.len();
        let edited = item.candidates.get(candidate);
        let edited =
            edited.ok_or_else(|| format!("\"better\" names candidate {candidate} of {n}"))?;
        match edited.text.trim() == self.text.trim() {
            true => Err("the better answer is the same as the one that was edited".into()),
            false => Ok(()),
        }
    }
}

/// One annotator's verdict on one item. It is appended to a store and never changed: a later
/// judgement that [`revises`](Judgement::revises) it takes its place in every analysis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Judgement {
    /// The name of the judgement, unique in its store.
    #[schemars(length(min = 1))]
    pub id: String,
    /// The item that was judged.
    pub item: String,
    /// Who judged: a pseudonym that stays when personal data are erased.
    #[schemars(length(min = 1))]
    pub annotator: String,
    /// What was decided.
    pub verdict: Verdict,
    /// Of two candidates, by how much the first is better: score(candidate 0) − score(candidate 1),
    /// where the source of the judgement says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// The order on the page: place `k`, from the left or the top, showed candidate `presented[k]`.
    /// Empty where it is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub presented: Vec<usize>,
    /// Where it comes from.
    #[serde(default)]
    pub origin: Origin,
    /// Why, in the annotator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rationale: Option<String>,
    /// A better answer, where the annotator wrote one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub better: Option<Box<BetterAnswer>>,
    /// Milliseconds from showing the item to the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// When it was made: milliseconds since 1970 in UTC. 0 where it is not known.
    #[serde(default)]
    pub at: i64,
    /// The assignment under which it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<String>,
    /// The judgement whose place it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revises: Option<String>,
    /// Whether it decides the item for everybody: a reviewer made it who saw what the others said. It stands beside their
    /// judgements, not among them; training data and results are made of it in their place.
    #[serde(default, rename = "final", skip_serializing_if = "std::ops::Not::not")]
    pub is_final: bool,
    /// Whether a suggestion was seen, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<Suggested>,
    /// The version of the guidelines that held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidelines: Option<u32>,
    /// The probability with which the item was chosen among those that could have been shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propensity: Option<f64>,
    /// The item's [`hash`](Item::hash) as the annotator saw it; empty where it is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub item_hash: String,
}

impl Judgement {
    /// A human judgement of `item` with nothing but a name, an annotator and a verdict.
    pub fn new(
        id: impl Into<String>,
        item: &Item,
        annotator: impl Into<String>,
        verdict: Verdict,
    ) -> Self {
        Self {
            id: id.into(),
            item: item.id.clone(),
            annotator: annotator.into(),
            verdict,
            margin: None,
            presented: Vec::new(),
            origin: Origin::Human,
            rationale: None,
            better: None,
            duration_ms: None,
            at: 0,
            assignment: None,
            revises: None,
            is_final: false,
            suggestion: None,
            guidelines: None,
            propensity: None,
            item_hash: item.hash(),
        }
    }

    /// What is wrong with it as a judgement of `item`, if anything.
    ///
    /// # Errors
    ///
    /// A sentence that says what was found and what was expected.
    pub fn check(&self, item: &Item) -> Result<(), String> {
        let n = item.candidates.len();
        let mut places = self.presented.clone();
        places.sort_unstable();
        if !places.is_empty() && places != (0..n).collect::<Vec<_>>() {
            return Err(format!(
                "\"presented\" names each of {n} candidates once, found {:?}",
                self.presented
            ));
        }
        if let Some(better) = &self.better {
            better.check(item)?;
        }
        self.verdict.check(item)
    }
}

/// Of judgements in the order in which they were appended, those that still hold: what a later one
/// revises is left out.
pub fn in_force(judgements: &[Judgement]) -> Vec<&Judgement> {
    let revised: std::collections::HashSet<&str> =
        judgements.iter().filter_map(|judgement| judgement.revises.as_deref()).collect();
    judgements.iter().filter(|judgement| !revised.contains(judgement.id.as_str())).collect()
}

/// Of judgements [in force](in_force), the final one of each item that has one; of several the latest.
pub fn final_of_items<'a>(holding: &[&'a Judgement]) -> HashMap<&'a str, &'a Judgement> {
    let finals = holding.iter().filter(|judgement| judgement.is_final);
    finals.map(|judgement| (judgement.item.as_str(), *judgement)).collect()
}

/// Of judgements [in force](in_force), those of which results are made: the final one where an item has one, otherwise all.
pub fn decisive<'a>(holding: &[&'a Judgement]) -> Vec<&'a Judgement> {
    let finals = final_of_items(holding);
    let decides = |judgement: &&&Judgement| {
        finals.get(judgement.item.as_str()).is_none_or(|last| last.id == judgement.id)
    };
    holding.iter().filter(decides).copied().collect()
}
