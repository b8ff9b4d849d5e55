//! A server on loopback that plays the hub, with its faults on request.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::server::{Request, Server};

/// What goes wrong, once for each time that it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An answer with contents ends after so many bytes.
    CutOff(usize),
    /// This status, with these headers, in place of an answer.
    Status(u16, Vec<(&'static str, String)>),
    /// An answer with contents has its first byte changed.
    WrongByte,
    /// A range is not given, but the whole file.
    NoRange,
}

#[derive(Default)]
struct HubState {
    /// Files by kind, repository, commit and name.
    files: BTreeMap<(&'static str, String, String, String), Vec<u8>>,
    /// Commits by kind, repository and revision.
    revisions: BTreeMap<(&'static str, String, String), String>,
    /// What is asked for without this token is refused.
    token: Option<String>,
    faults: Vec<Fault>,
    requests: Vec<String>,
}

/// The server; it answers until it and its clones are dropped.
#[derive(Clone)]
pub struct StubHub {
    server: Arc<Server>,
    endpoint: String,
    state: Arc<Mutex<HubState>>,
}

impl std::fmt::Debug for StubHub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("StubHub").field(&self.server).finish()
    }
}

impl StubHub {
    /// An empty hub on a free port.
    ///
    /// # Panics
    /// If there is no port.
    pub fn start() -> Self {
        let state: Arc<Mutex<HubState>> = Arc::default();
        let answering = Arc::clone(&state);
        let server = Server::start(move |request, stream| answer(&answering, &request, stream));
        Self { endpoint: server.url(), server: Arc::new(server), state }
    }

    /// The address for `HF_ENDPOINT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Adds a commit with these files to a repository of this kind, `models` or `datasets`, and puts `main`
    /// there; returns its name.
    pub fn commit(&self, kind: &'static str, repository: &str, files: &[(&str, &[u8])]) -> String {
        let mut state = self.state();
        let mut hash = Sha1::new();
        for (name, content) in files {
            hash.update(name);
            hash.update(content);
        }
        let commit = hexadecimal(&hash.finalize());
        for (name, content) in files {
            let key = (kind, repository.to_owned(), commit.clone(), (*name).to_owned());
            state.files.insert(key, content.to_vec());
        }
        for revision in ["main", &commit] {
            let key = (kind, repository.to_owned(), revision.to_owned());
            state.revisions.insert(key, commit.clone());
        }
        commit
    }

    /// Refuses whoever does not know this.
    pub fn require_token(&self, token: &str) {
        self.state().token = Some(token.to_owned());
    }

    /// The next answers that these faults fit have them, in this order.
    pub fn fail(&self, faults: &[Fault]) {
        self.state().faults.extend_from_slice(faults);
    }

    /// Faults that nothing has met yet.
    pub fn faults_left(&self) -> usize {
        self.state().faults.len()
    }

    /// What was asked since the last time: method, path, and the range if there is one.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests)
    }

    fn state(&self) -> MutexGuard<'_, HubState> {
        locked(&self.state)
    }
}

fn locked(state: &Mutex<HubState>) -> MutexGuard<'_, HubState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(state: &Mutex<HubState>, request: &Request, stream: &TcpStream) -> std::io::Result<()> {
    let Request { method, path, .. } = request;
    let range = request.header("range");
    let from =
        range.and_then(|range| range.strip_prefix("bytes=")?.trim_end_matches('-').parse().ok());
    let told = range.map_or_else(String::new, |range| format!(" {range}"));
    let (mut answer, fault) = {
        let mut state = locked(state);
        state.requests.push(format!("{method} {path}{told}"));
        let answer = state.look_up(path, request.header("authorization"));
        let fault = state.next_fault(&answer, method);
        (answer, fault)
    };
    answer.serve(fault, method, from.unwrap_or(0), stream)
}

impl HubState {
    /// The next fault, if it is one of what is answered.
    fn next_fault(&mut self, answer: &HubAnswer, method: &str) -> Option<Fault> {
        let has_contents = answer.is_file && method == "GET";
        let fits = match self.faults.first()? {
            Fault::Status(..) => true,
            _ => has_contents,
        };
        fits.then(|| self.faults.remove(0))
    }

    fn look_up(&self, path: &str, authorization: Option<&str>) -> HubAnswer {
        let path = path.split('?').next().unwrap_or_default().trim_start_matches('/');
        let path = path.replace("%2F", "/");
        let parts: Vec<&str> = path.split('/').collect();
        // Where contents are has no need of a token: its address is one.
        if let ["cdn", kind, owner, name, commit, file @ ..] = parts.as_slice() {
            return self.file(kind, &format!("{owner}/{name}"), commit, &file.join("/"), true);
        }
        let wanted = self.token.as_ref().map(|token| format!("Bearer {token}"));
        if wanted.as_deref().is_some_and(|wanted| Some(wanted) != authorization) {
            return HubAnswer::refusal(401, "GatedRepo");
        }
        match parts.as_slice() {
            ["api", kind, owner, name, "revision", revision @ ..] => {
                self.listing(kind, &format!("{owner}/{name}"), &revision.join("/"))
            }
            ["api", kind, owner, name, "tree", commit] => {
                self.tree(kind, &format!("{owner}/{name}"), commit)
            }
            ["api", kind, owner, name] => self.listing(kind, &format!("{owner}/{name}"), "main"),
            ["datasets", owner, name, "resolve", revision, file @ ..] => {
                self.file("datasets", &format!("{owner}/{name}"), revision, &file.join("/"), false)
            }
            [owner, name, "resolve", revision, file @ ..] => {
                self.file("models", &format!("{owner}/{name}"), revision, &file.join("/"), false)
            }
            _ => HubAnswer::refusal(404, ""),
        }
    }

    fn listing(&self, kind: &str, repository: &str, revision: &str) -> HubAnswer {
        let commit = |revision: &str| {
            let of = |(of, name, at): &(&str, String, String)| {
                *of == kind && name == repository && at == revision
            };
            self.revisions.iter().find(|(key, _)| of(key)).map(|(_, commit)| commit.clone())
        };
        if commit("main").is_none() {
            return HubAnswer::refusal(404, "RepoNotFound");
        }
        let Some(commit) = commit(revision) else {
            return HubAnswer::refusal(404, "RevisionNotFound");
        };
        let of = |(of, name, at, _): &&(&str, String, String, String)| {
            *of == kind && name == repository && *at == commit
        };
        let names = self.files.keys().filter(of);
        let siblings: Vec<_> = names.map(|(.., name)| json!({"rfilename": name})).collect();
        let text = json!({"id": repository, "modelId": repository, "sha": commit, "siblings": siblings,
            "private": false, "disabled": false, "gated": false, "downloads": 0, "likes": 0, "tags": []});
        let headers = vec![("content-type", "application/json".to_owned())];
        HubAnswer { status: 200, headers, content: text.to_string().into_bytes(), is_file: false }
    }

    /// The files of a commit as Python asks for them.
    fn tree(&self, kind: &str, repository: &str, commit: &str) -> HubAnswer {
        let of = |(of, name, at, _): &(&str, String, String, String)| {
            *of == kind && name == repository && at == commit
        };
        let names = self.files.iter().filter(|(key, _)| of(key));
        let files: Vec<_> = names
            .map(|((.., name), content)| {
                json!({"type": "file", "path": name, "size": content.len(), "oid": commit})
            })
            .collect();
        let content = json!(files).to_string().into_bytes();
        let headers = vec![("content-type", "application/json".to_owned())];
        HubAnswer { status: 200, headers, content, is_file: false }
    }

    fn file(
        &self,
        kind: &str,
        repository: &str,
        revision: &str,
        name: &str,
        is_cdn: bool,
    ) -> HubAnswer {
        let named = |(of, owner, at): &(&str, String, String)| {
            *of == kind && owner == repository && at == revision
        };
        let commit = self.revisions.iter().find(|(key, _)| named(key)).map(|(_, commit)| commit);
        let held = |(of, owner, at, file): &(&str, String, String, String)| {
            *of == kind && owner == repository && Some(at) == commit && file == name
        };
        let (Some((_, content)), Some(commit)) =
            (self.files.iter().find(|(key, _)| held(key)), commit)
        else {
            return HubAnswer::refusal(404, "EntryNotFound");
        };
        let is_large = [".safetensors", ".parquet", ".bin"].iter().any(|end| name.ends_with(end));
        let mut headers = vec![("x-repo-commit", commit.clone())];
        if is_large && !is_cdn {
            headers.push(("location", format!("/cdn/{kind}/{repository}/{commit}/{name}")));
            let hash = hexadecimal(&Sha256::digest(content));
            headers.push(("x-linked-etag", format!("\"{hash}\"")));
            headers.push(("x-linked-size", content.len().to_string()));
            return HubAnswer { status: 302, headers, content: Vec::new(), is_file: false };
        }
        let mut hash = Sha1::new();
        hash.update(format!("blob {}\0", content.len()));
        hash.update(content);
        let hash = match is_large {
            true => hexadecimal(&Sha256::digest(content)),
            false => hexadecimal(&hash.finalize()),
        };
        headers.push(("etag", format!("\"{hash}\"")));
        HubAnswer { status: 200, headers, content: content.clone(), is_file: true }
    }
}

struct HubAnswer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    content: Vec<u8>,
    /// Whether it is one of the files.
    is_file: bool,
}

impl HubAnswer {
    fn refusal(status: u16, code: &str) -> Self {
        let headers = vec![("x-error-code", code.to_owned())];
        Self { status, headers, content: Vec::new(), is_file: false }
    }

    fn serve(
        &mut self,
        fault: Option<Fault>,
        method: &str,
        from: usize,
        mut stream: &TcpStream,
    ) -> std::io::Result<()> {
        let mut from = if self.is_file { from } else { 0 };
        let mut sent = usize::MAX;
        match fault {
            Some(Fault::Status(status, headers)) => {
                let content = b"out of order".to_vec();
                *self = Self { status, headers, content, is_file: false };
                from = 0;
            }
            Some(Fault::CutOff(bytes)) => sent = bytes,
            Some(Fault::WrongByte) => self.content[0] ^= 1,
            Some(Fault::NoRange) => from = 0,
            None => {}
        }
        if 0 < from {
            let (status, last) = (206, self.content.len().saturating_sub(1));
            let range = format!("bytes {from}-{last}/{}", self.content.len());
            self.status = if from < self.content.len() { status } else { 416 };
            self.headers.push(("content-range", range));
        }
        let body = self.content.get(from..).unwrap_or_default();
        write!(stream, "HTTP/1.1 {} X\r\nconnection: close\r\n", self.status)?;
        write!(stream, "content-length: {}\r\n", body.len())?;
        for (name, value) in &self.headers {
            write!(stream, "{name}: {value}\r\n")?;
        }
        stream.write_all(b"\r\n")?;
        if method == "GET" {
            stream.write_all(&body[..body.len().min(sent)])?;
        }
        stream.flush()
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
