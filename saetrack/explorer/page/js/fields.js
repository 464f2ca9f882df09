// What can colour the map, fill a column of the table or be sorted by: the manifest's columns.

import { integer, number, share, visible } from "./dom.js";
import { categorical, css, labelColour, labelName, rgb, sequential } from "./colours.js";
import { column, manifest as manifestOf, vocabulary } from "./data.js";

/** Of the whole chain, beside the manifest's columns per link. */
const OF_CHAIN = {
  pattern: { name: "pattern", title: "Pattern", description: "How the feature came to mean what it means at the end.", kind: "pattern" },
  formation_link: { name: "formation_link", title: "Formed at", description: "The LM step from which on the feature keeps its meaning to the end.", kind: "formation" },
};

/** All fields of a chain: {name, title, description, kind, perLink, scale}. */
export function fieldsOf(manifest) {
  const perLink = manifest.columns.filter((of) => of.per_link).map((of) => ({
    ...of, perLink: true, kind: of.name === "label" ? "label" : of.name === "top_token" ? "token" : "number",
  }));
  const ofChain = Object.values(OF_CHAIN).filter((of) => of.name in manifest.arrays.of_chain).map((of) => ({ ...of, perLink: false }));
  return [...perLink, ...ofChain];
}

export const read = (chain, link, field) => column(chain, field.perLink ? link : "chain", field.name);

/** A value as text. */
export function texts(field, manifest, words) {
  switch (field.kind) {
    case "label": return (value) => labelName(manifest.labels[value] ?? "dead");
    case "pattern": return (value) => patternName(manifest.patterns[value]);
    case "formation": return (value) => (value < 0 ? "never" : integer(manifest.links[value].lm_step));
    case "token": return (value) => (value < 0 ? "–" : visible(words[value] ?? `#${value}`));
    default: return field.unit?.startsWith("share") && field.scale !== "log" ? share : number;
  }
}

export const patternName = (name) => (name ?? "–").replaceAll("_", " ");

/** Colours of values, and what a legend says of them. */
export function painter(field, manifest, values) {
  if (field.kind === "label" || field.kind === "pattern") {
    const names = field.kind === "label" ? manifest.labels : manifest.patterns;
    const hexes = names.map((name, i) => (field.kind === "label" ? labelColour(name) : categorical(i)));
    const table = hexes.map(rgb);
    const shown = names.map((name, i) => ({ colour: hexes[i], text: field.kind === "label" ? labelName(name) : patternName(name), value: i }));
    return { of: (value) => table[value] ?? [128, 128, 128], legend: shown, categories: true };
  }
  if (field.kind === "formation") {
    const last = Math.max(manifest.links.length - 1, 1);
    return { of: (value) => (value < 0 ? null : sequential(value / last)), legend: ends(integer(manifest.links[0].lm_step), integer(manifest.links.at(-1).lm_step)), categories: false };
  }
  const log = field.scale === "log";
  const into = log ? (value) => (value > 0 ? Math.log10(value) : NaN) : (value) => value;
  let low = Infinity;
  let high = -Infinity;
  if (field.range && !log) [low, high] = [Math.max(field.range[0], 0), field.range[1]];
  else for (const value of values) {
    const at = into(value);
    if (Number.isFinite(at)) {
      if (at < low) low = at;
      if (at > high) high = at;
    }
  }
  if (!Number.isFinite(low)) return { of: () => null, legend: [], categories: false };
  const extent = high - low || 1;
  const back = (value) => number(log ? 10 ** value : value);
  return {
    of: (value) => (Number.isFinite(into(value)) ? sequential((into(value) - low) / extent) : null),
    legend: ends(back(low), back(high)),
    categories: false,
  };
}

function ends(low, high) {
  return [0, 0.25, 0.5, 0.75, 1].map((at) => ({ colour: css(sequential(at)), text: at === 0 ? low : at === 1 ? high : "" }));
}

/** Manifest, vocabulary and fields of an analysed chain. */
export async function openChain(chain) {
  const manifest = await manifestOf(chain);
  if (!manifest.analysed) return { manifest, words: [], fields: [] };
  const words = await vocabulary(chain);
  return { manifest, words, fields: fieldsOf(manifest) };
}
