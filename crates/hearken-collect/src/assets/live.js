// Live answers: a prompt goes out, two answers stream in side by side, one vote comes back.
"use strict";

const live = { conversation: [], after: null, exchange: null, busy: false, failed: false };

function startLive(element) {
  const form = find("#ask");
  form.addEventListener("submit", (event) => { event.preventDefault(); ask(form.elements.prompt.value); });
  form.elements.prompt.addEventListener("keydown", (event) => { if (event.ctrlKey && event.key === "Enter") form.requestSubmit(); });
  element.addEventListener("click", (event) => {
    const button = event.target.closest("[data-act]");
    if (!button || button.disabled) return;
    if (button.dataset.act === "anew") return anew();
    if (button.dataset.act === "retry") return stream();
    vote(button);
  });
  document.addEventListener("keydown", (event) => {
    if (isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const selector = { 1: "[data-place='0']", ArrowLeft: "[data-place='0']", 2: "[data-place='1']", ArrowRight: "[data-place='1']", t: "[data-act=tie]", b: "[data-act=both_bad]" }[event.key];
    const button = selector && find(`#vote button${selector}`);
    if (button && !button.disabled && !find("#vote").hidden) { event.preventDefault(); vote(button); }
  });
}

function anew() {
  if (live.busy) return;
  live.conversation = [];
  live.after = live.exchange = null;
  find("#conversation").replaceChildren();
  find("#answers").hidden = find("#vote").hidden = true;
  trouble("");
  const form = find("#ask");
  form.hidden = find(".primary", form).disabled = false;
  form.elements.prompt.value = "";
  form.elements.prompt.focus();
}

function ask(prompt) {
  if (live.busy || !prompt.trim()) return;
  live.conversation.push({ role: "user", content: prompt });
  addTurn("user", t("User")).textContent = prompt;
  find("#ask").hidden = true;
  return stream();
}

function addTurn(role, who) {
  const turn = document.createElement("div");
  turn.className = `turn ${role}`;
  turn.innerHTML = '<h2 class="speaker"></h2><div class="text plain"></div>';
  turn.firstElementChild.textContent = who;
  find("#conversation").append(turn);
  return turn.lastElementChild;
}

async function stream() {
  Object.assign(live, { busy: true, failed: false, exchange: null });
  trouble("");
  find("#answers").hidden = find("#vote").hidden = false;
  for (const button of all("#vote button")) { button.disabled = true; button.classList.remove("earlier"); }
  find("[data-act=retry]").hidden = true;
  const sides = all("#answers .answer");
  for (const side of sides) {
    side.setAttribute("aria-busy", "true");
    find(".text", side).replaceChildren();
    find(".text", side).classList.add("plain");
    find(".state", side).textContent = t("Waiting for the first words…");
    side.classList.remove("failed");
  }
  try {
    const response = await request("/live/stream", live.after ? { conversation: live.conversation.slice(-1), after: live.after } : { conversation: live.conversation });
    if (!response.ok) throw await failure(response);
    await readLines(response.body, (event) => onEvent(event, sides));
  } catch (error) {
    live.failed = true;
    trouble(t("The answers did not come: {0}", error.message));
  }
  for (const side of sides) side.setAttribute("aria-busy", "false");
  live.busy = false;
  const ready = live.exchange && !live.failed;
  for (const button of all("#vote button")) button.disabled = false;
  for (const button of all("#vote .main button")) button.disabled = !ready;
  const retry = find("[data-act=retry]");
  retry.hidden = ready;
  say(ready ? t("Both answers are there. Which is better?") : t("An answer is missing; you can try again."));
  if (!ready) retry.focus({ preventScroll: true });
}

async function readLines(body, onLine) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) onLine(JSON.parse(line));
  }
  if (!live.exchange && !live.failed) throw new Error(t("the connection broke off"));
}

function onEvent(event, sides) {
  if (event.exchange) { live.exchange = event.exchange; return; }
  const side = sides[event.place];
  const text = find(".text", side);
  const state = find(".state", side);
  if (event.text !== undefined) { text.append(event.text); state.textContent = t("Writing…"); }
  else if (event.html !== undefined) { text.classList.remove("plain"); text.innerHTML = event.html; state.textContent = t("Finished."); }
  else if (event.error !== undefined) {
    live.failed = true;
    side.classList.add("failed");
    state.textContent = event.error;
  }
}

async function vote(button) {
  const { act: name, place } = button.dataset;
  const field = find("#vote [name=rationale]");
  if (field?.required && !field.value.trim()) return field.reportValidity(), field.focus();
  const answer = name === "prefer" ? { kind: "preferred", place: Number(place) } : { kind: name };
  live.vote = live.vote?.exchange === live.exchange ? live.vote : { exchange: live.exchange, id: newId() };
  for (const each of all("#vote button")) each.disabled = true;
  try {
    const reply = await post("/live/vote", { ...live.vote, answer, rationale: field?.value.trim() || null });
    live.conversation = reply.conversation;
    live.after = live.vote.exchange;
    trouble("");
    addTurn("assistant", t("Assistant")).innerHTML = reply.html;
    all("#conversation .turn").at(-1).lastElementChild.classList.remove("plain");
    if (field) field.value = "";
    find("#answers").hidden = find("#vote").hidden = true;
    const form = find("#ask");
    const turns = live.conversation.filter((turn) => turn.role === "user").length;
    form.hidden = false;
    find(".primary", form).disabled = turns >= Number(find("#live").dataset.turnsMax);
    form.elements.prompt.value = "";
    form.elements.prompt.focus();
    say(t("Stored. You can go on with the conversation."));
  } catch (error) {
    trouble(t("The judgement was not stored: {0}. Choose again to send it once more.", error.message));
    for (const each of all("#vote button")) each.disabled = false;
  }
}

startLive(find("#live"));
