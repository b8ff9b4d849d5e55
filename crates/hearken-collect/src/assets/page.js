// On every page: what scrolls can be reached with the keyboard.
"use strict";

function reachable(within) {
  for (const element of within.querySelectorAll("pre, table, figure.plot, .scroll, .prompt, .verdict, .cards, .card blockquote, .tabs ul, math[display=block], #guidelines")) {
    const scrolls = element.scrollWidth > element.clientWidth + 1 || element.scrollHeight > element.clientHeight + 1;
    const hidden = getComputedStyle(element).overflow === "visible";
    if (scrolls && !hidden) element.tabIndex = 0;
  }
}

reachable(document);
