//! `hearken frontier`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{run, write};

/// A run directory whose gold follows d·(1 − 0.5·ln d), but for a little.
fn run_dir(folder: &Path, name: &str, shift: f64) -> PathBuf {
    let dir = folder.join(name);
    std::fs::create_dir(&dir).unwrap();
    let line = |step: u32| {
        let d = f64::from(step) / 8.0;
        let gain = if step == 0 { 0.0 } else { d * (1.0 - 0.5 * d.ln()) };
        let gold = 2.0 + gain + shift * f64::from(step % 2);
        json!({
            "step": step, "iteration": step, "loss": 0.0, "objective/kl": d * d, "scores/gold": gold,
            "objective/scores": d, "loss/value_avg": 0.1,
        })
        .to_string()
            + "\n"
    };
    write(&dir, "metrics.jsonl", &(0..48).map(line).collect::<String>());
    dir
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn runs_give_a_curve_with_its_peak_as_text_numbers_and_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let runs = [0.0, 0.02, -0.02]
        .map(|shift| text(&run_dir(folder.path(), &format!("run{shift}"), shift)));
    let [json, html, svg] =
        ["a.json", "a.html", "a.svg"].map(|name| text(&folder.path().join(name)));
    let mut arguments = vec!["frontier"];
    arguments.extend(runs.iter().map(String::as_str));
    arguments.extend(["--json", &json, "--html", &html, "--svg", &svg]);
    let ran = run(&arguments).ok();
    assert!(ran.stdout.contains("ppo: gold is highest at √KL = 2.7"), "{}", ran.stdout);
    let numbers: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let curve = &numbers["curves"][0];
    assert!((curve["a"]["value"].as_f64().unwrap() - 1.0).abs() < 0.05, "{curve}");
    assert_eq!(
        (curve["a"]["n"].as_u64(), curve["is_peak_measured"].as_bool()),
        (Some(3), Some(true))
    );
    assert!(std::fs::read_to_string(html).unwrap().contains("peak"));
    assert!(std::fs::read_to_string(svg).unwrap().starts_with("<svg"));
    // Two names are two methods.
    let named: Vec<String> =
        runs.iter().zip(["one", "two", "two"]).map(|(run, name)| format!("{name}={run}")).collect();
    let ran = run(std::iter::once("frontier").chain(named.iter().map(String::as_str))).ok();
    assert!(ran.stdout.contains("one: gold") && ran.stdout.contains("two: gold"), "{}", ran.stdout);
}

#[test]
fn scored_completions_give_the_curve_of_choosing_among_them() {
    let folder = tempfile::tempdir().unwrap();
    let line = |at: u32| {
        let (prompt, proxy) = (at / 16, f64::from(at % 16));
        let gold = proxy - 0.05 * proxy * proxy;
        json!({"prompt": prompt.to_string(), "gold": gold, "rm": proxy}).to_string() + "\n"
    };
    let input = text(&write(folder.path(), "scored.jsonl", &(0..64).map(line).collect::<String>()));
    let ran = run(["frontier", "--best-of", &input, "--proxy", "rm"]).ok();
    assert!(ran.stdout.contains("best of N"), "{}", ran.stdout);
}

#[test]
fn what_gives_no_curve_is_named_with_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let dir = text(&run_dir(folder.path(), "run", 0.0));
    for (arguments, part) in [
        (&["frontier", &dir, "--gold", "truth"][..], "the score \"truth\""),
        (&["frontier", "none"], "none/metrics.jsonl: cannot be read"),
        (&["frontier", &dir, "--json", &dir], "is a folder"),
    ] {
        let error = run(arguments).error();
        assert!(error.contains(part), "{error}");
    }
    for (line, part) in [
        ("{\"prompt\": \"a\", \"gold\": 1}", ":1: found nothing in `rm`, expected a number"),
        ("{\"gold\": 1, \"rm\": 2}", ":1: found no `prompt`"),
        ("{\"prompt\": \"a\", \"gold\": 1, \"rm\": 2}", "expected at least two of each"),
        ("nonsense", ":1: expected a JSON object"),
        ("", "has no line"),
    ] {
        let input = text(&write(folder.path(), "bad.jsonl", line));
        let error = run(["frontier", "--best-of", &input, "--proxy", "rm"]).error();
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(run(["frontier"]).code, Some(2));
}
