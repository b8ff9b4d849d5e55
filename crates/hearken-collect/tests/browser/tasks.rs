//! Ranking, ratings, steps, clips, sensitive content, conversations.

use std::collections::BTreeMap;

use hearken_collect::{Axis, ProjectSettings, Suggestions};
use hearken_data::feedback::{Candidate, Item, Media, Suggested, Task, Verdict};
use hearken_data::{Message, Role};

use crate::browser;
use crate::cdp::Page;
use crate::pairwise::shown;
use crate::service::{Running, Start, prompt};

fn candidates(n: usize) -> Vec<Candidate> {
    (0..n)
        .map(|k| Candidate::text(format!("candidate-{k} says something.")).by("model-x"))
        .collect()
}

/// The candidate at each place, read from the page.
fn presented(page: &Page) -> Vec<usize> {
    let script = "[...document.querySelectorAll('.answer')].map((a) => Number(a.innerText.match(/candidate-(\\d+)/)[1]))";
    let found = page.eval(script);
    found.as_array().unwrap().iter().map(|k| k.as_u64().unwrap() as usize).collect()
}

/// The ranking as the page shows it: groups of candidates.
fn ranking_on_page(page: &Page) -> Vec<Vec<usize>> {
    let presented = presented(page);
    let rows = page.eval("[...document.querySelectorAll('.ranking > li')].map((li) => [Number(li.dataset.place), li.classList.contains('tied')])");
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for row in rows.as_array().unwrap() {
        let candidate = presented[row[0].as_u64().unwrap() as usize];
        match groups.last_mut().filter(|_| row[1] == true) {
            Some(group) => group.push(candidate),
            None => groups.push(vec![candidate]),
        }
    }
    groups
}

fn stored_ranking(running: &Running, n: usize) -> Vec<Vec<usize>> {
    match running.wait_for_judgements(n).pop().unwrap().verdict {
        Verdict::Ranking { order } => order,
        other => panic!("{other:?}"),
    }
}

/// Leaves a submission in the outbox, as if the page went before the answer came.
const KEEP_IN_OUTBOX: &str = "{
    const send = window.fetch;
    const key = `hearken.pending.${document.querySelector('#label').dataset.annotator}.again`;
    window.fetch = (path, options) => {
        const entry = { path, body: options?.body && JSON.parse(options.body), order: 0 };
        if (path === '/label/submit') localStorage.setItem(key, JSON.stringify(entry));
        return send(path, options);
    };
}";

/// Whatever is done to the list, what is stored is what the page showed.
#[test]
fn a_ranking_is_stored_as_it_was_arranged() {
    let Some(browser) = browser() else { return };
    let items = (0..4)
        .map(|n| {
            Item::new(Task::Ranking, prompt(&format!("Rank these, please ({n}).")), candidates(4))
        })
        .collect();
    let running = Start::with(items).run();
    let page = browser.page();
    page.goto(&running.at("/label"));

    // By keyboard: the fourth answer to the top, the third equal to the one above it.
    shown(&page, 1);
    let places = presented(&page);
    page.key("4");
    for _ in 0..3 {
        page.key("ArrowUp");
    }
    page.key("3");
    page.key("=");
    let expected = vec![vec![places[3]], vec![places[0]], vec![places[1], places[2]]];
    assert_eq!(ranking_on_page(&page), expected);
    page.screenshot("ranking");
    page.key("Enter");
    shown(&page, 2);
    assert_eq!(stored_ranking(&running, 1), expected);

    // By mouse: the first onto the gap after the third, then the fourth onto the second.
    let places = presented(&page);
    page.drag(".ranking li[data-place='0'] .name", ".ranking li[data-place='2']", 0.95);
    assert_eq!(ranking_on_page(&page), [1, 2, 0, 3].map(|place| vec![places[place]]));
    page.drag(".ranking li[data-place='3'] .name", ".ranking li[data-place='1']", 0.5);
    let expected = vec![vec![places[1], places[3]], vec![places[2]], vec![places[0]]];
    assert_eq!(ranking_on_page(&page), expected);
    page.click("[data-act=done]");
    shown(&page, 3);
    assert_eq!(stored_ranking(&running, 2), expected);

    // An order that nobody touched is asked about once.
    let places = presented(&page);
    page.key("Enter");
    assert!(page.text(".prompting").contains("as it was shown"));
    page.key("Enter");
    shown(&page, 4);
    assert_eq!(stored_ranking(&running, 3), places.iter().map(|k| vec![*k]).collect::<Vec<_>>());

    // Buttons; and what was stored comes back as it was when it is revised.
    page.click("li[data-place='1'] [data-act=equal]");
    page.click("li[data-place='3'] [data-act=up]");
    let expected = ranking_on_page(&page);
    page.eval(KEEP_IN_OUTBOX);
    page.click("[data-act=done]");
    assert_eq!(stored_ranking(&running, 4), expected);
    page.goto(&running.at("/label/history"));
    page.click("tbody tr:first-child a");
    shown(&page, 1);
    // What the page before had not heard the answer to is sent again, and ends nothing here.
    page.wait("!Object.keys(localStorage).some((key) => key.endsWith('.again'))");
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(page.count("article.item"), 1);
    assert_eq!(ranking_on_page(&page), expected);
    assert_eq!(page.problems(), Vec::<String>::new());
}

#[test]
fn ratings_belong_to_the_answers_they_were_given_to() {
    let Some(browser) = browser() else { return };
    let axis = |name: &str, min, max, labels: &[&str]| Axis {
        name: name.into(),
        min,
        max,
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
    };
    let settings = ProjectSettings {
        axes: vec![
            axis("helpfulness", 0, 4, &["useless", "poor", "fair", "good", "excellent"]),
            axis("correctness", 1, 5, &[]),
        ],
        ..ProjectSettings::default()
    };
    let items = (0..2)
        .map(|n| Item::new(Task::Rating, prompt(&format!("Rate ({n}).")), candidates(2)))
        .collect();
    let running = Start { settings, ..Start::with(items) }.run();
    let page = browser.page();
    page.goto(&running.at("/label"));
    shown(&page, 1);
    let places = presented(&page);
    for key in ["4", "5", "1"] {
        page.key(key);
    }
    page.key("9");
    assert!(page.text(".prompting").contains("from 1 to 5"), "{}", page.text(".prompting"));
    page.key("Enter");
    assert!(
        page.text(".prompting").contains("1 rating is left out"),
        "{}",
        page.text(".prompting")
    );
    page.screenshot("ratings");
    page.key("ArrowRight");
    page.key("ArrowRight");
    page.key("Enter");
    shown(&page, 2);
    let stored = running.wait_for_judgements(1).remove(0);
    assert_eq!(stored.presented, places);
    let by_candidate = |left: f64, right: f64| {
        let mut values = vec![None, None];
        (values[places[0]], values[places[1]]) = (Some(left), Some(right));
        values
    };
    let axes = BTreeMap::from([
        ("helpfulness".to_owned(), by_candidate(4.0, 1.0)),
        ("correctness".to_owned(), by_candidate(5.0, 2.0)),
    ]);
    assert_eq!(stored.verdict, Verdict::Ratings { axes });

    page.click("[data-place='1'] fieldset[data-axis=correctness] input[value='3']");
    page.key("Enter");
    page.key("Enter");
    let stored = running.wait_for_judgements(2).remove(1);
    let Verdict::Ratings { axes } = stored.verdict else { panic!() };
    assert_eq!(axes["correctness"][stored.presented[1]], Some(3.0));
    assert_eq!(axes["correctness"][stored.presented[0]], None);
    assert_eq!(page.problems(), Vec::<String>::new());
}

#[test]
fn steps_are_labelled_up_to_the_first_error() {
    let Some(browser) = browser() else { return };
    let steps = ["Let $x = 2$.", "Then $x^2 = 4$.", "So $x^2 + 1 = 6$.", "The answer is **6**."];
    let solution = Candidate { steps: steps.map(str::to_owned).to_vec(), ..Candidate::default() };
    let item = |n: usize| {
        let question = prompt(&format!("({n}) What is $x^2 + 1$ for $x = 2$?"));
        Item::new(Task::Steps, question, vec![solution.clone()])
    };
    let settings = ProjectSettings { stop_at_first_error: true, ..ProjectSettings::default() };
    let running = Start { settings, ..Start::with(vec![item(0), item(1)]) }.run();
    let page = browser.page();
    page.goto(&running.at("/label"));
    shown(&page, 1);
    for key in ["1", "2", "3"] {
        page.key(key);
    }
    assert_eq!(page.count("li.past"), 1);
    page.screenshot("steps");
    page.key("Enter");
    shown(&page, 2);
    let labels = |n: usize| match running.wait_for_judgements(n).pop().unwrap().verdict {
        Verdict::Steps { labels } => labels,
        other => panic!("{other:?}"),
    };
    assert_eq!(labels(1), [Some(1), Some(0), Some(-1), None]);

    for step in 0..4 {
        page.click(&format!("li[data-step='{step}'] .good"));
    }
    page.key("ArrowUp");
    page.key("2");
    page.click("[data-act=done]");
    assert_eq!(labels(2), [Some(1), Some(1), Some(0), Some(1)]);
    assert_eq!(page.problems(), Vec::<String>::new());
}

#[test]
fn clips_loop_side_by_side_and_stand_still_where_that_is_asked_for() {
    let Some(browser) = browser() else { return };
    let clip = |source: &str, alt: &str| Candidate {
        media: vec![Media { source: source.into(), alt: alt.into() }],
        ..Candidate::default()
    };
    let pair = || vec![clip("swing.gif", "a pendulum"), clip("fall.gif", "a ball that falls")];
    let mut other = Item::new(Task::Pairwise, prompt("Which looks more alive?"), pair());
    other.media = vec![Media { source: "disc.png".into(), alt: "a disc".into() }];
    let running = Start::with(vec![Item::new(Task::Pairwise, Vec::new(), pair()), other]).run();
    let page = browser.page();
    page.goto(&running.at("/label"));
    shown(&page, 1);
    page.wait("[...document.querySelectorAll('img.picture')].every((image) => image.complete && image.naturalWidth === 96)");
    assert_eq!(page.text(".question"), "Which clip is better?");
    page.screenshot("clips");
    let left = page.eval("document.querySelector('.answer img').src").as_str().unwrap().to_owned();
    page.key("p");
    page.key("1");
    shown(&page, 2);
    let stored = running.wait_for_judgements(1).remove(0);
    let item = running.store.item(&stored.item).unwrap().unwrap();
    let Verdict::Preferred { candidate, .. } = stored.verdict else { panic!("{stored:?}") };
    assert!(left.ends_with(&item.candidates[candidate].media[0].source));

    page.prefers(&[("prefers-reduced-motion", "reduce")]);
    page.goto(&running.at("/label"));
    page.wait("document.querySelectorAll('.answer canvas').length === 2");
    page.viewport(390, 844);
    page.screenshot("clips-phone-still");
    assert_eq!(page.problems(), Vec::<String>::new());
}

#[test]
fn sensitive_content_waits_to_be_asked_for_and_conversations_are_whole() {
    let Some(browser) = browser() else { return };
    let conversation = vec![
        Message::new(Role::System, "You are terse."),
        Message::new(Role::User, "How do I sort a list in Rust?"),
        Message::new(Role::Assistant, "```rust\nlist.sort();\n```"),
        Message::new(Role::User, "And *stably*, by the second field?"),
    ];
    let answers = vec![
        Candidate::text(
            "`sort_by_key` is stable:\n\n```rust\nlist.sort_by_key(|pair| pair.1);\n```",
        ),
        Candidate::text(
            "| method | stable |\n|---|---|\n| `sort` | yes |\n| `sort_unstable` | no |\n\nCost: \\[ O(n \\log n) \\]",
        ),
    ];
    let mut item = Item::new(Task::Pairwise, conversation, answers);
    item.sensitive = true;
    let running = Start::with(vec![item]).run();
    let page = browser.page();
    page.goto(&running.at("/label"));
    shown(&page, 1);
    page.screenshot("sensitive-veiled");
    assert_eq!(page.count(".content[inert]"), 1);
    page.key("1");
    page.click("[data-act=prefer]");
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(running.judgements().len(), 0, "nobody judges what was not shown");
    page.key("v");
    page.wait("document.querySelectorAll('.content[inert]').length === 0");
    assert_eq!(page.count(".turn"), 4);
    assert_eq!((page.count(".answer table"), page.count(".answer math")), (1, 1));
    page.screenshot("conversation");
    std::thread::sleep(std::time::Duration::from_millis(130));
    page.key("1");
    running.wait_for_judgements(1);
    assert_eq!(page.problems(), Vec::<String>::new());
}

/// A trace of an agent: its calls are seen, what tools gave is folded until it is asked for, and nothing of it is markup.
#[test]
fn a_trace_is_folded_and_its_steps_are_judged() {
    let Some(browser) = browser() else { return };
    let line = r#"{"id": "w1", "task": "steps", "prompt": [{"role": "user", "content": "Weather in Bern?"},
        {"role": "assistant", "content": null, "reasoning_content": "I need the tool.", "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Bern\"}"}}]},
        {"role": "tool", "name": "weather", "content": "{\"celsius\": 4, \"note\": \"<b>rain</b>\"}"}],
        "candidates": [{"steps": ["I ask the weather tool.", "It says 4 degrees.", "It is warm in Bern."]}]}"#;
    let item: Item = serde_json::from_str(line).unwrap();
    let running = Start::with(vec![item]).run();
    let page = browser.page();
    page.goto(&running.at("/label"));
    shown(&page, 1);
    let seen = page.text(".prompt");
    assert!(seen.contains("weather") && seen.contains("\"city\": \"Bern\""), "{seen}");
    assert_eq!(page.eval("document.querySelector('.observed').checkVisibility()"), false);
    page.screenshot("trace-folded");
    std::thread::sleep(std::time::Duration::from_millis(200));
    page.key("f");
    page.wait("document.querySelector('.observed').checkVisibility()");
    let observed = page.text(".observed");
    assert!(observed.contains("\"note\": \"<b>rain</b>\""), "{observed}");
    assert_eq!(page.violations(), Vec::<String>::new());
    page.screenshot("trace-unfolded");
    page.viewport(390, 844);
    page.full_screenshot("trace-phone");
    let widths = page.eval("[document.documentElement.scrollWidth, innerWidth]");
    assert_eq!(widths[0], widths[1], "nothing to scroll sideways");
    for key in ["1", "1", "3", "Enter"] {
        page.key(key);
    }
    let judgement = running.wait_for_judgements(1).remove(0);
    assert_eq!(judgement.verdict, Verdict::Steps { labels: vec![Some(1), Some(1), Some(-1)] });
    assert_eq!(page.problems(), Vec::<String>::new());
}

/// A suggestion stands above the buttons; one key takes it over, whichever side its answer is on.
#[test]
fn a_suggestion_is_taken_over_with_one_key() {
    let Some(browser) = browser() else { return };
    let suggest = |item: &mut Item, verdict: serde_json::Value| {
        let all = serde_json::json!([{"by": "model-z", "verdict": verdict}]);
        item.meta.insert("suggestions".into(), all);
    };
    let mut items: Vec<Item> = (0..6)
        .map(|n| {
            let mut item = Item::new(Task::Pairwise, prompt(&format!("pair {n}")), candidates(2));
            suggest(&mut item, serde_json::json!({"kind": "preferred", "candidate": 1}));
            item.priority = 1;
            item
        })
        .collect();
    let mut ranked = Item::new(Task::Ranking, prompt("rank"), candidates(3));
    suggest(&mut ranked, serde_json::json!({"kind": "ranking", "order": [[2], [0, 1]]}));
    items.push(ranked);
    let settings =
        ProjectSettings { suggestions: Suggestions::Shown, ..ProjectSettings::default() };
    let running = Start { settings, ..Start::with(items) }.run();
    let page = browser.page();
    page.goto(&running.at("/label"));
    for n in 1..=6 {
        shown(&page, n);
        let places = presented(&page);
        let side = if places[0] == 1 { "A" } else { "B" };
        assert_eq!(page.text(".suggestion strong"), format!("{side} is better"));
        if n == 1 {
            assert_eq!(page.violations(), Vec::<String>::new());
            page.screenshot("suggestion");
        }
        std::thread::sleep(std::time::Duration::from_millis(150));
        page.key("a");
    }
    shown(&page, 7);
    std::thread::sleep(std::time::Duration::from_millis(150));
    page.key("a");
    page.screenshot("suggestion-ranking");
    page.key("Enter");
    let judgements = running.wait_for_judgements(7);
    for judgement in &judgements[..6] {
        assert_eq!(judgement.verdict, Verdict::preferred(1));
        assert_eq!(judgement.suggestion, Some(Suggested::Shown));
    }
    let Verdict::Ranking { order } = &judgements[6].verdict else { panic!("a ranking") };
    assert_eq!((order[0].as_slice(), order[1].len()), (&[2][..], 2));
    assert_eq!(page.problems(), Vec::<String>::new());
}
