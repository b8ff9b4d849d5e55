//! A round of the closed loop with a person in the browser: what is asked is judged on the page, the round runs, and the page about the
//! rounds shows it.

use std::path::Path;
use std::time::Duration;

use super::Running;
use super::cdp::{Browser, chromium};
use super::lead::run;

/// Pairs that are asked about.
const PAIRS: usize = 20;

/// The quickstart's world, as small as it can be.
const WORLD: [&str; 16] = [
    "run.dir=world",
    "quickstart.demonstrations=300",
    "quickstart.preferences=20",
    "quickstart.preferences_eval=20",
    "quickstart.prompts_eval=24",
    "quickstart.model.vocab=300",
    "quickstart.model.width=32",
    "quickstart.model.layers=1",
    "quickstart.model.heads=2",
    "quickstart.model.inner=64",
    "sft.train.steps=30",
    "reward.train.steps=2",
    "ppo.train.steps=2",
    "ppo.rollout.max_new_tokens=8",
    "evaluation.prompts=8",
    "evaluation.examples=2",
];

/// A loop in it with one round, for which people judge.
const LOOP: [&str; 19] = [
    "run.dir=loop",
    "model.path=world/sft/final",
    "data.train=world/data/prompts.jsonl",
    "data.eval=world/data/prompts_eval.jsonl",
    "rounds.count=1",
    "labels.by=store",
    "labels.store=labels.db",
    "candidates.prompts=24",
    "candidates.completions=3",
    "ask.pairs=20",
    "reward.train.batch_size=4",
    "reward.train.epochs=1",
    "grpo.train.steps=2",
    "grpo.grpo.prompts=4",
    "grpo.rollout.max_new_tokens=12",
    "grpo.rollout.completions=3",
    "gate.prompts=16",
    "gate.distinct_min=0",
    "gate.kl_max=0",
];

fn go(folder: &Path, command: &str, config: &str, keys: &[&str]) -> String {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs").join(config);
    let config = config.display().to_string();
    let sets = keys.iter().flat_map(|key| ["--set", key]);
    run(folder, &[command, &config].into_iter().chain(sets).collect::<Vec<_>>())
}

#[test]
fn what_a_round_asks_is_judged_in_the_browser_and_the_page_shows_what_came_of_it() {
    let Some(program) = chromium() else {
        hearken_testing::skip("no browser");
        return;
    };
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    go(folder, "rlhf", "quickstart.toml", &WORLD);
    go(folder, "loop", "loop.toml", &LOOP);
    let running = Running::start(folder, &["--store", "labels.db", "--loop", "loop"]);
    let at = |path: &str| format!("http://{}{path}", running.address);
    let browser = Browser::start(&program);
    let page = browser.page();

    page.goto(&at("/rounds"));
    let text = page.text("#rounds");
    assert!(text.contains("Round 1: 20 pairs, 0 for certain and 20 at random"), "{text}");
    assert!(text.contains("drawn at random; propensity"), "{text}");
    page.screenshot("rounds-asked");

    page.goto(&at("/label"));
    for shown in 1..=PAIRS {
        page.wait(&format!("document.querySelector('article.item')?.dataset.shown == {shown}"));
        std::thread::sleep(Duration::from_millis(130));
        // The longer review is better.
        let length = |place: usize| page.text(&format!(".answer[data-place='{place}']")).len();
        page.key(if length(1) <= length(0) { "1" } else { "2" });
    }
    let store = folder.join("labels.db").display().to_string();
    let judged = || hearken_store::open_existing(&store).unwrap().counts().unwrap().judgements;
    for _ in 0..500 {
        if judged() == PAIRS as u64 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(judged(), PAIRS as u64);

    // The service goes on while the round runs.
    go(folder, "loop", "loop.toml", &LOOP);
    page.goto(&at("/rounds"));
    let text = page.text("#rounds");
    for expected in ["Decisions", "better: win rate", "Nothing: no round waits for labels"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(text.contains("promoted by gate") || text.contains("rolled back by gate"), "{text}");
    assert!(1 <= page.count("#rounds svg"), "{text}");
    assert_eq!(page.count("#rounds table.texts"), 1);
    page.screenshot("rounds-decided");
    // A folder that cannot be read is said, and the service goes on.
    std::fs::write(folder.join("loop/rounds/001/decision.json"), "{").unwrap();
    page.goto(&at("/rounds"));
    assert!(page.text("main").contains("decision.json"), "{}", page.text("main"));
    assert_eq!(page.problems(), Vec::<String>::new());
}
