//! What the page sends: a decision that speaks of places on the page. The server, which knows the
//! order in which it showed the candidates, makes it a verdict about candidates, so that no page can
//! mix them up.

use std::collections::BTreeMap;

use hearken_data::feedback::{Strength, Verdict};
use serde::{Deserialize, Serialize};

/// A decision in terms of places: 0 is the leftmost or topmost answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum PlacedDecision {
    /// The answer at this place is better.
    Preferred {
        place: usize,
        /// How much, on the scale of the project.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        points: Option<u8>,
    },
    Tie,
    BothBad,
    CantTell {
        reason: String,
    },
    /// Groups of equal places, the best group first.
    Ranking {
        order: Vec<Vec<usize>>,
    },
    /// Axis → one value per place.
    Ratings {
        axes: BTreeMap<String, Vec<Option<f64>>>,
    },
    /// One label per step of the one answer.
    Steps {
        labels: Vec<Option<i8>>,
    },
}

impl PlacedDecision {
    /// The verdict about candidates, where place `k` showed candidate `presented[k]` and the scale of
    /// the project has `scale` points on each side.
    pub(crate) fn verdict(self, presented: &[usize], scale: u8) -> Result<Verdict, String> {
        Ok(match self {
            PlacedDecision::Preferred { place, points } => Verdict::Preferred {
                candidate: candidate(presented, place)?,
                strength: points.map(|points| Strength { points, scale }),
            },
            PlacedDecision::Tie => Verdict::Tie,
            PlacedDecision::BothBad => Verdict::BothBad,
            PlacedDecision::CantTell { reason } => {
                let reason = reason.trim();
                if reason.is_empty() {
                    return Err("\"can't tell\" comes with a reason, found none".into());
                }
                Verdict::CantTell { reason: reason.chars().take(2_000).collect() }
            }
            PlacedDecision::Ranking { order } => Verdict::Ranking {
                order: order
                    .into_iter()
                    .map(|group| {
                        group.into_iter().map(|place| candidate(presented, place)).collect()
                    })
                    .collect::<Result<_, _>>()?,
            },
            PlacedDecision::Ratings { axes } => Verdict::Ratings {
                axes: axes
                    .into_iter()
                    .map(|(axis, values)| Ok((axis, by_candidate(&values, presented)?)))
                    .collect::<Result<_, String>>()?,
            },
            PlacedDecision::Steps { labels } => Verdict::Steps { labels },
        })
    }

    /// The decision that gave a verdict; `None` for verdicts that no page gives.
    pub(crate) fn of(verdict: &Verdict, presented: &[usize]) -> Option<Self> {
        let place = |candidate: usize| presented.iter().position(|shown| *shown == candidate);
        Some(match verdict {
            Verdict::Preferred { candidate, strength } => PlacedDecision::Preferred {
                place: place(*candidate)?,
                points: strength.map(|strength| strength.points),
            },
            Verdict::Tie => PlacedDecision::Tie,
            Verdict::BothBad => PlacedDecision::BothBad,
            Verdict::CantTell { reason } => PlacedDecision::CantTell { reason: reason.clone() },
            Verdict::Ranking { order } => PlacedDecision::Ranking {
                order: order
                    .iter()
                    .map(|group| group.iter().map(|candidate| place(*candidate)).collect())
                    .collect::<Option<_>>()?,
            },
            Verdict::Ratings { axes } => PlacedDecision::Ratings {
                axes: axes
                    .iter()
                    .map(|(axis, values)| {
                        let shown = presented.iter().map(|k| values.get(*k).copied().flatten());
                        (axis.clone(), shown.collect())
                    })
                    .collect(),
            },
            Verdict::Steps { labels } => PlacedDecision::Steps { labels: labels.clone() },
            Verdict::Soft { .. } | Verdict::Approval { .. } => return None,
        })
    }
}

fn candidate(presented: &[usize], place: usize) -> Result<usize, String> {
    let shown = presented.len();
    presented.get(place).copied().ok_or_else(|| format!("place {place}, but {shown} were shown"))
}

fn by_candidate(values: &[Option<f64>], presented: &[usize]) -> Result<Vec<Option<f64>>, String> {
    if values.len() != presented.len() {
        return Err(format!("{} ratings for {} answers", values.len(), presented.len()));
    }
    let mut out = vec![None; presented.len()];
    for (value, candidate) in values.iter().zip(presented) {
        out[*candidate] = *value;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> Vec<PlacedDecision> {
        let axes = BTreeMap::from([("help".to_owned(), vec![Some(1.0), None, Some(3.0)])]);
        vec![
            PlacedDecision::Preferred { place: 2, points: Some(2) },
            PlacedDecision::Tie,
            PlacedDecision::BothBad,
            PlacedDecision::CantTell { reason: "no idea".into() },
            PlacedDecision::Ranking { order: vec![vec![2], vec![0, 1]] },
            PlacedDecision::Ratings { axes },
            PlacedDecision::Steps { labels: vec![Some(1), None, Some(-1)] },
        ]
    }

    /// Whatever the order on the page, a stored verdict shown again is what was decided.
    #[test]
    fn places_survive_the_way_through_candidates_and_back() {
        for presented in [[0, 1, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]] {
            for answer in answers() {
                let verdict = answer.clone().verdict(&presented, 3).unwrap();
                assert_eq!(PlacedDecision::of(&verdict, &presented), Some(answer));
            }
        }
    }

    #[test]
    fn places_become_the_candidates_that_stood_there() {
        let presented = [1, 0];
        let left = PlacedDecision::Preferred { place: 0, points: None };
        assert_eq!(left.verdict(&presented, 0), Ok(Verdict::preferred(1)));
        let order = PlacedDecision::Ranking { order: vec![vec![2], vec![0, 1]] };
        let expected = Verdict::Ranking { order: vec![vec![1], vec![2, 0]] };
        assert_eq!(order.verdict(&[2, 0, 1], 0), Ok(expected));
        let axes = BTreeMap::from([("help".to_owned(), vec![Some(5.0), Some(1.0)])]);
        let expected = BTreeMap::from([("help".to_owned(), vec![Some(1.0), Some(5.0)])]);
        assert_eq!(
            PlacedDecision::Ratings { axes }.verdict(&presented, 0),
            Ok(Verdict::Ratings { axes: expected })
        );
    }

    #[test]
    fn places_that_were_not_shown_and_empty_reasons_are_refused() {
        let beyond = PlacedDecision::Preferred { place: 2, points: None };
        assert!(beyond.verdict(&[0, 1], 0).unwrap_err().contains("2 were shown"));
        let silent = PlacedDecision::CantTell { reason: "  ".into() };
        assert!(silent.verdict(&[0, 1], 0).unwrap_err().contains("reason"));
        let short =
            PlacedDecision::Ratings { axes: BTreeMap::from([("a".to_owned(), vec![None])]) };
        assert!(short.verdict(&[0, 1], 0).unwrap_err().contains("1 ratings for 2"));
    }
}
