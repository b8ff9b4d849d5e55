//! The pages with the parts that the command line fills in: the feature model is trained from its button.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use super::Running;
use super::cdp::{Browser, Page, chromium};

/// Pairs of a short and a long answer; which one comes first changes.
fn pairs(n: usize) -> String {
    let reasons = "It follows from what was said before, and it can be checked by hand. ";
    (0..n).fold(String::new(), |mut text, index| {
        let short = format!("Brief: {}.", index * 7);
        let long = format!("Lengthy: {}. {}", index * 7, reasons.repeat(2 + index % 3));
        let [one, other] = if index % 2 == 0 { [&short, &long] } else { [&long, &short] };
        let item = serde_json::json!({"prompt": format!("What is {index} times 7?"), "candidates": [
            {"text": one, "model": "m"}, {"text": other, "model": "n"}]});
        // Writing into a text does not fail.
        let _ = writeln!(text, "{item}");
        text
    })
}

/// Judges `n` items by the keyboard: the longer answer is better, but for every eighth.
fn judge(page: &Page, n: usize) {
    for shown in 1..=n {
        page.wait(&format!("document.querySelector('article.item')?.dataset.shown == {shown}"));
        // Keys that come at once are taken for ones meant for the item before.
        std::thread::sleep(Duration::from_millis(130));
        let left_is_long = page.text(".answer[data-place='0']").contains("Lengthy");
        let wants_left = left_is_long != (shown % 8 == 0);
        page.key(if wants_left { "1" } else { "2" });
    }
}

#[test]
fn the_feature_model_is_trained_from_its_button() {
    let Some(program) = chromium() else {
        hearken_testing::skip(
            "no chromium, chromium-browser or google-chrome in PATH or $CHROMIUM",
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pairs.jsonl"), pairs(40)).unwrap();
    let running = Running::start(folder.path(), &["--items", "pairs.jsonl"]);
    let at = |path: &str| format!("http://{}{path}", running.address);
    let browser = Browser::start(&program);
    let page = browser.page();
    page.goto(&at("/label"));
    judge(&page, 32);
    page.wait("document.querySelector('article.item')?.dataset.shown == 33");

    page.goto(&at("/analysis"));
    page.wait("document.querySelector('#analysis') !== null");
    page.click(".features form button");
    page.wait("document.querySelector('#feature-report') !== null");
    let report = page.text("#feature-report");
    assert!(report.contains("learned from 32 pairs of 32 prompts"), "{report}");
    for baseline in ["This model", "The longer answer wins", "Logistic regression"] {
        assert!(report.contains(baseline), "{report}");
    }
    let row = |name: &str| {
        let line = report.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no {name} in {report}")).to_owned()
    };
    // 28 of 32.
    assert!(row("The longer answer wins").contains("87.5"), "{}", row("The longer answer wins"));
    assert!(page.count("#feature-report p.warning") > 0, "length explains it: {report}");
    assert!(page.count("#feature-report svg") >= 2, "calibration and importance are drawn");
    page.full_screenshot("feature-model");
    page.prefers(&[("prefers-color-scheme", "dark")]);
    page.full_screenshot("feature-model-dark");
    page.viewport(375, 812);
    page.full_screenshot("feature-model-phone-dark");
    let widths = page.eval("[document.documentElement.scrollWidth, innerWidth]");
    assert_eq!(widths[0], widths[1], "nothing to scroll sideways");
    assert_eq!(page.problems(), Vec::<String>::new());
    running.stop();

    // The command finds the same in the same store.
    let mut reward = Command::new(env!("CARGO_BIN_EXE_hearken"));
    reward.current_dir(folder.path()).args(["reward", "--features", "hearken.db"]);
    let told = reward.output().unwrap();
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.status.success() && text.contains("87.5"), "{text}");
}
