// How each kind of item is judged: pairwise, ranking, rating, steps.
"use strict";

// `start` prepares an item, `preset` shows an earlier answer, `key` returns whether it took the key,
// `act` is a button that was pressed. Answers speak of places on the page, never of candidates.

const pairwise = {
  start(item) { item.side = null; },
  preset(item, answer) {
    for (const button of all("[data-act=prefer], [data-act=tie], [data-act=both_bad]", item.element)) {
      const { act, place, points } = button.dataset;
      const same = act === answer.kind || (act === "prefer" && answer.kind === "preferred"
        && Number(place) === answer.place && (!points || Number(points) === answer.points));
      button.classList.toggle("earlier", same);
    }
  },
  key(item, key) {
    const points = Number(item.element.dataset.strength);
    if (points && item.side !== null && key >= "1" && key <= String(points)) {
      decide({ kind: "preferred", place: item.side, points: Number(key) });
    } else if (key === "1" || key === "ArrowLeft") this.choose(item, 0, points);
    else if (key === "2" || key === "ArrowRight") this.choose(item, 1, points);
    else if (key === "t" && find("[data-act=tie]", item.element)) decide({ kind: "tie" });
    else if (key === "b" && find("[data-act=both_bad]", item.element)) decide({ kind: "both_bad" });
    else if (key === "Escape" && item.side !== null) this.choose(item, null, points);
    else return false;
    return true;
  },
  choose(item, side, points) {
    if (!points) return decide({ kind: "preferred", place: side });
    item.side = side;
    for (const each of all(".side", item.element)) each.classList.toggle("chosen", Number(each.dataset.side) === side);
    for (const each of all("[data-act=prefer]", item.element)) each.classList.toggle("chosen", Number(each.dataset.place) === side);
    if (side !== null) prompting(item, t("Answer {0} is better. How much? Press 1 (slightly) to {1}; Esc takes it back.", "AB"[side], points));
    else prompting(item, "");
  },
  act(item, act, button) {
    if (act === "prefer") {
      const { place, points } = button.dataset;
      decide({ kind: "preferred", place: Number(place), ...(points && { points: Number(points) }) });
    } else if (act === "tie" || act === "both_bad") decide({ kind: act });
    else return false;
    return true;
  },
};

const EQUAL = (one, other) => t("{0} equal to {1}", one, other);
const THEN = (one, other) => t("{0}, then {1}", one, other);

const ranking = {
  start(item) {
    item.groups = all(".ranking > li", item.element).map((row) => [Number(row.dataset.place)]);
    item.left = [];
    item.selected = null;
    item.touched = false;
    find(".ranking", item.element).addEventListener("pointerdown", (event) => this.drag(item, event));
  },
  preset(item, answer) { if (answer.kind === "ranking") { item.groups = answer.order; item.left = this.places(item).filter((place) => !answer.order.flat().includes(place)); item.touched = true; this.draw(item); } },
  places: (item) => all(".ranking > li", item.element).map((row) => Number(row.dataset.place)).sort((a, b) => a - b),
  row: (item, place) => find(`.ranking > li[data-place="${place}"]`, item.element),
  draw(item) {
    const list = find(".ranking", item.element);
    const focused = list.contains(document.activeElement) ? document.activeElement : null;
    item.groups.forEach((group, rank) => group.forEach((place, index) => {
      const row = this.row(item, place);
      row.classList.toggle("tied", index > 0);
      row.classList.toggle("selected", place === item.selected);
      find(".rank", row).textContent = index > 0 ? "=" : rank + 1;
      list.append(row);
    }));
    this.drawLeft(item);
    focused?.focus({ preventScroll: true });
    const name = (place) => find(".name", this.row(item, place)).firstChild.textContent.trim();
    const joined = (list, how) => list.reduce((before, next) => how(before, next));
    const order = joined(item.groups.map((group) => joined(group.map(name), EQUAL)), THEN);
    if (item.touched) say(item.left.length ? t("{0}; not ranked: {1}", order, item.left.map(name).join(", ")) : order);
  },
  drawLeft(item) {
    const list = find(".left-out", item.element);
    if (!list) return;
    for (const place of item.left) {
      const row = this.row(item, place);
      row.classList.remove("tied");
      row.classList.toggle("selected", place === item.selected);
      find(".rank", row).textContent = "–";
      list.append(row);
    }
    for (const part of [list, find(".left-out-title", item.element)]) part.hidden = !item.left.length;
    for (const button of all("[data-act=leave_out]", item.element)) button.setAttribute("aria-pressed", item.left.includes(Number(button.closest("li").dataset.place)));
  },
  // Out of the order, or back to its end.
  leaveOut(item, place) {
    const rank = this.rankOf(item, place);
    if (rank < 0) {
      item.left = item.left.filter((each) => each !== place);
      item.groups.push([place]);
    } else {
      if (item.groups.flat().length < 2) return prompting(item, t("One answer at least is ranked."));
      item.groups[rank] = item.groups[rank].filter((each) => each !== place);
      item.groups = item.groups.filter((group) => group.length);
      item.left.push(place);
    }
    this.changed(item, place);
  },
  rankOf: (item, place) => item.groups.findIndex((group) => group.includes(place)),
  // Up or down by one: out of a group of equals, or past the whole neighboring group.
  move(item, place, step) {
    const rank = this.rankOf(item, place);
    if (rank < 0) return this.leaveOut(item, place);
    const group = item.groups[rank];
    if (group.length > 1) {
      group.splice(group.indexOf(place), 1);
      item.groups.splice(step < 0 ? rank : rank + 1, 0, [place]);
    } else if (item.groups[rank + step]) {
      item.groups.splice(rank, 1);
      item.groups.splice(rank + step, 0, [place]);
    }
    this.changed(item, place);
  },
  equal(item, place) {
    const rank = this.rankOf(item, place);
    if (rank < 0) return this.leaveOut(item, place);
    const group = item.groups[rank];
    if (group.length > 1) return this.move(item, place, 1);
    if (rank === 0) return;
    item.groups.splice(rank, 1);
    item.groups[rank - 1].push(place);
    this.changed(item, place);
  },
  // To the boundary before row `index` of the list without it, or onto that row.
  drop(item, place, index, onto) {
    item.left = item.left.filter((each) => each !== place);
    for (const group of item.groups) if (group.includes(place)) group.splice(group.indexOf(place), 1);
    item.groups = item.groups.filter((group) => group.length);
    let rows = 0;
    const rank = item.groups.findIndex((group) => { rows += group.length; return index < rows; });
    if (rank < 0) item.groups.push([place]);
    else if (onto || index > rows - item.groups[rank].length) item.groups[rank].push(place);
    else item.groups.splice(rank, 0, [place]);
    this.changed(item, place);
  },
  changed(item, place) {
    item.touched = true;
    item.selected = place;
    this.draw(item);
  },
  drag(item, down) {
    const row = down.target.closest("li");
    if (!row || down.target.closest("button") || down.button > 0) return;
    down.preventDefault();
    const place = Number(row.dataset.place);
    const list = row.parentElement;
    let target = null;
    row.classList.add("dragged");
    const over = (event) => {
      const rows = all("li", list).filter((each) => each !== row);
      for (const each of rows) each.classList.remove("before", "onto", "after");
      let index = rows.findIndex((each) => event.clientY < each.getBoundingClientRect().bottom);
      if (index < 0) index = rows.length;
      const box = rows[index]?.getBoundingClientRect();
      const depth = box ? (event.clientY - box.top) / box.height : 0;
      const onto = depth > 0.3 && depth < 0.7;
      if (depth >= 0.7) index += 1;
      target = { index, onto };
      if (onto) rows[index].classList.add("onto");
      else if (rows[index]) rows[index].classList.add("before");
      else rows.at(-1)?.classList.add("after");
    };
    const end = (event) => {
      for (const [kind, handler] of [["pointermove", over], ["pointerup", end], ["pointercancel", end]]) document.removeEventListener(kind, handler);
      for (const each of all("li", list)) each.classList.remove("dragged", "before", "onto", "after");
      if (event.type === "pointerup" && target) this.drop(item, place, target.index, target.onto);
    };
    for (const [kind, handler] of [["pointermove", over], ["pointerup", end], ["pointercancel", end]]) document.addEventListener(kind, handler);
  },
  key(item, key) {
    const number = Number(key);
    if (number >= 1 && number <= item.groups.flat().length + item.left.length) {
      item.selected = number - 1;
      this.draw(item);
      const name = find(".name", this.row(item, item.selected)).firstChild.textContent.trim();
      const rank = this.rankOf(item, item.selected);
      say(rank < 0 ? t("{0} chosen, not ranked", name) : t("{0} chosen, rank {1}", name, rank + 1));
    } else if (key === "0" && find(".left-out", item.element)) {
      if (item.selected === null) prompting(item, t("Press the number of an answer first."));
      else this.leaveOut(item, item.selected);
    } else if (key === "ArrowUp" || key === "ArrowDown" || key === "=") {
      if (item.selected === null) prompting(item, t("Press the number of an answer first."));
      else if (key === "=") this.equal(item, item.selected);
      else this.move(item, item.selected, key === "ArrowUp" ? -1 : 1);
    } else return false;
    return true;
  },
  act(item, act, button) {
    if (act === "done") return this.done(item);
    const place = Number(button.closest("li")?.dataset.place);
    if (act === "up" || act === "down") this.move(item, place, act === "up" ? -1 : 1);
    else if (act === "equal") this.equal(item, place);
    else if (act === "leave_out") this.leaveOut(item, place);
    else return false;
    return true;
  },
  done(item) {
    confirmed(item, item.touched, t("The order is as it was shown. Press again if that is your ranking."), () =>
      decide({ kind: "ranking", order: item.groups }));
    return true;
  },
};

const rating = {
  start(item) { item.cells = all("fieldset[data-axis]", item.element); item.at = 0; this.mark(item); },
  preset(item, answer) {
    if (answer.kind !== "ratings") return;
    for (const cell of item.cells) this.set(cell, answer.axes[cell.dataset.axis]?.[this.place(cell)] ?? null);
  },
  place: (cell) => Number(cell.closest("[data-place]").dataset.place),
  value: (cell) => { const on = find("input:checked", cell); return on ? Number(on.value) : null; },
  set(cell, value) { for (const input of all("input", cell)) input.checked = Number(input.value) === value && value !== null; },
  mark(item) {
    item.cells.forEach((cell, index) => cell.classList.toggle("at", index === item.at));
    item.cells[item.at]?.scrollIntoView({ block: "nearest" });
  },
  go(item, step) {
    item.at = Math.max(0, Math.min(item.cells.length - 1, item.at + step));
    this.mark(item);
    find("input:checked, input", item.cells[item.at])?.focus({ preventScroll: true });
  },
  key(item, key) {
    const cell = item.cells[item.at];
    if (!cell) return false;
    const [min, max] = [Number(cell.dataset.min), Number(cell.dataset.max)];
    if (/^[0-9]$/.test(key)) {
      const value = key === "0" && min > 0 && max >= 10 ? 10 : Number(key);
      if (value < min || value > max) return prompting(item, t("{0} goes from {1} to {2}.", cell.dataset.axis, min, max)), true;
      this.set(cell, value);
      this.go(item, 1);
    } else if (key === "ArrowLeft" || key === "ArrowRight") {
      const value = this.value(cell) ?? (key === "ArrowRight" ? min - 1 : max + 1);
      this.set(cell, Math.max(min, Math.min(max, value + (key === "ArrowRight" ? 1 : -1))));
      find("input:checked", cell).focus({ preventScroll: true });
    } else if (key === "ArrowUp" || key === "ArrowDown") this.go(item, key === "ArrowUp" ? -1 : 1);
    else return false;
    return true;
  },
  act(item, act) { return act === "done" ? this.done(item) : false; },
  done(item) {
    const axes = {};
    for (const cell of item.cells) (axes[cell.dataset.axis] ??= [])[this.place(cell)] = this.value(cell);
    // A conversation that is shorter has no such turn.
    for (const row of Object.values(axes)) for (let place = 0; place < Number(item.element.dataset.count); place += 1) row[place] ??= null;
    const values = item.cells.map((cell) => this.value(cell));
    const missing = values.filter((value) => value === null).length;
    if (missing === values.length) return prompting(item, t("Nothing is rated yet.")), true;
    const left = missing === 1 ? t("1 rating is left out. Press again if you mean to.") : t("{0} ratings are left out. Press again if you mean to.", missing);
    confirmed(item, missing === 0, left, () => decide({ kind: "ratings", axes }));
    return true;
  },
};

const steps = {
  start(item) {
    item.rows = all("li[data-step]", item.element);
    item.labels = item.rows.map(() => null);
    item.at = 0;
    this.draw(item);
  },
  preset(item, answer) { if (answer.kind === "steps") { item.labels = answer.labels; this.draw(item); } },
  // The step after which nothing is asked, where the project stops at the first error.
  last(item) {
    const wrong = "stop" in item.element.dataset ? item.labels.indexOf(-1) : -1;
    return wrong < 0 ? item.rows.length - 1 : wrong;
  },
  draw(item) {
    const last = this.last(item);
    item.at = Math.min(item.at, last);
    item.rows.forEach((row, index) => {
      if (index > last) item.labels[index] = null;
      row.classList.toggle("at", index === item.at);
      row.classList.toggle("past", index > last);
      for (const button of all("[data-label]", row)) {
        button.setAttribute("aria-pressed", item.labels[index] === Number(button.dataset.label));
        button.disabled = index > last;
      }
    });
  },
  set(item, index, label) {
    item.labels[index] = label;
    item.at = Math.min(index + 1, item.rows.length - 1);
    this.draw(item);
    item.rows[item.at].scrollIntoView({ block: "nearest" });
    const ended = this.last(item) < item.rows.length - 1;
    say(ended ? t("First error marked; press Enter when done.") : t("Step {0} of {1}", item.at + 1, item.rows.length));
  },
  key(item, key) {
    const label = { 1: 1, 2: 0, 3: -1 }[key];
    if (label !== undefined) this.set(item, item.at, label);
    else if (key === "ArrowUp" || key === "ArrowDown") {
      item.at = Math.max(0, item.at + (key === "ArrowUp" ? -1 : 1));
      this.draw(item);
      item.rows[item.at].scrollIntoView({ block: "nearest" });
      say(t("Step {0}", item.at + 1));
    } else if (key === "Backspace") { item.labels[item.at] = null; this.draw(item); }
    else return false;
    return true;
  },
  act(item, act, button) {
    if (act === "done") return this.done(item);
    if (act !== "step") return false;
    this.set(item, Number(button.closest("li").dataset.step), Number(button.dataset.label));
    return true;
  },
  done(item) {
    const judged = item.labels.slice(0, this.last(item) + 1);
    const missing = judged.filter((label) => label === null).length;
    if (missing === judged.length) return prompting(item, t("No step is judged yet.")), true;
    const left = missing === 1 ? t("1 step is not judged. Press again if you mean to.") : t("{0} steps are not judged. Press again if you mean to.", missing);
    confirmed(item, missing === 0, left, () => decide({ kind: "steps", labels: item.labels }));
    return true;
  },
};

const tasks = { pairwise, ranking, rating, steps };

function prompting(item, text) {
  const line = find(".prompting", item.element);
  line.hidden = !text;
  line.textContent = text;
  if (text) say(text);
}

// Does `act` at once where it is `sure`, otherwise when asked a second time.
function confirmed(item, sure, question, act) {
  if (sure || item.asked === question) return act();
  item.asked = question;
  prompting(item, question);
}
