//! A service in a temporary folder, and a browser that keeps cookies.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test program uses a part of it; tests may panic"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use hearken_collect::accounts::{self, NewAccount, Role};
use hearken_collect::parts::Parts;
use hearken_collect::tokens::{self, Scope};
use hearken_collect::{Options, Service};
use hearken_data::feedback::{Candidate, Item, Task};
use hearken_data::{Message, Role as Speaker};
use hearken_store::Store;
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt as _;

/// The password of every account.
pub(crate) const PASSWORD: &str = "correct horse battery";
/// When tests begin: a noon.
pub(crate) const START: i64 = 1_795_521_600_000;

/// A service on a SQLite file, with a clock that the test moves.
pub(crate) struct World {
    pub(crate) service: Service,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) router: Router,
    pub(crate) clock: Arc<AtomicI64>,
    pub(crate) folder: TempDir,
}

impl World {
    /// A service without accounts.
    pub(crate) fn local() -> Self {
        Self::with(Options::default(), |_| ())
    }

    /// A service with the administrator "ada".
    pub(crate) fn with_accounts() -> Self {
        Self::with(Options::default(), |store| {
            account(store, "ada", Role::Administrator);
        })
    }

    pub(crate) fn with(options: Options, before: impl FnOnce(&dyn Store)) -> Self {
        Self::with_parts(options, Parts::default(), before)
    }

    pub(crate) fn with_parts(
        options: Options,
        parts: Parts,
        before: impl FnOnce(&dyn Store),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db").display().to_string();
        let store: Arc<dyn Store> = Arc::from(hearken_store::open(&path).unwrap());
        before(&*store);
        let clock = Arc::new(AtomicI64::new(START));
        let now = Arc::clone(&clock);
        let clock_of_service = Arc::new(move || now.load(Ordering::SeqCst));
        let service =
            Service::with_clock(Arc::clone(&store), options, parts, clock_of_service).unwrap();
        let router = service.router();
        Self { service, store, router, clock, folder }
    }

    pub(crate) fn pass(&self, ms: i64) {
        self.clock.fetch_add(ms, Ordering::SeqCst);
    }

    pub(crate) fn account(&self, name: &str, role: Role) -> String {
        account(&*self.store, name, role)
    }

    pub(crate) fn token(&self, scopes: &[Scope]) -> String {
        tokens::create(&*self.store, "test", scopes, START).unwrap().1
    }

    pub(crate) fn add(&self, items: &[Item]) {
        self.store.add_items(items).unwrap();
        // The index believes what it knows for some seconds.
        self.pass(60_000);
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// A call of the API with a token.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: Option<Value>,
    ) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        let request = match body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        self.send(request.unwrap()).await
    }

    pub(crate) fn browser(&self) -> Browser<'_> {
        Browser { world: self, cookie: None, csrf: String::new() }
    }

    /// A browser in which somebody has signed in.
    pub(crate) async fn signed_in(&self, name: &str) -> Browser<'_> {
        let mut browser = self.browser();
        let answer =
            browser.post("/login", &[("name", name), ("password", PASSWORD), ("next", "/")]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
        browser.learn().await;
        browser
    }
}

fn account(store: &dyn Store, name: &str, role: Role) -> String {
    let new = NewAccount { name, password: PASSWORD, role };
    accounts::create(store, new, START).unwrap().pseudonym
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: axum::http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body; pages write a slash as an entity.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).replace("&#x2f;", "/")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) struct Browser<'a> {
    pub(crate) world: &'a World,
    pub(crate) cookie: Option<String>,
    pub(crate) csrf: String,
}

impl Browser<'_> {
    fn request(&self, method: &str, path: &str) -> axum::http::request::Builder {
        let request =
            Request::builder().method(method).uri(path).header(header::ACCEPT, "text/html");
        match &self.cookie {
            Some(cookie) => request.header(header::COOKIE, cookie),
            None => request,
        }
    }

    async fn send(&mut self, request: Request<Body>) -> Answer {
        let answer = self.world.send(request).await;
        if let Some(cookie) = answer.headers.get(header::SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            self.cookie = (!pair.ends_with('=')).then(|| pair.to_owned());
        }
        answer
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        let request = self.request("GET", path).body(Body::empty()).unwrap();
        self.send(request).await
    }

    /// Reads the token against forged requests from a page.
    pub(crate) async fn learn(&mut self) {
        let page = self.get("/account").await.text();
        let (_, rest) = page.split_once("name=\"csrf\" content=\"").expect("a page with a token");
        rest.split('"').next().unwrap().clone_into(&mut self.csrf);
    }

    /// What a script of a page sends.
    pub(crate) async fn call(&mut self, path: &str, body: Value) -> Answer {
        let request = self
            .request("POST", path)
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-csrf-token", &self.csrf)
            .body(Body::from(body.to_string()))
            .unwrap();
        self.send(request).await
    }

    /// Sends a form, with the token unless the fields hold one.
    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut form: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        if !fields.iter().any(|(name, _)| *name == "csrf") {
            form.push(format!("csrf={}", self.csrf));
        }
        let request = self
            .request("POST", path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form.join("&")))
            .unwrap();
        self.send(request).await
    }
}

fn encoded(value: &str) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// A pairwise item of this name.
pub(crate) fn pair(id: &str) -> Item {
    let prompt = vec![Message::new(Speaker::User, format!("Question {id}"))];
    let candidates =
        vec![Candidate::text("yes").by("model-x"), Candidate::text("no").by("model-y")];
    let mut item = Item::new(Task::Pairwise, prompt, candidates);
    item.id = id.into();
    item
}

pub(crate) fn pairs(n: usize) -> Vec<Item> {
    (0..n).map(|at| pair(&format!("item-{at}"))).collect()
}
