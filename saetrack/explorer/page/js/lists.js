// Lists of features, kept in this browser; as CSV with addresses they go elsewhere and come back.

import { address } from "./address.js";
import { say } from "./dom.js";

const KEY = "saetrack.lists";

/** All lists: [{name, items: [{chain, feature, step}]}], the newest first. */
export function lists() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(found)
      ? found.filter((list) => typeof list?.name === "string" && Array.isArray(list.items))
      : [];
  } catch {
    return [];
  }
}

/** Keep these lists; false where the browser has no room or forbids it. */
export function keep(all) {
  try {
    localStorage.setItem(KEY, JSON.stringify(all));
    return true;
  } catch {
    say("This browser keeps no lists: its storage is full or switched off.");
    return false;
  }
}

export const listNames = () => lists().map((list) => list.name);
export const listNamed = (name) => lists().find((list) => list.name === name) ?? null;

const keyOf = (item) => `${item.chain}\n${item.feature}`;

/** Add features to a list, which is made if there is none of the name; null where nothing can be kept. */
export function addToList(name, items) {
  const all = lists();
  const list = all.find((one) => one.name === name) ?? { name, items: [] };
  const known = new Set(list.items.map(keyOf));
  const added = items.filter((item) => !known.has(keyOf(item)));
  list.items.push(...added);
  const kept = keep([list, ...all.filter((one) => one !== list)]);
  if (kept) say(`${added.length} features are in the list ${name} now.`);
  return kept ? added.length : null;
}

/** A list as CSV: chain, feature, step, address. */
export function asCsv(list, base) {
  const quoted = (value) =>
    /[",\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value);
  const lines = list.items.map((item) => [
    item.chain,
    item.feature,
    item.step ?? "",
    base + address([item.chain, item.feature], { step: item.step }),
  ]);
  return (
    [["chain", "feature", "step", "address"], ...lines]
      .map((line) => line.map(quoted).join(","))
      .join("\r\n") + "\r\n"
  );
}
