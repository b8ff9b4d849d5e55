//! Verdicts on items whose right verdict is known.

use hearken_data::feedback::Verdict;

use super::Score;
use crate::index::Index;

/// Per annotator, how many gold items were judged right.
pub(crate) struct Gold {
    pub(crate) scores: Vec<Score>,
}

impl Gold {
    pub(crate) fn new(index: &Index<'_>) -> Self {
        let mut scores = vec![Score::default(); index.annotators.len()];
        for entry in index.by_people() {
            let Some(gold) = &index.items[entry.item].gold else { continue };
            if let Some(right) = is_right(&entry.judgement.verdict, &gold.verdict) {
                scores[entry.annotator].count(right);
            }
        }
        Self { scores }
    }
}

/// Whether a verdict says what the gold verdict says, strength aside; `None` where the annotator could not tell.
pub(crate) fn is_right(verdict: &Verdict, gold: &Verdict) -> Option<bool> {
    match (verdict, gold) {
        (Verdict::CantTell { .. }, Verdict::CantTell { .. }) => Some(true),
        (Verdict::CantTell { .. }, _) => None,
        (
            Verdict::Preferred { candidate: said, .. },
            Verdict::Preferred { candidate: right, .. },
        ) => Some(said == right),
        (Verdict::Ranking { order: said }, Verdict::Ranking { order: right }) => {
            Some(tiers(said) == tiers(right))
        }
        (said, right) => Some(said == right),
    }
}

/// The order within a tier means nothing.
fn tiers(order: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let sorted = |tier: &Vec<usize>| {
        let mut tier = tier.clone();
        tier.sort_unstable();
        tier
    };
    order.iter().map(sorted).collect()
}

#[cfg(test)]
mod tests {
    use hearken_data::feedback::Strength;

    use super::*;

    #[test]
    fn strength_and_the_order_of_equals_do_not_matter() {
        let strength = Some(Strength { points: 3, scale: 3 });
        let strong = Verdict::Preferred { candidate: 1, strength };
        assert_eq!(is_right(&strong, &Verdict::preferred(1)), Some(true));
        assert_eq!(is_right(&strong, &Verdict::Tie), Some(false));
        assert_eq!(is_right(&Verdict::CantTell { reason: String::new() }, &Verdict::Tie), None);
        let ranking = |order: &[&[usize]]| Verdict::Ranking {
            order: order.iter().map(|tier| tier.to_vec()).collect(),
        };
        assert_eq!(is_right(&ranking(&[&[1, 0], &[2]]), &ranking(&[&[0, 1], &[2]])), Some(true));
    }
}
