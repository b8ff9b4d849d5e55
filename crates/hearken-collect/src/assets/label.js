// The labelling page. The server renders each item as HTML; this script loads it ahead of time, reads
// keys and pointers, and sends judgements in the background.
"use strict";

// Items that are loaded ahead of the one on the page.
const AHEAD = 2;
// A key that comes sooner after an item appears was meant for the one before it.
const SETTLE_MS = 120;
// So is the second half of a double click or a double tap.
const DOUBLE_CLICK_MS = 700;
const DOUBLE_TAP_MS = 350;
// How long the next item may take to come; the server is at work on it, and asking again would not make it faster.
const NEXT_MS = 120_000;

const page = { current: null, upcoming: [], undoable: [], filling: null, over: null, done: 0, shown: 0 };
let root, outbox, decide;

function prepare(reply) {
  const holder = document.createElement("div");
  holder.innerHTML = reply.html;
  return { ...reply, element: holder.firstElementChild, task: tasks[reply.task], shownAt: 0 };
}

async function fill() {
  page.filling ??= fillOnce().finally(() => { page.filling = null; });
  return page.filling;
}

async function fillOnce() {
  let wait = 500;
  while (page.upcoming.length < AHEAD) {
    const held = [page.current, ...page.upcoming].map((item) => item?.assignment).filter(Boolean);
    try {
      const reply = await post("/label/next", { held: [...held, ...outbox.assignments()] }, NEXT_MS);
      showProgress(reply.progress);
      page.over = reply.assignment ? null : reply.why;
      if (!reply.assignment) break;
      page.upcoming.push(prepare(reply));
      if (!page.current) showNext();
      trouble("");
    } catch (error) {
      if (!mayPass(error)) return trouble(error.message);
      if (!page.current || isSignedOut(error)) trouble(isSignedOut(error) ? t("{0}; reload the page.", error.message) : t("The next item cannot be loaded: {0}. Trying again…", error.message));
      await sleep(wait);
      wait = Math.min(wait * 2, 15_000);
    }
  }
  if (!page.current) showNext();
}

function showProgress(progress) {
  if (!find("#progress")) return;
  const own = t("You: {0} in this sitting", page.done);
  find("#progress").textContent = progress ? `${own} · ${t("All: {0} of {1}", progress.judged, progress.wanted)}` : own;
  const bar = find("#progress-bar");
  bar.hidden = !progress;
  if (!progress) return;
  bar.max = Math.max(progress.wanted, 1);
  bar.value = progress.judged;
}

function showNext(startedAt) {
  const item = page.upcoming.shift();
  const stage = find("#stage");
  page.current = item ?? null;
  if (!item) {
    if (page.over === null) {
      stage.innerHTML = `<p class="quiet" id="loading">${t("Loading…")}</p>`;
      return;
    }
    const over = document.createElement("div");
    over.className = "over";
    over.innerHTML = `<p></p><p class="actions"><button type="button" data-act="again">${t("Look again")}</button> <button type="button" class="small" data-act="undo">${t("Undo")} <kbd>u</kbd></button> <a class="button">${t("My judgements")}</a></p>`;
    find("a", over).href = `${base}/label/history`;
    over.firstElementChild.textContent = page.over;
    stage.replaceChildren(over);
    say(page.over);
    return;
  }
  stage.replaceChildren(item.element);
  page.shown += 1;
  item.element.dataset.shown = page.shown;
  if (!item.started) begin(item);
  item.shownAt = performance.now();
  if (!root.dataset.decide) window.scrollTo(0, 0);
  showLastTurn(item.element);
  reachable(item.element);
  const title = find("#item-title", item.element);
  title.focus({ preventScroll: true });
  say(item.revises ? t("Again: {0}", title.textContent) : t("Next item: {0}", title.textContent));
  if (startedAt) requestAnimationFrame(() => performance.measure("next-item", { start: startedAt, end: performance.now() }));
}

// Of a conversation the last turn is what the answers answer.
function showLastTurn(element) {
  const prompt = find(".prompt", element);
  const turns = all(".prompt .turn", element);
  if (turns.length < 2) return;
  const scroll = () => { prompt.scrollTop = turns.at(-1).offsetTop; };
  scroll();
  for (const image of all("img", prompt)) if (!image.complete) image.addEventListener("load", scroll, { once: true });
}

function begin(item) {
  item.started = true;
  item.task.start(item);
  if (item.answer) item.task.preset(item, item.answer);
  const field = find("[name=rationale]", item.element);
  if (field) {
    const draft = storage.get(draftKey(item)) ?? item.rationale;
    if (draft) { field.value = draft; field.closest("label").hidden = false; }
    field.addEventListener("input", () => storage.put(draftKey(item), field.value));
  }
  startBetter(item);
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) all("img.picture", item.element).filter(moves).forEach(still);
  else for (const clip of all(".clips video", item.element)) clip.play().catch(() => {});
  find(".cant-tell", item.element).addEventListener("submit", (event) => {
    event.preventDefault();
    const reason = event.target.elements.reason.value.trim();
    if (reason) decide({ kind: "cant_tell", reason });
    else event.target.elements.reason.focus();
  });
}

function forgetDrafts(item) {
  storage.take(draftKey(item));
  storage.take(`${draftKey(item)}.better`);
}

const draftKey = (item) => `hearken.draft.${item.assignment ?? item.revises ?? item.decides}`;

// A better answer is begun from one that is there, or from nothing, and sent with the judgement.
function startBetter(item) {
  const panel = find(".better", item.element);
  if (!panel) return;
  const [field, from] = [find("textarea", panel), find("select", panel)];
  const begin = () => { field.value = item.texts[from.value] ?? ""; item.begun = field.value; };
  const keep = () => storage.put(`${draftKey(item)}.better`, JSON.stringify({ place: from.value, text: field.value }));
  const set = ({ place, text }) => { from.value = place ?? ""; begin(); field.value = text; toggleBetter(item, true); };
  begin();
  from.addEventListener("change", () => {
    const before = field.value;
    const untouched = before === item.begun || !before.trim();
    begin();
    if (!untouched) field.value = before;
    keep();
  });
  field.addEventListener("input", keep);
  try {
    const draft = JSON.parse(storage.get(`${draftKey(item)}.better`));
    if (draft ?? item.better) set(draft ?? item.better);
  } catch { /* what cannot be read is no draft */ }
}

function toggleBetter(item, open) {
  find(".better", item.element).hidden = !open;
  find("[data-act=better]", item.element).setAttribute("aria-expanded", open);
}

// Of two answers the one that the annotator leans to is mostly the one to edit.
function openBetter(item) {
  const panel = find(".better", item.element);
  if (!panel) return;
  const opens = panel.hidden;
  toggleBetter(item, true);
  if (opens) panel.scrollIntoView({ block: "nearest" });
  find("textarea", panel).focus();
}

function dropBetter(item) {
  const panel = find(".better", item.element);
  find("textarea", panel).value = item.begun = item.texts[find("select", panel).value] ?? "";
  storage.take(`${draftKey(item)}.better`);
  toggleBetter(item, false);
  find("[data-act=better]", item.element).focus();
}

// What was written, where it says something else than what is there.
function written(item) {
  const panel = find(".better", item.element);
  if (!panel || panel.hidden) return null;
  const text = find("textarea", panel).value.trim();
  const from = find("select", panel).value;
  if (!text || from !== "" && text === item.texts[from].trim()) return null;
  return { place: from === "" ? null : Number(from), text };
}

const moves = (image) => image.closest(".clips") || /^data:image\/(gif|webp|apng)|\.(gif|webp|apng)$/i.test(image.src);

// An animated image stands still until it is asked to move.
function still(image) {
  image.decode().then(() => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    canvas.className = "picture";
    canvas.getContext("2d").drawImage(image, 0, 0);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", image.alt);
    const play = document.createElement("button");
    play.type = "button";
    play.className = "small";
    play.textContent = t("Play");
    play.addEventListener("click", () => { canvas.replaceWith(image); play.remove(); });
    image.replaceWith(canvas);
    canvas.after(play);
  }, () => {});
}

function decideHere(answer) {
  const item = page.current;
  if (!item || isVeiled(item)) return;
  const field = find("[name=rationale]", item.element);
  const rationale = field?.value.trim() || null;
  if (root.dataset.rationale === "required" && !rationale && answer.kind !== "cant_tell") {
    item.decided = answer;
    field.focus();
    return prompting(item, t("This project asks for a reason: write it, then press Ctrl+Enter."));
  }
  const startedAt = page.keyAt;
  const duration_ms = Math.round(performance.now() - item.shownAt);
  const body = { id: newId(), answer, rationale, duration_ms };
  const better = written(item);
  if (better) body.better = better;
  if (root.dataset.decide) {
    forgetDrafts(item);
    find("#stage").inert = true;
    outbox.add("/review/submit", { ...body, item: item.decides, earlier: item.earlier });
    return;
  }
  if (item.revises) body.revises = item.revises;
  else body.assignment = item.assignment;
  forgetDrafts(item);
  prompting(item, "");
  find("#feedback").hidden = true;
  page.undoable.push({ item, id: body.id, answer });
  if (root.dataset.revise) {
    find("#stage").inert = true;
    outbox.add("/label/submit", body);
    return;
  }
  showNext(startedAt);
  outbox.add("/label/submit", body);
  fill();
}

function skip() {
  const item = page.current;
  if (!item) return;
  if (root.dataset.revise) return location.assign(`${base}/label/history`);
  if (root.dataset.decide) return location.assign(root.dataset.next ?? root.dataset.back);
  if (!item.revises) outbox.add("/label/skip", { assignment: item.assignment });
  forgetDrafts(item);
  showNext(page.keyAt);
  fill();
}

function undo() {
  const last = page.undoable.pop();
  if (root.dataset.decide) return say(t("There is nothing to undo here: decide anew."));
  if (!last || root.dataset.revise) return say(t("There is nothing to undo here; My judgements lists what you judged before."));
  if (page.current) page.upcoming.unshift(page.current);
  const { item, id, answer } = last;
  item.revises = id;
  item.asked = null;
  item.task.preset(item, answer);
  closePanels(item);
  find("[data-act=skip]", item.element).firstChild.textContent = `${t("Keep as it was")} `;
  page.upcoming.unshift(item);
  showNext();
}

const isVeiled = (item) => "sensitive" in item.element.dataset;

function reveal(item) {
  delete item.element.dataset.sensitive;
  find(".veil", item.element)?.remove();
  const content = find(".content", item.element);
  content.inert = false;
  content.removeAttribute("aria-hidden");
  prompting(item, "");
  item.shownAt = performance.now();
  showLastTurn(item.element);
  find("#item-title", item.element).focus({ preventScroll: true });
}

function closePanels(item) {
  find(".cant-tell", item.element).hidden = true;
  if (item.side != null) item.task.choose(item, null, 1);
  prompting(item, "");
}

function openRationale(item) {
  const field = find("[name=rationale]", item.element);
  if (!field) return;
  field.closest("label").hidden = false;
  field.focus();
}

// What a model suggests decides between two answers, and fills in anything else, which is then looked at and sent.
function accept(item) {
  if (!item.suggestion) return;
  if (item.task !== tasks.pairwise) return item.task.preset(item, item.suggestion);
  const needsPoints = Number(item.element.dataset.strength) && item.suggestion.kind === "preferred" && !item.suggestion.points;
  if (needsPoints) return item.task.choose(item, item.suggestion.place, Number(item.element.dataset.strength));
  decide(item.suggestion);
}

// What tools gave and what was thought comes to light at once, or goes away again.
function unfoldTrace(item) {
  const folds = all(".fold", item.element);
  const open = folds.some((fold) => !fold.open);
  for (const fold of folds) fold.open = open;
  find("[data-act=unfold]", item.element)?.setAttribute("aria-pressed", open);
  if (folds.length) say(open ? t("Unfolded") : t("Folded"));
}

function toggleGuidelines() {
  const aside = find("#guidelines");
  aside.hidden = !aside.hidden;
  find("[data-act=guidelines]").setAttribute("aria-expanded", !aside.hidden);
  storage.put("hearken.guidelines", aside.hidden ? "" : "open");
  if (!aside.hidden) aside.focus({ preventScroll: true });
}

function act(name, button) {
  const item = page.current;
  if (name === "guidelines") return toggleGuidelines();
  if (name === "keys") return find("#keys").showModal();
  if (name === "undo") return undo();
  if (name === "dismiss") return outbox.dismiss();
  if (name === "understood") { find("#feedback").hidden = true; return; }
  if (name === "again") { page.over = null; showNext(); return fill(); }
  if (!item) return;
  if (name === "skip") return skip();
  if (name === "reveal") return reveal(item);
  if (isVeiled(item)) return prompting(item, t("Show the content first: press v."));
  if (name === "accept") return accept(item);
  if (name === "unfold") return unfoldTrace(item);
  if (name === "rationale") return openRationale(item);
  if (name === "better") return openBetter(item);
  if (name === "drop_better") return dropBetter(item);
  if (name === "replay") {
    for (const clip of all("video", item.element)) { clip.currentTime = 0; clip.play().catch(() => {}); }
    return all("img.picture", item.element).forEach((image) => { const source = image.src; image.src = ""; image.src = source; });
  }
  if (name === "cant_tell") { const form = find(".cant-tell", item.element); form.hidden = false; form.scrollIntoView({ block: "nearest" }); find("button", form).focus(); return; }
  if (name === "cancel") return closePanels(item);
  if (name === "reason") return decide({ kind: "cant_tell", reason: button.dataset.reason });
  item.task.act(item, name, button);
}

// Whether a click on an item was meant for the one that was there before.
function wasForTheOneBefore(event, button) {
  const item = page.current;
  if (!item?.element.contains(button)) return false;
  const since = performance.now() - item.shownAt;
  if (since < SETTLE_MS) return event.detail > 0;
  if (event.pointerType === "touch" || event.pointerType === "pen") return since < DOUBLE_TAP_MS;
  return event.detail > 1 && since < DOUBLE_CLICK_MS;
}

const KEYS = { c: "cant_tell", s: "skip", u: "undo", r: "rationale", g: "guidelines", "?": "keys", v: "reveal", p: "replay", f: "unfold", a: "accept", w: "better" };

function onKey(event) {
  if (event.ctrlKey && event.key === "Enter" && page.current) return sendFromField(event);
  if (event.ctrlKey || event.metaKey || event.altKey || find("#keys").open) return;
  const item = page.current;
  if (isTyping(event.target)) {
    if (event.key === "Escape") { event.target.blur(); if (item) closePanels(item); }
    return;
  }
  const pressed = event.target.matches?.("button, a, summary") && (event.key === "Enter" || event.key === " ");
  if (pressed || event.repeat && !event.key.startsWith("Arrow")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  page.keyAt = event.timeStamp;
  if (item && performance.now() - item.shownAt < SETTLE_MS) return event.preventDefault();
  if (takesKey(item, key, event)) event.preventDefault();
}

function takesKey(item, key) {
  const panel = item && find(".cant-tell", item.element);
  if (panel && !panel.hidden) {
    if (key === "Escape") { closePanels(item); return true; }
    const button = all("[data-act=reason]", panel)[Number(key) - 1];
    if (button) { act("reason", button); return true; }
  }
  if (item && !isVeiled(item)) {
    if (key === "Enter" && item.task.done) return item.task.done(item);
    if (item.task.key(item, key)) return true;
  }
  if (!KEYS[key]) return false;
  act(KEYS[key], null);
  return true;
}

function sendFromField(event) {
  const item = page.current;
  event.preventDefault();
  page.keyAt = event.timeStamp;
  if (item.decided) { const answer = item.decided; item.decided = null; return decide(answer); }
  if (item.task.done) return item.task.done(item);
  document.activeElement.blur();
  prompting(item, t("Now choose an answer."));
}

function onSettled(entry, reply) {
  // What another page left in the outbox may settle here, too: only the revision ends this page.
  const isRevision = root.dataset.revise && entry.body.revises === root.dataset.revise;
  if (reply?.feedback) {
    find("#feedback p").textContent = reply.feedback;
    find("#feedback").hidden = false;
  }
  // What was on its way may have been what the next item waited for.
  if (!page.current && !opened()) (page.filling ?? Promise.resolve()).then(() => { if (!page.current) fill(); });
  if (entry.path === "/label/submit" && reply) {
    if (!entry.body.revises) page.done += 1;
    showProgress(reply.progress);
    if (isRevision && reply.outcome !== "lease_lost") location.assign(`${base}/label/history`);
  }
  if (isRevision && !reply) find("#stage").inert = false;
  if (entry.path !== "/review/submit" || entry.body.item !== root.dataset.decide) return;
  if (reply) location.assign(root.dataset.next ?? root.dataset.back);
  else find("#stage").inert = false;
}

async function renew() {
  if (document.visibilityState !== "visible") return;
  const assignments = [page.current, ...page.upcoming].map((item) => !item?.revises && item?.assignment).filter(Boolean);
  if (!assignments.length) { if (page.over !== null && !page.current) fill(); return; }
  const { lost } = await post("/label/renew", { assignments }).catch(() => ({ lost: [] }));
  page.upcoming = page.upcoming.filter((item) => item.revises || !lost.includes(item.assignment));
  if (page.current && lost.includes(page.current.assignment)) prompting(page.current, t("The time for this item is over. Your judgement is still stored if nobody else has taken it."));
}

// Whether the page is about one item that was asked for.
const opened = () => root.dataset.revise || root.dataset.decide;

async function open(path, asked) {
  try {
    page.upcoming.push(prepare(await post(path, asked)));
    showNext();
  } catch (error) { trouble(error.message); find("#loading")?.remove(); }
}

function startLabelling() {
  decide = decideHere;
  outbox = makeOutbox(root.dataset.annotator, onSettled);
  document.addEventListener("keydown", onKey);
  root.addEventListener("click", (event) => {
    const button = event.target.closest("[data-act]");
    page.keyAt = event.timeStamp;
    if (button && !wasForTheOneBefore(event, button)) act(button.dataset.act, button);
    // A rating that was clicked leads to the next one, as a digit does.
    const rated = event.detail > 0 && event.target.closest("fieldset[data-axis]");
    if (rated && event.target.matches("input") && page.current?.cells) page.current.task.go(page.current, 1);
  });
  root.addEventListener("focusin", (event) => {
    const cell = event.target.closest("fieldset[data-axis]");
    if (cell && page.current?.cells) { page.current.at = page.current.cells.indexOf(cell); page.current.task.mark(page.current); }
  });
  if (storage.get("hearken.guidelines") === "open" && matchMedia("(min-width: 60rem)").matches) toggleGuidelines();
  outbox.flush();
  if (root.dataset.revise) return open("/label/reopen", { judgement: root.dataset.revise });
  if (root.dataset.decide) return open("/review/open", { item: root.dataset.decide });
  setInterval(renew, Math.max(10_000, Math.min(Number(root.dataset.leaseMs) / 3, 60_000)));
  document.addEventListener("visibilitychange", renew);
  window.addEventListener("online", () => outbox.flush());
  fill();
}

root = find("#label");
startLabelling();
