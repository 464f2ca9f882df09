// Keys, and the window that lists them.

import { button, el } from "./dom.js";

const ALWAYS = [
  ["?", "this list"],
  ["/", "search"],
  ["t", "dark or light"],
  ["Esc", "close, or leave a field"],
];

const isTyping = (node) => node.matches?.("input:not([type=checkbox]):not([type=range]), textarea, select, [contenteditable]");

/** Listen to keys as long as a page is shown: `keys` are [key, what it does, function]. */
export function listenToKeys(keys, signal) {
  addEventListener("keydown", (event) => {
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
  }, { signal });
}

const NAMES = { ArrowLeft: "←", ArrowRight: "→", Escape: "Esc", " ": "space" };

/** Show what the keys do. */
export function showHelp(keys) {
  const own = keys.map(([key, words]) => [NAMES[key] ?? key, words]).filter(([, words]) => words);
  const listed = new Set(own.map(([key]) => key));
  const rows = [...own, ...ALWAYS.filter(([key]) => !listed.has(key))];
  const close = button("Close", () => dialog.close());
  const dialog = el("dialog", { class: "help", "aria-labelledby": "help-title" },
    el("h2", { id: "help-title", text: "Keys" }),
    el("table", {}, el("tbody", {}, rows.map(([key, words]) => el("tr", {}, el("th", { scope: "row" }, el("kbd", { text: key })), el("td", { text: words }))))),
    el("p", { class: "muted", text: "Whatever a page shows is in its address: copy it, and whoever opens it sees the same." }),
    close);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
