//! Style control: strengths with length and formatting held equal.

use hearken_data::feedback::Candidate;
use hearken_stats::bradley_terry::Covariance;
use hearken_stats::style::{self, Penalty, StyledVote, normalized_difference, standardize};
use serde::{Deserialize, Serialize};

use super::ModelVotes;
use crate::features::{self, Markup};
use crate::figure::{Figure, Test};
use crate::index::Index;

/// What style is worth, after LMArena.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StyleControl {
    /// One per aspect of style.
    pub effects: Vec<StyleEffect>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// One aspect of style.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StyleEffect {
    /// `tokens`, `headers`, `list_items` or `bold`.
    pub aspect: String,
    /// Log-odds per standard deviation of (a − b)/(a + b + 1); sandwich interval.
    pub effect: Figure,
    /// Its test, corrected for the four aspects.
    pub test: Option<Test>,
}

/// The effects, and the strengths beside them.
pub(super) struct Styles {
    pub(super) control: StyleControl,
    pub(super) strengths: Vec<Figure>,
}

const ASPECTS: [&str; 4] = ["tokens", "headers", "list_items", "bold"];

pub(super) fn style_control(index: &Index<'_>, votes: &ModelVotes<'_>) -> Styles {
    let Some(counted) = units(index, votes) else {
        return missing("No votes between answers with text of two named models.", votes);
    };
    if votes.models.len() > super::MODELS_MAX {
        return missing("There are too many models.", votes);
    }
    let mut rows = counted;
    standardize(&mut rows);
    match style::fit(votes.models.len(), &rows, Penalty::LMARENA) {
        Ok(fit) => {
            let tests = Test::family(&fit.effect_tests(Covariance::Sandwich));
            let effects = fit.effects(Covariance::Sandwich);
            let varies = |i: usize| rows.iter().any(|row| row.covariates[i] != 0.0);
            let effect = |(i, aspect): (usize, &&str)| StyleEffect {
                aspect: (*aspect).to_owned(),
                effect: if varies(i) {
                    Figure::new(Some(effects[i]), "Not finite.")
                } else {
                    Figure::missing("It never differs between two answers.")
                },
                test: tests[i],
            };
            let notes = vec![TOKENS.to_owned()];
            let strengths = fit.strengths(Covariance::Sandwich);
            Styles {
                control: StyleControl {
                    effects: ASPECTS.iter().enumerate().map(effect).collect(),
                    notes,
                },
                strengths: strengths
                    .into_iter()
                    .map(|e| Figure::new(Some(e), "Not finite."))
                    .collect(),
            }
        }
        Err(error) => missing(&crate::figure::sentence(&error.to_string()), votes),
    }
}

const TOKENS: &str =
    "Tokens are the source's own count where it gives one (\"num_tokens\"), else words.";

fn missing(why: &str, votes: &ModelVotes<'_>) -> Styles {
    let effect = |aspect: &&str| StyleEffect {
        aspect: (*aspect).to_owned(),
        effect: Figure::missing(why),
        test: None,
    };
    Styles {
        control: StyleControl {
            effects: ASPECTS.iter().map(effect).collect(),
            notes: vec![why.to_owned()],
        },
        strengths: vec![Figure::missing(why); votes.models.len()],
    }
}

/// One row per two candidates with votes; `None` if no candidate has text.
fn units(index: &Index<'_>, votes: &ModelVotes<'_>) -> Option<Vec<StyledVote>> {
    let mut row_of = vec![None; index.results().units.len()];
    let mut rows: Vec<StyledVote> = Vec::new();
    let mut any_text = false;
    for v in &votes.list {
        let row = *row_of[v.vote.unit].get_or_insert_with(|| {
            let unit = index.results().units[v.vote.unit];
            let candidates = &index.items[unit.item].candidates;
            let [a, b] = [unit.first, unit.second].map(|c| aspects(&candidates[c]));
            any_text |= a[0] + b[0] > 0.0;
            let covariates = a.iter().zip(b).map(|(&a, b)| normalized_difference(a, b)).collect();
            rows.push(StyledVote {
                left: v.first,
                right: v.second,
                covariates,
                outcome: 0.0,
                weight: 0.0,
            });
            rows.len() - 1
        });
        let credit = [1.0, 0.5, 0.0][v.vote.choice as usize];
        rows[row].outcome += credit;
        rows[row].weight += 1.0;
    }
    for row in &mut rows {
        row.outcome /= row.weight;
    }
    any_text.then_some(rows)
}

/// Tokens, headers, items of lists, bold spans.
fn aspects(candidate: &Candidate) -> [f64; 4] {
    let text = candidate.full_text();
    let markup = Markup::of(&text);
    let given = candidate.meta.get("num_tokens").and_then(count);
    let tokens = given.unwrap_or_else(|| features::words(&text).count() as f64);
    [tokens, markup.headers as f64, markup.list_items as f64, markup.bold as f64]
}

fn count(value: &serde_json::Value) -> Option<f64> {
    value.as_f64().filter(|x| x.is_finite() && *x >= 0.0)
}
