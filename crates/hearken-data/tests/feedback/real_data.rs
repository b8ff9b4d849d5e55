//! Facts about real datasets, where they are present: in `$HEARKEN_DATA`, else beside the workspace.

use hearken_testing::data;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::path::PathBuf;

use hearken_data::feedback::formats::{ExportOptions, Format, Import, ImportOptions, import};
use hearken_data::feedback::{Item, Origin, Verdict};

use crate::support::{File, counts, write};

fn load(relative: &str) -> Option<Import> {
    let path = data(relative)?;
    Some(import(&[path], None, &ImportOptions::default()).unwrap())
}

/// 8,931 votes by 124 workers on 2,139 pairs of answers by 59 models to 13 prompts; of 5,460
/// decisive ones 2,911 are left; the longer answer wins 41.0 %.
#[test]
fn votes_of_llmfao() {
    let Some(import) = load("llmfao/crowd-comparisons.csv") else { return };
    assert_eq!(import.report.formats, [Format::Llmfao]);
    assert_eq!((import.items.len(), import.judgements.len()), (2139, 8931));
    let workers: BTreeSet<&str> = import.judgements.iter().map(|j| j.annotator.as_str()).collect();
    let candidates = || import.items.iter().flat_map(|item| &item.candidates);
    let models: BTreeSet<&str> = candidates().filter_map(|one| one.model.as_deref()).collect();
    let prompts: BTreeSet<&str> =
        import.items.iter().map(|item| item.prompt[0].content.as_str()).collect();
    assert_eq!((workers.len(), models.len(), prompts.len()), (124, 59, 13));
    assert!(models.contains("Airoboros L2 70B"));
    let votes =
        |verdict: &Verdict| import.judgements.iter().filter(|j| j.verdict == *verdict).count();
    assert_eq!(
        (votes(&Verdict::preferred(0)), votes(&Verdict::preferred(1)), votes(&Verdict::Tie)),
        (2911, 2549, 3471)
    );
    assert!(import.judgements.iter().all(|one| one.presented == [0, 1]));
    let places: std::collections::HashMap<&str, usize> =
        import.items.iter().enumerate().map(|(place, item)| (item.id.as_str(), place)).collect();
    let (mut longer, mut shorter) = (0, 0);
    for judgement in &import.judgements {
        let Verdict::Preferred { candidate, .. } = judgement.verdict else { continue };
        let item = &import.items[places[judgement.item.as_str()]];
        let length = |index: usize| item.candidates[index].text.chars().count();
        match length(candidate).cmp(&length(1 - candidate)) {
            Ordering::Greater => longer += 1,
            Ordering::Less => shorter += 1,
            Ordering::Equal => {}
        }
    }
    let share = f64::from(longer) / f64::from(longer + shorter);
    assert!((share - 0.410).abs() < 0.0005, "{share}");
}

/// Two judges' files in one import are about the same items.
#[test]
fn models_judge_the_same_pairs_as_people() {
    let names = ["gpt4-crowd-comparisons.csv", "gpt3-crowd-comparisons.csv"];
    let paths: Option<Vec<PathBuf>> =
        names.iter().map(|name| data(&format!("llmfao/{name}"))).collect();
    let Some(paths) = paths else { return };
    let import = import(&paths, None, &ImportOptions::default()).unwrap();
    assert_eq!((import.items.len(), import.judgements.len()), (2139, 2 * 2139));
    assert!(import.judgements.iter().all(|one| one.origin == Origin::Ai));
    let people = load("llmfao/crowd-comparisons.csv").unwrap();
    assert_eq!(people.items, import.items);
    let by = |name: &str| import.judgements.iter().filter(|one| one.annotator == name).count();
    assert_eq!((by("gpt4"), by("gpt3")), (2139, 2139));
}

#[test]
fn gold_items_of_llmfao() {
    let Some(import) = load("llmfao/pairs-crowd-training.jsonl") else { return };
    assert_eq!(import.items.len(), 7);
    let gold: Vec<_> = import.items.iter().filter_map(|item| item.gold.as_ref()).collect();
    assert!(gold.iter().all(|gold| gold.screening && gold.reason.is_some()));
    assert_eq!((gold.len(), &gold[0].verdict), (7, &Verdict::preferred(0)));
}

#[test]
fn llmfao_is_written_as_it_was_read() {
    let Some(import) = load("llmfao/crowd-comparisons.csv") else { return };
    let options = ExportOptions::default();
    let (votes, report) = write(&import.items, &import.judgements, Format::Llmfao, options);
    assert_eq!((report.written, report.dropped.len(), report.lost.len()), (8931, 0, 0));
    let (pairs, _) = write(&import.items, &import.judgements, Format::LlmfaoPairs, options);
    let file = File::new("votes.csv", votes);
    let pairs = file.beside("pairs.jsonl", pairs);
    let again = hearken_data::feedback::formats::import(
        &[&file.path, &pairs],
        None,
        &ImportOptions::default(),
    )
    .unwrap();
    let hashes = |import: &Import| -> Vec<String> { import.items.iter().map(Item::hash).collect() };
    assert_eq!(hashes(&again), hashes(&import));
    let said = |import: &Import| -> Vec<(String, String, Verdict)> {
        let said = import.judgements.iter();
        said.map(|j| (j.item.clone(), j.annotator.clone(), j.verdict.clone())).collect()
    };
    assert_eq!(said(&again), said(&import));
}

/// Of 2,312 pairs 5 have different prompts and 4 an empty completion; of the 2,307 with equal
/// prompts, chosen is longer in 1,021 and shorter in 1,275.
#[test]
fn pairs_of_hh_rlhf() {
    let Some(import) = load("hh-rlhf/harmless-base-test.jsonl.gz") else { return };
    assert_eq!(import.report.formats, [Format::HhRlhf]);
    assert_eq!(import.report.rows, 2312);
    assert_eq!(import.judgements.len() + import.report.repeated_judgements, 2312);
    assert_eq!(
        counts(&import.report.left_out),
        [("different prompts: the pair keeps them, as answers of several messages", 5)]
    );
    let options = ExportOptions::default();
    let (_, report) = write(&import.items, &import.judgements, Format::TrlPreference, options);
    assert_eq!(counts(&report.dropped), [("an empty answer", 4), ("different prompts", 5)]);
    assert_eq!(report.written + 9, import.judgements.len());
    let (bytes, report) = write(&import.items, &import.judgements, Format::HhRlhf, options);
    assert_eq!((report.written, report.dropped.len()), (import.judgements.len(), 0));
    let again = File::new("hh.jsonl", bytes).import().unwrap();
    assert_eq!(again.items, import.items);
}

/// Where the prompts are equal, chosen is longer in 1,021 pairs and shorter in 1,275.
#[test]
fn lengths_of_hh_rlhf() {
    let Some(import) = load("hh-rlhf/harmless-base-test.jsonl.gz") else { return };
    let (mut longer, mut shorter) = (0, 0);
    let places: std::collections::HashMap<&str, usize> =
        import.items.iter().enumerate().map(|(place, item)| (item.id.as_str(), place)).collect();
    for judgement in &import.judgements {
        let item = &import.items[places[judgement.item.as_str()]];
        let Verdict::Preferred { candidate, .. } = judgement.verdict else { panic!("a pair") };
        if item.candidates.iter().any(|one| one.meta.contains_key("messages")) {
            continue;
        }
        let length = |index: usize| item.candidates[index].text.chars().count();
        match length(candidate).cmp(&length(1 - candidate)) {
            Ordering::Greater => longer += 1,
            Ordering::Less => shorter += 1,
            Ordering::Equal => {}
        }
    }
    assert_eq!((longer, shorter), (1021, 1275));
}
