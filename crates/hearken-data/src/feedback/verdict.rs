//! Verdicts: what an annotator decided.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Item, Task};

/// How strongly one candidate is preferred: `points` of `scale`, 1 being the slightest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Strength {
    /// 1 to `scale`.
    #[schemars(range(min = 1))]
    pub points: u8,
    /// The points that the scale has on each side of "equal".
    #[schemars(range(min = 1))]
    pub scale: u8,
}

impl Strength {
    /// The strength as a share of the scale, in (0, 1].
    pub fn share(self) -> f64 {
        f64::from(self.points) / f64::from(self.scale)
    }
}

/// What an annotator decided about an item. Candidates are named by their index in the item, never
/// by the side on which they were shown.
///
/// A tie, two bad answers and "can't tell" are three different verdicts and stay so in the store;
/// what to make of them is decided where judgements become training data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Verdict {
    /// Of two candidates, this one is better.
    Preferred {
        /// 0 or 1.
        #[schemars(range(max = 1))]
        candidate: usize,
        /// How much better, where it was asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        strength: Option<Strength>,
    },
    /// The two candidates are equally good.
    // Serde passes over further fields where a variant has none.
    #[schemars(extend("additionalProperties" = true))]
    Tie,
    /// Neither of the two candidates is acceptable.
    #[schemars(extend("additionalProperties" = true))]
    BothBad,
    /// The annotator cannot judge the item.
    CantTell {
        /// Why.
        reason: String,
    },
    /// The probability that candidate 0 is better, as an AI judge gives it.
    Soft {
        /// In [0, 1].
        #[schemars(range(min = 0, max = 1))]
        probability: f64,
    },
    /// The candidates in order.
    Ranking {
        /// Groups of equal candidates, the best group first. A candidate may be missing.
        #[schemars(length(min = 1), inner(length(min = 1)))]
        order: Vec<Vec<usize>>,
    },
    /// Each candidate rated on each axis.
    Ratings {
        /// Axis → one value per candidate; `None` where it was left out.
        axes: BTreeMap<String, Vec<Option<f64>>>,
    },
    /// One label per step of the candidate: 1 good, 0 neutral, −1 bad, `None` not judged.
    Steps {
        /// As many as the candidate has steps.
        labels: Vec<Option<i8>>,
    },
    /// The one candidate is good, or bad.
    Approval {
        /// Whether it is good.
        good: bool,
    },
}

impl Verdict {
    /// Candidate `candidate` of two is better, without a strength.
    pub fn preferred(candidate: usize) -> Self {
        Verdict::Preferred { candidate, strength: None }
    }

    /// The name in files: `"preferred"`, `"tie"`, ….
    pub fn kind(&self) -> &'static str {
        match self {
            Verdict::Preferred { .. } => "preferred",
            Verdict::Tie => "tie",
            Verdict::BothBad => "both_bad",
            Verdict::CantTell { .. } => "cant_tell",
            Verdict::Soft { .. } => "soft",
            Verdict::Ranking { .. } => "ranking",
            Verdict::Ratings { .. } => "ratings",
            Verdict::Steps { .. } => "steps",
            Verdict::Approval { .. } => "approval",
        }
    }

    /// Whether the verdict says what `right` says: how strongly, and the order in which equals are named, do not matter.
    pub fn agrees(&self, right: &Self) -> bool {
        match (self, right) {
            (Self::Preferred { candidate, .. }, Self::Preferred { candidate: right, .. }) => {
                candidate == right
            }
            (Self::CantTell { .. }, Self::CantTell { .. }) => true,
            (Self::Ranking { order }, Self::Ranking { order: right }) => {
                sorted_groups(order) == sorted_groups(right)
            }
            _ => self == right,
        }
    }

    /// The verdict that a person could give: of a probability the side that is more probable, or a tie.
    pub fn decided(&self) -> Self {
        match self {
            Self::Soft { probability } if 0.5 < *probability => Self::preferred(0),
            Self::Soft { probability } if *probability < 0.5 => Self::preferred(1),
            Self::Soft { .. } => Self::Tie,
            other => other.clone(),
        }
    }

    /// What is wrong with the verdict as one about `item`, if anything.
    ///
    /// # Errors
    ///
    /// A sentence that says what was found and what was expected.
    pub fn check(&self, item: &Item) -> Result<(), String> {
        let n = item.candidates.len();
        match self {
            Verdict::CantTell { .. } => Ok(()),
            Verdict::Preferred { .. } | Verdict::Tie | Verdict::BothBad | Verdict::Soft { .. } => {
                self.check_pairwise(item)
            }
            Verdict::Ranking { order } => {
                let task = matches!(item.task, Task::Ranking | Task::Pairwise);
                expect(task, || wrong_task(self, item.task))?;
                check_order(order, n)
            }
            Verdict::Ratings { axes } => {
                expect(!axes.is_empty(), || "no axis is rated".into())?;
                axes.iter().try_for_each(|(axis, values)| {
                    expect(values.len() == n, || {
                        format!("axis {axis:?} has {} values for {n} candidates", values.len())
                    })?;
                    expect(values.iter().flatten().all(|value| value.is_finite()), || {
                        format!("axis {axis:?} holds a value that is not finite")
                    })
                })
            }
            Verdict::Steps { labels } => {
                let steps = item.candidates.first().map_or(0, |first| first.steps.len());
                expect(labels.len() == steps, || {
                    format!("{} labels for {steps} steps", labels.len())
                })?;
                expect(labels.iter().flatten().all(|label| (-1..=1).contains(label)), || {
                    "a step's label is -1, 0 or 1".into()
                })
            }
            Verdict::Approval { .. } => {
                expect(n == 1, || format!("an approval is about 1 candidate, the item has {n}"))
            }
        }
    }

    fn check_pairwise(&self, item: &Item) -> Result<(), String> {
        expect(item.candidates.len() == 2, || wrong_task(self, item.task))?;
        match self {
            Verdict::Preferred { candidate, strength } => {
                expect(*candidate < 2, || format!("candidate {candidate} of 2"))?;
                let fits = strength.is_none_or(|s| s.points >= 1 && s.points <= s.scale);
                expect(fits, || "\"strength\" has points from 1 to its scale".into())
            }
            Verdict::Soft { probability } => expect((0.0..=1.0).contains(probability), || {
                format!("a probability lies in [0, 1], found {probability}")
            }),
            _ => Ok(()),
        }
    }
}

fn expect(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn wrong_task(verdict: &Verdict, task: Task) -> String {
    format!("the verdict {:?} does not fit a {task} item", verdict.kind())
}

fn sorted_groups(order: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut groups = order.to_vec();
    for group in &mut groups {
        group.sort_unstable();
    }
    groups
}

/// Each index below `n`, none twice, no empty group.
fn check_order(order: &[Vec<usize>], n: usize) -> Result<(), String> {
    let mut seen = vec![false; n];
    for group in order {
        expect(!group.is_empty(), || "\"order\" has an empty group".into())?;
        for &candidate in group {
            expect(candidate < n, || format!("\"order\" names candidate {candidate} of {n}"))?;
            expect(!seen[candidate], || format!("\"order\" names candidate {candidate} twice"))?;
            seen[candidate] = true;
        }
    }
    expect(!order.is_empty(), || "\"order\" is empty".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strength_does_not_make_a_verdict_wrong_and_the_side_does() {
        let strength = Some(Strength { points: 2, scale: 3 });
        let strong = Verdict::Preferred { candidate: 1, strength };
        assert!(strong.agrees(&Verdict::preferred(1)));
        assert!(!strong.agrees(&Verdict::preferred(0)));
        assert!(!Verdict::Tie.agrees(&Verdict::BothBad));
        let order = |groups: [&[usize]; 2]| Verdict::Ranking {
            order: groups.iter().map(|group| group.to_vec()).collect(),
        };
        assert!(order([&[2, 0], &[1]]).agrees(&order([&[0, 2], &[1]])));
        assert!(!order([&[1], &[0, 2]]).agrees(&order([&[0, 2], &[1]])));
    }
}
