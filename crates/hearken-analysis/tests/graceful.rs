//! Records that lack something: a sentence says why a number is missing, and JSON holds no surprises.

#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;

use hearken_analysis::{Analysis, Figure, JudgedItems, Options, analyze, fragment, html};
use hearken_data::feedback::{Candidate, Item, Judgement, Strength, Task, Verdict};
use hearken_data::{Message, Role};
use serde_json::Value;

fn check(records: &JudgedItems) -> Analysis {
    let analysis = analyze(records, &Options { bootstrap_rounds: 30, ..Options::default() });
    let json = serde_json::to_value(&analysis).unwrap();
    figures(&json, "");
    for page in [fragment(&analysis), html(&analysis)] {
        assert!(!page.contains("NaN") && !page.contains(">inf"), "{page}");
    }
    let back: Analysis = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&back).unwrap(), json);
    analysis
}

/// Every figure has a finite value with an interval of some width, or a sentence.
fn figures(json: &Value, path: &str) {
    match json {
        Value::Object(map) => {
            if map.contains_key("method") {
                assert!(map["value"].is_number(), "{path}: {json}");
                assert!(map["n"].as_u64().unwrap() > 0, "{path}: {json}");
                let (low, high) = (&map["low"], &map["high"]);
                assert!(low.is_null() || low != high, "an interval without width: {path}: {json}");
            }
            if let Some(why) = map.get("missing").and_then(Value::as_str) {
                assert!(why.len() > 5 && why.ends_with('.'), "{path}: {why:?}");
            }
            for (key, value) in map {
                let optional = [
                    "low",
                    "high",
                    "test",
                    "zeta",
                    "fit",
                    "note",
                    "rank_bounds",
                    "share",
                    "elo",
                    "robust_z",
                    "condorcet_winner",
                    "davidson_nu",
                    "rao_kupper_eta",
                    "davidson_advantage",
                ];
                let may_be_null = optional.contains(&key.as_str()) || key.ends_with("_test");
                assert!(!value.is_null() || may_be_null, "{path}/{key} is null");
                figures(value, &format!("{path}/{key}"));
            }
        }
        Value::Array(list) => list.iter().for_each(|value| figures(value, path)),
        _ => {}
    }
}

fn item(task: Task, n: usize, answers: usize, models: bool) -> Item {
    let prompt = vec![Message::new(Role::User, format!("Question {n}"))];
    let candidate = |k: usize| {
        let answer = Candidate::text(format!("Answer {k} to {n}{}", "!".repeat(k * n % 5)));
        if models { answer.by(format!("m{k}")) } else { answer }
    };
    let mut item = Item::new(task, prompt, (0..answers).map(candidate).collect());
    item.id = format!("i{n}");
    item
}

fn records(
    items: Vec<Item>,
    verdicts: impl Fn(usize, usize) -> Option<Verdict>,
    annotators: usize,
) -> JudgedItems {
    let mut records = JudgedItems { items, judgements: Vec::new() };
    for k in 0..annotators {
        for (i, item) in records.items.iter().enumerate() {
            if let Some(verdict) = verdicts(i, k) {
                let id = format!("j{}", records.judgements.len());
                records.judgements.push(Judgement::new(id, item, format!("a{k}"), verdict));
            }
        }
    }
    records
}

fn pairs(n: usize, models: bool) -> Vec<Item> {
    (0..n).map(|i| item(Task::Pairwise, i, 2, models)).collect()
}

fn is_missing(figure: &Figure, word: &str) {
    assert!(matches!(figure, Figure::Missing { missing } if missing.contains(word)), "{figure:?}");
}

#[test]
fn nothing_at_all() {
    let a = check(&JudgedItems::default());
    is_missing(&a.agreement.comparisons.raw, "two annotators");
    assert_eq!(a.annotators.notes, ["Nobody has judged."]);
    check(&JudgedItems { items: pairs(3, true), judgements: Vec::new() });
}

#[test]
fn one_annotator_without_models() {
    let a = check(&records(pairs(12, false), |i, _| Some(Verdict::preferred(i % 2)), 1));
    is_missing(&a.agreement.comparisons.alpha_nominal, "two annotators");
    assert!(a.annotators.notes[0].contains("One annotator"));
    assert!(a.leaderboard.models.is_empty() && a.leaderboard.votes_without_models == 12);
    is_missing(&a.annotators.left_share, "sides");
    is_missing(&a.annotators.list[0].gold, "gold");
}

#[test]
fn one_judgement() {
    let a = check(&records(pairs(1, true), |_, _| Some(Verdict::preferred(0)), 1));
    assert_eq!(a.leaderboard.components.len(), 2);
    assert!(a.leaderboard.ridge > 0.0);
    let first = &a.leaderboard.models[0];
    assert!(first.model == "m0" && first.strength.value().unwrap() > 0.0);
}

#[test]
fn two_annotators_have_a_cohen_and_nothing_in_common_has_none() {
    let a =
        check(&records(pairs(9, true), |i, k| Some(Verdict::preferred((i + i * k / 4) % 2)), 2));
    assert!(a.agreement.comparisons.cohen.known().is_some());
    let apart = |i: usize, k: usize| (i % 2 == k).then(|| Verdict::preferred(i % 3 % 2));
    let a = check(&records(pairs(9, true), apart, 2));
    is_missing(&a.agreement.comparisons.cohen, "nothing in common");
    is_missing(&a.annotators.list[0].agreement, "others");
}

#[test]
fn ties_alone_and_doubts_alone() {
    let a = check(&records(pairs(30, true), |_, _| Some(Verdict::Tie), 3));
    assert_eq!(a.agreement.comparisons.raw.value(), Some(1.0));
    is_missing(&a.agreement.comparisons.raw_decisive, "prefer");
    assert_eq!(a.annotators.list[0].tie_share.value(), Some(1.0));
    let doubt = |_, _| Some(Verdict::CantTell { reason: "blurred".into() });
    let a = check(&records(pairs(5, true), doubt, 2));
    assert_eq!(a.progress.judgements_by_kind["cant_tell"], 10);
}

#[test]
fn islands_of_models() {
    let mut items = pairs(20, true);
    for item in &mut items[10..] {
        for candidate in &mut item.candidates {
            candidate.model = candidate.model.take().map(|m| format!("other {m}"));
        }
    }
    let a = check(&records(items, |i, k| Some(Verdict::preferred((i + k) % 2)), 2));
    assert_eq!(a.leaderboard.components.len(), 2);
    assert_eq!((a.voting.pairs_compared, a.voting.pairs), (2, 6));
    assert!(a.voting.notes[0].contains("never compared"));
}

#[test]
fn rankings_alone() {
    // Schulze's 45 voters, as rankings of one item.
    let ballots = ["ACBED", "ADECB", "BEDAC", "CABED", "CAEBD", "CBADE", "DCEBA", "EBADC"];
    let counts = [5, 5, 8, 3, 7, 2, 7, 8];
    let orders: Vec<Vec<Vec<usize>>> = ballots
        .iter()
        .zip(counts)
        .flat_map(|(ballot, n)| {
            let order = ballot.bytes().map(|b| vec![usize::from(b - b'A')]).collect();
            vec![order; n]
        })
        .collect();
    let items = vec![item(Task::Ranking, 0, 5, true)];
    let verdict = |_, k: usize| Some(Verdict::Ranking { order: orders[k].clone() });
    let a = check(&records(items, verdict, 45));
    let rule = |name: &str| a.voting.rules.iter().find(|r| r.rule == name).unwrap();
    let letters = |names: &[String]| -> String {
        names.iter().map(|n| char::from(b'A' + n[1..].parse::<u8>().unwrap())).collect()
    };
    for (name, winners) in [
        ("schulze", "E"),
        ("ranked_pairs", "A"),
        ("plurality", "C"),
        ("instant_runoff", "C"),
        ("borda", "E"),
        ("copeland", "E"),
        ("maximin", "E"),
        ("kemeny", "E"),
        ("maximal_lottery", "ACE"),
    ] {
        assert_eq!(letters(&rule(name).winners), winners, "{name}");
    }
    assert_eq!(rule("borda").scores, [98.0, 92.0, 89.0, 69.0, 102.0]);
    assert_eq!(rule("maximin").scores, [20.0, 16.0, 17.0, 12.0, 21.0]);
    let schulze: String = rule("schulze").order.iter().map(|tier| letters(tier)).collect();
    let pairs: String = rule("ranked_pairs").order.iter().map(|tier| letters(tier)).collect();
    assert_eq!((schulze.as_str(), pairs.as_str()), ("EACBD", "ACEBD"));
    assert!(!a.voting.agree && a.voting.condorcet_winner.is_none());
    assert_eq!(letters(&a.voting.smith_set), "ABCDE");
    assert_eq!((a.voting.ballots, a.voting.per_item.items, a.voting.per_item.agree), (45, 1, 0));
}

fn between(winners: &[usize]) -> Analysis {
    let items = (0..winners.len()).map(|i| item(Task::Pairwise, i, 2, true)).collect();
    check(&records(items, |i, _| Some(Verdict::preferred(winners[i])), 1))
}

/// Nine votes of ten: of the rounds of the bootstrap 35 % have ten of ten.
#[test]
fn a_rating_has_no_upper_end_where_many_rounds_are_infinite() {
    let a = between(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let ratings: Vec<_> = a.leaderboard.models.iter().map(|m| *m.rating.known().unwrap()).collect();
    assert!(ratings[0].low.is_finite() && ratings[0].high == f64::INFINITY, "{}", ratings[0]);
    assert!(ratings[1].low == f64::NEG_INFINITY && ratings[1].high.is_finite(), "{}", ratings[1]);
    assert!((4..20).contains(&a.leaderboard.bootstrap_dropped));
    assert!(a.leaderboard.notes.iter().any(|note| note.contains("unbounded")));
    let page = fragment(&a);
    assert!(page.contains(", unbounded]") && page.contains("[unbounded, "));
}

/// All votes for one model: only the prior keeps its strength finite.
#[test]
fn a_strength_that_only_the_prior_bounds_has_no_interval() {
    let a = between(&[0; 200]);
    for row in &a.leaderboard.models {
        for figure in [&row.rating, &row.rating_sandwich, &row.strength, &row.strength_styled] {
            assert!(figure.known().is_none_or(hearken_stats::Estimate::is_unbounded), "{figure:?}");
        }
        assert_eq!(row.rank_bounds.map(|b| (b.best, b.worst)), Some((1, 2)));
    }
}

/// What one annotator says twice is no agreement between two.
#[test]
fn repetitions_of_one_annotator_are_no_agreement() {
    let twice = |i: usize, k: usize| Some(Verdict::preferred((i + i * k / 4) % 2));
    let mut alone = records(pairs(12, true), twice, 2);
    alone.judgements.iter_mut().for_each(|j| j.annotator = "solo".into());
    let c = check(&alone).agreement.comparisons;
    assert_eq!(c.judged_twice, 0);
    for figure in [&c.raw, &c.fleiss, &c.alpha_nominal, &c.alpha_ordinal] {
        is_missing(figure, "two annotators");
    }
    // Two who disagree everywhere, one of whom says everything twice.
    let mut apart = records(pairs(12, true), |i, k| Some(Verdict::preferred((i + k) % 2)), 2);
    let before = check(&apart).agreement.comparisons;
    let again: Vec<_> = apart.judgements.iter().filter(|j| j.annotator == "a0").cloned().collect();
    apart.judgements.extend(again.into_iter().map(|j| Judgement { id: j.id.clone() + "-2", ..j }));
    let after = check(&apart);
    assert_eq!(after.agreement.comparisons, before);
    assert!(after.agreement.notes[0].starts_with("12 verdicts"));
    assert_eq!(after.annotators.list[1].agreement.known().map(|e| e.n), Some(12));
}

#[test]
fn repeated_ratings_labels_and_approvals_are_no_agreement() {
    let one = |k: usize| BTreeMap::from([("helpful".to_owned(), vec![Some(k as f64), Some(2.0)])]);
    let items: Vec<Item> = (0..6).map(|i| item(Task::Rating, i, 2, true)).collect();
    let mut rated = records(items, |_, k| Some(Verdict::Ratings { axes: one(k) }), 3);
    rated.judgements.iter_mut().for_each(|j| j.annotator = "solo".into());
    let axis = check(&rated).agreement.ratings["helpful"].clone();
    assert_eq!(axis.judged_twice, 0);
    is_missing(&axis.alpha_interval, "two annotators");
    let items = (0..8).map(|i| item(Task::Rating, i, 1, false)).collect();
    let mut approved = records(items, |i, k| Some(Verdict::Approval { good: i > k }), 2);
    approved.judgements.iter_mut().for_each(|j| j.annotator = "solo".into());
    is_missing(&check(&approved).agreement.approvals.raw, "two annotators");
}

/// Everybody says the same of everything: chance alone would agree.
#[test]
fn constant_verdicts_have_no_agreement_beyond_chance() {
    let a = check(&records(pairs(30, true), |_, _| Some(Verdict::preferred(0)), 2));
    let c = &a.agreement.comparisons;
    for figure in [&c.cohen, &c.fleiss, &c.alpha_nominal, &c.alpha_ordinal, &c.alpha_interval] {
        is_missing(figure, "chance alone");
    }
    let raw = c.raw.known().unwrap();
    assert!(raw.value > 0.999 && raw.low < 0.95, "{raw}");
}

/// No number of an analysis has an interval without width, whatever is judged.
#[test]
fn no_interval_is_without_width() {
    let tie = |_: usize, _: usize| Some(Verdict::Tie);
    let first = |_: usize, _: usize| Some(Verdict::preferred(0));
    let rated = |_: usize, _: usize| {
        Some(Verdict::Ratings { axes: BTreeMap::from([("x".to_owned(), vec![Some(3.0); 2])]) })
    };
    let approve = |_: usize, _: usize| Some(Verdict::Approval { good: true });
    let ranked = |_: usize, _: usize| Some(Verdict::Ranking { order: vec![vec![0], vec![1, 2]] });
    let of =
        |task, candidates| (0..25).map(|i| item(task, i, candidates, true)).collect::<Vec<_>>();
    let worlds = [1, 2, 3].into_iter().flat_map(|annotators| {
        [
            records(pairs(25, true), tie, annotators),
            records(pairs(25, true), first, annotators),
            records(pairs(1, true), first, annotators),
            records(pairs(1, true), tie, annotators),
            records(of(Task::Rating, 2), rated, annotators),
            records(of(Task::Rating, 1), approve, annotators),
            records(of(Task::Ranking, 3), ranked, annotators),
        ]
    });
    for mut world in worlds {
        world.judgements.iter_mut().for_each(|j| j.duration_ms = Some(2000));
        check(&world);
    }
}

/// One vote, or votes that are all alike, give the same whatever is drawn of them.
#[test]
fn a_rating_without_spread_has_no_interval() {
    for votes in [1, 3] {
        let items = vec![item(Task::Pairwise, 0, 2, true)];
        let a = check(&records(items, |_, _| Some(Verdict::Tie), votes));
        for row in &a.leaderboard.models {
            is_missing(&row.rating, "no interval");
        }
        assert!(a.leaderboard.notes.iter().any(|note| note.contains("no interval")));
    }
}

#[test]
fn partial_rankings_without_models() {
    let items = (0..6).map(|i| item(Task::Ranking, i, 4, false)).collect();
    let order =
        |i: usize, k: usize| vec![vec![(i + k) % 4], vec![(i + k + 1) % 4, (i + k + 2) % 4]];
    let a = check(&records(items, |i, k| Some(Verdict::Ranking { order: order(i, k) }), 3));
    assert_eq!(a.voting.per_item.items, 6);
    assert!(a.agreement.comparisons.judged_twice > 0);
    is_missing(&a.agreement.comparisons.cohen, "exactly two");
}

#[test]
fn rankings_that_contradict_each_other_are_a_tie() {
    let items = vec![item(Task::Ranking, 0, 2, true)];
    let verdict = |_, k: usize| Some(Verdict::Ranking { order: vec![vec![k], vec![1 - k]] });
    let a = check(&records(items, verdict, 2));
    assert_eq!((a.voting.per_item.items, a.voting.per_item.agree), (1, 1));
    let kemeny = a.voting.rules.iter().find(|r| r.rule == "kemeny").unwrap();
    assert_eq!(kemeny.winners, ["m0", "m1"]);
}

#[test]
fn ratings_alone_and_ratings_beside_choices() {
    let rate = |i: usize, k: usize| {
        let values = vec![Some((i % 5) as f64), (k > 0).then_some(2.0)];
        Verdict::Ratings { axes: BTreeMap::from([("helpful".to_owned(), values)]) }
    };
    let items: Vec<Item> = (0..20).map(|i| item(Task::Rating, i, 2, true)).collect();
    let a = check(&records(items.clone(), |i, k| Some(rate(i, k)), 3));
    let axis = &a.ratings.axes["helpful"];
    assert_eq!(axis.models.len(), 2);
    is_missing(&a.ratings.consistency, "No decisive vote");
    assert!(a.agreement.ratings["helpful"].alpha_interval.value().unwrap() > 0.9);
    // The same answers as pairs, where annotators choose what is rated higher but for items 0 and 1.
    let mut both = items;
    for i in 0..20 {
        let mut pair = item(Task::Pairwise, i, 2, true);
        pair.id = format!("pair {i}");
        both.push(pair);
    }
    let verdict = |i: usize, k: usize| {
        Some(match i.checked_sub(20) {
            None => rate(i, k),
            Some(i) if i < 2 => Verdict::preferred(0),
            Some(i) => Verdict::preferred(usize::from(i % 5 < 2)),
        })
    };
    let a = check(&records(both, verdict, 3));
    let e = a.ratings.consistency.known().unwrap();
    // Of 20 items 4 are rated 2 and 2; two of the other 16 were chosen against their ratings, by each of 3.
    assert_eq!((e.n, (e.value * 48.0).round() as usize, a.ratings.rated_equal), (48, 42, 12));
}

#[test]
fn steps_and_approvals_alone() {
    let solution = |i: usize| {
        let candidate =
            Candidate { steps: vec!["a".into(), "b".into(), "c".into()], ..Candidate::default() };
        let mut item =
            Item::new(Task::Steps, vec![Message::new(Role::User, "2 + 2")], vec![candidate]);
        item.id = format!("s{i}");
        item
    };
    let items: Vec<Item> = (0..8).map(solution).collect();
    let label = |i: usize, k: usize| Verdict::Steps {
        labels: vec![
            Some(1),
            Some(if i.is_multiple_of(2) { 0 } else { -1 }),
            (k == 0).then_some(-1),
        ],
    };
    let a = check(&records(items, |i, k| Some(label(i, k)), 2));
    assert_eq!((a.labels.solutions, a.labels.steps), (8, 40));
    assert_eq!(a.labels.good_steps.value(), Some(0.4));
    assert_eq!(a.agreement.steps.alpha_nominal.value(), Some(1.0));
    assert_eq!(a.agreement.steps.judged_twice, 16);
    let items = (0..8).map(|i| item(Task::Rating, i, 1, false)).collect();
    let a = check(&records(items, |i, k| Some(Verdict::Approval { good: (i + k) % 3 > 0 }), 2));
    assert!(a.labels.approved.known().is_some() && a.agreement.approvals.judged_twice == 8);
}

#[test]
fn strengths_revisions_and_misfits() {
    let strength = |i: usize, k: usize| Verdict::Preferred {
        candidate: i % 2,
        strength: Some(Strength { points: 1 + (i + k) as u8 % 3, scale: 3 }),
    };
    let mut records = records(pairs(12, true), |i, k| Some(strength(i, k)), 3);
    let alpha = check(&records).agreement.comparisons.alpha_strength;
    assert!(alpha.value().unwrap() > 0.3);
    let mut again = records.judgements[0].clone();
    again.revises = Some(again.id.clone());
    again.id = "revision".into();
    again.verdict = Verdict::Tie;
    records.judgements.push(again);
    let mut lost = records.judgements[1].clone();
    (lost.id, lost.item) = ("lost".into(), "nowhere".into());
    records.judgements.push(lost);
    let mut unfit = records.judgements[1].clone();
    (unfit.id, unfit.verdict) = ("unfit".into(), Verdict::Approval { good: true });
    records.judgements.push(unfit);
    let p = check(&records).progress;
    assert_eq!((p.revised, p.unknown_item, p.unfit, p.judgements), (1, 1, 1, 36));
    assert_eq!(p.notes.len(), 2);
}

#[test]
fn markup_of_answers_and_names_stays_text() {
    let mut items = pairs(12, true);
    for item in &mut items {
        item.candidates[0].text = "<script>alert(1)</script> <b>long</b> ".repeat(4);
        item.candidates[0].model = Some("<img src=x onerror=alert(1)>".into());
    }
    let mut records = records(items, |_, _| Some(Verdict::preferred(0)), 3);
    records.judgements.iter_mut().for_each(|j| j.annotator += "<svg onload=alert(1)>");
    let page = fragment(&check(&records));
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<svg onload"));
}

/// A reviewer decides against two of three: the results follow, and who agrees with whom stays as it was.
#[test]
fn a_final_verdict_changes_who_wins_and_not_who_agrees() {
    let item = |n: usize| {
        let candidates = vec![Candidate::text("a").by("x"), Candidate::text("b").by("y")];
        let mut item = Item::new(Task::Pairwise, vec![Message::new(Role::User, "?")], candidates);
        item.id = n.to_string();
        item
    };
    let mut records = JudgedItems { items: (0..30).map(item).collect(), ..JudgedItems::default() };
    for item in records.items.clone() {
        for (who, candidate) in [("ada", 0), ("bob", 0), ("eve", 1)] {
            let id = format!("{}-{who}", item.id);
            let judgement = Judgement::new(id, &item, who, Verdict::preferred(candidate));
            records.judgements.push(judgement);
        }
    }
    let before = check(&records);
    for item in records.items.clone() {
        let mut decided =
            Judgement::new(format!("f-{}", item.id), &item, "zoe", Verdict::preferred(1));
        decided.is_final = true;
        records.judgements.push(decided);
    }
    let after = check(&records);
    assert_eq!(after.agreement, before.agreement);
    assert_eq!((after.progress.annotators, after.progress.final_verdicts), (3, 30));
    let wins = |analysis: &Analysis| {
        let row = |row: &hearken_analysis::leaderboard::ModelRow| (row.model.clone(), row.wins);
        analysis.leaderboard.models.iter().map(row).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(wins(&before), BTreeMap::from([("x".into(), 60), ("y".into(), 30)]));
    assert_eq!(wins(&after), BTreeMap::from([("x".into(), 0), ("y".into(), 30)]));
    let decided: Vec<f64> =
        after.annotators.list.iter().map(|k| k.final_agreement.value().unwrap()).collect();
    assert_eq!(decided, [0.0, 0.0, 1.0]);
}

/// Those who see a suggestion follow it more often than those who do not: the difference is told, with its interval.
#[test]
fn how_much_suggestions_sway_is_the_difference_between_those_who_see_them_and_those_who_do_not() {
    use hearken_data::feedback::Suggested;
    let mut records = JudgedItems::default();
    for n in 0..200_usize {
        let candidates = vec![Candidate::text("a"), Candidate::text("b")];
        let mut item = Item::new(Task::Pairwise, vec![Message::new(Role::User, "?")], candidates);
        item.id = n.to_string();
        let suggested =
            serde_json::json!([{"by": "m", "verdict": {"kind": "soft", "probability": 0.9}}]);
        item.meta.insert("suggestions".into(), suggested);
        let is_shown = n % 2 == 0;
        let follows = if is_shown { n % 10 != 0 } else { n % 4 == 1 };
        let verdict = Verdict::preferred(usize::from(!follows));
        let mut judgement = Judgement::new(format!("j{n}"), &item, "ada", verdict);
        judgement.suggestion = Some(if is_shown { Suggested::Shown } else { Suggested::Hidden });
        records.judgements.push(judgement);
        records.items.push(item);
    }
    let found = check(&records).suggestions;
    assert_eq!(found.judgements, 200);
    assert_eq!(found.agreement_shown.value(), Some(0.8));
    assert_eq!(found.agreement_hidden.value(), Some(0.5));
    let sway = found.sway.known().unwrap();
    assert!((sway.value - 0.3).abs() < 1e-9 && 0.15 < sway.low && sway.high < 0.45, "{sway:?}");
    assert!(found.sway_test.unwrap().p < 0.001);
    assert_eq!(check(&JudgedItems::default()).suggestions.judgements, 0);
}
