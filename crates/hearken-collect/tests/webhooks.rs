//! Webhooks: told of judgements, signed, tried again.
#![allow(clippy::unwrap_used, reason = "tests may panic and report")]

#[path = "support/running.rs"]
mod running;
mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hearken_collect::Options;
use hearken_data::feedback::{Judgement, Verdict};
use hearken_store::Store;
use hmac::{Hmac, KeyInit as _, Mac as _};
use running::{Running, unlimited};
use sha2::Sha256;
use support::{pair, pairs};

/// What a receiver got.
struct Received {
    headers: Vec<(String, String)>,
    body: String,
}

impl Received {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        &found.unwrap_or_else(|| panic!("no header {name}")).1
    }
}

/// A receiver that refuses the first request and takes the others.
fn receiver() -> (String, Receiver<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for (number, connection) in listener.incoming().enumerate() {
            let mut connection = connection.unwrap();
            let received = read(&mut connection);
            let status = if number == 0 { "500 No" } else { "204 Yes" };
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            connection.write_all(answer.as_bytes()).unwrap();
            if tell.send(received).is_err() {
                break;
            }
        }
    });
    (url, told)
}

fn read(connection: &mut TcpStream) -> Received {
    let mut reader = BufReader::new(connection);
    let mut headers = Vec::new();
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let mut body = vec![0; length.unwrap().1.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    Received { headers, body: String::from_utf8(body).unwrap() }
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
    let (url, told) = receiver();
    let key = add_webhook(&running.url, &url);
    judge("item-1", "after");

    let wait = Duration::from_secs(40);
    let refused = told.recv_timeout(wait).expect("the first attempt");
    let mut events = Vec::new();
    for _ in 0..2 {
        let received = told.recv_timeout(wait).expect("what was refused comes again");
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
        mac.update(received.header("x-hearken-timestamp").as_bytes());
        mac.update(b".");
        mac.update(received.body.as_bytes());
        let signed = received.header("x-hearken-signature").strip_prefix("sha256=").unwrap();
        let bytes: Vec<u8> = (0..signed.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&signed[at..at + 2], 16).unwrap())
            .collect();
        mac.verify_slice(&bytes).expect("the signature is that of the key");
        let body: serde_json::Value = serde_json::from_str(&received.body).unwrap();
        assert_eq!(body["event"], received.header("x-hearken-event"));
        events.push((body, received));
    }
    let again = events.iter().find(|(_, received)| {
        received.header("x-hearken-delivery") == refused.header("x-hearken-delivery")
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
