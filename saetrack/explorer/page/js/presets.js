// Where to begin with a chain: filters that are set and taken away with one click each.

import { button, el } from "./dom.js";

/** What each sets; and what a chain must have for it. */
const PRESETS = [
  ["what gained a meaning", { pattern: "grouping" }],
  ["tokens that became something else", { pattern: "shifting" }],
  ["tokens that merged", { pattern: "merging" }],
  ["meanings that were lost", { pattern: "dissolving" }],
  ["concepts at this step", { label: "concept" }],
  ["those that moved furthest", { sort: "cosine_to_first", down: null }],
];

/** A button for each preset that the chain can have; `mark` presses those that are set. */
export function presets({ state, manifest, columns }) {
  const known = {
    pattern: manifest.patterns,
    label: manifest.labels,
    sort: columns.map((column) => column.name),
  };
  const isOn = (changes) => Object.entries(changes).every(([name, value]) => state.get(name) === value);
  const buttons = PRESETS.filter(([, changes]) =>
    Object.entries(changes).every(([name, value]) => value === null || known[name].includes(value)),
  ).map(([words, changes]) => {
    const none = Object.fromEntries(Object.keys(changes).map((name) => [name, null]));
    const press = () => state.set(isOn(changes) ? none : changes);
    return [button(words, press, { class: "start small toggle" }), changes];
  });
  return {
    node: el(
      "div",
      { class: "active-filters" },
      el("span", { class: "muted small-text", text: "Begin with:" }),
      buttons.map(([node]) => node),
    ),
    mark: () => buttons.forEach(([node, changes]) => node.setAttribute("aria-pressed", isOn(changes))),
  };
}
