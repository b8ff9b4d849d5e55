//! The desk of those who lead, in a browser: where people differ is decided with keys, items are found and changed, on a
//! desk and on a phone.

use hearken_collect::accounts::Role;
use hearken_data::feedback::{Candidate, Item, Judgement, Origin, Task, Verdict};
use hearken_store::Store;
use serde_json::json;

use crate::browser;
use crate::cdp::Page;
use crate::first_hour::{SMALL, sign_in};
use crate::service::{PASSWORD, Running, Start, pairs, prompt};

const PEOPLE: [(&str, Role); 5] = [
    ("ada", Role::Administrator),
    ("rita", Role::Reviewer),
    ("ann", Role::Annotator),
    ("ben", Role::Annotator),
    ("cleo", Role::Annotator),
];

const REASONS: [&str; 3] = [
    "The first is short and right; nobody needs the rest.",
    "It explains how one gets there, which is what was asked.",
    "Both say the same. I would take either.",
];

/// Forty pairs, a ranking and a solution in steps, on which three people agree often and not always.
fn differing() -> Running {
    let mut items = pairs(40);
    let answers = ["The **first** way.", "The second way.", "Another way."].map(Candidate::text);
    let mut ranked = Item::new(Task::Ranking, prompt("Which way is best?"), answers.to_vec());
    ranked.id = "ranked".into();
    let steps = ["3 · 4 = 12", "2 + 12 = 15", "So it is 15."].map(str::to_owned).to_vec();
    let solution = Candidate { steps, ..Candidate::default() };
    let mut solved = Item::new(Task::Steps, prompt("2 + 3 · 4"), vec![solution]);
    solved.id = "solved".into();
    items.extend([ranked, solved]);
    let running = Start { people: PEOPLE.to_vec(), ..Start::with(items.clone()) }.run();
    let names = ["ann", "ben", "cleo"].map(|name| pseudonym(&*running.store, name));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_millis()).unwrap();
    let mut said = Vec::new();
    for (at, item) in items.iter().enumerate() {
        for (k, name) in names.iter().enumerate() {
            let verdict = match item.task {
                Task::Ranking if k == 0 => Verdict::Ranking { order: vec![vec![0], vec![2, 1]] },
                Task::Ranking => Verdict::Ranking { order: vec![vec![1], vec![0], vec![2]] },
                Task::Steps => Verdict::Steps {
                    labels: vec![Some(1), Some(if k == 0 { -1 } else { 1 }), None],
                },
                _ if at % 5 == 0 && k == 2 => Verdict::Tie,
                _ => Verdict::preferred(usize::from((at + k) % 7 == 0)),
            };
            let mut judgement = Judgement::new(format!("j-{at}-{k}"), item, name, verdict);
            judgement.presented = (0..item.candidates.len()).collect();
            judgement.rationale = (at % 3 == 0).then(|| REASONS[k].to_owned());
            judgement.duration_ms = Some(3_000 + 700 * k as u64 + 37 * at as u64);
            judgement.at = now - 3_600_000 + i64::try_from(at * 30_000 + k).unwrap();
            said.push(judgement);
        }
    }
    let judge = Judgement {
        origin: Origin::Ai,
        ..Judgement::new("ai-0", &items[0], "gpt", Verdict::Soft { probability: 0.8 })
    };
    said.push(judge);
    running.store.add_judgements(&said).unwrap();
    running
}

fn pseudonym(store: &dyn Store, name: &str) -> String {
    hearken_collect::accounts::named(store, name).unwrap().unwrap().pseudonym
}

/// The page holds on a phone, too: nothing to scroll sideways, nothing too small for a finger.
fn holds_on_a_phone(page: &Page, path: &str) {
    assert_eq!(page.eval(SMALL), json!([]), "{path}: targets of less than 44 pixels");
    let widths = page.eval("[document.documentElement.scrollWidth, innerWidth]");
    assert_eq!(widths[0], widths[1], "{path}: nothing to scroll sideways");
}

fn loaded(page: &Page) {
    page.wait("document.readyState === 'complete' && !!document.querySelector('article.item')");
    // A key that comes sooner was meant for the page before.
    std::thread::sleep(std::time::Duration::from_millis(200));
}

#[test]
fn a_reviewer_decides_one_after_the_other_with_keys() {
    let Some(browser) = browser() else { return };
    let running = differing();
    let page = browser.page();
    sign_in(&page, &running, "rita", PASSWORD);
    page.goto(&running.at("/review"));
    let waiting = page.text("nav[aria-label=Queues] a[aria-current] .count");
    let waiting: u64 = waiting.parse().unwrap();
    assert!(5 < waiting && waiting < 40, "{waiting}");
    page.screenshot("review-queue");
    page.click("a.button.primary");
    loaded(&page);
    page.screenshot("review-item");
    page.full_screenshot("review-item-full");
    let first = page.text(".case-top h1");
    page.key("2");
    let leave = format!(
        "document.readyState === 'complete' && document.querySelector('.case-top h1')?.textContent !== {} && !!document.querySelector('article.item')",
        json!(first)
    );
    page.wait(&leave);
    let decided = running.store.judgements_of(&first).unwrap();
    let decided = decided.last().unwrap();
    assert!(decided.is_final && decided.verdict == Verdict::preferred(1), "{decided:?}");
    loaded(&page);
    // Passed over: it stays in the queue, and the next one is there.
    let second = page.text(".case-top h1");
    page.key("s");
    page.wait(&leave.replace(&json!(first).to_string(), &json!(second).to_string()));
    page.goto(&running.at("/review"));
    let left = page.text("nav[aria-label=Queues] a[aria-current] .count");
    assert_eq!(left.parse::<u64>().unwrap(), waiting - 1);
    // A ranking and steps are decided as they are judged.
    page.goto(&running.at("/review/item?id=solved&queue=disagreed"));
    loaded(&page);
    page.screenshot("review-steps");
    for key in ["1", "3", "3", "Enter"] {
        page.key(key);
    }
    page.wait("document.querySelector('.case-top h1')?.textContent !== 'solved'");
    let said = running.store.judgements_of("solved").unwrap();
    let labels = vec![Some(1), Some(-1), Some(-1)];
    assert_eq!(said.last().unwrap().verdict, Verdict::Steps { labels });
    // Decided anew from what was decided.
    page.goto(&running.at("/review/item?id=solved"));
    loaded(&page);
    assert_eq!(page.count("[data-act=step][aria-pressed=true]"), 3);
    assert_eq!(page.problems(), Vec::<String>::new());
}

#[test]
fn the_pages_of_a_lead_hold_on_a_desk_and_on_a_phone() {
    let Some(browser) = browser() else { return };
    let running = differing();
    let page = browser.page();
    sign_in(&page, &running, "ada", PASSWORD);
    let mut found = Vec::new();
    for (width, height) in [(1280, 900), (390, 844)] {
        page.viewport(width, height);
        for path in [
            "/review",
            "/review?show=decided",
            "/review/item?id=pair-0&queue=disagreed",
            "/admin/items",
            "/admin/items?show=disagreed&sort=difference",
            "/admin/people",
            "/analysis",
        ] {
            page.goto(&running.at(path));
            if path.contains("/item?") {
                loaded(&page);
            } else if path == "/analysis" {
                page.wait("!!document.querySelector('.finding')");
                let screens = page.eval("document.documentElement.scrollHeight / innerHeight");
                let most = if width < 600 { 4.0 } else { 2.0 };
                assert!(screens.as_f64().unwrap() <= most, "{screens} screens");
            }
            found.extend(page.violations().iter().map(|it| format!("{path} at {width}: {it}")));
            let name = path.trim_matches('/').replace(['/', '?', '=', '&'], "-");
            page.screenshot(&format!("desk-{name}-{width}"));
            page.full_screenshot(&format!("desk-{name}-{width}-full"));
            if width < 600 {
                holds_on_a_phone(&page, path);
            }
        }
    }
    assert_eq!(found, Vec::<String>::new());
    assert_eq!(page.problems(), Vec::<String>::new());
}

#[test]
fn a_lead_changes_many_items_at_once() {
    let Some(browser) = browser() else { return };
    let running = differing();
    let page = browser.page();
    sign_in(&page, &running, "ada", PASSWORD);
    page.goto(&running.at("/admin/items?show=disagreed"));
    let all = page.text(".found h2");
    page.click("[name=whole]");
    page.eval("document.querySelector('[name=act]').value = 'tag'");
    page.eval("document.querySelector('[name=value]').value = 'second look'");
    page.click(".bulk button");
    page.wait("document.readyState === 'complete' && !!document.querySelector('.message.good')");
    let count = all.split(' ').next().unwrap().to_owned();
    assert_eq!(page.text(".message.good"), format!("Changed {count} items."));
    page.screenshot("items-tagged");
    page.goto(&running.at("/admin/items?tag=second%20look"));
    assert_eq!(page.text(".found h2"), all);
    page.goto(&running.at("/admin/items?q=candidate%20of%20pair%207"));
    assert_eq!(page.count("tbody tr"), 1);
}

#[test]
fn the_analysis_says_what_matters_first_and_unfolds_the_rest() {
    let Some(browser) = browser() else { return };
    let running = differing();
    let page = browser.page();
    sign_in(&page, &running, "ada", PASSWORD);
    page.goto(&running.at("/analysis"));
    page.wait("!!document.querySelector('.finding')");
    let lead = page.text(".lead");
    assert!(lead.contains("model-alpha is best"), "{lead}");
    assert!(lead.contains("Two people say the same of a pair"), "{lead}");
    assert!(lead.contains("3 of 3 annotators"), "{lead}");
    assert!(lead.contains("Shorter answers"), "{lead}");
    assert_eq!(page.count("#analysis details[open]"), 0);
    page.click("nav.contents a[href='#annotators']");
    page.wait("document.querySelector('#annotators').closest('details').open");
    page.screenshot("analysis-unfolded");
    page.goto(&running.at("/language?to=ar"));
    for (width, height) in [(1280, 900), (390, 844)] {
        page.viewport(width, height);
        page.goto(&running.at("/analysis"));
        page.wait("!!document.querySelector('.finding')");
        assert_eq!(page.eval("document.documentElement.dir"), "rtl");
        page.screenshot(&format!("analysis-arabic-{width}"));
        page.eval("for (const fold of document.querySelectorAll('details')) fold.open = true");
        page.full_screenshot(&format!("analysis-arabic-{width}-unfolded"));
        assert_eq!(page.violations(), Vec::<String>::new(), "{width}");
        let widths = page.eval("[document.documentElement.scrollWidth, innerWidth]");
        assert_eq!(widths[0], widths[1], "{width}: nothing to scroll sideways");
    }
    assert_eq!(page.problems(), Vec::<String>::new());
}
