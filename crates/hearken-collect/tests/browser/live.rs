//! Live answers: two models write at once, one of them fails, the vote is stored.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::time::Duration;

use hearken_collect::parts::{Answerer, Parts};
use hearken_data::Message;
use hearken_data::feedback::Verdict;
use hearken_judge::chat::{Api, ChatClient, ChatOptions, Timeouts};
use hearken_testing::chat::{Reply, Stub};

use crate::browser;
use crate::service::Start;

/// Says its lines word by word; a line that starts with `!` is an error.
struct Scripted {
    model: &'static str,
    lines: Mutex<Vec<&'static str>>,
}

impl Scripted {
    fn new(model: &'static str, lines: &[&'static str]) -> Box<Self> {
        let lines = Mutex::new(lines.iter().rev().copied().collect());
        Box::new(Self { model, lines })
    }
}

impl Answerer for Scripted {
    fn model(&self) -> &str {
        self.model
    }

    fn answer(
        &self,
        conversation: &[Message],
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<String, String> {
        let line = self.lines.lock().unwrap().pop().unwrap_or("no more lines");
        if let Some(problem) = line.strip_prefix('!') {
            return Err(problem.to_owned());
        }
        let text = format!("{line} Turn {}.", conversation.len());
        for word in text.split_inclusive(' ') {
            std::thread::sleep(Duration::from_millis(40));
            if on_text(word).is_break() {
                break;
            }
        }
        Ok(text)
    }
}

#[test]
fn answers_stream_side_by_side_and_the_vote_is_stored() {
    let Some(browser) = browser() else { return };
    let attack = "Alpha: <img src=x onerror=alert(1)> **bold** words that come one by one, slowly, to be watched.";
    let alpha = Scripted::new("model-alpha", &[attack, "Alpha again.", "Alpha.", "Alpha."]);
    let beta = Scripted::new(
        "model-beta",
        &["Beta: $x^2$.", "!model-beta is overloaded, come back later", "Beta at last.", "Beta."],
    );
    let parts = Parts { answerers: vec![alpha, beta], ..Parts::default() };
    let running = Start { parts, ..Start::default() }.run();
    let page = browser.page();
    page.goto(&running.at("/live"));
    page.click("[name=prompt]");
    page.insert("Say something.");
    page.ctrl_enter();

    page.wait("document.querySelector('#answers .text').innerText.length > 0 || document.querySelectorAll('#answers .text')[1].innerText.length > 0");
    page.wait("[...document.querySelectorAll('#answers .text')].some((t) => t.innerText.includes('Alpha:') && t.classList.contains('plain'))");
    assert_eq!(
        page.eval("[...document.querySelectorAll('#vote .main button')].every((b) => b.disabled)"),
        true
    );
    page.screenshot("live-streaming");
    page.wait("[...document.querySelectorAll('#vote .main button')].every((b) => !b.disabled)");
    page.screenshot("live-ready");
    assert!(!page.text("main").contains("model-"), "models are hidden");
    assert_eq!(
        (page.count("#answers strong"), page.count("#answers math"), page.count("#answers img")),
        (1, 1, 0)
    );
    let alpha_is_right = page.text("#answers [data-place='1']").contains("Alpha");
    page.key(if alpha_is_right { "2" } else { "1" });
    let first = running.wait_for_judgements(1).remove(0);
    let item = running.store.item(&first.item).unwrap().unwrap();
    let Verdict::Preferred { candidate, .. } = first.verdict else { panic!("{first:?}") };
    assert_eq!(item.candidates[candidate].model.as_deref(), Some("model-alpha"));
    assert_eq!(first.presented, if alpha_is_right { [1, 0] } else { [0, 1] });

    // The conversation goes on with the better answer; one model fails, and is asked again.
    page.wait("!document.querySelector('#ask').hidden");
    page.insert("Go on.");
    page.ctrl_enter();
    page.wait("document.querySelector('.answer.failed') !== null && !document.querySelector('[data-act=retry]').hidden");
    let failed = page.text(".answer.failed");
    assert!(
        failed.contains("the model is overloaded") && !failed.contains("model-beta"),
        "{failed}"
    );
    assert_eq!(
        page.eval("[...document.querySelectorAll('#vote .main button')].every((b) => b.disabled)"),
        true
    );
    page.screenshot("live-failed");
    page.click("[data-act=retry]");
    page.wait("[...document.querySelectorAll('#vote .main button')].every((b) => !b.disabled)");
    page.click("[data-act=tie]");
    let second = running.wait_for_judgements(2).remove(1);
    let item = running.store.item(&second.item).unwrap().unwrap();
    assert_eq!(second.verdict, Verdict::Tie);
    assert_eq!(item.prompt.len(), 3);
    assert!(item.prompt[1].content.starts_with("Alpha:"));
    assert_eq!(page.problems(), Vec::<String>::new());
}

/// An API that does what the prompt says.
fn moody() -> Stub {
    Stub::start(|request| {
        let messages = request.body["messages"].as_array().cloned().unwrap_or_default();
        let prompt = messages.last().and_then(|last| last["content"].as_str().map(str::to_owned));
        let is_beta = request.body["model"] == "beta";
        match prompt.as_deref() {
            Some("refuse") if is_beta => {
                Reply::status(401, r#"{"error": {"message": "no such key"}}"#)
            }
            Some("nonsense") if is_beta => {
                Reply::status(200, "<html>not what you asked for</html>")
            }
            Some("silence") if is_beta => Reply::Silence(Duration::from_secs(3)),
            _ => {
                Reply::words(&["One ", "*word* ", "after ", "another."], Duration::from_millis(60))
            }
        }
    })
}

#[test]
fn an_api_that_is_slow_refuses_or_answers_nonsense_leaves_the_page_usable() {
    let Some(browser) = browser() else { return };
    let stub = moody();
    let client = |model: &str| {
        let patience = Duration::from_millis(900);
        let timeouts = Timeouts { first_text: patience, ..Timeouts::default() };
        let options = ChatOptions::new(Api::OpenAi, stub.url(), model);
        let client = ChatClient::new(ChatOptions { timeouts, retries_max: 0, ..options }).unwrap();
        Box::new(client) as Box<dyn Answerer>
    };
    let parts = Parts { answerers: vec![client("alpha"), client("beta")], ..Parts::default() };
    let running = Start { parts, ..Start::default() }.run();
    let page = browser.page();
    page.goto(&running.at("/live"));
    for prompt in ["refuse", "nonsense", "silence"] {
        page.wait("!document.querySelector('#ask').hidden");
        page.click("[name=prompt]");
        page.insert(prompt);
        page.click("#ask .primary");
        page.wait("!document.querySelector('[data-act=retry]').hidden");
        assert_eq!(page.count(".answer.failed"), 1, "{prompt}");
        let state = page.text(".answer.failed .state");
        eprintln!("{prompt}: {state}");
        assert!(10 < state.len() && !state.contains("beta"), "{prompt}: {state}");
        assert!(!state.contains("http"), "where the model is says which it is: {state}");
        assert_eq!(page.count(".answer:not(.failed) em"), 1, "the other side is there");
        page.click("#vote [data-act=anew]");
    }
    page.wait("!document.querySelector('#ask').hidden");
    page.click("[name=prompt]");
    page.insert("please");
    page.click("#ask .primary");
    page.wait("[...document.querySelectorAll('#vote .main button')].every((b) => !b.disabled)");
    page.key("1");
    let stored = running.wait_for_judgements(1).remove(0);
    let item = running.store.item(&stored.item).unwrap().unwrap();
    assert_eq!(item.candidates[0].text, "One *word* after another.");
    assert_eq!(item.candidates[1].model.as_deref(), Some("beta"));
    assert_eq!(page.problems(), Vec::<String>::new());
}
