//! Who wins and how far people agree: the same from verdicts counted item by item as from a whole analysis.
#![allow(clippy::unwrap_used, reason = "test code")]

use hearken_analysis::simulate::{Habits, World, simulate};
use hearken_analysis::standing::{Counted, ItemCounts, Standing, StandingVote};
use hearken_analysis::{JudgedItems, Options, analyze, fragment};
use hearken_data::feedback::{Candidate, Item, Judgement, Origin, Task, Verdict, in_force};
use hearken_data::{Message, Role};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The number of a name.
fn number<'a>(of: &'a str, all: &mut Vec<&'a str>) -> u32 {
    let place = all.iter().position(|known| *known == of);
    let place = place.unwrap_or_else(|| {
        all.push(of);
        all.len() - 1
    });
    u32::try_from(place).unwrap()
}

/// As a service does it that has the judgements of each item at hand.
fn standing(records: &JudgedItems, options: &Options) -> Standing {
    let mut names: Vec<&str> = Vec::new();
    let mut people: Vec<&str> = Vec::new();
    let mut counted = Counted::default();
    let held = in_force(&records.judgements);
    for item in &records.items {
        let models: Vec<Option<u32>> = item
            .candidates
            .iter()
            .map(|candidate| Some(number(candidate.model.as_deref()?, &mut names)))
            .collect();
        let of_item = || held.iter().filter(|judgement| judgement.item == item.id);
        let said: Vec<StandingVote<'_>> = of_item()
            .filter(|judgement| !judgement.is_final)
            .map(|judgement| StandingVote {
                annotator: number(&judgement.annotator, &mut people),
                is_ai: judgement.origin == Origin::Ai,
                verdict: &judgement.verdict,
            })
            .collect();
        let decided = of_item().find(|judgement| judgement.is_final);
        let decided = decided.map(|judgement| &judgement.verdict);
        // Label after label: what was counted before is taken out again.
        let mut before = ItemCounts::default();
        for labels in 0..=said.len() {
            let is_last = labels == said.len();
            let now = ItemCounts::new(&models, &said[..labels], decided.filter(|_| is_last));
            counted.take_out(&std::mem::replace(&mut before, now.clone()));
            counted.add(&now);
        }
    }
    counted.standing(&names, options)
}

fn check(records: &JudgedItems) -> Standing {
    let options = Options { bootstrap_rounds: 200, ..Options::default() };
    let found = standing(records, &options);
    let analysis = analyze(records, &options);
    let board = &analysis.leaderboard;
    assert_eq!(found.votes, board.votes);
    assert_eq!(found.agreement, analysis.agreement.comparisons.raw);
    assert_eq!(found.alpha, analysis.agreement.comparisons.alpha_nominal);
    assert_eq!(found.contenders.len(), board.models.len());
    for (one, row) in found.contenders.iter().zip(&board.models) {
        assert_eq!((&one.model, one.rank, one.votes), (&row.model, row.rank, row.votes));
        assert_eq!((&one.win_rate, one.rank_bounds), (&row.win_rate, row.rank_bounds));
    }
    let lead = |html: &str| html.split("Who is conspicuous").next().unwrap().to_owned();
    let told = hearken_analysis::Report::new(&analysis).html(Some(&found));
    assert_eq!(lead(&told), lead(&fragment(&analysis)));
    found
}

fn simulated() -> JudgedItems {
    let world = World { items: 300, overlap: 3, ..World::default() };
    simulate(&world, &[Habits::HONEST; 12], &mut ChaCha8Rng::seed_from_u64(5))
}

#[test]
fn as_in_a_whole_analysis() {
    let found = check(&simulated());
    assert!(found.agreement.known().is_some() && 2 < found.contenders.len());
}

#[test]
fn what_is_final_revised_repeated_or_said_by_models_counts_as_there() {
    let mut records = simulated();
    let first = records.judgements[0].clone();
    let mut add = |change: &dyn Fn(&mut Judgement)| {
        let mut judgement = first.clone();
        judgement.id = format!("further-{}", records.judgements.len());
        change(&mut judgement);
        records.judgements.push(judgement);
    };
    add(&|it| (it.is_final, it.verdict) = (true, Verdict::Tie));
    add(&|it| it.verdict = Verdict::preferred(1));
    add(&|it| (it.origin, it.annotator) = (Origin::Ai, "a model".into()));
    add(&|it| (it.revises, it.verdict) = (Some(first.id.clone()), Verdict::BothBad));
    check(&records);
    records.judgements.iter_mut().for_each(|judgement| judgement.origin = Origin::Ai);
    check(&records);
}

#[test]
fn rankings_are_all_their_pairs_and_answers_of_nobody_win_nothing() {
    let prompt = vec![Message::new(Role::User, "Which?")];
    let answer = |at: usize| match at {
        3 => Candidate::text("of nobody"),
        _ => Candidate::text(format!("answer {at}")).by(format!("m{at}")),
    };
    let mut item = Item::new(Task::Ranking, prompt, (0..4).map(answer).collect());
    item.id = "r".into();
    let orders = [vec![vec![2], vec![0, 3], vec![1]], vec![vec![1], vec![2], vec![0], vec![3]]];
    let judgement = |(at, order): (usize, Vec<Vec<usize>>)| {
        Judgement::new(format!("j{at}"), &item, format!("a{at}"), Verdict::Ranking { order })
    };
    let judgements = orders.into_iter().enumerate().map(judgement).collect();
    let found = check(&JudgedItems { items: vec![item.clone()], judgements });
    assert_eq!(found.votes, 6);
    check(&JudgedItems { items: vec![item], judgements: Vec::new() });
}
