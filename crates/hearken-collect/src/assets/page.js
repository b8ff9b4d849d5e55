// On every page: what scrolls can be reached with the keyboard.
"use strict";

function reachable(within) {
  for (const element of within.querySelectorAll("pre, table, figure.plot, .scroll, .prompt, .suggested .answer, .verdict, .cards, .card blockquote, .tabs ul, math[display=block], #guidelines")) {
    const scrolls = element.scrollWidth > element.clientWidth + 1 || element.scrollHeight > element.clientHeight + 1;
    const hidden = getComputedStyle(element).overflow === "visible";
    if (scrolls && !hidden) element.tabIndex = 0;
  }
}

reachable(document);

// A link into a part that is folded unfolds it; what comes to light may scroll.
function unfold() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let fold = target && target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  if (target) target.scrollIntoView();
}

addEventListener("hashchange", unfold);
document.addEventListener("toggle", (event) => reachable(event.target), true);
unfold();
