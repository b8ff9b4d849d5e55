//! `hearken scaling`: what it says of machines that are not here.

use std::fs;

use hearken_testing::number;
use serde_json::Value;

use crate::support::{run, workspace};

fn rows(words: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("scaling.json");
    let mut all = vec!["scaling", "--json", json.to_str().unwrap()];
    all.extend(words);
    run(all).ok();
    serde_json::from_slice(&fs::read(json).unwrap()).unwrap()
}

/// Records of one length, and nothing between ranks that takes time.
const IDEAL: [&str; 8] = ["--spread", "0", "--link", "1e9", "--network", "1e9", "--latency", "0"];

#[test]
fn without_bounds_ranks_scale_and_with_a_narrow_network_they_do_not() {
    let ideal = [&IDEAL[..], &["--memory", "1e9", "--ranks", "1,4,64"]].concat();
    for row in rows(&ideal)["sft"].as_array().unwrap() {
        assert!((number(row, "efficiency") - 1.0).abs() < 1e-6, "{row}");
        assert_eq!(row["bound"], "computing");
    }
    // A rank of its own machine each: half of the gradients and half of the weights go over a gigabyte a second.
    let narrow = ["--ranks", "2", "--ranks-per-node", "1", "--network", "1", "--parameters", "1e9"];
    let found = rows(&[&IDEAL[..2], &narrow].concat());
    let row = &found["sft"][0];
    assert!((number(row, "bytes_s") - 4.0).abs() < 1e-9, "{row}");
    assert_eq!(row["bound"], "bandwidth");
}

#[test]
fn sampling_ahead_takes_the_longer_of_sampling_and_training() {
    let found = rows(&["--ranks", "2", "--loading", "0", "--steps", "1"]);
    let of = |sampled: &str| {
        let all = found["grpo"].as_array().unwrap();
        all.iter().find(|row| row["sampled"] == sampled).unwrap().clone()
    };
    let (at_once, ahead) = (of("by servers"), of("by servers, ahead"));
    let (sampling, training) = (number(&ahead, "sampling_s"), number(&ahead, "training_s"));
    assert!((number(&ahead, "iteration_s") - sampling.max(training)).abs() < 1e-9, "{ahead}");
    assert!((number(&at_once, "iteration_s") - sampling - training).abs() < 1e-9, "{at_once}");
}

#[test]
fn numbers_that_are_none_are_refused() {
    for (words, expected) in [
        (["--ranks", "0"], "expected a whole number from 1"),
        (["--network", "0"], "expected a number above 0"),
        (["--spread", "nan"], "expected a number from 0"),
    ] {
        let ran = run(["scaling", words[0], words[1]]);
        assert_eq!(ran.code, Some(2));
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
}

/// The page shows what the command says of its defaults and of published speeds.
#[test]
fn what_the_page_shows_is_what_the_command_says() {
    let path = workspace().join("docs/results/cluster.txt");
    let text = fs::read_to_string(&path).unwrap();
    let mut count = 0;
    for part in text.split("$ hearken ").skip(1) {
        let (words, shown) = part.split_once('\n').unwrap();
        let said = run(words.split_whitespace()).ok().stdout;
        assert_eq!(
            said.trim(),
            shown.trim(),
            "{words}: `cargo xtask results cluster` writes it anew"
        );
        count += 1;
    }
    assert_eq!(count, 4);
}
