//! What people meet in their first hour: forms that are filled in wrongly, the guidelines, the trial, a double click, a
//! refused judgement, conversations, clips, a phone; and what axe-core says of every page.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hearken_collect::accounts::Role;
use hearken_collect::distribute::{ChosenItem, Eligible, Order};
use hearken_collect::parts::Parts;
use hearken_collect::{OpenId, ProjectSettings};
use hearken_data::feedback::{Candidate, Gold, Item, Task, Verdict};
use hearken_data::{Message, Role as Speaker};
use serde_json::json;

use crate::browser;
use crate::cdp::Page;
use crate::pairwise::shown;
use crate::service::{PASSWORD, Running, Start, pairs, prompt};

pub(crate) fn sign_in(page: &Page, running: &Running, name: &str, password: &str) {
    page.goto(&running.at("/login"));
    page.eval(&format!("document.querySelector('[name=name]').value = {}", json!(name)));
    page.eval(&format!("document.querySelector('[name=password]').value = {}", json!(password)));
    page.click("form .primary");
    page.wait(
        "document.readyState === 'complete' && !!document.querySelector('.who, .message.bad')",
    );
}

/// The address of an invitation that ada makes.
fn invited(page: &Page, running: &Running) -> String {
    page.goto(&running.at("/admin/people"));
    page.click("form[action='/admin/people/invite'] .primary");
    page.wait("!!document.querySelector('code.secret')");
    page.text("code.secret")
}

#[test]
fn forms_that_are_filled_in_wrongly_say_so_on_their_page() {
    let Some(browser) = browser() else { return };
    let people = vec![("ada", Role::Administrator)];
    let running = Start { people, ..Start::with(pairs(2)) }.run();
    let page = browser.page();
    sign_in(&page, &running, "ada", "wrong wrong wrong");
    assert_eq!(page.text(".message.bad"), "Name or password is wrong.");
    assert_eq!(page.eval("document.querySelector('[name=name]').value"), "ada");
    assert!(!page.text("body").contains('<'), "{}", page.text("body"));
    page.screenshot("wrong-password");

    sign_in(&page, &running, "ada", PASSWORD);
    let link = invited(&page, &running);
    let other = browser.page();
    let join = |name: &str, again: &str| {
        other.goto(&link);
        for (field, value) in [("name", name), ("password", PASSWORD), ("again", again)] {
            let set = format!("document.querySelector('[name={field}]').value = {}", json!(value));
            other.eval(&set);
        }
        other.click("form .primary");
        other.wait(
            "document.readyState === 'complete' && !!document.querySelector('.who, .message.bad')",
        );
        other.text(".message.bad:not([hidden])")
    };
    let differ = join("bob", "something else entirely");
    assert!(differ.contains("differ") && !differ.contains('<'), "{differ}");
    other.screenshot("invitation-differs");
    let taken = join("ada", PASSWORD);
    assert!(!taken.is_empty() && !taken.contains('<'), "{taken}");
    assert_eq!(join("bob", PASSWORD), "");

    // What is not theirs is a page with everything around it.
    other.goto(&running.at("/admin/people"));
    assert!(other.text(".message.bad").contains("role of annotator"));
    assert_eq!(other.count("nav[aria-label=Main] a[href='/label']"), 1);
    other.screenshot("error-with-navigation");
    other.goto(&running.at("/account"));
    other.eval("document.querySelector('[name=password]').value = 'not the present one'");
    other.eval("for (const n of ['new', 'again']) document.querySelector(`[name=${n}]`).value = 'another long password'");
    other.click("form[action='/account/password'] .primary");
    other.wait("!!document.querySelector('.message.bad')");
    assert_eq!(other.text(".message.bad"), "the present password is not right");
    assert_eq!(other.text("h1"), "Your account");
}

#[test]
fn the_guidelines_are_there() {
    let Some(browser) = browser() else { return };
    let guidelines = "# Be fair\n\n### Look twice\n\n|a|b|\n|-|-:|\n|1|2|";
    let running = Start { guidelines, ..Start::with(pairs(1)) }.run();
    let page = browser.page();
    page.goto(&running.at("/guidelines"));
    assert_eq!(page.text("main h2"), "Be fair");
    assert_eq!(page.text("main h3"), "Look twice");
    let aligned =
        "[...document.querySelectorAll('main td')].map((c) => getComputedStyle(c).textAlign)";
    assert_eq!(page.eval(aligned), json!(["start", "right"]));
    page.screenshot("guidelines");
}

fn trial(id: &str) -> Item {
    let mut item = pairs(1).remove(0);
    item.id = id.into();
    let reason = Some("The first is shorter.".into());
    item.gold = Some(Gold { verdict: Verdict::preferred(0), reason, screening: true });
    item
}

#[test]
fn after_the_trial_the_work_begins_and_what_was_said_of_it_goes_away() {
    let Some(browser) = browser() else { return };
    let mut items = pairs(3);
    items.extend((0..2).map(|at| trial(&format!("trial-{at}"))));
    let settings =
        ProjectSettings { gold_share: 0.0, screening_threshold: 0.0, ..ProjectSettings::default() };
    let people = vec![("ada", Role::Administrator), ("bob", Role::Annotator)];
    let running = Start { settings, people, ..Start::with(items) }.run();
    let page = browser.page();
    sign_in(&page, &running, "bob", PASSWORD);
    page.goto(&running.at("/label"));
    for n in 1..=2 {
        shown(&page, n);
        assert_eq!(page.count("#feedback:not([hidden])"), 0, "nothing is told before the end");
        page.key("t");
    }
    shown(&page, 3);
    page.wait("!document.querySelector('#feedback').hidden");
    let told = page.text("#feedback p");
    assert!(told.contains("0 of 2 items") && told.contains("The first is shorter."), "{told}");
    page.screenshot("trial-over");
    page.key("t");
    shown(&page, 4);
    page.wait("document.querySelector('#feedback').hidden");
    assert_eq!(
        page.count("#progress-bar:not([hidden])"),
        0,
        "the counter of all is for those who run it"
    );
    running.wait_for_judgements(3);
}

#[test]
fn a_double_click_judges_one_item() {
    let Some(browser) = browser() else { return };
    let running = Start::with(pairs(5)).run();
    let page = browser.page();
    page.goto(&running.at("/label"));
    shown(&page, 1);
    page.double_click("[data-act=prefer][data-place='0']");
    shown(&page, 2);
    std::thread::sleep(Duration::from_millis(900));
    assert_eq!(running.judgements().len(), 1);
    // A deliberate click counts.
    page.click("[data-act=prefer][data-place='0']");
    running.wait_for_judgements(2);
}

#[test]
fn a_refused_judgement_is_told_until_it_is_read() {
    let Some(browser) = browser() else { return };
    let running = Start::with(pairs(3)).run();
    let page = browser.page();
    page.goto(&running.at("/label"));
    shown(&page, 1);
    page.eval("localStorage.setItem('hearken.pending.local.x', JSON.stringify({order: 1, path: '/label/submit', body: {id: 'x', assignment: 'nobody has it', answer: {kind: 'tie'}}}))");
    page.goto(&running.at("/label"));
    shown(&page, 1);
    page.wait("document.querySelector('#trouble').innerText.includes('was not stored')");
    page.key("t");
    shown(&page, 2);
    running.wait_for_judgements(1);
    std::thread::sleep(Duration::from_millis(300));
    assert!(page.text("#trouble").contains("was not stored"), "{}", page.text("#trouble"));
    page.screenshot("refused");
    page.click("#trouble [data-act=dismiss]");
    page.wait("document.querySelector('#trouble').hidden");
}

fn conversation() -> Item {
    let turn = |role, text: &str| Message::new(role, text.repeat(12));
    let turns = vec![
        turn(Speaker::User, "How do I begin? "),
        turn(Speaker::Assistant, "With the beginning, as everybody does, and then on and on. "),
        turn(Speaker::User, "And then? "),
        turn(Speaker::Assistant, "Then you go on, line after line, until there is nothing left. "),
        Message::new(Speaker::User, "The last question."),
    ];
    let answers = vec![
        Candidate::text("An answer that is long enough to be read. ".repeat(12)),
        Candidate::text(""),
    ];
    Item::new(Task::Pairwise, turns, answers)
}

#[test]
fn a_conversation_shows_its_last_question_and_an_empty_answer_says_that_it_is_empty() {
    let Some(browser) = browser() else { return };
    let running = Start::with(vec![conversation()]).run();
    let page = browser.page();
    for (width, height, name) in [(1280, 800, "conversation-end"), (390, 844, "phone-conversation")]
    {
        page.viewport(width, height);
        page.goto(&running.at("/label"));
        shown(&page, 1);
        let is_seen = page.eval(
            "(() => { const p = document.querySelector('.prompt').getBoundingClientRect(), t = [...document.querySelectorAll('.turn')].at(-1).getBoundingClientRect(); return p.top - 1 <= t.top && t.bottom <= p.bottom + 12; })()",
        );
        assert_eq!(is_seen, true, "{width}");
        assert_eq!(page.count("p.empty"), 1);
        page.screenshot(name);
    }
}

#[test]
fn clips_are_players_and_their_parts_are_served() {
    let Some(browser) = browser() else { return };
    let clip = |name: &str| -> Candidate {
        serde_json::from_value(json!({"media": [{"source": name, "alt": "a clip"}]})).unwrap()
    };
    let item = Item::new(Task::Pairwise, prompt("?"), vec![clip("a.mp4"), clip("b.webm")]);
    let running = Start::with(vec![item]).run();
    let page = browser.page();
    page.goto(&running.at("/label"));
    shown(&page, 1);
    assert_eq!((page.count("video.picture[controls]"), page.count("img.picture")), (2, 0));
    assert_eq!(page.count("[data-act=replay]"), 1);
}

/// An image of 900 × 1400 points in a few bytes.
const TALL: &str = "data:image/gif;base64,R0lGODlhhAN4BYAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";

#[test]
fn an_image_of_the_prompt_is_seen_whole() {
    let Some(browser) = browser() else { return };
    let item = |text: &str, media: bool, screen: usize| {
        let answers = vec![Candidate::text("A box."), Candidate::text(format!("{screen} hats."))];
        let mut item = Item::new(Task::Pairwise, prompt(text), answers);
        if media {
            item.media = serde_json::from_value(json!([{"source": TALL, "alt": "a box"}])).unwrap();
        }
        item
    };
    let in_text = format!("What? ![box]({TALL})");
    // What was skipped on one screen does not come again on the other.
    let of = |screen| [item("What is this?", true, screen), item(&in_text, false, screen)];
    let items = [of(1), of(2)].concat();
    let running = Start::with(items).run();
    let page = browser.page();
    for (width, height, name) in [(1280, 800, "prompt-image"), (390, 844, "phone-prompt-image")] {
        page.viewport(width, height);
        page.goto(&running.at("/label"));
        for n in 1..=2 {
            shown(&page, n);
            page.wait("document.querySelector('.prompt img').complete");
            let seen = page.eval(
                "(() => { const p = document.querySelector('.prompt').getBoundingClientRect(), i = document.querySelector('.prompt img').getBoundingClientRect(); return [p.top <= i.top && i.bottom <= p.bottom + 1 && i.right <= p.right + 1, i.height / i.width]; })()",
            );
            assert_eq!(seen[0], true, "{width}: {n}");
            let shape = seen[1].as_f64().unwrap();
            assert!((shape - 1400.0 / 900.0).abs() < 0.05, "{shape}");
            page.screenshot(&format!("{name}-{n}"));
            page.key("s");
        }
    }
}

/// An order that takes long for its first choice.
struct Slow(AtomicBool);

/// Longer than any other request may take.
const SLOW: Duration = Duration::from_secs(22);

impl Order for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn choose(&self, eligible: &Eligible<'_>, _: &mut dyn rand::Rng) -> ChosenItem {
        if !self.0.swap(true, Ordering::SeqCst) {
            std::thread::sleep(SLOW);
        }
        let offer = eligible.iter().next().unwrap();
        ChosenItem { handle: offer.handle, probability: 1.0 }
    }
}

#[test]
fn an_item_that_takes_long_to_come_is_waited_for_and_asked_for_once() {
    let Some(browser) = browser() else { return };
    let order: Box<dyn Order> = Box::new(Slow(AtomicBool::new(false)));
    let parts = Parts { orders: vec![order], ..Parts::default() };
    let settings = ProjectSettings { order: "slow".into(), ..ProjectSettings::default() };
    let running = Start { settings, parts, ..Start::with(pairs(1)) }.run();
    let page = browser.page();
    page.goto(&running.at("/label"));
    std::thread::sleep(SLOW.mul_f64(0.95));
    assert_eq!(page.requests("/label/next"), 1);
    assert_eq!((page.count("article.item"), page.count("#trouble:not([hidden])")), (0, 0));
    shown(&page, 1);
}

#[test]
fn on_a_phone_the_first_answer_has_half_of_the_screen() {
    let Some(browser) = browser() else { return };
    let mut items = pairs(1);
    items[0].candidates[0].text = "It goes on for many lines, as answers do. ".repeat(60);
    items[0].candidates[1].text = items[0].candidates[0].text.clone();
    items[0].prompt = prompt(&"Would you please explain at some length how this works? ".repeat(8));
    for (strength_points, name) in [(0, "phone-half"), (3, "phone-half-strength")] {
        let settings = ProjectSettings { strength_points, ..ProjectSettings::default() };
        let running = Start { settings, ..Start::with(items.clone()) }.run();
        let page = browser.page();
        page.viewport(390, 844);
        page.goto(&running.at("/label"));
        shown(&page, 1);
        page.screenshot(name);
        let share = page.eval(
            "(() => { const a = document.querySelector('.answer').getBoundingClientRect(), v = document.querySelector('.verdict').getBoundingClientRect(); return (Math.min(a.bottom, v.top) - Math.max(a.top, 0)) / innerHeight; })()",
        );
        assert!(0.5 <= share.as_f64().unwrap(), "{name}: {share}");
        let small = page.eval(SMALL);
        assert_eq!(small, json!([]), "targets of less than 44 pixels");
        let widths = page.eval("[document.documentElement.scrollWidth, innerWidth]");
        assert_eq!(widths[0], widths[1], "nothing to scroll sideways");
    }
}

/// What can be pressed and is less than 44 pixels high or wide; links within a text may be.
pub(crate) const SMALL: &str = "[...document.querySelectorAll('button, select, summary, input:not([type=hidden]), nav a, .who a, .project')].filter((e) => e.offsetParent && !e.closest('.values, label.check') && !e.classList.contains('skip')).filter((e) => { const b = e.getBoundingClientRect(); return b.height < 43.5 || b.width < 43.5; }).map((e) => e.outerHTML.slice(0, 120))";

#[test]
fn ratings_go_on_by_mouse_as_they_do_by_key() {
    let Some(browser) = browser() else { return };
    let answers = vec![Candidate::text("one"), Candidate::text("two")];
    let running = Start::with(vec![Item::new(Task::Rating, prompt("?"), answers)]).run();
    let page = browser.page();
    page.goto(&running.at("/label"));
    shown(&page, 1);
    page.click(".answer[data-place='0'] input[value='4']");
    page.wait("document.querySelectorAll('.answer[data-place=\"1\"] fieldset.at').length === 1");
    page.wait("document.activeElement.closest('.answer[data-place=\"1\"] fieldset.at') !== null");
    page.key("2");
    page.wait("document.querySelectorAll('input:checked').length === 2");
    page.key("Enter");
    let judgement = running.wait_for_judgements(1).remove(0);
    let Verdict::Ratings { axes } = judgement.verdict else { panic!("{:?}", judgement.verdict) };
    let mut values: Vec<f64> = axes["quality"].iter().map(|value| value.unwrap()).collect();
    values.sort_by(f64::total_cmp);
    assert_eq!(values, [2.0, 4.0]);
}

fn everything() -> Vec<Item> {
    let mut items = pairs(24);
    items.push(conversation());
    let answers = |n: usize| (0..n).map(|at| Candidate::text(format!("Answer {at}."))).collect();
    items.push(Item::new(Task::Ranking, prompt("rank"), answers(3)));
    items.push(Item::new(Task::Rating, prompt("rate"), answers(2)));
    let steps = Candidate { steps: vec!["One.".into(), "Two.".into()], ..Candidate::default() };
    items.push(Item::new(Task::Steps, prompt("steps"), vec![steps]));
    items
}

/// Judges every item, and looks at each kind.
fn judge_everything(page: &Page, label: &str, look: &mut dyn FnMut(&Page, &str)) {
    page.goto(label);
    let mut tasks = std::collections::BTreeSet::new();
    for n in 1..=28 {
        shown(page, n);
        let task = page.eval("document.querySelector('article.item').dataset.task");
        let task = task.as_str().unwrap().to_owned();
        if tasks.insert(task.clone()) || page.count(".turn") > 2 {
            look(page, &task);
            page.full_screenshot(&format!("task-{task}"));
        }
        match &*task {
            "pairwise" => page.key("t"),
            "ranking" => (page.key("Enter"), page.key("Enter")).0,
            "rating" => (page.key("3"), page.key("4"), page.key("Enter")).0,
            _ => (page.key("1"), page.key("1"), page.key("Enter")).0,
        }
    }
    assert_eq!(tasks.len(), 4);
}

#[test]
fn axe_finds_nothing_on_any_page_on_a_desk_and_on_a_phone() {
    let Some(browser) = browser() else { return };
    let settings = ProjectSettings { strength_points: 2, ..ProjectSettings::default() };
    let people = vec![("ada", Role::Administrator), ("bob", Role::Annotator)];
    let guidelines = "# Be fair\n\n- read\n- judge\n\n```\na long line of code that goes on and on and on and on and on and on and on and on and on\n```";
    let running = Start { settings, people, guidelines, ..Start::with(everything()) }.run();
    let page = browser.page();
    let mut found = Vec::new();
    let mut look = |page: &Page, name: &str| {
        for problem in page.violations() {
            found.push(format!("{name}: {problem}"));
        }
    };
    page.goto(&running.at("/login"));
    look(&page, "/login");
    sign_in(&page, &running, "ada", PASSWORD);
    judge_everything(&page, &running.at("/label"), &mut look);
    running.wait_for_judgements(28);
    page.goto(&running.at("/admin/people"));
    page.click("form[action='/admin/people/invite'] .primary");
    page.wait("!!document.querySelector('code.secret')");
    look(&page, "invited");
    let link = page.text("code.secret");
    for (width, height) in [(1280, 900), (390, 844)] {
        page.viewport(width, height);
        for path in [
            "/label",
            "/label/history",
            "/live",
            "/guidelines",
            "/progress",
            "/analysis",
            "/account",
            "/admin/items",
            "/admin/people",
            "/admin/guidelines",
            "/admin/settings",
            "/admin/export?format=hearken",
            "/admin/tokens",
            "/admin/webhooks",
            "/admin/audit",
            "/nothing",
        ] {
            page.goto(&running.at(path));
            look(&page, &format!("{path} at {width}"));
            let name = path.trim_matches('/').replace(['/', '?', '='], "-");
            page.screenshot(&format!("page-{name}-{width}"));
            if width < 600 {
                let small = page.eval(SMALL);
                assert_eq!(small, json!([]), "{path}: targets of less than 44 pixels");
                let widths = page.eval("[document.documentElement.scrollWidth, innerWidth]");
                assert_eq!(widths[0], widths[1], "{path}: nothing to scroll sideways");
            }
        }
    }
    let other = browser.page();
    other.goto(&link);
    look(&other, "/invite");
    page.goto(&running.at("/admin/people"));
    page.eval("document.querySelector(\"form[action='/admin/people/reset'] button\").click()");
    page.wait("!!document.querySelector('code.secret')");
    other.goto(&page.text("code.secret"));
    assert_eq!(other.count("input[type=password]"), 2);
    look(&other, "/reset");
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn axe_finds_nothing_where_people_sign_in_by_a_provider() {
    let Some(browser) = browser() else { return };
    let people = vec![("ada", Role::Administrator)];
    let openid = OpenId {
        issuer: "https://id.example.org".into(),
        client_id: "hearken".into(),
        secret: "secret".into(),
        role: None,
    };
    let running = Start { people, openid: Some(openid), ..Start::with(pairs(1)) }.run();
    let page = browser.page();
    sign_in(&page, &running, "ada", PASSWORD);
    let link = invited(&page, &running);
    let other = browser.page();
    for (width, height) in [(1280, 900), (390, 844)] {
        for (page, path) in [
            (&other, running.at("/login")),
            (&other, link.clone()),
            (&page, running.at("/account")),
        ] {
            page.viewport(width, height);
            page.goto(&path);
            assert_eq!(page.count("a.button[href*='/openid?']"), 1, "{path}");
            assert_eq!(page.violations(), Vec::<String>::new(), "{path} at {width}");
            let small = page.eval(&SMALL.replace("nav a", "nav a, a.button"));
            assert!(600 < width || small == json!([]), "{path}: {small}");
            let name = path.rsplit('/').find(|part| part.len() < 10).unwrap_or("invite");
            page.screenshot(&format!("openid-{name}-{width}"));
        }
    }
}
