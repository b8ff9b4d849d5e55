//! Verdicts on items whose right verdict is known.

use hearken_data::feedback::Verdict;

use super::HitCount;
use crate::index::Index;

/// Per annotator, how many gold items were judged right.
pub(crate) struct Gold {
    pub(crate) scores: Vec<HitCount>,
}

impl Gold {
    pub(crate) fn new(index: &Index<'_>) -> Self {
        let mut scores = vec![HitCount::default(); index.annotators.len()];
        for entry in index.by_people() {
            let Some(gold) = &index.items[entry.item].gold else { continue };
            if let Some(right) = is_right(&entry.judgement.verdict, &gold.verdict) {
                scores[entry.annotator].count(right);
            }
        }
        Self { scores }
    }
}

/// Per annotator, how many verdicts say what the final one on the item says.
pub(super) fn against_finals(index: &Index<'_>) -> Vec<HitCount> {
    let mut scores = vec![HitCount::default(); index.annotators.len()];
    for entry in index.by_people() {
        let Ok(at) = index.finals.binary_search_by_key(&entry.item, |decided| decided.item) else {
            continue;
        };
        let decided = &index.finals[at].judgement.verdict;
        if let Some(right) = is_right(&entry.judgement.verdict, decided) {
            scores[entry.annotator].count(right);
        }
    }
    scores
}

/// Whether a verdict says what the gold verdict says, strength aside; `None` where the annotator could not tell.
pub(crate) fn is_right(verdict: &Verdict, gold: &Verdict) -> Option<bool> {
    let undecided = |verdict: &Verdict| matches!(verdict, Verdict::CantTell { .. });
    (!undecided(verdict) || undecided(gold)).then(|| verdict.agrees(gold))
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
