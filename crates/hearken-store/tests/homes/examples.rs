//! Records to test with.

use hearken_data::feedback::{Candidate, Gold, Item, Judgement, Task, Verdict};
use hearken_data::{Message, Role};
use hearken_store::{Assignment, Claim, Claimed, Store};
use serde_json::json;

pub(crate) const MINUTE: i64 = 60_000;

/// A pairwise item named `item-N`.
pub(crate) fn item(number: usize) -> Item {
    let prompt = vec![Message::new(Role::User, format!("Question {number}?"))];
    let candidates = vec![
        Candidate::text(format!("Yes, {number} \u{2028} \"quoted\"\n\tlines")).by("model-a"),
        Candidate::text(format!("Nein, {number} 🦉 \u{0}")).by("model-b"),
    ];
    let mut item = Item::new(Task::Pairwise, prompt, candidates);
    item.id = format!("item-{number}");
    item
}

pub(crate) fn items(numbers: std::ops::Range<usize>) -> Vec<Item> {
    numbers.map(item).collect()
}

/// An item that uses every field.
pub(crate) fn rich_item() -> Item {
    let mut item = item(7);
    item.id = "rich".into();
    item.gold = Some(Gold {
        verdict: Verdict::preferred(1),
        reason: Some("the first is wrong".into()),
        screening: true,
    });
    item.overlap = Some(3);
    item.priority = -5;
    item.sensitive = true;
    let meta = json!({"z": 1, "a": [1.5, null, {"deep": "\u{0}"}]});
    item.meta.clone_from(meta.as_object().unwrap());
    item
}

pub(crate) fn judgement(id: &str, item: &Item, annotator: &str) -> Judgement {
    let mut judgement = Judgement::new(id, item, annotator, Verdict::preferred(0));
    judgement.presented = vec![1, 0];
    judgement.duration_ms = Some(1234);
    judgement.at = 1_700_000_000_000;
    judgement.rationale = Some("weil \u{0} \"so\"".into());
    judgement.propensity = Some(0.1 + 0.2);
    judgement
}

pub(crate) fn revision(id: &str, of: &Judgement) -> Judgement {
    let verdict = Verdict::Tie;
    Judgement { id: id.into(), revises: Some(of.id.clone()), verdict, ..of.clone() }
}

/// A claim with overlap 2 at time `now` and a lease of a minute.
pub(crate) fn claim(item: &str, annotator: &str, now: i64) -> Claim {
    Claim {
        item: item.into(),
        annotator: annotator.into(),
        presented: vec![1, 0],
        propensity: Some(0.25),
        guidelines: Some(3),
        overlap: 2,
        now,
        lease_ms: MINUTE,
    }
}

/// Claims an item that must be granted.
pub(crate) fn granted(store: &dyn Store, claim: &Claim) -> Assignment {
    match store.claim(claim).unwrap() {
        Claimed::Granted(assignment) => assignment,
        other => panic!("{claim:?}: {other:?}"),
    }
}

/// The judgement under an assignment.
pub(crate) fn judged(id: &str, assignment: &Assignment, item: &Item) -> Judgement {
    let mut judgement = judgement(id, item, &assignment.annotator);
    judgement.assignment = Some(assignment.id.clone());
    judgement
}
