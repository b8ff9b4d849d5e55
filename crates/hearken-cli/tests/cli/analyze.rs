//! `hearken analyze` and `hearken reward --features`.
#![allow(clippy::format_push_string, reason = "tests say what they skip")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::tempdir;

use crate::support::{run, write};

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// LLMFAO, if it is there.
fn llmfao() -> Option<PathBuf> {
    hearken_testing::data("llmfao")
}

/// 30 prompts, of two answers the longer one preferred by both of two annotators but in every fifth.
fn votes() -> String {
    let mut lines = String::new();
    for i in 0..30 {
        let (long, short) = ("word ".repeat(10 + i), "word ".repeat(2 + i % 3));
        lines += &format!(
            "{{\"id\": \"i{i}\", \"prompt\": \"Question {i}?\", \"candidates\": [\"{long}\", \"{short}\"]}}\n"
        );
        for who in ["ada", "bob"] {
            let candidate = usize::from(i % 5 == 0);
            lines += &format!(
                "{{\"id\": \"{who}{i}\", \"item\": \"i{i}\", \"annotator\": \"{who}\", \"verdict\": \
                 {{\"kind\": \"preferred\", \"candidate\": {candidate}}}}}\n"
            );
        }
    }
    lines
}

#[test]
fn a_file_is_analyzed_and_its_report_written() {
    let folder = tempdir().unwrap();
    let file = text(&write(folder.path(), "votes.jsonl", &votes()));
    let (numbers, page) = (folder.path().join("numbers.json"), folder.path().join("page.html"));
    let arguments =
        ["analyze", &file, "--json", &text(&numbers), "--html", &text(&page), "--bootstrap", "50"];
    let ran = run(arguments).ok();
    assert!(
        ran.stdout.contains("60 judgements by 2 annotators on 30 of 30 items"),
        "{}",
        ran.stdout
    );
    let numbers = json(&numbers);
    assert_eq!(numbers["agreement"]["comparisons"]["cohen"]["value"], 1.0);
    assert_eq!(numbers["patterns"]["features"][0]["wins"], 48);
    assert_eq!(numbers["options"]["bootstrap_rounds"], 50);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("Krippendorff"));
    // The same file twice adds nothing.
    assert_eq!(run(["analyze", &file, &file, "--bootstrap", "50"]).ok().stdout, ran.stdout);
}

#[test]
fn features_are_trained_on_and_length_is_warned_of() {
    let folder = tempdir().unwrap();
    let file = text(&write(folder.path(), "votes.jsonl", &votes()));
    let output = folder.path().join("network");
    let numbers = folder.path().join("numbers.json");
    let arguments =
        ["reward", "--features", &file, "--output", &text(&output), "--json", &text(&numbers)];
    let ran = run(arguments).ok();
    assert!(ran.stdout.contains("warning: Length alone explains it"), "{}", ran.stdout);
    let numbers = json(&numbers);
    assert_eq!((&numbers["pairs"], &numbers["groups"]), (&30.into(), &30.into()));
    assert_eq!(numbers["longer_wins"]["value"], 0.8);
    let network = json(&output.join("feature_reward.json"));
    assert_eq!(network["features"].as_array().unwrap().len(), 17);
    let few = text(&write(
        folder.path(),
        "few.jsonl",
        &votes().lines().take(9).collect::<Vec<_>>().join("\n"),
    ));
    let error = run(["reward", "--features", &few]).error();
    assert!(error.starts_with("3 pairs with a preference on 3 prompts"), "{error}");
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = tempdir().unwrap();
    let nowhere = text(&folder.path().join("nowhere.db"));
    assert!(run(["analyze", &nowhere]).error().contains("nowhere.db"));
    let error = run(["analyze", &text(folder.path())]).error();
    assert!(error.contains("found a folder without files"), "{error}");
    let prompts = text(&write(folder.path(), "prompts.jsonl", "{\"prompt\": \"Why?\"}\n"));
    let error = run(["analyze", &prompts]).error();
    assert!(error.contains("prompts.jsonl: found 0 items and no judgement; expected"), "{error}");
    assert_eq!(run(["analyze"]).code, Some(2));
    assert_eq!(run(["reward"]).code, Some(2));
    assert_eq!(run(["reward", "config.toml", "--features", &nowhere]).code, Some(2));
}

#[test]
fn a_folder_of_llmfao_gives_its_facts() {
    let Some(llmfao) = llmfao() else { return };
    let folder = tempdir().unwrap();
    let numbers = folder.path().join("numbers.json");
    run(["analyze", &text(&llmfao), "--json", &text(&numbers), "--bootstrap", "20"]).ok();
    let numbers = json(&numbers);
    let alpha = numbers["agreement"]["comparisons"]["alpha_nominal"]["value"].as_f64().unwrap();
    assert!((alpha - 0.2906).abs() < 6e-5);
    assert_eq!(numbers["leaderboard"]["triads"]["cyclic"], 510);
    assert_eq!(numbers["leaderboard"]["models"][0]["model"], "GPT 4");
    let judges = &numbers["judges"]["list"];
    assert_eq!((&judges[0]["name"], &judges[1]["name"]), (&"gpt3".into(), &"gpt4".into()));
    assert_eq!(judges[1]["agreement"]["n"], 1043);
}

const TENNESSEE: &str = "\
# The capital of Tennessee
42: Memphis > Nashville > Chattanooga > Knoxville
26: Nashville > Chattanooga > Knoxville > Memphis   # the west of the middle
15: Chattanooga > Knoxville > Nashville > Memphis

17: Knoxville > Chattanooga > Nashville > Memphis
";

/// The 45 voters of Schulze's paper.
const SCHULZE: &str = "\
5: A > C > B > E > D
5: A > D > E > C > B
8: B > E > D > A > C
3: C > A > B > E > D
7: C > A > E > B > D
2: C > B > A > D > E
7: D > C > E > B > A
8: E > B > A > D > C
";

/// Who wins the election in a text, by rule; the terminal's text and the numbers.
fn elected(name: &str, votes: &str) -> (String, Value) {
    let folder = tempdir().unwrap();
    let file = text(&write(folder.path(), name, votes));
    let (numbers, page) = (folder.path().join("numbers.json"), folder.path().join("page.html"));
    let ran = run(["analyze", &file, "--json", &text(&numbers), "--html", &text(&page)]).ok();
    let page = fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("ranked pairs"), "{page}");
    (ran.stdout, json(&numbers)["voting"].take())
}

fn winners(voting: &Value) -> Vec<(String, String)> {
    let rules = voting["rules"].as_array().unwrap().iter();
    let names = |rule: &Value| {
        let names = rule["winners"].as_array().unwrap().iter();
        names.map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    rules.map(|rule| (rule["rule"].as_str().unwrap().to_owned(), names(rule))).collect()
}

fn check_winners(voting: &Value, expected: &[(&str, &str)]) {
    let expected: Vec<(String, String)> =
        expected.iter().map(|(rule, names)| ((*rule).to_owned(), (*names).to_owned())).collect();
    assert_eq!(winners(voting), expected);
}

const SCHULZE_WINNERS: [(&str, &str); 9] = [
    ("plurality", "C"),
    ("instant_runoff", "C"),
    ("borda", "E"),
    ("copeland", "E"),
    ("maximin", "E"),
    ("schulze", "E"),
    ("ranked_pairs", "A"),
    ("kemeny", "E"),
    ("maximal_lottery", "A C E"),
];

#[test]
fn ballots_elect_whom_each_rule_names() {
    let (stdout, voting) = elected("cities.txt", TENNESSEE);
    check_winners(
        &voting,
        &[
            ("plurality", "Memphis"),
            ("instant_runoff", "Knoxville"),
            ("borda", "Nashville"),
            ("copeland", "Nashville"),
            ("maximin", "Nashville"),
            ("schulze", "Nashville"),
            ("ranked_pairs", "Nashville"),
            ("kemeny", "Nashville"),
            ("maximal_lottery", "Nashville"),
        ],
    );
    assert_eq!((&voting["ballots"], &voting["votes"]), (&100.into(), &600.into()));
    assert_eq!(voting["condorcet_winner"], "Nashville");
    assert_eq!(voting["rules"][2]["scores"], serde_json::json!([126.0, 194.0, 173.0, 107.0]));
    assert!(stdout.starts_with("4 alternatives, 100 ballots, 600 votes on pairs\n"), "{stdout}");
    assert!(
        stdout.contains("Rules disagree: some rule would choose Knoxville, Memphis, Nashville.")
    );

    let (_, voting) = elected("schulze.toc", SCHULZE);
    check_winners(&voting, &SCHULZE_WINNERS);
}

/// The matrix of the same voters, as it is published.
#[test]
fn a_matrix_of_pairs_elects_as_its_ballots_do() {
    let matrix = "\
,A,B,C,D,E
A,,20,26,30,22
B,25,,16,33,18
C,19,29,,17,24
D,15,12,28,,14
E,23,27,21,31,
";
    let (stdout, voting) = elected("matrix.csv", matrix);
    check_winners(&voting, &SCHULZE_WINNERS[2..]);
    assert_eq!((&voting["ballots"], &voting["votes"]), (&0.into(), &450.into()));
    assert!(stdout.contains("Plurality and instant run-off need rankings"), "{stdout}");
    let shuffled = "\"\",\"B, or not\",A\nA,3,0\n\"B, or not\",,1\n";
    let (_, voting) = elected("two.csv", shuffled);
    assert!(winners(&voting).iter().all(|(_, name)| name == "A"), "{voting}");
}

#[test]
fn ballots_may_be_partial_and_have_equals() {
    let (_, voting) = elected("partial.txt", "2: A > B = C\n1: C\n3: B > A\n");
    assert_eq!((&voting["ballots"], &voting["pairs_compared"]), (&6.into(), &3.into()));
    // A over C and B over C: nobody says more; half a vote of each tie.
    assert_eq!(voting["votes"], 2 * 3 + 3);
    assert_eq!(voting["rules"][0]["scores"], serde_json::json!([2.0, 3.0, 1.0]));
}

/// Nobody beats anybody: every lottery is optimal, and that is said.
#[test]
fn several_optimal_lotteries_are_not_one() {
    let (stdout, voting) = elected("equal.txt", "1: A > B\n1: B > A\n");
    let lottery = voting["rules"].as_array().unwrap().last().unwrap();
    assert_eq!(lottery["winners"], serde_json::json!(["A", "B"]));
    assert!(stdout.contains("Several lotteries are optimal"), "{stdout}");
}

#[test]
fn a_bad_election_is_refused_with_its_line() {
    let folder = tempdir().unwrap();
    let check = |votes: &str, expected: &str| {
        let file = text(&write(folder.path(), "votes", votes));
        let error = run(["analyze", &file]).error();
        assert!(error.contains(&format!("{file}:{expected}")), "{error}");
    };
    check("3: A > B\nB > A\n", "2: found \"B > A\"; expected a count, a colon and names");
    check("# none\n0: A > B\n", "2: found \"0\" before the colon; expected a number of voters");
    check("2.5: A > B\n", "1: found \"2.5\" before the colon; expected a number of voters");
    check("3: A > B > A\n", "1: found \"A\" twice; expected each alternative at most once");
    check("3: A > > B\n", "1: found no name beside a colon, > or =");
    check("3: 1,2,3\n", "1: found \"1,2,3\"; expected names without");
    check("3: A\n", "1: found one alternative, \"A\"; expected two or more");
    check(",A,B\nA,,3\n", "2: found no row for \"B\"; expected one row per alternative");
    check(",A,B\nA,,3\nC,1,\n", "3: found a row named \"C\"; expected an alternative of the first");
    check(",A,B\nA,,3\nB,-1,\n", "3: found \"-1\" in column 2; expected a number of votes");
    check(",A,B\nA,,many\nB,1,\n", "2: found \"many\" in column 3; expected a number of votes");
    check(",A,B\nA,4,3\nB,1,\n", "2: found \"4\" in column 2; expected 0 or nothing");
    check(",A,B\nA,,3\nB,1\n", "3: found 1 cells after the name; expected one per alternative");
    check(",A,A\n", "1: found \"A\" twice; expected each alternative once");
    let both = text(&write(folder.path(), "both", TENNESSEE));
    let error = run(["analyze", &both, &both]).error();
    assert!(error.contains("expected it to be the only one"), "{error}");
}
