//! A small driver of headless Chromium over its debugging pipe: messages of the Chrome DevTools
//! Protocol as JSON, each ended by a zero byte. No WebSocket, no port.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

/// Where Chromium is: `$CHROMIUM`, or one of its names in the path.
pub(crate) fn chromium() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CHROMIUM") {
        return Some(named.into());
    }
    let folders = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&folders)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|path| path.is_file())
}

/// A running browser; it ends when this is dropped.
pub(crate) struct Browser {
    child: Child,
    wire: Arc<Wire>,
    _profile: tempfile::TempDir,
}

struct Wire {
    input: Mutex<ChildStdin>,
    next: AtomicU64,
    replies: Mutex<HashMap<u64, Sender<Value>>>,
    events: Mutex<Vec<Value>>,
}

impl Browser {
    pub(crate) fn start(program: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        let script = "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(program);
        command.args(["--headless=new", "--remote-debugging-pipe", "--no-first-run"]);
        command.args(["--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]);
        command.args([
            "--disable-background-networking",
            "--disable-component-update",
            "--mute-audio",
            // Keys and clicks that come before a page is painted count as well.
            "--allow-pre-commit-input",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        if is_root {
            command.arg("--no-sandbox");
        }
        command.arg("about:blank").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("Chromium starts");
        let output = child.stdout.take().unwrap();
        let wire = Arc::new(Wire {
            input: Mutex::new(child.stdin.take().unwrap()),
            next: AtomicU64::new(1),
            replies: Mutex::default(),
            events: Mutex::default(),
        });
        let reader = Arc::clone(&wire);
        std::thread::spawn(move || reader.read(BufReader::new(output)));
        Self { child, wire, _profile: profile }
    }

    /// A page with cookies of its own.
    pub(crate) fn page(&self) -> Page {
        let context = self.wire.call(None, "Target.createBrowserContext", json!({}));
        let target = self.wire.call(
            None,
            "Target.createTarget",
            json!({"url": "about:blank", "browserContextId": context["browserContextId"]}),
        );
        let attached = self.wire.call(
            None,
            "Target.attachToTarget",
            json!({"targetId": target["targetId"], "flatten": true}),
        );
        let session = attached["sessionId"].as_str().unwrap().to_owned();
        let page = Page { wire: Arc::clone(&self.wire), session };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page.viewport(1280, 900);
        page
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Wire {
    fn read(&self, mut output: impl BufRead) {
        let mut bytes = Vec::new();
        while output.read_until(0, &mut bytes).is_ok_and(|read| read > 0) {
            bytes.pop();
            let message: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            bytes.clear();
            let Some(id) = message["id"].as_u64() else {
                self.answer_dialog(&message);
                self.events.lock().unwrap().push(message);
                continue;
            };
            if let Some(reply) = self.replies.lock().unwrap().remove(&id) {
                let _ = reply.send(message);
            }
        }
    }

    /// A dialog would stop the page; it is closed, and stays among the events.
    fn answer_dialog(&self, event: &Value) {
        if event["method"] == "Page.javascriptDialogOpening" {
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            self.send(&json!({
                "id": id, "sessionId": event["sessionId"],
                "method": "Page.handleJavaScriptDialog", "params": {"accept": true},
            }));
        }
    }

    fn send(&self, message: &Value) {
        let mut input = self.input.lock().unwrap();
        input.write_all(message.to_string().as_bytes()).unwrap();
        input.write_all(&[0]).unwrap();
        input.flush().unwrap();
    }

    fn call(&self, session: Option<&str>, method: &str, params: Value) -> Value {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = channel();
        self.replies.lock().unwrap().insert(id, sender);
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        self.send(&message);
        let mut reply = receiver
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("Chromium does not answer to {method}"));
        assert!(reply["error"].is_null(), "{method}: {}", reply["error"]);
        reply["result"].take()
    }
}

/// One page of a browser.
pub(crate) struct Page {
    wire: Arc<Wire>,
    session: String,
}

impl Page {
    fn call(&self, method: &str, params: Value) -> Value {
        self.wire.call(Some(&self.session), method, params)
    }

    pub(crate) fn viewport(&self, width: u32, height: u32) {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}),
        );
        let touch = json!({"enabled": width < 600});
        self.call("Emulation.setTouchEmulationEnabled", touch);
    }

    /// Sets media features, e.g. `("prefers-color-scheme", "dark")`.
    pub(crate) fn prefers(&self, features: &[(&str, &str)]) {
        let features: Vec<Value> =
            features.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    pub(crate) fn goto(&self, url: &str) {
        self.eval("window.left = true");
        let reply = self.call("Page.navigate", json!({"url": url}));
        assert!(reply["errorText"].is_null(), "{url}: {}", reply["errorText"]);
        self.wait("!window.left && document.readyState === 'complete'");
        // Before a page is painted Chromium drops what is clicked on it.
        self.wait("0 < performance.getEntriesByType('paint').length");
        self.eval("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))");
    }

    pub(crate) fn eval(&self, script: &str) -> Value {
        let params = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
        let mut reply = self.call("Runtime.evaluate", params);
        assert!(reply["exceptionDetails"].is_null(), "{script}: {}", reply["exceptionDetails"]);
        reply["result"]["value"].take()
    }

    /// The value of an expression, or null: while a page is being replaced there is nothing to evaluate in.
    fn glance(&self, script: &str) -> Value {
        let params = json!({"expression": script, "returnByValue": true});
        let id = self.wire.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = channel();
        self.wire.replies.lock().unwrap().insert(id, sender);
        self.wire.send(&json!({"id": id, "sessionId": self.session,
            "method": "Runtime.evaluate", "params": params}));
        let mut reply = receiver.recv_timeout(PATIENCE).expect("Chromium answers");
        reply["result"]["result"]["value"].take()
    }

    pub(crate) fn text(&self, selector: &str) -> String {
        let script = format!("document.querySelector({})?.innerText ?? ''", json!(selector));
        self.eval(&script).as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn count(&self, selector: &str) -> u64 {
        let script = format!("document.querySelectorAll({}).length", json!(selector));
        self.eval(&script).as_u64().unwrap()
    }

    /// Waits until a condition holds.
    #[track_caller]
    pub(crate) fn wait(&self, condition: &str) {
        let until = Instant::now() + PATIENCE;
        let holds = || self.glance(condition) == true;
        while !holds() {
            let body = || self.eval("document.body.innerText").to_string();
            assert!(Instant::now() < until, "waited for {condition}; the page says {}", body());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Presses and lets go of a key: a character, or a name such as `ArrowLeft` or `Enter`.
    pub(crate) fn key(&self, key: &str) {
        self.press(key, 0);
    }

    pub(crate) fn ctrl_enter(&self) {
        self.press("Enter", 2);
    }

    fn press(&self, key: &str, modifiers: u32) {
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "Backspace" => 8,
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            other => other.to_uppercase().chars().next().map_or(0, u32::from),
        };
        let mut down = json!({
            "type": "keyDown", "key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers,
        });
        if key.chars().count() == 1 {
            down["text"] = key.into();
        } else if key == "Enter" {
            down["text"] = "\r".into();
        }
        self.until_heard("keydown", |_| {
            self.call("Input.dispatchKeyEvent", down.clone());
        });
        let up = json!({"type": "keyUp", "key": key, "windowsVirtualKeyCode": code});
        self.call("Input.dispatchKeyEvent", up);
    }

    /// Types a text into what has the focus.
    pub(crate) fn insert(&self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// The middle of an element, scrolled into view.
    #[track_caller]
    fn middle(&self, selector: &str) -> (f64, f64) {
        let script = format!(
            "(() => {{ const e = document.querySelector({}); if (!e) return null;
               e.scrollIntoView({{block: 'nearest', behavior: 'instant'}});
               const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})()",
            json!(selector)
        );
        let at = self.eval(&script);
        assert!(!at.is_null(), "there is no {selector}; the page says {}", self.text("body"));
        (at[0].as_f64().unwrap(), at[1].as_f64().unwrap())
    }

    /// Sends an input event until the page has heard of it: a busy Chromium drops what comes while it
    /// replaces or first paints a page, and answers as if it had not. It answers after the page's listeners have
    /// run, so that an event that was not heard by then was dropped and may be sent again.
    fn until_heard(&self, event: &str, send: impl Fn(u32)) {
        let listen = format!(
            "window.inputHeard = document.activeElement?.tagName === 'IFRAME';
             addEventListener('{event}', () => {{ window.inputHeard = true; }}, {{capture: true, once: true}}); true"
        );
        let until = Instant::now() + PATIENCE;
        for attempt in 0.. {
            if self.glance(&listen) == true {
                send(attempt);
                // A page that is gone has heard what made it go.
                if self.glance("window.inputHeard") != false {
                    return;
                }
            }
            assert!(Instant::now() < until, "no {event} reaches the page: {}", self.text("body"));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Moves the mouse onto an element, which may shift what is below it, and presses there.
    #[track_caller]
    fn grasp(&self, selector: &str) -> (f64, f64) {
        self.until_heard("pointermove", |attempt| {
            let (x, y) = self.middle(selector);
            let x = x + f64::from(attempt % 2);
            let params = json!({"type": "mouseMoved", "x": x, "y": y, "button": "none"});
            self.call("Input.dispatchMouseEvent", params);
        });
        self.until_heard("pointerdown", |_| self.mouse("mousePressed", self.middle(selector)));
        self.middle(selector)
    }

    fn mouse(&self, kind: &str, (x, y): (f64, f64)) {
        let buttons = i32::from(kind != "mouseReleased");
        let params = json!({"type": kind, "x": x, "y": y, "button": "left", "buttons": buttons, "clickCount": 1});
        self.call("Input.dispatchMouseEvent", params);
    }

    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        let at = self.grasp(selector);
        self.mouse("mouseReleased", at);
    }

    /// Clicks twice, as fast as a finger can.
    #[track_caller]
    pub(crate) fn double_click(&self, selector: &str) {
        let (x, y) = self.grasp(selector);
        let send = |kind: &str, count: u32| {
            let buttons = i32::from(kind != "mouseReleased");
            let params = json!({"type": kind, "x": x, "y": y, "button": "left", "buttons": buttons, "clickCount": count});
            self.call("Input.dispatchMouseEvent", params);
        };
        send("mouseReleased", 1);
        std::thread::sleep(Duration::from_millis(140));
        send("mousePressed", 2);
        send("mouseReleased", 2);
    }

    /// What axe-core finds wrong on the page, where `$HEARKEN_AXE` names its script (`axe.min.js` of the package
    /// axe-core); nothing where it names none.
    pub(crate) fn violations(&self) -> Vec<String> {
        let Some(script) = std::env::var_os("HEARKEN_AXE") else {
            hearken_testing::skip("$HEARKEN_AXE does not name the script of axe-core");
            return Vec::new();
        };
        self.eval(&format!("{}; true", std::fs::read_to_string(script).unwrap()));
        let found = self.eval(
            "axe.run(document, {resultTypes: ['violations']}).then((r) => r.violations.flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.target} ${n.html.slice(0, 160)}`)))",
        );
        serde_json::from_value(found).unwrap()
    }

    /// Drags one element to a point of another: `depth` 0 is its upper edge, 1 its lower.
    #[track_caller]
    pub(crate) fn drag(&self, from: &str, to: &str, depth: f64) {
        let start = self.grasp(from);
        let script = format!(
            "(() => {{ const b = document.querySelector({}).getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height * {depth}]; }})()",
            json!(to)
        );
        let at = self.eval(&script);
        let end = (at[0].as_f64().unwrap(), at[1].as_f64().unwrap());
        for step in 1..=4 {
            let share = f64::from(step) / 4.0;
            let here = (start.0 + (end.0 - start.0) * share, start.1 + (end.1 - start.1) * share);
            self.mouse("mouseMoved", here);
        }
        self.mouse("mouseReleased", end);
    }

    /// Writes a picture of the page to `$HEARKEN_SCREENSHOTS`, if it is set.
    pub(crate) fn screenshot(&self, name: &str) {
        self.picture(name, false);
    }

    /// The same of the whole page, beyond the window.
    pub(crate) fn full_screenshot(&self, name: &str) {
        self.picture(name, true);
    }

    fn picture(&self, name: &str, full: bool) {
        let Some(folder) = std::env::var_os("HEARKEN_SCREENSHOTS") else { return };
        let params = json!({"format": "png", "captureBeyondViewport": full});
        let reply = self.call("Page.captureScreenshot", params);
        let bytes = decoded(reply["data"].as_str().unwrap());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), bytes).unwrap();
    }

    /// Dialogs, uncaught exceptions and violations of the content security policy so far.
    pub(crate) fn problems(&self) -> Vec<String> {
        let events = self.wire.events.lock().unwrap();
        events
            .iter()
            .filter(|event| event["sessionId"] == self.session.as_str())
            .filter_map(|event| match event["method"].as_str()? {
                "Page.javascriptDialogOpening" => Some(format!("dialog: {}", event["params"])),
                "Runtime.exceptionThrown" => Some(format!("exception: {}", event["params"])),
                "Log.entryAdded" => {
                    let text = event["params"]["entry"]["text"].as_str().unwrap_or_default();
                    text.contains("Content Security Policy").then(|| text.to_owned())
                }
                _ => None,
            })
            .collect()
    }

    /// How many requests for a path there were.
    pub(crate) fn requests(&self, path: &str) -> usize {
        let events = self.wire.events.lock().unwrap();
        events
            .iter()
            .filter(|event| event["sessionId"] == self.session.as_str())
            .filter(|event| event["method"] == "Network.requestWillBeSent")
            .filter_map(|event| event["params"]["request"]["url"].as_str())
            .filter(|url| url.ends_with(path))
            .count()
    }

    /// Addresses of requests that left the host of `origin`.
    pub(crate) fn foreign_requests(&self, origin: &str) -> Vec<String> {
        let events = self.wire.events.lock().unwrap();
        events
            .iter()
            .filter(|event| event["sessionId"] == self.session.as_str())
            .filter(|event| event["method"] == "Network.requestWillBeSent")
            .filter_map(|event| event["params"]["request"]["url"].as_str().map(str::to_owned))
            .filter(|url| {
                !url.starts_with(origin) && !url.starts_with("data:") && url != "about:blank"
            })
            .collect()
    }
}

/// The bytes of base64.
fn decoded(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'=').map(value).collect();
    for group in digits.chunks(4) {
        let bits = group.iter().fold(0_u32, |bits, digit| bits << 6 | u32::from(*digit))
            << (6 * (4 - group.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    bytes
}
