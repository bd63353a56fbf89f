"use strict";
// A field on the page of errors: of the messages those are shown that fit what is typed, or pasted as a command printed it.

/** Words of a text, in lower case; of a message those that always stand in it, without what braces or brackets hold. */
function wordsOf(text, isMessage) {
  const fixed = isMessage ? text.replace(/\{[^{}]*\}|\[[^\[\]]*\|[^\[\]]*\]/g, " ") : text;
  return fixed.toLowerCase().match(/[a-z][a-z-]+/g) || [];
}

/** Whether a message fits: it has all words that were typed, or what was pasted has nearly all of its own. */
function fits(message, query) {
  const asked = wordsOf(query, false);
  const all = new Set(wordsOf(message, false));
  if (asked.every((word) => all.has(word) || [...all].some((other) => other.startsWith(word)))) return true;
  const own = wordsOf(message, true);
  const given = new Set(asked);
  return own.length >= 3 && own.filter((word) => given.has(word)).length >= 0.8 * own.length;
}

/** Show the messages that fit and the headings above them, and return how many there are. */
function show(items, query) {
  let count = 0;
  for (const item of items) {
    item.hidden = !fits(item.textContent, query);
    count += item.hidden ? 0 : 1;
  }
  return count;
}

function ready() {
  const kinds = document.getElementById("kinds");
  const rooms = [...document.querySelectorAll("article section section")].filter((room) => room !== kinds);
  const items = rooms.flatMap((room) => [...room.querySelectorAll(":scope > ul > li")]);
  const field = document.createElement("input");
  const told = document.createElement("p");
  Object.assign(field, { id: "find-error", type: "search", placeholder: "Paste a message, or some of its words" });
  field.setAttribute("aria-label", field.placeholder);
  told.id = "found-errors";
  told.setAttribute("aria-live", "polite");
  kinds.before(field, told);
  field.addEventListener("input", () => {
    const query = field.value.trim();
    const count = show(items, query);
    told.textContent = query ? `${count} of ${items.length} messages fit` : "";
    for (const list of new Set(items.map((item) => item.parentElement))) {
      list.hidden = [...list.children].every((item) => item.hidden);
      list.previousElementSibling.hidden = list.hidden;
    }
    for (const room of rooms) room.hidden = !room.querySelector(":scope li:not([hidden])");
    kinds.hidden = query !== "";
  });
}

if (typeof document !== "undefined") document.addEventListener("DOMContentLoaded", ready);
