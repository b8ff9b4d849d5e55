//! Webhooks: told of judgements, signed, tried again.
#![allow(clippy::unwrap_used, reason = "tests may panic and report")]

#[path = "support/running.rs"]
mod running;
mod support;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hearken_collect::Options;
use hearken_data::feedback::{Judgement, Verdict};
use hearken_store::Store;
use hearken_testing::server::{Request, Server};
use hmac::{Hmac, KeyInit as _, Mac as _};
use running::{Running, unlimited};
use sha2::Sha256;
use support::{pair, pairs};

/// A receiver that refuses the first request and takes the others.
fn receiver() -> (Server, Receiver<Request>) {
    let (tell, told) = channel();
    let has_refused = AtomicBool::new(false);
    let server = Server::start(move |request, mut connection| {
        let status = if has_refused.swap(true, Ordering::Relaxed) { "204 Yes" } else { "500 No" };
        write!(connection, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        let _ = tell.send(request);
        Ok(())
    });
    (server, told)
}

fn header<'r>(request: &'r Request, name: &str) -> &'r str {
    request.header(name).unwrap_or_else(|| panic!("no header {name}"))
}

/// Adds a webhook through the page; gives its key.
fn add_webhook(service: &str, url: &str) -> String {
    let agent = ureq::Agent::new_with_defaults();
    let page = agent.get(format!("{service}/account")).call().unwrap();
    let page = page.into_body().read_to_string().unwrap();
    let csrf = page.split_once("name=\"csrf\" content=\"").unwrap().1.split('"').next().unwrap();
    let fields =
        [("csrf", csrf), ("url", url), ("event", "judgement.created"), ("event", "item.completed")];
    let page = agent.post(format!("{service}/admin/webhooks")).send_form(fields).unwrap();
    let page = page.into_body().read_to_string().unwrap();
    let (_, rest) = page.split_once("<code class=\"secret\">").expect("the key is shown");
    rest[..64].to_owned()
}

#[test]
fn a_judgement_is_told_signed_and_told_again_until_it_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db").display().to_string();
    let store: Arc<dyn Store> = Arc::from(hearken_store::open(&path).unwrap());
    store.add_items(&pairs(3)).unwrap();
    let judge = |item: &str, id: &str| {
        let judgement = Judgement::new(id, &pair(item), "robot", Verdict::preferred(1));
        store.add_judgements(&[judgement]).unwrap();
    };
    judge("item-0", "before");
    let options = Options { webhooks: true, ..unlimited() };
    let running = Running::start(Arc::clone(&store), options);
    let (server, told) = receiver();
    let url = format!("{}/hook", server.url());
    let key = add_webhook(&running.url, &url);
    judge("item-1", "after");

    let wait = Duration::from_secs(40);
    let refused = told.recv_timeout(wait).expect("the first attempt");
    let mut events = Vec::new();
    for _ in 0..2 {
        let received = told.recv_timeout(wait).expect("what was refused comes again");
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
        mac.update(header(&received, "x-hearken-timestamp").as_bytes());
        mac.update(b".");
        mac.update(&received.body);
        let signed = header(&received, "x-hearken-signature").strip_prefix("sha256=").unwrap();
        let bytes: Vec<u8> = (0..signed.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&signed[at..at + 2], 16).unwrap())
            .collect();
        mac.verify_slice(&bytes).expect("the signature is that of the key");
        let body: serde_json::Value = serde_json::from_slice(&received.body).unwrap();
        assert_eq!(body["event"], header(&received, "x-hearken-event"));
        events.push((body, received));
    }
    let again = events.iter().find(|(_, received)| {
        header(received, "x-hearken-delivery") == header(&refused, "x-hearken-delivery")
    });
    assert!(again.is_some(), "the same delivery");
    let of = |event: &str| &events.iter().find(|(body, _)| body["event"] == event).unwrap().0;
    // Of what is stored from then on, and of nothing before.
    assert_eq!(of("judgement.created")["judgement"]["id"], "after");
    assert_eq!(of("item.completed")["item"], "item-1");
    let log = format!("{:?}", store.events(0, 100).unwrap());
    assert!(log.contains("webhook.created") && !log.contains(&key));
    // What was taken is forgotten, a moment later.
    let left = || store.documents("delivery").unwrap();
    for _ in 0..100 {
        if left().is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(left().is_empty(), "{:?}", left());
    drop(running);
}
