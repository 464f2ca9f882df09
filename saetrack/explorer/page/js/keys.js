// Keys, and the window that lists them.

import { LABEL_MEANINGS, PATTERN_MEANINGS } from "./classes.js";
import { button, el } from "./dom.js";
import { capital, labelName, OTHER_MEANINGS, plain } from "./words.js";

const ALWAYS = [
  ["?", "this list"],
  ["/", "search"],
  ["t", "dark or light"],
  ["Esc", "close, or leave a field"],
];

const isTyping = (node) =>
  node.matches?.("input:not([type=checkbox]):not([type=range]), textarea, select, [contenteditable]");

/** Listen to keys as long as a page is shown: `keys` are [key, what it does, function]. */
export function listenToKeys(keys, signal) {
  addEventListener(
    "keydown",
    (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (document.querySelector("dialog[open]")) return;
      if (isTyping(event.target)) {
        if (event.key === "Escape") event.target.blur();
        return;
      }
      const found = keys.find(([key]) => key === event.key);
      if (!found) return;
      event.preventDefault();
      found[2]();
    },
    { signal },
  );
}

const NAMES = { ArrowLeft: "←", ArrowRight: "→", Escape: "Esc", " ": "space" };

/** What labels and patterns mean: two parts of the glossary. */
export const labelMeanings = () =>
  meanings("Labels: what a feature means at a step", LABEL_MEANINGS, labelName);
export const patternMeanings = () =>
  meanings(
    "Patterns: what becomes of it from the first LM step to the last (of an LM that stands still: from the first link to the last)",
    PATTERN_MEANINGS,
    plain,
  );

/** Words and what they mean, one part of the glossary. */
function meanings(title, of, name) {
  return el(
    "details",
    { class: "meanings" },
    el("summary", { text: title }),
    el(
      "dl",
      {},
      Object.entries(of).flatMap(([word, sentence]) => [
        el("dt", { text: name(word) }),
        el("dd", { text: sentence }),
      ]),
    ),
  );
}

/** Show what the keys do, and what the pages' words mean. */
export function showHelp(keys) {
  const own = keys.map(([key, words]) => [NAMES[key] ?? key, words]).filter(([, words]) => words);
  const listed = new Set(own.map(([key]) => key));
  const rows = [...own, ...ALWAYS.filter(([key]) => !listed.has(key))];
  const close = button("Close", () => dialog.close());
  const dialog = el(
    "dialog",
    { class: "help", "aria-labelledby": "help-title" },
    el("h2", { id: "help-title", text: "Keys" }),
    el(
      "table",
      {},
      el(
        "tbody",
        {},
        rows.map(([key, words]) =>
          el("tr", {}, el("th", { scope: "row" }, el("kbd", { text: key })), el("td", { text: words })),
        ),
      ),
    ),
    el("p", {
      class: "muted",
      text: "Whatever a page shows is in its address: copy it, and whoever opens it sees the same.",
    }),
    el("h2", { text: "Words" }),
    labelMeanings(),
    patternMeanings(),
    meanings("Numbers, contexts, controls", OTHER_MEANINGS, capital),
    close,
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
