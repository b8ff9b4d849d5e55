//! What users say of answers, whose answers are written down, for how long, and without what.

use std::path::Path;

use axum::Router;
use hearken_data::feedback::Verdict;
use hearken_data::feedback::served::ServedLog;
use hearken_data::redaction::{PersonalData, Redaction};
use hearken_serve::{ApiKeys, Consent, Log};
use serde_json::{Value, json};

use crate::support::{model, options, post, request, send, service_of};

fn service(log: Log) -> Router {
    let mut options = options();
    options.log = Some(log);
    service_of(&model("llama"), options).router()
}

async fn answer(router: &Router, text: &str, more: Value) -> Value {
    let mut body = json!({
        "messages": [{"role": "user", "content": text}], "max_tokens": 4, "seed": 1, "ignore_eos": true,
        "n": 2,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    post(router, "/v1/chat/completions", body).await.ok()
}

fn log_of(path: &Path) -> ServedLog {
    ServedLog::read(path, i64::MIN).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feedback_on_answers_is_stored_beside_them_and_read_as_judgements_of_their_version() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    let router = service(Log::at(path.clone()));
    let first = answer(&router, "Hi", json!({})).await;
    let again = answer(&router, "Hi", json!({"seed": 9})).await;
    let other = answer(&router, "Bye", json!({})).await;
    let id = |of: &Value| of["id"].as_str().unwrap().to_owned();
    let said = [
        json!({"request_id": id(&first), "choice": 1, "thumb": "up", "by": "ada@example.org"}),
        json!({"request_id": id(&first), "thumb": "down"}),
        json!({"request_id": id(&other), "edit": "See you, write to bob@example.org."}),
        json!({"request_id": id(&again), "over": [{"request_id": id(&first)}]}),
    ];
    for body in said {
        let stored = post(&router, "/v1/feedback", body.clone()).await.ok();
        assert_eq!(stored["version"], first["system_fingerprint"], "{body}");
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("example.org"), "{text}");
    let judged = log_of(&path).judgements();
    let verdicts: Vec<&Verdict> = judged.iter().map(|(_, one)| &one.verdict).collect();
    let [good, bad] = [true, false].map(|good| Verdict::Approval { good });
    assert_eq!(verdicts, [&good, &bad, &bad, &Verdict::preferred(0)]);
    assert!(judged[0].1.annotator.starts_with("user-"), "{}", judged[0].1.annotator);
    let better = &judged[2].1.better.as_ref().unwrap().text;
    assert_eq!(better, "See you, write to [email].");
    for (item, _) in &judged {
        let by = first["system_fingerprint"].as_str();
        assert!(item.candidates.iter().all(|one| one.model.as_deref() == by));
    }
    // A service that starts again knows the answers of before.
    drop(router);
    let router = service(Log::at(path.clone()));
    post(&router, "/v1/feedback", json!({"request_id": id(&first), "thumb": "up"})).await.ok();
    assert_eq!(log_of(&path).feedback().len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feedback_that_cannot_be_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    let router = service(Log::at(path.clone()));
    let first = answer(&router, "Hi", json!({})).await;
    let other = answer(&router, "Bye", json!({})).await;
    let id = first["id"].as_str().unwrap();
    let text = first["choices"][0]["message"]["content"].clone();
    for (more, status, expected) in [
        (json!({}), 400, "one of `thumb`, `edit` and `over`"),
        (json!({"thumb": "up", "edit": "x"}), 400, "one of `thumb`, `edit` and `over`"),
        (json!({"thumb": "sideways"}), 400, "sideways"),
        (json!({"edit": "  "}), 400, "`edit` is empty"),
        (json!({"edit": text}), 400, "the answer itself"),
        (json!({"over": []}), 400, "`over` has 0 answers"),
        (json!({"over": [{"request_id": id}]}), 400, "twice"),
        (json!({"over": [{"request_id": other["id"]}]}), 400, "another prompt"),
        (json!({"over": [{"request_id": "nowhere"}]}), 404, "nowhere"),
        (json!({"choice": 2, "thumb": "up"}), 404, "choice 2"),
        (json!({"thumbs": "up"}), 400, "thumbs"),
    ] {
        let mut body = json!({"request_id": id});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let refused = post(&router, "/v1/feedback", body.clone()).await;
        assert_eq!(refused.status, status, "{body}: {}", refused.text);
        assert!(refused.text.contains(expected), "{body}: {}", refused.text);
    }
    assert!(log_of(&path).feedback().is_empty());
    let nothing = service_of(&model("llama"), options()).router();
    let refused = post(&nothing, "/v1/feedback", json!({"request_id": id, "thumb": "up"})).await;
    assert!(
        refused.status == 400 && refused.text.contains("nothing is stored"),
        "{}",
        refused.text
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_stored_of_those_who_have_not_consented() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    for (consent, expected) in [(Consent::All, 2), (Consent::Each, 1)] {
        let router = service(Log { consent, ..Log::at(path.clone()) });
        let silent = answer(&router, "Hi", json!({})).await;
        let refuses = answer(&router, "No", json!({"store": false})).await;
        answer(&router, "Yes", json!({"store": true})).await;
        let log = log_of(&path);
        // Two choices each.
        assert_eq!(log.answers().count(), 2 * expected, "{consent:?}");
        assert!(!std::fs::read_to_string(&path).unwrap().contains("\"No\""));
        let known = |of: &Value| json!({"request_id": of["id"], "thumb": "up"});
        assert_eq!(post(&router, "/v1/feedback", known(&refuses)).await.status, 404);
        let status = if consent == Consent::All { 200 } else { 404 };
        assert_eq!(post(&router, "/v1/feedback", known(&silent)).await.status, status);
        // The next one begins with an empty file.
        std::fs::write(&path, "").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_old_is_gone_and_no_answer_to_say_something_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    let router = service(Log::at(path.clone()));
    let first = answer(&router, "Hi", json!({})).await;
    let second = answer(&router, "Ho", json!({})).await;
    drop(router);
    // Answers of last year, in a file of their own and before those of now.
    let text = std::fs::read_to_string(&path).unwrap();
    let year = &text[text.find("\"at\":\"").unwrap() + 6..][..4];
    let age = |line: &str| line.replacen(&format!("\"at\":\"{year}"), "\"at\":\"2001", 1);
    let is_first = |line: &&str| line.contains(first["id"].as_str().unwrap());
    let old: String = text.lines().filter(is_first).map(|line| age(line) + "\n").collect();
    std::fs::write(folder.path().join("log.1.jsonl"), &old).unwrap();
    std::fs::write(
        &path,
        text.lines()
            .map(|line| if is_first(&line) { age(line) + "\n" } else { line.to_owned() + "\n" })
            .collect::<String>(),
    )
    .unwrap();
    let router = service(Log { days_max: Some(30.0), ..Log::at(path.clone()) });
    assert!(!folder.path().join("log.1.jsonl").exists());
    assert_eq!(log_of(&path).answers().count(), 2);
    let thumb = |of: &Value| json!({"request_id": of["id"], "thumb": "up"});
    assert_eq!(post(&router, "/v1/feedback", thumb(&first)).await.status, 404);
    post(&router, "/v1/feedback", thumb(&second)).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn personal_data_are_gone_before_anything_is_written_and_so_are_their_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    let redaction = Redaction::of(PersonalData::ALL).and("name", "Ada").unwrap();
    let router = service(Log { redaction, ..Log::at(path.clone()) });
    answer(&router, "I am Ada, 4111 1111 1111 1111", json!({})).await;
    answer(&router, "Hello", json!({})).await;
    let log = log_of(&path);
    let lines: Vec<_> = log.answers().collect();
    assert_eq!(lines[0].prompt[0]["content"], "I am [name], [card]");
    assert!(lines[0].redacted && lines[0].prompt_ids.is_empty() && lines[0].logprobs.is_empty());
    assert!(!lines[2].redacted && !lines[2].prompt_ids.is_empty());
    assert!(!std::fs::read_to_string(&path).unwrap().contains("4111"));
}

/// Somebody takes back what they agreed to: what they asked, what was said of it, and what they said of others goes, from files that were
/// put aside too; what others asked stays, and so does the service's work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_of_somebody_is_removed_when_they_want_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    let mut log = Log::at(path.clone());
    log.bytes_max = 1500;
    let mut options = options();
    (options.log, options.admin_keys) = (Some(log), ApiKeys::default().and("admin"));
    let router = service_of(&model("llama"), options).router();
    let ann = json!({"user": "ann@example.org"});
    let id = |of: &Value| of["id"].as_str().unwrap().to_owned();
    let hers = id(&answer(&router, "I am at home", ann.clone()).await);
    let his = id(&answer(&router, "Good morning", json!({"user": "bob"})).await);
    let nobodys = id(&answer(&router, "Good night", json!({})).await);
    let message = json!({
        "max_tokens": 3, "metadata": {"user_id": "ann@example.org"},
        "messages": [{"role": "user", "content": "Still at home"}],
    });
    post(&router, "/v1/messages", message).await.ok();
    for (of, by) in [(&hers, "bob"), (&his, "ann@example.org"), (&his, "bob")] {
        let said = json!({"request_id": of, "thumb": "up", "by": by});
        post(&router, "/v1/feedback", said).await.ok();
    }
    let all = || {
        let files = std::fs::read_dir(folder.path()).unwrap();
        let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
        texts.collect::<Vec<String>>()
    };
    assert!(1 < all().len(), "some lines are put aside");
    assert!(!all().concat().contains("ann@example.org"));
    let forget = async |body: Value, key: &str| {
        send(&router, request("/admin/forget", &body, Some(key))).await
    };
    let by = json!({"by": "ann@example.org"});
    assert_eq!(forget(by.clone(), "other").await.status, 401);
    for body in [json!({}), json!({"by": ""}), json!({"by": "a", "request_id": "b"})] {
        let refused = forget(body, "admin").await;
        assert!(refused.status == 400 && refused.text.contains("one of `by`"), "{}", refused.text);
    }
    let removed = forget(by.clone(), "admin").await.ok();
    assert_eq!(removed, json!({"completions": 3, "feedback": 2}));
    let text = all().concat();
    assert!(!text.contains("at home") && text.contains("Good morning"), "{text}");
    let left = log_of(&path);
    assert_eq!((left.answers().count(), left.feedback().len()), (4, 1));
    // What is gone cannot be judged; what stays can, and new answers are written behind it.
    let of = |id: &str| json!({"request_id": id, "thumb": "down"});
    assert_eq!(post(&router, "/v1/feedback", of(&hers)).await.status, 404);
    post(&router, "/v1/feedback", of(&his)).await.ok();
    answer(&router, "Here again", ann).await;
    assert_eq!(log_of(&path).answers().count(), 6);
    // A request without a name is removed by its id.
    let one = json!({"request_id": nobodys});
    assert_eq!(forget(one, "admin").await.ok(), json!({"completions": 2, "feedback": 0}));
    assert_eq!(forget(by.clone(), "admin").await.ok(), json!({"completions": 2, "feedback": 0}));
    assert_eq!(forget(by, "admin").await.ok(), json!({"completions": 0, "feedback": 0}));
    assert!(!all().concat().contains("Good night"));
}
