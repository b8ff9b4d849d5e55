//! What goes beyond choosing: a better answer that is written, rankings that leave answers out, conversations side by side
//! and turn by turn, suggestions that are confirmed many at once.

use hearken_collect::{ProjectSettings, Suggestions};
use hearken_data::feedback::{Candidate, Item, Suggested, Task, Verdict};
use serde_json::json;

use crate::browser;
use crate::cdp::Page;
use crate::first_hour::SMALL;
use crate::pairwise::shown;
use crate::service::{Start, pairs, prompt};

/// Ten turns of a conversation as the item's file gives them.
fn conversation(name: &str, turns: usize) -> Candidate {
    let said: Vec<_> = (0..turns)
        .flat_map(|turn| {
            [
                json!({"role": "user", "content": format!("Question {turn}: and then?")}),
                json!({"role": "assistant", "content": format!("Reply {turn} of {name}. It goes on **like this**.")}),
            ]
        })
        .collect();
    let mut candidate = Candidate::text(format!("{turns} turns of {name}"));
    candidate.meta.insert("messages".into(), json!(said));
    candidate
}

/// Pictures of the page and what axe-core says of it, on a desk and on a phone.
#[track_caller]
fn look(page: &Page, name: &str) {
    for (width, height) in [(390, 844), (1280, 900)] {
        page.viewport(width, height);
        page.screenshot(&format!("{name}-{width}"));
        assert_eq!(page.violations(), Vec::<String>::new(), "{name} at {width}");
        let widths = page.eval("[document.documentElement.scrollWidth, innerWidth]");
        assert_eq!(widths[0], widths[1], "{name} at {width}: nothing to scroll sideways");
        if width < 600 {
            assert_eq!(page.eval(SMALL), json!([]), "{name}: targets of less than 44 pixels");
        }
    }
}

/// What is written is sent with the verdict, comes back when the judgement is revised, and what says nothing new is not
/// sent.
#[test]
fn a_better_answer_is_written_from_one_that_is_there() {
    let Some(browser) = browser() else { return };
    let settings = ProjectSettings { better_answers: true, ..ProjectSettings::default() };
    let running = Start { settings, ..Start::with(pairs(3)) }.run();
    let page = browser.page();
    page.goto(&running.at("/label"));
    shown(&page, 1);
    page.key("w");
    page.eval("{ const from = document.querySelector('.better select'); from.value = '1'; from.dispatchEvent(new Event('change')); }");
    let begun = page.eval("document.querySelector('[name=better]').value");
    assert!(begun.as_str().unwrap().contains("candidate of pair"), "{begun}");
    page.eval("{ const field = document.querySelector('[name=better]'); field.value = 'Twelve, **since** 3 · 4.'; field.dispatchEvent(new Event('input')); }");
    look(&page, "better-answer");
    // A page that is loaded anew still has the draft.
    page.goto(&running.at("/label"));
    shown(&page, 1);
    assert_eq!(
        page.eval("document.querySelector('[name=better]').value"),
        "Twelve, **since** 3 · 4."
    );
    page.key("2");
    let judged = running.wait_for_judgements(1).remove(0);
    let better = judged.better.unwrap();
    assert_eq!(better.text, "Twelve, **since** 3 · 4.");
    assert_eq!(better.candidate, Some(judged.presented[1]));
    // Opened and left as it was: nothing is sent.
    shown(&page, 2);
    page.key("w");
    page.key("Escape");
    page.key("1");
    assert_eq!(running.wait_for_judgements(2)[1].better, None);
    page.goto(&running.at("/label/history"));
    assert!(page.text("main").contains("a better answer written"));
    page.click("tbody tr:nth-child(2) a");
    shown(&page, 1);
    assert_eq!(
        page.eval("document.querySelector('[name=better]').value"),
        "Twelve, **since** 3 · 4."
    );
    assert_eq!(page.problems(), Vec::<String>::new());
}

#[test]
fn a_ranking_may_leave_answers_out() {
    let Some(browser) = browser() else { return };
    let candidates: Vec<Candidate> =
        (0..4).map(|k| Candidate::text(format!("candidate-{k}"))).collect();
    let item = |n| Item::new(Task::Ranking, prompt(&format!("Rank ({n}).")), candidates.clone());
    let settings = ProjectSettings { partial_rankings: true, ..ProjectSettings::default() };
    let running = Start { settings, ..Start::with(vec![item(0), item(1)]) }.run();
    let page = browser.page();
    page.goto(&running.at("/label"));
    shown(&page, 1);
    for key in ["4", "0", "3", "0", "2", "="] {
        page.key(key);
    }
    look(&page, "partial-ranking");
    assert_eq!(page.count(".left-out > li"), 2);
    // The first that was left out comes back, to the end of the order.
    page.key("4");
    page.key("ArrowUp");
    page.key("Enter");
    let judged = running.wait_for_judgements(1).remove(0);
    let at = |place: usize| judged.presented[place];
    let expected = vec![vec![at(0), at(1)], vec![at(3)]];
    assert_eq!(judged.verdict, Verdict::Ranking { order: expected });
    page.goto(&running.at("/label/history"));
    page.click("tbody tr:first-child a");
    shown(&page, 1);
    assert_eq!(page.text(".left-out .name").trim(), "Answer C 3");
    assert_eq!(page.problems(), Vec::<String>::new());
}

/// Two conversations stand side by side with their turns; rated turn by turn each value belongs to its turn.
#[test]
fn conversations_are_compared_whole_and_rated_turn_by_turn() {
    let Some(browser) = browser() else { return };
    let both = || vec![conversation("one", 3), conversation("two", 2)];
    let mut pair = Item::new(Task::Pairwise, prompt("You are a guide. Begin."), both());
    pair.priority = 1;
    let rated = Item::new(Task::Rating, Vec::new(), both());
    let settings = ProjectSettings { rate_turns: true, ..ProjectSettings::default() };
    let running = Start { settings, ..Start::with(vec![pair, rated]) }.run();
    let page = browser.page();
    page.goto(&running.at("/label"));
    shown(&page, 1);
    assert_eq!(page.text("#item-title"), "Which conversation is better?");
    assert_eq!(page.count(".answer .turn"), 10);
    look(&page, "conversations");
    page.key("1");
    shown(&page, 2);
    assert_eq!(page.count("fieldset[data-axis]"), 5);
    for key in ["1", "2", "3", "4", "5"] {
        page.key(key);
    }
    look(&page, "turns");
    page.key("Enter");
    let judged = running.wait_for_judgements(2).remove(1);
    let Verdict::Ratings { axes } = judged.verdict else { panic!("{:?}", judged.verdict) };
    let long = judged.presented.iter().position(|candidate| *candidate == 0).unwrap();
    let first = if long == 0 { [1.0, 2.0, 3.0] } else { [3.0, 4.0, 5.0] };
    for (turn, value) in (1..).zip(first) {
        assert_eq!(axes[&format!("quality, turn {turn}")][0], Some(value));
    }
    assert_eq!(axes["quality, turn 3"][1], None);
    assert_eq!(page.problems(), Vec::<String>::new());
}

/// Ticked suggestions are judgements under their own names; the others come one by one, and gold items are not among them.
#[test]
fn suggestions_are_confirmed_many_at_once() {
    let Some(browser) = browser() else { return };
    let mut items = pairs(4);
    for (index, item) in items.iter_mut().enumerate().take(3) {
        let verdict = Verdict::preferred(index % 2);
        item.meta.insert("suggestions".into(), json!([{"verdict": verdict, "agent": "m"}]));
    }
    let settings = ProjectSettings {
        suggestions: Suggestions::Shown,
        confirm_in_bulk: true,
        ..ProjectSettings::default()
    };
    let running = Start { settings, ..Start::with(items) }.run();
    let page = browser.page();
    page.goto(&running.at("/label/suggestions"));
    assert_eq!(page.count(".suggested > li"), 3);
    look(&page, "suggestions");
    page.click(".suggested > li:nth-child(1) input[type=checkbox]");
    page.click(".suggested > li:nth-child(2) input[type=checkbox]");
    page.click(".bulk-confirm button");
    let judged = running.wait_for_judgements(2);
    for one in &judged {
        let index: usize = one.item.strip_prefix("pair-").unwrap().parse().unwrap();
        assert_eq!(one.verdict, Verdict::preferred(index % 2));
        assert_eq!(one.suggestion, Some(Suggested::Shown));
        assert!(one.id.starts_with("bulk-"));
    }
    shown(&page, 1);
    assert_eq!(page.count(".suggestion"), 1);
    assert_eq!(page.problems(), Vec::<String>::new());
}

/// In a language that is written from right to left the keys still mean the sides that they point to.
#[test]
fn pages_in_arabic_read_from_right_to_left_and_sides_stay_where_their_keys_are() {
    let Some(browser) = browser() else { return };
    let settings =
        ProjectSettings { better_answers: true, strength_points: 2, ..ProjectSettings::default() };
    let running = Start { settings, ..Start::with(pairs(3)) }.run();
    let page = browser.page();
    page.goto(&running.at("/language?to=de"));
    shown(&page, 1);
    assert!(page.text(".verdict").contains("A besser"), "{}", page.text(".verdict"));
    look(&page, "german");
    page.goto(&running.at("/language?to=ar"));
    shown(&page, 1);
    assert_eq!(page.eval("document.documentElement.dir"), "rtl");
    let at = |place: usize| {
        let script = format!(
            "document.querySelector('.answer[data-place=\"{place}\"]').getBoundingClientRect().x"
        );
        page.eval(&script).as_f64().unwrap()
    };
    look(&page, "arabic");
    assert!(at(0) < at(1), "A is on the left");
    page.key("ArrowLeft");
    page.key("1");
    let judged = running.wait_for_judgements(1).remove(0);
    let Verdict::Preferred { candidate, .. } = judged.verdict else {
        panic!("{:?}", judged.verdict)
    };
    assert_eq!(candidate, judged.presented[0]);
    for path in ["/admin/settings", "/admin/people", "/label/history"] {
        page.goto(&running.at(path));
        look(&page, &format!("arabic{}", path.replace('/', "-")));
    }
    assert_eq!(page.problems(), Vec::<String>::new());
}
