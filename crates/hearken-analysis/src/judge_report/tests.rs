use hearken_data::feedback::{Candidate, Item, Judgement, Origin, Task, Verdict};
use hearken_data::{Message, Role};

use super::*;

/// Pairs of answers, the first of which people prefer in two of three; the second one is longer in every other pair.
fn items(count: usize) -> Vec<Item> {
    let item = |at: usize| {
        let long = |is_long: bool| if is_long { "and so on " } else { "" };
        let candidates = vec![
            Candidate::text(format!("answer {at} {}", long(at.is_multiple_of(2)))).by("new"),
            Candidate::text(format!("reply {at} {}", long(at % 2 == 1))).by("old"),
        ];
        Item::new(Task::Pairwise, vec![Message::new(Role::User, format!("{at}?"))], candidates)
    };
    (0..count).map(item).collect()
}

/// Records in which `judge` says how probable it is that what is shown first is better, in both orders.
fn records(items: Vec<Item>, judge: impl Fn(&Item, [usize; 2]) -> f64) -> JudgedItems {
    let mut judgements = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let people = Verdict::preferred(usize::from(at % 3 == 0));
        judgements.push(Judgement::new(format!("p{at}"), item, "ada", people));
        for order in [[0, 1], [1, 0]] {
            let first = judge(item, order);
            let probability = if order[0] == 0 { first } else { 1.0 - first };
            let verdict = Verdict::Soft { probability };
            let mut judgement = Judgement::new(format!("j{at}{order:?}"), item, "robot", verdict);
            judgement.origin = Origin::Ai;
            judgement.presented = order.to_vec();
            judgements.push(judgement);
        }
    }
    JudgedItems { items, judgements }
}

fn report_of(records: &JudgedItems) -> JudgeReport {
    let options = Options { bootstrap_rounds: 100, ..Options::default() };
    judge_reports(records, &options).judges.remove(0)
}

fn says(report: &JudgeReport, what: &str) -> bool {
    report.findings.iter().any(|finding| finding.contains(what))
}

#[test]
fn a_judge_that_prefers_the_first_answer_is_found_out() {
    let report = report_of(&records(items(60), |_, _| 0.9));
    assert!(says(&report, "shown first"), "{:?}", report.findings);
    assert_eq!(report.position.consistency.value(), Some(0.0));
    assert!((report.position.lean.value().unwrap() - 0.4).abs() < 1e-12);
    // In the mean of both orders nothing is left of it.
    assert_eq!(report.ties, 60);
    assert!(!says(&report, "longer"), "{:?}", report.findings);
}

#[test]
fn a_judge_that_prefers_the_longer_answer_is_found_out() {
    let longer = |item: &Item, order: [usize; 2]| {
        let [a, b] = order.map(|at| item.candidates[at].text.len());
        if b < a { 0.8 } else { 0.2 }
    };
    let report = report_of(&records(items(60), longer));
    assert!(says(&report, "the longer answer more often than people do"), "{:?}", report.findings);
    assert_eq!(report.position.consistency.value(), Some(1.0));
    assert!(!says(&report, "shown"), "{:?}", report.findings);
}

#[test]
fn a_judge_that_prefers_an_empty_or_a_constant_answer_is_found_out() {
    for (text, finding) in [("", "an empty answer"), ("I am great.", "ignores the prompt")] {
        let worthless = |item: &Item, order: [usize; 2]| {
            if item.candidates[order[0]].text == text { 0.95 } else { 0.05 }
        };
        let mut items = items(30);
        for item in &mut items {
            item.candidates[1] = Candidate::text(text);
        }
        let report = report_of(&records(items, worthless));
        assert!(says(&report, finding), "{text:?}: {:?}", report.findings);
    }
}

#[test]
fn a_judge_that_says_what_people_say_has_nothing_against_it() {
    let ids: Vec<String> = items(60).into_iter().map(|item| item.id).collect();
    let people = |item: &Item, order: [usize; 2]| {
        let at = ids.iter().position(|id| *id == item.id).unwrap();
        f64::from(u8::from(order[0] == usize::from(at % 3 == 0)))
    };
    let report = report_of(&records(items(60), people));
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!(report.agreement.value(), Some(1.0));
    assert_eq!(report.kappa.value(), Some(1.0));
    assert_eq!(report.brier.value(), Some(0.0));
}

#[test]
fn win_rates_are_corrected_by_the_labels_of_people() {
    let mut all = records(items(300), |item, order| {
        // It takes the new model for better than it is.
        if item.candidates[order[0]].model.as_deref() == Some("new") { 0.9 } else { 0.1 }
    });
    let labelled = 60;
    all.judgements.retain(|one| {
        one.origin == Origin::Ai || one.id[1..].parse::<usize>().is_ok_and(|at| at < labelled)
    });
    let report = report_of(&all);
    let new = report.win_rates.iter().find(|rate| rate.model == "new").unwrap();
    assert_eq!((new.labelled, new.others), (60, 240));
    assert!(new.judge.value().unwrap() > 0.85);
    assert!(new.corrected.known().unwrap().contains(2.0 / 3.0));
    assert_eq!(report.ask_people.len(), UNCERTAIN_MAX);
}
