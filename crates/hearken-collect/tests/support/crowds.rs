// Connections that only hold on, beside annotators at work.
//
// Included by path where it is needed, beside `load` and `running`.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each program that includes it uses a part; it may panic"
)]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use hearken_collect::accounts::{self, NewAccount, Role};
use hearken_collect::parts::{Answerer, Parts};
use hearken_collect::tokens::{self, Scope};
use hearken_data::Message;
use hearken_store::Store;

use crate::load::{self, Outcome, Plan};
use crate::running::{Running, unlimited};

const PASSWORD: &str = "correct horse battery";
/// People who ask the models.
const PEOPLE: usize = 20;

/// How many hold on.
#[derive(Clone, Copy, serde::Serialize)]
pub(crate) struct Crowd {
    /// Connections with half of a request.
    pub(crate) half_open: usize,
    /// Prompts to models that never end, whose answers nobody reads.
    pub(crate) live_prompts: usize,
    /// Streams of judgements that nobody reads.
    pub(crate) streams: usize,
}

/// What came of it.
pub(crate) struct Held {
    pub(crate) outcome: Outcome,
    /// Memory of the service and everybody else in this process, before and at the end.
    pub(crate) memory_mib: [u64; 2],
    /// How many of the live prompts were answered with each status; 0 where the connection was closed without one.
    pub(crate) live_answers: BTreeMap<u16, usize>,
    /// The connections with half of a request, still as they are.
    pub(crate) half_open: Vec<TcpStream>,
    /// The service; it ends when this is dropped.
    pub(crate) running: Running,
    others: Vec<TcpStream>,
}

/// A model that never ends.
struct Endless;

impl Answerer for Endless {
    fn model(&self) -> &'static str {
        "endless"
    }

    fn answer(
        &self,
        _: &[Message],
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<String, String> {
        while on_text("on and on ").is_continue() {
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok("on".into())
    }
}

/// A connection on which a request was sent, of which nobody reads the answer.
fn sent(address: &str, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    // The service may have closed it already.
    let _ = stream.write_all(request.as_bytes());
    stream
}

/// Cookie and token against forged requests of somebody who signs in.
fn session(url: &str, name: &str) -> (String, String) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
    let form = [("name", name), ("password", PASSWORD), ("next", "/")];
    let response = agent.post(format!("{url}/login")).send_form(form).unwrap();
    let cookie = response.headers().get("set-cookie").unwrap().to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let page = agent.get(format!("{url}/account")).header("cookie", &cookie).call().unwrap();
    let page = page.into_body().read_to_string().unwrap();
    let (_, rest) = page.split_once("name=\"csrf\" content=\"").unwrap();
    (cookie, rest.split('"').next().unwrap().to_owned())
}

/// The status of an answer of which nobody has read anything so far.
fn status(mut stream: &TcpStream) -> u16 {
    let mut line = [0; "HTTP/1.1 200".len()];
    let read = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let read = read.and_then(|()| stream.read_exact(&mut line));
    let text = String::from_utf8_lossy(&line);
    read.ok().and_then(|()| text.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

fn memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Fifty annotators who look at each item for `pause`, while a crowd holds on.
pub(crate) fn annotate(
    store: &Arc<dyn Store>,
    crowd: Crowd,
    pause: Duration,
    seconds: f64,
) -> Held {
    let token = tokens::create(&**store, "crowd", &[Scope::Label, Scope::Read], 0).unwrap().1;
    let people: Vec<String> = (0..PEOPLE).map(|at| format!("person-{at}")).collect();
    for name in &people {
        let new = NewAccount { name, password: PASSWORD, role: Role::Annotator };
        accounts::create(&**store, new, 0).unwrap();
    }
    let admin = NewAccount { name: "ada", password: PASSWORD, role: Role::Administrator };
    accounts::create(&**store, admin, 0).unwrap();
    let parts = Parts { answerers: vec![Box::new(Endless)], ..Parts::default() };
    let running = Running::start_with(Arc::clone(store), unlimited(), parts);
    let address = running.url.trim_start_matches("http://").to_owned();
    let sessions: Vec<(String, String)> =
        people.iter().map(|name| session(&running.url, name)).collect();
    let before = memory_mib();
    let half = "GET /label HTTP/1.1\r\nHost: lo";
    let half_open = (0..crowd.half_open).map(|_| sent(&address, half)).collect();
    let body = r#"{"conversation": [{"role": "user", "content": "go on"}]}"#;
    let prompt = |at: usize| {
        let (cookie, csrf) = &sessions[at % sessions.len()];
        format!(
            "POST /live/stream HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\nX-CSRF-Token: {csrf}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let stream = format!(
        "GET /api/v1/judgements/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let live = (0..crowd.live_prompts).map(|at| sent(&address, &prompt(at)));
    let mut others: Vec<TcpStream> = live.collect();
    let live = others.len();
    others.extend((0..crowd.streams).map(|_| sent(&address, &stream)));
    let outcome = load::run(&Plan { pause, ..Plan::new(&running.url, token, 50, seconds) });
    let memory_mib = [before, memory_mib()];
    let mut live_answers = BTreeMap::new();
    for stream in &others[..live] {
        *live_answers.entry(status(stream)).or_default() += 1;
    }
    Held { outcome, memory_mib, live_answers, half_open, running, others }
}
