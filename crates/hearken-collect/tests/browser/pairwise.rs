//! Two answers side by side: by keyboard, by mouse, on a narrow screen, by two people, through an
//! outage; then the analysis.

use std::collections::BTreeMap;

use hearken_analysis::{FeatureReport, Figure, Importance, JudgedItems};
use hearken_collect::accounts::Role;
use hearken_collect::parts::{FeatureTrainer, Parts};
use hearken_collect::{ProjectSettings, Rationale};
use hearken_data::feedback::{Judgement, Strength, Verdict, in_force};

use crate::browser;
use crate::cdp::Page;
use crate::service::{PASSWORD, Running, Start, pairs};

/// Waits for the `n`th item of the page and past the moment in which keys are not taken yet.
pub(crate) fn shown(page: &Page, n: usize) {
    page.wait(&format!("document.querySelector('article.item')?.dataset.shown == {n}"));
    std::thread::sleep(std::time::Duration::from_millis(130));
}

/// The place on the page at which the first candidate of a pair stands.
fn place_of_first(page: &Page) -> usize {
    usize::from(!page.text(".answer[data-place='0']").contains("First candidate"))
}

fn by_item(running: &Running) -> BTreeMap<String, Judgement> {
    let all = running.judgements();
    in_force(&all).into_iter().map(|one| (one.item.clone(), one.clone())).collect()
}

/// Counts how often the judged candidate is the longer one: enough to show that the records arrive.
struct CountingTrainer;

impl FeatureTrainer for CountingTrainer {
    fn train(&self, records: &JudgedItems) -> Result<FeatureReport, String> {
        let missing = || Figure::missing("Not measured here.");
        Ok(FeatureReport {
            features: vec!["characters".into()],
            pairs: records.judgements.len(),
            groups: records.items.len(),
            folds: 5,
            hidden: 8,
            accuracy: missing(),
            longer_wins: missing(),
            length_only: missing(),
            logistic: missing(),
            over_length: missing(),
            over_logistic: missing(),
            warnings: vec!["Length alone explains it.".into()],
            calibration: Vec::new(),
            calibration_error: missing(),
            importance: vec![Importance { feature: "characters".into(), loss: missing() }],
            seconds: 0.1,
        })
    }
}

#[test]
fn pairs_are_judged_by_keyboard_and_mouse_and_the_analysis_opens() {
    let Some(browser) = browser() else { return };
    let parts = Parts { feature_trainer: Some(Box::new(CountingTrainer)), ..Parts::default() };
    let guidelines = "# How to judge\n\nPrefer the answer that is *right*; then the shorter one.";
    let running = Start { parts, guidelines, ..Start::with(pairs(26)) }.run();
    let page = browser.page();

    page.goto(&running.at("/analysis"));
    assert!(page.text("main").contains("0 of 20"), "{}", page.text("main"));
    page.screenshot("analysis-closed");

    page.goto(&running.at("/label"));
    let mut wanted = BTreeMap::new();
    for n in 1..=25 {
        shown(&page, n);
        assert!(!page.text("#label").contains("model-"), "models are hidden");
        assert_eq!(page.count(".prompt math"), 1);
        let index: usize = page
            .eval("document.querySelector('.prompt').innerText.match(/Question (\\d+)/)[1]")
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let (first, item) = (place_of_first(&page), format!("pair-{index}"));
        if n == 1 {
            page.screenshot("pairwise-light");
        }
        let verdict = match n % 5 {
            0 => {
                page.key("t");
                Verdict::Tie
            }
            1 => {
                page.key(if first == 0 { "1" } else { "2" });
                Verdict::preferred(0)
            }
            2 => {
                page.key(if first == 0 { "ArrowRight" } else { "ArrowLeft" });
                Verdict::preferred(1)
            }
            3 => {
                page.click(&format!("[data-act=prefer][data-place='{first}']"));
                Verdict::preferred(0)
            }
            _ => {
                page.click("[data-act=both_bad]");
                Verdict::BothBad
            }
        };
        wanted.insert(item, verdict);
    }
    running.wait_for_judgements(25);
    let stored: BTreeMap<String, Verdict> =
        by_item(&running).into_iter().map(|(item, judgement)| (item, judgement.verdict)).collect();
    assert_eq!(stored, wanted);
    let judgements = running.judgements();
    assert!(judgements.iter().any(|one| one.presented == [0, 1]));
    assert!(judgements.iter().any(|one| one.presented == [1, 0]));
    assert!(judgements.iter().all(|one| one.guidelines == Some(1) && one.duration_ms.is_some()));
    report_latency(&page);

    revises_one(&page, &running);
    analysis(&page, &running);
    export(&page, &running, &wanted);
    assert_eq!(page.problems(), Vec::<String>::new());
    assert_eq!(page.foreign_requests(&running.url), Vec::<String>::new());
}

/// From the key press or click to the next item on the screen.
fn report_latency(page: &Page) {
    let times =
        page.eval("performance.getEntriesByName('next-item').map((entry) => entry.duration)");
    let mut times: Vec<f64> =
        times.as_array().unwrap().iter().map(|time| time.as_f64().unwrap()).collect();
    times.sort_by(f64::total_cmp);
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    eprintln!(
        "from key press to next item: median {median:.1} ms, worst {worst:.1} ms of {}",
        times.len()
    );
    assert!(20 <= times.len() && median < 1_000.0, "{times:?}");
}

fn revises_one(page: &Page, running: &Running) {
    page.goto(&running.at("/label/history"));
    assert_eq!(page.count("tbody tr"), 25);
    page.screenshot("history");
    page.click("tbody tr:first-child a");
    shown(page, 1);
    let earlier = running.judgements().pop().unwrap();
    page.key("b");
    page.wait("location.pathname === '/label/history'");
    let judgements = running.wait_for_judgements(26);
    let revision = judgements.last().unwrap();
    assert_eq!(revision.revises.as_ref(), Some(&earlier.id));
    assert_eq!(revision.verdict, Verdict::BothBad);
    assert_eq!(revision.presented, earlier.presented);
    assert_eq!(in_force(&judgements).len(), 25);
}

fn analysis(page: &Page, running: &Running) {
    page.goto(&running.at("/analysis"));
    page.wait("document.querySelector('#analysis') !== null");
    assert!(0 < page.count("#analysis table") && 0 < page.count("#analysis svg"));
    page.full_screenshot("analysis");
    page.prefers(&[("prefers-color-scheme", "dark")]);
    page.full_screenshot("analysis-dark");
    page.prefers(&[]);
    page.click(".features form button");
    page.wait("document.querySelector('#feature-report') !== null");
    let report = page.text("#feature-report");
    assert!(report.contains("Length alone explains it"), "{report}");
    page.screenshot("features");
}

/// The page says what a format leaves out before it is downloaded, and the file has the rest.
fn export(page: &Page, running: &Running, wanted: &BTreeMap<String, Verdict>) {
    page.goto(&running.at("/admin/export"));
    page.eval("document.querySelector('[name=format]').value = 'trl'");
    page.click("form .actions button:not(.primary)");
    page.wait("document.querySelector('main h2') !== null");
    page.screenshot("export-report");
    let script = "fetch('/admin/export/file?format=trl&ties=drop').then((reply) => reply.text())";
    let file = page.eval(script).as_str().unwrap().to_owned();
    let rows: Vec<serde_json::Value> =
        file.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // The newest judgement became "both bad" in the meantime; it was a tie before.
    let decided = wanted.values().filter(|verdict| verdict.kind() == "preferred").count();
    assert_eq!(rows.len(), decided);
    for row in rows {
        let chosen = row["chosen"].to_string();
        let index = row["prompt"].to_string().split_once("Question ").unwrap().1.to_owned();
        let index = index.split(':').next().unwrap().to_owned();
        let first = wanted[&format!("pair-{index}")] == Verdict::preferred(0);
        assert_eq!(chosen.contains("First candidate"), first, "{row}");
    }
}

#[test]
fn strength_reason_undo_and_skip() {
    let Some(browser) = browser() else { return };
    let settings = ProjectSettings {
        strength_points: 3,
        rationale: Rationale::Required,
        ..ProjectSettings::default()
    };
    let running = Start { settings, ..Start::with(pairs(6)) }.run();
    let page = browser.page();
    page.goto(&running.at("/label"));

    shown(&page, 1);
    page.key("2");
    page.screenshot("strength");
    page.key("3");
    page.wait("document.activeElement.name === 'rationale'");
    page.insert("because of t and b");
    page.ctrl_enter();
    shown(&page, 2);
    let first = running.wait_for_judgements(1).remove(0);
    let Verdict::Preferred { candidate, strength } = first.verdict else { panic!("{first:?}") };
    assert_eq!(candidate, first.presented[1]);
    assert_eq!(strength, Some(Strength { points: 3, scale: 3 }));
    assert_eq!(first.rationale.as_deref(), Some("because of t and b"));

    page.key("u");
    shown(&page, 3);
    page.wait("document.querySelectorAll('button.earlier').length === 1");
    page.click("[data-act=prefer][data-place='0'][data-points='1']");
    shown(&page, 4);
    let second = running.wait_for_judgements(2).remove(1);
    assert_eq!(second.revises, Some(first.id));
    assert_eq!(second.item, first.item);
    let Verdict::Preferred { candidate, .. } = second.verdict else { panic!("{second:?}") };
    assert_eq!(candidate, second.presented[0]);

    page.key("c");
    page.wait("!document.querySelector('.cant-tell').hidden");
    page.screenshot("cant-tell");
    page.key("2");
    shown(&page, 5);
    let third = running.wait_for_judgements(3).remove(2);
    assert_eq!(third.verdict, Verdict::CantTell { reason: "The prompt is unclear".into() });

    let skipped = page.text(".prompt");
    page.key("s");
    shown(&page, 6);
    assert_ne!(page.text(".prompt"), skipped);
    assert_eq!(page.problems(), Vec::<String>::new());
}

#[test]
fn two_people_judge_each_pair_once() {
    let Some(browser) = browser() else { return };
    let settings = ProjectSettings { overlap: 2, ..ProjectSettings::default() };
    let people = vec![
        ("boss", Role::Administrator),
        ("ada", Role::Annotator),
        ("ben", Role::Annotator),
        ("eve", Role::Annotator),
    ];
    let running = Start { settings, people, ..Start::with(pairs(6)) }.run();
    let sign_in = |name: &str| {
        let page = browser.page();
        page.goto(&running.at("/label"));
        if name == "ada" {
            page.screenshot("login");
        }
        page.click("[name=name]");
        page.insert(name);
        page.click("[name=password]");
        page.insert(PASSWORD);
        page.key("Enter");
        page.wait("document.querySelector('article.item') !== null");
        page
    };
    let (ada, ben) = (sign_in("ada"), sign_in("ben"));
    for n in 1..=6 {
        for page in [&ada, &ben] {
            shown(page, n);
            page.key(if n % 2 == 0 { "1" } else { "2" });
        }
    }
    let judgements = running.wait_for_judgements(12);
    let mut seen: Vec<(String, String)> =
        judgements.into_iter().map(|one| (one.item, one.annotator)).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 12, "nobody judges a pair twice");
    ada.wait("document.querySelector('.over') !== null");
    ada.screenshot("over");

    let eve = browser.page();
    eve.goto(&running.at("/login"));
    eve.click("[name=name]");
    eve.insert("eve");
    eve.click("[name=password]");
    eve.insert(PASSWORD);
    eve.key("Enter");
    eve.wait("document.querySelector('.over') !== null");

    let boss = browser.page();
    boss.goto(&running.at("/login"));
    boss.click("[name=name]");
    boss.insert("boss");
    boss.click("[name=password]");
    boss.insert(PASSWORD);
    boss.key("Enter");
    boss.wait("location.pathname === '/label'");
    for page in
        ["items", "people", "guidelines", "settings", "export", "tokens", "webhooks", "audit"]
    {
        boss.goto(&running.at(&format!("/admin/{page}")));
        boss.full_screenshot(&format!("admin-{page}"));
    }
    for page in [&ada, &ben, &eve, &boss] {
        assert_eq!(page.problems(), Vec::<String>::new());
    }
}

#[test]
fn a_service_that_is_away_for_a_moment_costs_nothing() {
    let Some(browser) = browser() else { return };
    let mut running = Start::with(pairs(8)).run();
    let page = browser.page();
    page.goto(&running.at("/label"));
    shown(&page, 1);
    page.key("r");
    page.wait("document.activeElement.name === 'rationale'");
    page.insert("half a thought");
    page.key("Escape");
    page.wait("document.activeElement.name !== 'rationale'");
    running.stop();
    page.key("1");
    shown(&page, 2);
    page.key("2");
    page.wait("!document.querySelector('#trouble').hidden");
    assert!(page.text("#trouble").contains("2 judgements wait"), "{}", page.text("#trouble"));
    page.screenshot("outage");
    assert_eq!(running.judgements().len(), 0);
    running.start_again();
    let judgements = running.wait_for_judgements(2);
    assert_eq!(judgements[0].rationale.as_deref(), Some("half a thought"));
    page.wait("document.querySelector('#trouble').hidden");

    // What waits survives that the page is closed.
    page.wait("document.querySelector('article.item') !== null");
    std::thread::sleep(std::time::Duration::from_millis(300));
    running.stop();
    page.key("1");
    page.wait(
        "Object.keys(localStorage).filter((key) => key.startsWith('hearken.pending')).length === 1",
    );
    running.start_again();
    page.goto(&running.at("/label"));
    running.wait_for_judgements(3);
    page.wait("Object.keys(localStorage).every((key) => !key.startsWith('hearken.pending'))");
}

#[test]
fn a_narrow_screen_and_dark_colors() {
    let Some(browser) = browser() else { return };
    let settings = ProjectSettings { strength_points: 3, ..ProjectSettings::default() };
    let guidelines = "Prefer what is *right*.";
    let running = Start { settings, guidelines, ..Start::with(pairs(4)) }.run();
    let page = browser.page();
    page.viewport(390, 844);
    page.goto(&running.at("/label"));
    shown(&page, 1);
    page.screenshot("phone-strength");
    let widths = page.eval("[document.documentElement.scrollWidth, innerWidth]");
    assert_eq!(widths[0], widths[1], "nothing to scroll sideways");
    let small = page.eval(
        "[...document.querySelectorAll('.verdict button')].filter((b) => b.offsetParent && b.getBoundingClientRect().height < 36).length",
    );
    assert_eq!(small, 0, "buttons are large enough for a finger");
    page.click("[data-act=prefer][data-place='1'][data-points='2']");
    shown(&page, 2);
    let judgement = running.wait_for_judgements(1).remove(0);
    let strength = Some(Strength { points: 2, scale: 3 });
    assert_eq!(
        judgement.verdict,
        Verdict::Preferred { candidate: judgement.presented[1], strength }
    );

    page.prefers(&[("prefers-color-scheme", "dark")]);
    page.screenshot("phone-dark");
    page.viewport(1280, 900);
    page.key("g");
    page.wait("!document.querySelector('#guidelines').hidden");
    page.screenshot("pairwise-dark-guidelines");
    page.key("?");
    page.wait("document.querySelector('#keys').open");
    page.screenshot("keys-dark");
}
