//! Judgements made ready to train on: who counts, and what several on one pair become.
#![allow(clippy::unwrap_used, reason = "tests may panic and report")]

use hearken_data::feedback::formats::{ExportOptions, Format, TextForm, export};
use hearken_data::feedback::{
    BetterAnswer, Candidate, Combine, Gold, Item, Judgement, Origin, Selection, Task, Verdict,
};
use hearken_data::{Message, Preference, ReadOptions, RecordKind, Role};
use hearken_store::{Selected, open, open_records, select};

fn pair(id: &str, texts: [&str; 2]) -> Item {
    let prompt = vec![Message::new(Role::User, "Which?")];
    let mut item = Item::new(Task::Pairwise, prompt, texts.map(Candidate::text).to_vec());
    item.id = id.into();
    item
}

fn vote(item: &Item, annotator: &str, verdict: Verdict) -> Judgement {
    Judgement::new(format!("{}-{annotator}", item.id), item, annotator, verdict)
}

fn first() -> Verdict {
    Verdict::preferred(0)
}

fn second() -> Verdict {
    Verdict::preferred(1)
}

fn selected(items: &[Item], judgements: &[Judgement], selection: &Selection) -> Selected {
    select(items, judgements, selection, RecordKind::Preferences).unwrap()
}

fn verdicts(selected: &Selected) -> Vec<(&str, Verdict)> {
    selected.judgements.iter().map(|it| (it.item.as_str(), it.verdict.clone())).collect()
}

#[test]
fn a_pair_is_one_record_by_majority_and_what_has_none_is_counted() {
    let (a, b, c) = (pair("a", ["x", "y"]), pair("b", ["u", "v"]), pair("c", ["s", "t"]));
    let votes = [
        vote(&a, "1", first()),
        vote(&b, "1", first()),
        vote(&a, "2", second()),
        vote(&a, "3", second()),
        vote(&b, "2", second()),
        vote(&c, "1", Verdict::CantTell { reason: "?".into() }),
        vote(&c, "2", Verdict::Tie),
    ];
    let found = selected(&[a, b, c], &votes, &Selection::default());
    let cant_tell = Verdict::CantTell { reason: "?".into() };
    assert_eq!(verdicts(&found), [("a", second()), ("c", cant_tell), ("c", Verdict::Tie)]);
    assert_eq!(found.left_out, [("pair without a majority".to_owned(), 1)]);
}

#[test]
fn a_pair_on_which_nobody_decides_stays_one_tie() {
    let a = pair("a", ["x", "y"]);
    let votes = ["1", "2", "3"].map(|name| {
        let verdict = if name == "3" { Verdict::BothBad } else { Verdict::Tie };
        vote(&a, name, verdict)
    });
    let found = selected(&[a], &votes, &Selection::default());
    assert_eq!(verdicts(&found), [("a", Verdict::Tie), ("a", Verdict::BothBad)]);
}

#[test]
fn the_same_two_answers_are_one_pair_whatever_their_order_and_item() {
    let (one, other) = (pair("one", ["x", "y"]), pair("other", ["y", "x"]));
    let votes =
        [vote(&one, "1", second()), vote(&other, "2", first()), vote(&other, "3", second())];
    let found = selected(&[one, other], &votes, &Selection::default());
    // "y" has two votes of three; the first item is ["x", "y"].
    assert_eq!(verdicts(&found), [("one", second())]);
}

#[test]
fn shares_of_votes_are_probabilities() {
    let a = pair("a", ["x", "y"]);
    let votes = [
        vote(&a, "1", second()),
        vote(&a, "2", second()),
        vote(&a, "3", Verdict::Tie),
        vote(&a, "4", first()),
    ];
    let selection = Selection { combine: Combine::Probability, ..Selection::default() };
    let found = selected(std::slice::from_ref(&a), &votes, &selection);
    assert_eq!(verdicts(&found), [("a", Verdict::Soft { probability: 1.5 / 4.0 })]);
    let turned = pair("t", ["y", "x"]);
    let votes = [vote(&turned, "1", first()), vote(&turned, "2", first()), vote(&a, "3", first())];
    let found = selected(&[turned, a], &votes, &selection);
    let [(item, Verdict::Soft { probability })] = &verdicts(&found)[..] else {
        panic!("{found:?}")
    };
    assert_eq!(*item, "t");
    assert!((probability - 2.0 / 3.0).abs() < 1e-12, "{probability}");
}

#[test]
fn the_annotator_model_believes_those_with_whom_others_agree() {
    let items: Vec<Item> =
        (0..20).map(|at| pair(&format!("p{at}"), [&format!("a{at}"), &format!("b{at}")])).collect();
    let mut votes = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let right = || if at % 3 == 0 { first() } else { second() };
        let wrong = || if at % 3 == 0 { second() } else { first() };
        for good in ["g1", "g2", "g3"] {
            votes.push(vote(item, good, right()));
        }
        votes.push(vote(item, "bad", wrong()));
    }
    // One against one: the good annotator is believed.
    let last = pair("last", ["m", "n"]);
    votes.extend([vote(&last, "g1", first()), vote(&last, "bad", second())]);
    let items: Vec<Item> = items.into_iter().chain([last]).collect();
    let selection = Selection { combine: Combine::Model, ..Selection::default() };
    let found = selected(&items, &votes, &selection);
    let Verdict::Soft { probability } = found.judgements.last().unwrap().verdict else { panic!() };
    assert!(0.9 < probability, "{probability}");
    let majority = selected(&items, &votes, &Selection::default());
    assert_eq!(majority.left_out, [("pair without a majority".to_owned(), 1)]);
}

#[test]
fn gold_items_models_and_excluded_people_are_left_out_and_counted() {
    let (a, b) = (pair("a", ["x", "y"]), pair("b", ["u", "v"]));
    let with = |mut item: Item, screening| {
        item.gold = Some(Gold { verdict: first(), reason: None, screening });
        item
    };
    let (gold, screening) = (with(pair("g", ["1", "2"]), false), with(pair("s", ["3", "4"]), true));
    let mut by_model = vote(&b, "gpt", first());
    by_model.origin = Origin::Ai;
    let votes = [
        vote(&gold, "1", first()),
        vote(&screening, "1", first()),
        by_model,
        vote(&a, "spammer", second()),
        vote(&a, "1", first()),
    ];
    let items = [a, b, gold, screening];
    let exclude_annotators = vec!["spammer".to_owned()];
    let selection = Selection { exclude_annotators, ..Selection::default() };
    let found = selected(&items, &votes, &selection);
    assert_eq!(verdicts(&found), [("a", first())]);
    let counted: Vec<(&str, usize)> =
        found.left_out.iter().map(|(why, count)| (why.as_str(), *count)).collect();
    let expected = [
        ("by a language model", 1),
        ("by an excluded annotator", 1),
        ("on a gold item", 1),
        ("on a screening item", 1),
    ];
    assert_eq!(counted, expected);
    let all = Selection { gold: true, ai: true, ..Selection::default() };
    assert_eq!(selected(&items, &votes, &all).judgements.len(), 3);
    let unknown = Selection { exclude_annotators: vec!["nobody".into()], ..Selection::default() };
    let error = select(&items, &votes, &unknown, RecordKind::Preferences).unwrap_err();
    assert!(error.contains("\"nobody\""), "{error}");
}

#[test]
fn pairs_with_few_votes_or_little_agreement_are_left_out_and_counted() {
    let (a, b, c) = (pair("a", ["x", "y"]), pair("b", ["u", "v"]), pair("c", ["s", "t"]));
    let votes = [
        vote(&a, "1", first()),
        vote(&a, "2", first()),
        vote(&a, "3", second()),
        vote(&b, "1", first()),
        vote(&b, "2", first()),
        vote(&b, "3", first()),
        vote(&c, "1", first()),
    ];
    let selection = Selection { votes_min: 2, agreement_min: 0.7, ..Selection::default() };
    let found = selected(&[a, b, c], &votes, &selection);
    assert_eq!(verdicts(&found), [("b", first())]);
    let counted: Vec<&str> = found.left_out.iter().map(|(why, _)| why.as_str()).collect();
    assert_eq!(counted, ["pair with an agreement below 0.7", "pair with fewer than 2 votes"]);
}

#[test]
fn rankings_by_several_become_their_pairs() {
    let prompt = vec![Message::new(Role::User, "Order?")];
    let candidates = ["x", "y", "z"].map(Candidate::text).to_vec();
    let mut list = Item::new(Task::Ranking, prompt, candidates);
    list.id = "list".into();
    let ranking = |order: [usize; 3]| Verdict::Ranking { order: order.map(|at| vec![at]).to_vec() };
    let votes = [
        vote(&list, "1", ranking([0, 1, 2])),
        vote(&list, "2", ranking([0, 2, 1])),
        vote(&list, "3", ranking([1, 0, 2])),
    ];
    let found = selected(std::slice::from_ref(&list), &votes, &Selection::default());
    assert_eq!(found.judgements.len(), 3, "{found:?}");
    assert!(found.judgements.iter().all(|it| it.verdict == first()), "{found:?}");
    // What one has put in order stays that.
    let alone = selected(&[list], &votes[..1], &Selection::default());
    assert_eq!(alone.judgements, votes[..1]);
}

#[test]
fn a_store_is_read_as_one_preference_for_a_pair() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("votes.db");
    let store = open(path.to_str().unwrap()).unwrap();
    let a = pair("a", ["x", "y"]);
    store.add_items(std::slice::from_ref(&a)).unwrap();
    let votes = [vote(&a, "1", first()), vote(&a, "2", second()), vote(&a, "3", first())];
    store.add_judgements(&votes).unwrap();
    let read = |selection: Selection| {
        let options = ReadOptions { judgements: selection, ..ReadOptions::default() };
        open_records::<Preference>(&path, &options).unwrap().all().unwrap()
    };
    let (records, report) = read(Selection::default());
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].probability, None);
    assert!(report.left_out.is_empty(), "{:?}", report.left_out);
    let (records, _) = read(Selection { combine: Combine::Probability, ..Selection::default() });
    assert!((records[0].probability.unwrap() - 2.0 / 3.0).abs() < 1e-12);
    let (records, _) = read(Selection { combine: Combine::Each, ..Selection::default() });
    assert_eq!(records.len(), 3);
}

fn decided(item: &Item, verdict: Verdict) -> Judgement {
    let mut decided = vote(item, "reviewer", verdict);
    decided.id = format!("final-{}", item.id);
    decided.is_final = true;
    decided
}

/// A final verdict stands for all votes on its pair, however they are combined and however many are asked for.
#[test]
fn a_final_verdict_takes_the_place_of_the_votes() {
    let (a, b) = (pair("a", ["x", "y"]), pair("b", ["u", "v"]));
    let mut votes = vec![
        vote(&a, "1", first()),
        vote(&a, "2", first()),
        vote(&b, "1", first()),
        vote(&b, "2", first()),
        decided(&a, second()),
    ];
    let items = [a.clone(), b];
    let strict = Selection { votes_min: 2, agreement_min: 0.9, ..Selection::default() };
    let found = selected(&items, &votes, &strict);
    assert_eq!(verdicts(&found), [("b", first()), ("a", second())]);
    assert_eq!(found.left_out, [("on an item with a final verdict".to_owned(), 2)]);
    for combine in [Combine::Probability, Combine::Model] {
        let found = selected(&items, &votes, &Selection { combine, ..Selection::default() });
        let of_a = found.judgements.iter().find(|it| it.item == "a").unwrap();
        assert_eq!(of_a.verdict, Verdict::Soft { probability: 0.0 }, "{combine:?}");
    }
    let each = Selection { combine: Combine::Each, ..Selection::default() };
    assert_eq!(selected(&items, &votes, &each).judgements.len(), 3);
    // Decided anew: the last one holds.
    let mut anew = decided(&a, Verdict::Tie);
    anew.id = "anew".into();
    anew.revises = Some("final-a".into());
    votes.push(anew);
    let found = selected(&items, &votes, &Selection::default());
    assert_eq!(verdicts(&found), [("b", first()), ("a", Verdict::Tie)]);
}

#[test]
fn a_final_verdict_holds_for_the_same_pair_in_another_item() {
    let (one, other) = (pair("one", ["x", "y"]), pair("other", ["y", "x"]));
    let votes = [
        vote(&one, "1", first()),
        vote(&one, "2", first()),
        decided(&other, Verdict::preferred(0)),
    ];
    let found = selected(&[one, other], &votes, &Selection::default());
    assert_eq!(verdicts(&found), [("other", first())]);
}

/// An answer that was edited is a pair with the one it was made from; for demonstrations it takes its place.
#[test]
fn a_better_answer_is_a_pair_and_a_demonstration() {
    let (a, b) = (pair("a", ["x", "y"]), pair("b", ["u", "v"]));
    let better =
        |text: &str, candidate| Some(Box::new(BetterAnswer { text: text.into(), candidate }));
    let judgements = [
        Judgement { better: better("y, better", Some(1)), ..vote(&a, "1", second()) },
        Judgement { better: better("w", None), ..vote(&b, "1", Verdict::BothBad) },
    ];
    let items = [a, b];
    for combine in [Combine::Majority, Combine::Each] {
        let how = Selection { combine, ..Selection::default() };
        let of = |kind| {
            let found = select(&items, &judgements, &how, kind).unwrap();
            assert!(found.judgements.iter().all(|one| one.better.is_none()));
            let mut lines = Vec::new();
            let format = match kind {
                RecordKind::Preferences => Format::TrlPreference,
                RecordKind::Demonstrations => Format::TrlDemonstrations,
                _ => Format::TrlUnpaired,
            };
            let options = ExportOptions { form: TextForm::Text, ..ExportOptions::default() };
            export(&found.items, &found.judgements, format, &options, &mut lines).unwrap();
            String::from_utf8(lines).unwrap()
        };
        let row = |chosen: &str, rejected: &str| {
            format!(
                "{{\"prompt\":\"Which?\",\"chosen\":\"{chosen}\",\"rejected\":\"{rejected}\"}}\n"
            )
        };
        let pairs = [("y", "x"), ("y, better", "y"), ("w", "u"), ("w", "v")];
        let expected: String = pairs.iter().map(|(chosen, other)| row(chosen, other)).collect();
        assert_eq!(of(RecordKind::Preferences), expected);
        let demonstrations = of(RecordKind::Demonstrations);
        let said = |text: &str| format!("\"completion\":\"{text}\"");
        assert!(demonstrations.contains(&said("y, better")) && demonstrations.contains(&said("w")));
        assert!(!demonstrations.contains(&said("y")), "{demonstrations}");
        let unpaired = of(RecordKind::UnpairedPreferences);
        assert!(unpaired.contains("\"completion\":\"y, better\",\"label\":true"), "{unpaired}");
    }
}
