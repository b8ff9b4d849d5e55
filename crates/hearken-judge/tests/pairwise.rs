//! Judges of two completions: a model on a server of our own, and programs.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hearken_data::{Message, Role};
use hearken_judge::chat::{Api, ChatOptions, Timeouts};
use hearken_judge::model::{
    AnswerDraw, Budget, ChatModel, KeptAnswers, KeptModel, LanguageModel, Price,
};
use hearken_judge::pairwise::{
    ChatJudge, ChatJudgeOptions, CommandJudge, CompletionPair, Orders, PairwiseJudge, Preferences,
    Rules, Template, Unreadable, preferences,
};
use hearken_judge::{ChoiceMethod, ChoiceOptions, CommandOptions, JudgeError};
use hearken_testing::chat::{ChatReceived, Reply, Stub};
use serde_json::{Map, Value, json};

const RULES: Rules = Rules { orders: Orders::Both, unreadable: Unreadable::Tie };

fn chat(api: Api, url: String, rules: Rules) -> ChatJudge {
    let limit = Duration::from_secs(2);
    let timeouts =
        Timeouts { connect: limit, first_text: limit, between_texts: limit, total: limit };
    let chat = ChatOptions {
        timeouts,
        first_pause: Duration::from_millis(10),
        retries_max: 3,
        key: Some("sk-secret".into()),
        ..ChatOptions::new(api, url, "m")
    };
    let options = ChatJudgeOptions {
        system: "Be fair.".to_owned(),
        question: Template::new("{prompt}|{a}|{b}").unwrap(),
        choice: choice(ChoiceMethod::Verdict),
        parallel: 3,
        rules,
    };
    ChatJudge::new(Arc::new(ChatModel::new(chat).unwrap()), options)
}

fn choice(method: ChoiceMethod) -> ChoiceOptions {
    ChoiceOptions {
        choices: ["A", "B", "C"].map(str::to_owned).into(),
        method,
        votes: 3,
        draw: AnswerDraw::default(),
        reasoning: None,
    }
}

fn compare(judge: &mut dyn PairwiseJudge, pairs: &[[&str; 2]]) -> Result<Preferences, JudgeError> {
    let fields = json!({ "answer": 4, "prompt": "theirs" });
    let fields = fields.as_object().unwrap();
    let comparisons: Vec<_> = pairs
        .iter()
        .map(|&completions| CompletionPair {
            prompt: "2 + 2?",
            messages: None,
            completions,
            fields,
        })
        .collect();
    preferences(judge, &comparisons)
}

/// The last message of a request: prompt, A, B.
fn asked(request: &ChatReceived) -> [String; 3] {
    let messages = request.body["messages"].as_array().unwrap();
    let text = messages.last().unwrap()["content"].as_str().unwrap().to_owned();
    let parts: Vec<String> = text.split('|').map(str::to_owned).collect();
    parts.try_into().unwrap()
}

fn say(text: &str) -> Reply {
    Reply::words(&[text], Duration::ZERO)
}

#[test]
fn a_model_is_asked_in_both_orders_over_either_api() {
    for api in [Api::OpenAi, Api::Anthropic] {
        let stub = Stub::start(|request| {
            let [_, a, b] = asked(request);
            say(if b.len() < a.len() { "Because. [[A]]" } else { "Because. [[B]]" })
        });
        let mut judge = chat(api, stub.url(), RULES);
        let pairs = [["long one", "short"], ["x", "longer"], ["same", "same"]];
        let found = compare(&mut judge, &pairs).unwrap();
        assert_eq!(found.probabilities, [Some(1.0), Some(0.0), Some(0.5)]);
        // Nobody is asked about two equal texts.
        assert_eq!((found.asked, found.both_read, found.agreed), (4, 2, 2));
        let requests = stub.requests();
        assert_eq!(requests.len(), 4);
        assert!(requests.iter().all(|request| asked(request)[0] == "2 + 2?"));
        assert!(requests.iter().all(|request| request.body.to_string().contains("Be fair.")));
        let shown = requests.iter().filter(|request| asked(request)[1] == "short").count();
        assert_eq!(shown, 1, "the short one is first once");
    }
}

#[test]
fn a_model_that_likes_the_first_answer_prefers_nothing() {
    let stub = Stub::start(|_| say("A"));
    let found = compare(&mut chat(Api::OpenAi, stub.url(), RULES), &[["x", "y"], ["y", "x"]]);
    let found = found.unwrap();
    assert_eq!((found.probabilities, found.agreed), (vec![Some(0.5), Some(0.5)], 0));
}

#[test]
fn a_model_that_says_nothing_to_one_question_still_tells_probabilities_of_the_next() {
    let stub = Stub::start(|request| {
        let is_silent = request.body["messages"].to_string().contains("silence");
        let top = json!([{ "token": "A", "logprob": 0.0 }]);
        let token = json!({ "token": "A", "logprob": 0.0, "top_logprobs": top });
        let content = if is_silent { "" } else { "A" };
        let choice = json!({
            "message": { "content": content }, "finish_reason": "stop", "logprobs": { "content": [token] },
        });
        Reply::status(200, json!({ "model": "m", "choices": [choice] }).to_string())
    });
    let model = ChatModel::new(ChatOptions::new(Api::OpenAi, stub.url(), "m")).unwrap();
    let kept = Arc::new(KeptAnswers::in_memory());
    let model = KeptModel::new(Arc::new(model), kept, Arc::<Budget>::default(), Price::default());
    let choices = ["A", "B"].map(str::to_owned);
    let weigh = |text: &str| {
        let asked = [Message::new(Role::User, text)];
        model.weigh(&asked, &choices, &|| true).unwrap().probabilities
    };
    assert_eq!(weigh("silence"), Some(vec![0.0, 0.0]));
    assert_eq!(weigh("a question"), Some(vec![1.0, 0.0]));
}

#[test]
fn an_answer_without_a_winner_follows_the_policy() {
    let stub = Stub::start(|request| {
        if asked(request)[1] == "x" { say("[[A]]") } else { say("I would rather not.") }
    });
    for (unreadable, expected) in [(Unreadable::Tie, Some(0.75)), (Unreadable::Drop, None)] {
        let rules = Rules { unreadable, ..RULES };
        let found = compare(&mut chat(Api::OpenAi, stub.url(), rules), &[["x", "y"]]).unwrap();
        assert_eq!((found.probabilities, found.unreadable), (vec![expected], 1));
    }
    let rules = Rules { unreadable: Unreadable::Fail, ..RULES };
    let error = compare(&mut chat(Api::OpenAi, stub.url(), rules), &[["x", "y"]]).unwrap_err();
    let error = error.to_string();
    for part in ["\"m\"", "I would rather not.", "[[A]], [[B]]", "2 + 2?"] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[test]
fn errors_that_pass_are_tried_again_and_others_are_told() {
    let count = AtomicUsize::new(0);
    let stub = Stub::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::status(503, "busy"),
        1 => Reply::Pieces(vec![]),
        _ => say("[[C]]"),
    });
    let found = compare(&mut chat(Api::OpenAi, stub.url(), RULES), &[["x", "y"]]).unwrap();
    assert_eq!(found.probabilities, [Some(0.5)]);
    assert!(4 <= stub.requests().len());

    let stub = Stub::start(|_| Reply::status(401, "no such key: sk-secret"));
    let error = compare(&mut chat(Api::OpenAi, stub.url(), RULES), &[["x", "y"]]).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("refuses the key") && !error.contains("sk-secret"), "{error}");
}

#[test]
fn a_model_that_says_nothing_ends_at_the_deadline() {
    let stub = Stub::start(|_| Reply::Silence(Duration::from_secs(30)));
    let start = Instant::now();
    let error = compare(&mut chat(Api::OpenAi, stub.url(), RULES), &[["x", "y"]]).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(error.to_string().contains("within 2 s"), "{error}");
}

#[cfg(unix)]
fn program(script: &str, rules: Rules) -> CommandJudge {
    let args = vec!["-c".to_owned(), script.to_owned()];
    let deadline = Duration::from_secs(10);
    let options = CommandOptions { program: "sh".to_owned(), args, deadline };
    CommandJudge::start(&options, rules).unwrap()
}

#[cfg(unix)]
#[test]
fn a_program_reads_both_completions_and_all_columns() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("requests");
    let script = format!(
        r#"while read -r line; do printf '%s\n' "$line" >> {}; echo '{{"probability": 0.25}}'; done"#,
        log.display()
    );
    let rules = Rules { orders: Orders::Alternating, ..RULES };
    let found = compare(&mut program(&script, rules), &[["x", "y"], ["x", "y"]]).unwrap();
    assert_eq!(found.probabilities, [Some(0.25), Some(0.75)]);
    let lines = std::fs::read_to_string(&log).unwrap();
    let requests: Vec<Map<String, Value>> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = |id: u64, a: &str, b: &str| json!({ "id": id, "prompt": "2 + 2?", "completion_a": a, "completion_b": b, "answer": 4 });
    assert_eq!(Value::from(requests[0].clone()), expected(0, "x", "y"));
    assert_eq!(Value::from(requests[1].clone()), expected(1, "y", "x"));
}

#[cfg(unix)]
#[test]
fn a_program_that_answers_something_else_is_told() {
    let answer = |text: &str| format!("while read -r line; do echo '{text}'; done");
    for (script, part) in [
        (answer("{\"probability\": 2}"), "from 0 to 1"),
        (answer("{\"probability\": \"A\"}"), "finite number"),
        (answer("{\"score\": 1}"), "no probability"),
        (answer("A"), "{\"probability\": NUMBER}"),
        ("read -r line; exit 3".to_owned(), "after 0 of 2 preferences"),
    ] {
        let error = compare(&mut program(&script, RULES), &[["x", "y"]]).unwrap_err().to_string();
        assert!(error.contains(part), "{script}: {part} in {error}");
    }
    let none = answer("{\"probability\": null}");
    let rules = Rules { unreadable: Unreadable::Drop, ..RULES };
    let found = compare(&mut program(&none, rules), &[["x", "y"]]).unwrap();
    assert_eq!((found.probabilities, found.unreadable), (vec![None], 2));
}

#[test]
fn what_is_no_probability_is_refused() {
    struct Broken(Vec<Option<f64>>);
    impl PairwiseJudge for Broken {
        fn name(&self) -> &'static str {
            "broken"
        }
        fn judge(&mut self, _: &[CompletionPair<'_>]) -> Result<Preferences, JudgeError> {
            Ok(Preferences { probabilities: self.0.clone(), ..Preferences::default() })
        }
    }
    for (probabilities, part) in [
        (vec![], "0 preferences for 1 comparisons"),
        (vec![None, None], "2 preferences for 1 comparisons"),
        (vec![Some(f64::NAN)], "NaN"),
        (vec![Some(1.5)], "1.5"),
    ] {
        let error = compare(&mut Broken(probabilities), &[["x", "y"]]).unwrap_err().to_string();
        assert!(error.contains("broken") && error.contains(part), "{error}");
    }
}
