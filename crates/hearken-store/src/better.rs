//! Better answers that annotators wrote, as records to train on.

use hearken_data::RecordKind;
use hearken_data::feedback::{BetterAnswer, Candidate, Item, Judgement, Task, Verdict};

/// What the better answer of a judgement amounts to among records of `kind`: a pair in which it is better than the
/// candidate that was edited, or, where it was written without one, than each; for demonstrations and single completions
/// the answer alone, as a good one.
pub(crate) fn records(
    item: Option<&Item>,
    judgement: &Judgement,
    kind: RecordKind,
) -> Vec<(Item, Judgement)> {
    let (Some(item), Some(better)) = (item, &judgement.better) else { return Vec::new() };
    match kind {
        RecordKind::Preferences => {
            let all: Vec<usize> = (0..item.candidates.len()).collect();
            let worse = better.candidate.map_or(all, |edited| vec![edited]);
            worse.into_iter().map(|candidate| pair(item, judgement, better, candidate)).collect()
        }
        RecordKind::Demonstrations | RecordKind::UnpairedPreferences => {
            let item = like(item, Task::Rating, vec![Candidate::text(&*better.text)], judgement);
            let verdict = Verdict::Approval { good: true };
            vec![(item.clone(), by(judgement, &item, verdict))]
        }
        RecordKind::JudgedSteps | RecordKind::Prompts | RecordKind::RecordedRollouts => Vec::new(),
    }
}

fn pair(
    item: &Item,
    judgement: &Judgement,
    better: &BetterAnswer,
    candidate: usize,
) -> (Item, Judgement) {
    let candidates = vec![Candidate::text(&*better.text), item.candidates[candidate].clone()];
    let mut pair = like(item, Task::Pairwise, candidates, judgement);
    pair.id = format!("{} than {candidate}", pair.id);
    let judgement = by(judgement, &pair, Verdict::preferred(0));
    (pair, judgement)
}

/// An item with the prompt of `item` and other candidates.
fn like(item: &Item, task: Task, candidates: Vec<Candidate>, judgement: &Judgement) -> Item {
    Item {
        id: format!("{}: better, by {}", item.id, judgement.id),
        media: item.media.clone(),
        meta: item.meta.clone(),
        ..Item::new(task, item.prompt.clone(), candidates)
    }
}

/// A judgement of `item` by the same annotator.
fn by(judgement: &Judgement, item: &Item, verdict: Verdict) -> Judgement {
    Judgement {
        origin: judgement.origin,
        at: judgement.at,
        ..Judgement::new(item.id.clone(), item, &*judgement.annotator, verdict)
    }
}
