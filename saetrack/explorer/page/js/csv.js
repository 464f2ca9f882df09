// Features from a CSV: by its columns chain and feature, or by its column address.

import { parse } from "./address.js";

/**
 * The features of a CSV, and of the rows that are left out, by the reason, what stands in each for the feature.
 *
 * `sizes` are the numbers of features of the chains that there are, by name. Columns stand apart by a comma,
 * a semicolon or a tab, whichever the first line has.
 */
export function fromCsv(text, sizes) {
  const rows = csvRows(text.replace(/^\ufeff/, ""));
  const head = (rows.shift() ?? []).map((name) => name.trim().toLowerCase());
  const left = new Map();
  const items = rows.flatMap((row) => {
    const item = itemOf((name) => row[head.indexOf(name)]?.trim() ?? "");
    const wrong = whyNot(item, sizes);
    if (!wrong) return [{ chain: item.chain, feature: Number(item.feature), step: item.step }];
    left.set(wrong, [...(left.get(wrong) ?? []), item.feature]);
    return [];
  });
  return { rows: rows.length, items, left };
}

function itemOf(cell) {
  const { parts, params } = parse(`#${cell("address").split("#")[1] ?? ""}`);
  return {
    chain: cell("chain") || parts[0],
    feature: cell("feature") || parts[1] || "",
    step: cell("step") || params.get("step") || null,
  };
}

/** Why a row is left out; null if it is a feature that there is. */
function whyNot({ chain, feature }, sizes) {
  if (!chain) return "without a chain";
  if (!sizes.has(chain)) return `of a chain that is not here (${chain})`;
  if (!/^\d+$/.test(feature)) return "without a feature's number";
  const size = sizes.get(chain);
  if (size && Number(feature) >= size) return `of a feature that ${chain} does not have (0 to ${size - 1})`;
  return null;
}

function csvRows(text) {
  const [first] = text.split(/\r?\n/, 1);
  const apart = [";", "\t"].find((sign) => first.includes(sign) && !first.includes(",")) ?? ",";
  const cells = new RegExp(`(?:"((?:[^"]|"")*)"|([^"${apart}\\r\\n]*))(${apart}|\\r?\\n|$)`, "g");
  const rows = [[]];
  for (const [, quoted, plain, end] of text.matchAll(cells)) {
    rows.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end !== apart) rows.push([]);
  }
  return rows.filter((row) => row.some((value) => value !== ""));
}
