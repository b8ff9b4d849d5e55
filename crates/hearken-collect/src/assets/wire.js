// What the pages have in common: requests, the browser's storage, and the outbox, in which a judgement
// waits until the server has said that it is stored. Plain scripts, loaded in order; no build step.
"use strict";

// Where the project is, on a service with several.
const base = document.querySelector("meta[name=base]")?.content ?? "";
const csrf = document.querySelector("meta[name=csrf]")?.content ?? "";
// English words in the language of the page; the catalogue has them.
const t = (english, ...holes) => ((typeof words === "undefined" ? null : words[english]) ?? english).replace(/\{(\d)\}/g, (all, at) => holes[at] ?? all);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

function request(path, body, signal) {
  const headers = { "content-type": "application/json", "x-csrf-token": csrf };
  return fetch(base + path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

async function failure(response) {
  const body = await response.json().catch(() => ({}));
  const error = new Error(body.error?.message ?? t("the server answered with status {0}", response.status));
  error.status = response.status;
  return error;
}

// Waits as long as something comes within `patience` milliseconds, however long the whole takes.
async function post(path, body, patience = 20_000) {
  const stop = new AbortController();
  let timer;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => stop.abort(new DOMException("nothing came", "TimeoutError")), patience);
  };
  wait();
  try {
    const response = await request(path, body, stop.signal);
    if (!response.ok) throw await failure(response);
    return JSON.parse(await whole(response, wait));
  } finally { clearTimeout(timer); }
}

async function whole(response, onPiece) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return text;
    onPiece();
    text += value;
  }
}

// Whether a request that failed with `error` may succeed later as it is.
const mayPass = ({ status }) => !status || status === 408 || status === 429 || status >= 500 || isSignedOut({ status });
const isSignedOut = ({ status }) => status === 401 || status === 403;

// A random UUID; `crypto.randomUUID` is missing on pages that were not loaded over TLS or loopback.
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

// The browser's storage, which may be full, switched off or emptied at any time.
const storage = {
  // Projects of one service share it.
  own: (key) => (base ? `${base} ${key}` : key),
  put(key, value) { try { localStorage.setItem(this.own(key), value); } catch { /* memory still has it */ } },
  take(key) { try { localStorage.removeItem(this.own(key)); } catch { /* nothing to remove */ } },
  get(key) { try { return localStorage.getItem(this.own(key)); } catch { return null; } },
  keys() {
    const before = this.own("");
    try { return Object.keys(localStorage).filter((key) => key.startsWith(before)).map((key) => key.slice(before.length)); } catch { return []; }
  },
};

const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

function say(text) {
  const live = find("#announce");
  live.textContent = "";
  setTimeout(() => { live.textContent = text; }, 30);
}

// What is wrong, by where it comes from: what one part of the page says takes nothing from another.
const troubles = new Map();

function trouble(text, source = "page") {
  if (text) troubles.set(source, text);
  else troubles.delete(source);
  const banner = find("#trouble");
  const words = find("span", banner);
  const all = [...troubles.values()].join(" ");
  banner.hidden = !all;
  if (words.textContent !== all) words.textContent = all;
}

const isTyping = (target) => target.matches?.("textarea, select, input:not([type=radio], [type=checkbox])");

// --- Outbox: what is on its way to the server ----------------------------------------------------

function makeOutbox(annotator, onSettled) {
  const prefix = `hearken.pending.${annotator}.`;
  const waiting = new Map();
  const refused = [];
  let sending = false;
  let lastError = null;

  for (const key of storage.keys().filter((key) => key.startsWith(prefix))) {
    try { waiting.set(key, JSON.parse(storage.get(key))); } catch { storage.take(key); }
  }

  function report(error) {
    const lines = refused.map((message) => t("A judgement was not stored: {0}.", message));
    if (error && waiting.size) {
      const cannot = error.status ? t("The server cannot store anything now: {0}.", error.message) : t("The server cannot be reached.");
      const what = waiting.size === 1 ? t("1 judgement waits") : t("{0} judgements wait", waiting.size);
      lines.push(isSignedOut(error)
        ? t("{0} in this browser: {1}. Sign in again in another tab or reload; nothing is lost.", what, error.message)
        : t("{0} {1} in this browser and will be sent when it is back; you can go on.", cannot, what));
    }
    trouble(lines.join(" "), "outbox");
    const dismiss = find("#trouble [data-act=dismiss]");
    if (dismiss) dismiss.hidden = !refused.length;
  }

  async function flush() {
    if (sending) return;
    sending = true;
    let wait = 500;
    while (waiting.size) {
      const [key, entry] = [...waiting].sort(([, a], [, b]) => a.order - b.order)[0];
      try {
        const reply = await post(entry.path, entry.body);
        settle(key, entry, reply);
        wait = 500;
      } catch (error) {
        if (mayPass(error)) {
          lastError = error;
          report(error);
          await sleep(wait);
          wait = Math.min(wait * 2, 15_000);
        } else {
          refused.push(error.message);
          settle(key, entry, null);
        }
      }
    }
    sending = false;
  }

  function settle(key, entry, reply) {
    waiting.delete(key);
    storage.take(key);
    lastError = null;
    if (reply?.outcome === "lease_lost") refused.push(t("its time was over and others have judged the item"));
    report(null);
    onSettled(entry, reply);
  }

  return {
    flush,
    // What was refused has been read.
    dismiss() { refused.length = 0; report(waiting.size ? lastError : null); },
    size: () => waiting.size,
    assignments: () => [...waiting.values()].map((entry) => entry.body.assignment).filter(Boolean),
    add(path, body) {
      const order = Date.now() + performance.now() / 1e6;
      const key = `${prefix}${body.id ?? newId()}`;
      waiting.set(key, { path, body, order });
      storage.put(key, JSON.stringify({ path, body, order }));
      if (lastError) report(lastError);
      return flush();
    },
  };
}
