//! A lead's day, from the items to the reward model: everything in the browser, and no file between the labels and the
//! training.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::cdp::{Browser, Page, chromium};
use super::{Running, hearken};

const PASSWORD: &str = "correct horse battery";
/// Pairs that are judged by two people.
const PAIRS: usize = 12;

/// A trial that admits people, and pairs of a long and a short answer.
fn items() -> String {
    let trial = serde_json::json!({"id": "trial", "task": "pairwise", "prompt": [{"role": "user", "content": "Trial"}],
        "candidates": [{"text": "Lengthy and right."}, {"text": "Wrong."}],
        "gold": {"verdict": {"kind": "preferred", "candidate": 0}, "screening": true}});
    let mut text = format!("{trial}\n");
    for index in 0..PAIRS {
        let long = format!("Lengthy: {} is what one gets.", index * 7);
        let short = format!("Brief: {}.", index * 7);
        let [one, other] = if index % 2 == 0 { [&short, &long] } else { [&long, &short] };
        let item = serde_json::json!({"id": format!("pair-{index}"), "task": "pairwise",
            "prompt": [{"role": "user", "content": format!("Question {index}")}],
            "candidates": [{"text": one, "model": "m"}, {"text": other, "model": "n"}]});
        // Writing into a text does not fail.
        let _ = writeln!(text, "{item}");
    }
    text
}

fn fill(page: &Page, fields: &[(&str, &str)]) {
    for (name, value) in fields {
        let value = serde_json::json!(value);
        page.eval(&format!("document.querySelector('main [name={name}]').value = {value}"));
    }
}

/// Joins by a link, then judges everything there is: the longer answer is better, but for what `differs` says.
fn join_and_judge(browser: &Browser, link: &str, differs: impl Fn(usize) -> bool) {
    let page = browser.page();
    page.goto(link);
    fill(&page, &[("password", PASSWORD), ("again", PASSWORD)]);
    page.click("form .primary");
    for shown in 1..=PAIRS + 1 {
        page.wait(&format!("document.querySelector('article.item')?.dataset.shown == {shown}"));
        std::thread::sleep(Duration::from_millis(130));
        let asked = page.text(".prompt .text");
        let number: Option<usize> = asked.trim_start_matches("Question ").trim().parse().ok();
        let left_is_long = page.text(".answer[data-place='0']").contains("Lengthy");
        let wants_left = left_is_long != number.is_some_and(&differs);
        page.key(if wants_left { "1" } else { "2" });
    }
    page.wait("!!document.querySelector('.over')");
}

/// Decides every item of the queue for the longer answer; how many there were.
fn decide_all(page: &Page, review: &str) -> usize {
    page.goto(review);
    let waiting: usize =
        page.text("nav[aria-label=Queues] a[aria-current] .count").parse().unwrap();
    page.click("a.button.primary");
    for _ in 0..waiting {
        page.wait("document.readyState === 'complete' && !!document.querySelector('article.item')");
        std::thread::sleep(Duration::from_millis(200));
        let here = page.text(".case-top h1");
        let left_is_long = page.text(".answer[data-place='0']").contains("Lengthy");
        page.key(if left_is_long { "1" } else { "2" });
        page.wait(&format!("document.readyState === 'complete' && document.querySelector('.case-top h1')?.textContent !== {}", serde_json::json!(here)));
    }
    waiting
}

pub(super) fn run(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearken"));
    let done =
        command.current_dir(folder).args(arguments).env("HF_HUB_OFFLINE", "1").output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{arguments:?}: {said}");
    String::from_utf8_lossy(&done.stdout).into_owned() + &said
}

#[test]
fn a_leads_day_ends_with_a_reward_model() {
    let Some(program) = chromium() else {
        hearken_testing::skip(
            "no chromium, chromium-browser or google-chrome in PATH or $CHROMIUM",
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("items.jsonl"), items()).unwrap();
    let mut admin = hearken(folder.path(), &["--add-admin", "ada"]);
    assert!(admin.env("HEARKEN_PASSWORD", PASSWORD).status().unwrap().success());
    let setup = ["--items", "items.jsonl", "--set", "overlap=2", "gold_share=0"];
    let running = Running::start(folder.path(), &setup);
    let at = |path: &str| format!("http://{}{path}", running.address);

    let (lead, others) = (Browser::start(&program), Browser::start(&program));
    let page = lead.page();
    page.goto(&at("/login"));
    fill(&page, &[("name", "ada"), ("password", PASSWORD)]);
    page.click("form .primary");
    page.wait("document.readyState === 'complete' && !!document.querySelector('.who')");
    page.goto(&at("/admin/people"));
    fill(&page, &[("names", "ann\nben")]);
    page.click("form[action='/admin/people/invite'] .primary");
    page.wait("document.querySelectorAll('code.secret').length === 2");
    let links =
        page.eval("[...document.querySelectorAll('code.secret')].map((c) => c.textContent)");
    let link = |at: usize| links[at].as_str().unwrap().to_owned();
    join_and_judge(&others, &link(0), |_| false);
    join_and_judge(&others, &link(1), |number| number % 3 == 0);

    // The lead sees who has done what, decides where they differ, and sees what that comes to.
    page.goto(&at("/admin/people"));
    let people = page.text(".people-list");
    assert!(people.contains("ann") && people.contains("ben") && people.contains("1 of 1 right"));
    assert_eq!(decide_all(&page, &at("/review")), PAIRS / 3);
    page.goto(&at("/analysis"));
    page.wait("!!document.querySelector('.finding')");
    assert!(page.text(".lead").contains("Longer answers"), "{}", page.text(".lead"));
    assert_eq!(page.problems(), Vec::<String>::new());
    running.stop();

    let exported =
        run(folder.path(), &["export", "hearken.db", "--format", "trl", "--output", "pairs.jsonl"]);
    let rows = std::fs::read_to_string(folder.path().join("pairs.jsonl")).unwrap();
    assert_eq!(rows.lines().count(), PAIRS, "{exported}");
    for row in rows.lines() {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        assert!(row["chosen"].to_string().contains("Lengthy"), "{row}");
    }
    assert!(exported.contains("on an item with a final verdict"), "{exported}");
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let model =
        format!("model.path={}", crates.join("hearken-model/tests/fixtures/hf/gpt2").display());
    let config = crates.parent().unwrap().join("configs/reward.toml").display().to_string();
    let mut arguments = vec!["reward", config.as_str()];
    for setting in
        [&*model, "run.dir=run", "data.train=hearken.db", "train.steps=2", "train.batch_size=2"]
    {
        arguments.extend(["--set", setting]);
    }
    run(folder.path(), &arguments);
    assert!(folder.path().join("run/final/model.safetensors").exists());
}
