//! Solutions that people judge step by step in the browser, and the process reward model that learns from the store.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::Running;
use super::cdp::{Browser, chromium};
use super::lead::run;

/// Solutions to label.
const SOLUTIONS: usize = 30;

/// Sums of four numbers, of which one in two goes wrong at its second or third step. The last of them convinces: it is wrong,
/// and a model likes it best of those that are.
fn items() -> String {
    let mut text = String::new();
    for index in 0..SOLUTIONS {
        let goes_wrong = (index % 2 == 1).then_some(1 + index / 2 % 2);
        let mut sum = index % 7;
        let step = |at: usize| {
            let (before, term) = (sum, 1 + (index + 3 * at) % 9);
            sum += term + usize::from(goes_wrong == Some(at));
            format!("{before} + {term} = {sum}")
        };
        let steps: Vec<String> = (0..3).map(step).collect();
        let score = if index + 1 == SOLUTIONS { 0.97 } else { index as f64 / 100.0 };
        let item = json!({"id": format!("solution-{index}"), "task": "steps",
            "prompt": [{"role": "user", "content": format!("Problem {index}")}],
            "candidates": [{"steps": steps, "meta": {"correct": goes_wrong.is_none(), "score": score}}]});
        // Writing into a text does not fail.
        let _ = writeln!(text, "{item}");
    }
    text
}

/// Whether what a step says is a sum that holds.
fn holds(step: &str) -> bool {
    let numbers: Vec<u64> = step
        .split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect();
    numbers[numbers.len() - 3] + numbers[numbers.len() - 2] == numbers[numbers.len() - 1]
}

#[test]
fn solutions_labelled_step_by_step_train_a_process_reward_model() {
    let Some(program) = chromium() else {
        hearken_testing::skip(
            "no chromium, chromium-browser or google-chrome in PATH or $CHROMIUM",
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("items.jsonl"), items()).unwrap();
    let set = ["--set", "order=convincing", "order_random_share=0", "stop_at_first_error=true"];
    let setup = [&["--items", "items.jsonl"], &set[..]].concat();
    let running = Running::start(folder.path(), &setup);
    let browser = Browser::start(&program);
    let page = browser.page();
    page.goto(&format!("http://{}/label", running.address));
    let mut came = Vec::new();
    for shown in 1..=SOLUTIONS {
        page.wait(&format!("document.querySelector('article.item')?.dataset.shown == {shown}"));
        std::thread::sleep(Duration::from_millis(130));
        came.push(page.text(".prompt .text"));
        let steps = page.eval(
            "[...document.querySelectorAll('li[data-step] .text')].map((step) => step.innerText)",
        );
        for step in steps.as_array().unwrap() {
            let is_good = holds(step.as_str().unwrap());
            page.key(if is_good { "1" } else { "3" });
            if !is_good {
                break;
            }
        }
        page.key("Enter");
    }
    page.wait("!!document.querySelector('.over')");
    assert_eq!(page.problems(), Vec::<String>::new());
    running.stop();
    // The wrong solution that a model likes best comes first, and the right ones last.
    let number =
        |came: &String| -> usize { came.trim().rsplit(' ').next().unwrap().parse().unwrap() };
    let came: Vec<usize> = came.iter().map(number).collect();
    assert_eq!(came[..3], [SOLUTIONS - 1, SOLUTIONS - 3, SOLUTIONS - 5]);
    assert!(came[SOLUTIONS / 2..].iter().all(|index| index % 2 == 0), "{came:?}");

    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let model =
        format!("model.path={}", crates.join("hearken-model/tests/fixtures/hf/gpt2").display());
    let config = crates.parent().unwrap().join("configs/reward.toml").display().to_string();
    let mut arguments = vec!["reward", config.as_str()];
    for setting in [
        &*model,
        "run.dir=run",
        "data.train=hearken.db",
        "reward.kind=process",
        "reward.steps=first_error",
        "train.steps=40",
        "train.batch_size=15",
        "optimizer.lr=3e-3",
    ] {
        arguments.extend(["--set", setting]);
    }
    run(folder.path(), &arguments);
    let metrics = std::fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
    let losses: Vec<f64> = metrics
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter_map(|record| record["loss"].as_f64())
        .collect();
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (before, after) = (mean(&losses[..4]), mean(&losses[losses.len() - 4..]));
    assert!(after < 0.8 * before, "{before}, {after}");
    assert!(folder.path().join("run/final/process_reward.json").exists());
}
