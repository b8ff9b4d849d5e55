//! What exports keep, drop and lose, and that trainers read them.

use hearken_data::feedback::formats::{
    ExportOptions, Format, FormatError, NeutralSteps, TextForm, Ties, export,
};
use hearken_data::feedback::{Candidate, Item, Judgement, Strength, Task, Verdict};
use hearken_data::{
    Content, Demonstration, DemonstrationContent, Message, Preference, ReadOptions, Role,
    UnpairedPreference, read,
};

use crate::support::{File, counts, write};

fn pair(prompt: &str) -> Item {
    let candidates = vec![Candidate::text("good").by("m"), Candidate::text("bad").by("n")];
    Item::new(Task::Pairwise, vec![Message::new(Role::User, prompt)], candidates)
}

/// One judgement of each kind on its own item.
fn every_verdict() -> (Vec<Item>, Vec<Judgement>) {
    let strength = Some(Strength { points: 2, scale: 4 });
    let on_pairs = [
        Verdict::Preferred { candidate: 0, strength },
        Verdict::preferred(1),
        Verdict::Tie,
        Verdict::BothBad,
        Verdict::CantTell { reason: "dull".into() },
        Verdict::Soft { probability: 0.25 },
    ];
    let (mut items, mut judgements) = (Vec::new(), Vec::new());
    let mut add = |item: Item, verdict| {
        let mut judgement = Judgement::new(format!("j{}", items.len()), &item, "ada", verdict);
        judgement.rationale = Some("why".into());
        assert_eq!(judgement.check(&item), Ok(()));
        items.push(item);
        judgements.push(judgement);
    };
    for (index, verdict) in on_pairs.into_iter().enumerate() {
        add(pair(&format!("pair {index}")), verdict);
    }
    let prompt = || vec![Message::new(Role::User, "several")];
    let three = ["a", "b", "c"].map(Candidate::text).to_vec();
    let order = vec![vec![2], vec![0, 1]];
    add(Item::new(Task::Ranking, prompt(), three.clone()), Verdict::Ranking { order });
    let axes = [("overall".to_owned(), vec![Some(1.0), Some(3.0), None])].into();
    add(Item::new(Task::Rating, prompt(), three), Verdict::Ratings { axes });
    let steps = ["one", "two", "three"].map(str::to_owned).to_vec();
    let steps = Candidate { steps, ..Candidate::default() };
    let labels = vec![Some(1), Some(0), None];
    add(Item::new(Task::Steps, prompt(), vec![steps]), Verdict::Steps { labels });
    let one = vec![Candidate::text("x")];
    add(Item::new(Task::Rating, prompt(), one), Verdict::Approval { good: false });
    (items, judgements)
}

fn read_back<T: hearken_data::Record>(bytes: &[u8]) -> Vec<T> {
    let file = File::new("out.jsonl", bytes);
    read::<T>(&file.path, &ReadOptions::default()).unwrap().0
}

#[test]
fn trl_preferences_say_what_they_drop_and_are_read_by_trainers() {
    let (items, judgements) = every_verdict();
    let options = ExportOptions::default();
    let (bytes, report) = write(&items, &judgements, Format::TrlPreference, options);
    // Two preferences, one soft one, two pairs of the ranking, one of the ratings.
    assert_eq!((report.judgements, report.written), (10, 6));
    assert_eq!(
        counts(&report.dropped),
        [
            ("approval of a single candidate", 1),
            ("both bad", 1),
            ("can't tell", 1),
            ("step labels", 1),
            // One of them is the equal rank of two answers.
            ("tie", 2),
        ]
    );
    assert_eq!(counts(&report.lost), [("rationale", 5), ("strength", 1), ("who judged", 5)]);
    let preferences = read_back::<Preference>(&bytes);
    let assistant = |text: &str| Content::Messages(vec![Message::new(Role::Assistant, text)]);
    assert_eq!(preferences[0].chosen, assistant("good"));
    assert_eq!(preferences[1].chosen, assistant("bad"));
    assert_eq!(
        (&preferences[2].chosen, preferences[2].probability),
        (&assistant("bad"), Some(0.75))
    );
    assert_eq!(preferences[3].chosen, assistant("c"));
    assert_eq!(preferences[5].chosen, assistant("b"));
}

#[test]
fn ties_may_be_half_and_text_may_be_wished() {
    let (items, judgements) = every_verdict();
    let options =
        ExportOptions { ties: Ties::Half, form: TextForm::Text, ..ExportOptions::default() };
    let (bytes, report) = write(&items, &judgements, Format::TrlPreference, options);
    assert_eq!(report.written, 8);
    let preferences = read_back::<Preference>(&bytes);
    let halves = preferences.iter().filter(|one| one.probability == Some(0.5)).count();
    assert_eq!(halves, 2);
    assert_eq!(preferences[0].prompt, Some(Content::Text("pair 0".into())));
    assert_eq!(preferences[0].chosen, Content::Text("good".into()));
}

#[test]
fn single_completions_count_two_bad_ones_as_two() {
    let (items, judgements) = every_verdict();
    let options = ExportOptions::default();
    let (bytes, report) = write(&items[..6], &judgements[..6], Format::TrlUnpaired, options);
    assert_eq!(report.written, 6);
    assert_eq!(counts(&report.dropped), [("a probability", 1), ("can't tell", 1), ("tie", 1)]);
    let records = read_back::<UnpairedPreference>(&bytes);
    let labels: Vec<bool> = records.iter().map(|one| one.label).collect();
    assert_eq!(labels, [true, false, true, false, false, false]);
}

#[test]
fn a_neutral_step_is_dropped_or_counts_as_told() {
    let (items, judgements) = every_verdict();
    let write = |neutral_steps| {
        let options = ExportOptions { neutral_steps, ..ExportOptions::default() };
        write(&items, &judgements, Format::TrlStepwise, options)
    };
    let (_, report) = write(NeutralSteps::Drop);
    assert_eq!(counts(&report.dropped), [("a neutral step", 1), ("no step labels", 9)]);
    let (bytes, report) = write(NeutralSteps::Bad);
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains(r#""completions":["one","two"],"labels":[true,false]"#), "{text}");
    assert!(counts(&report.lost).contains(&("steps after the last label", 1)));
}

#[test]
fn every_format_accounts_for_every_judgement() {
    let (items, judgements) = every_verdict();
    for format in Format::all().filter(|format| format.is_written()) {
        let mut bytes = Vec::new();
        let report = export(&items, &judgements, format, &ExportOptions::default(), &mut bytes);
        let report = report.unwrap_or_else(|error| panic!("{format}: {error}"));
        let dropped: usize = report.dropped.iter().map(|(_, count)| count).sum();
        // A record for each judgement at least, written or dropped; formats of items or prompts
        // write fewer rows than they have judgements.
        let is_of_items = matches!(format, Format::LabelStudio | Format::Argilla);
        assert!(is_of_items || 10 <= report.written + dropped, "{format}: {report:?}");
        assert!(std::str::from_utf8(&bytes).is_ok());
    }
}

#[test]
fn formats_that_are_only_read_say_so() {
    let error = export(&[], &[], Format::ArenaLog, &ExportOptions::default(), &mut Vec::new());
    let Err(error @ FormatError::NotWritten { .. }) = error else { panic!("it is not written") };
    assert!(error.to_string().contains("lmarena-log"));
}

#[test]
fn revised_judgements_and_those_without_an_item_are_counted() {
    let item = pair("p");
    let first = Judgement::new("j1", &item, "ada", Verdict::preferred(0));
    let mut second = Judgement::new("j2", &item, "ada", Verdict::preferred(1));
    second.revises = Some("j1".into());
    let lost = Judgement::new("j3", &pair("other"), "ada", Verdict::Tie);
    let judgements = [first, second, lost];
    let options = ExportOptions::default();
    let (bytes, report) = write(&[item], &judgements, Format::TrlPreference, options);
    assert_eq!(
        counts(&report.dropped),
        [("judgement without its item", 1), ("revised by a later judgement", 1)]
    );
    assert_eq!(read_back::<Preference>(&bytes).len(), 1);
}

/// A page that showed candidate 1 on the left: the battle has it as A.
#[test]
fn battles_are_written_in_the_order_shown() {
    let item = pair("p");
    let mut judgement = Judgement::new("j1", &item, "ada", Verdict::preferred(0));
    judgement.presented = vec![1, 0];
    let options = ExportOptions::default();
    let (bytes, report) = write(&[item], &[judgement], Format::ArenaBattle, options);
    let row: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((&row["model_a"], &row["winner"]), (&"n".into(), &"model_b".into()));
    assert!(report.lost.is_empty(), "{:?}", report.lost);
}

#[test]
fn chosen_answers_become_demonstrations() {
    let (items, judgements) = every_verdict();
    let options = ExportOptions::default();
    let (bytes, _) = write(&items[..2], &judgements[..2], Format::TrlDemonstrations, options);
    let demonstrations = read_back::<Demonstration>(&bytes);
    assert_eq!(demonstrations.len(), 2);
    let DemonstrationContent::Completion { completion, .. } = &demonstrations[1].content else {
        panic!("a prompt and a completion");
    };
    assert_eq!(*completion, Content::Messages(vec![Message::new(Role::Assistant, "bad")]));
}
