// What can colour the map, fill a column of the table or be sorted by: the manifest's columns.

import { integer, number, share, visible } from "./dom.js";
import { categorical, css, labelColour, labelName, rgb, sequential } from "./colours.js";
import { column, manifest as manifestOf, vocabulary } from "./data.js";

/** Of the whole chain, beside the manifest's columns per link. */
const OF_CHAIN = {
  pattern: {
    name: "pattern",
    title: "Pattern",
    description: "How the feature came to mean what it means at the end.",
    kind: "pattern",
  },
  formation_link: {
    name: "formation_link",
    title: "Formed at",
    description: "The LM step from which on the feature keeps its meaning to the end.",
    kind: "formation",
  },
};

/** All fields of a chain: {name, title, description, kind, perLink, scale}. */
export function fieldsOf(manifest) {
  const perLink = manifest.columns
    .filter((of) => of.per_link)
    .map((of) => ({
      ...of,
      perLink: true,
      kind: of.name === "label" ? "label" : of.name === "top_token" ? "token" : "number",
    }));
  const ofChain = Object.values(OF_CHAIN)
    .filter((of) => of.name in manifest.arrays.of_chain)
    .map((of) => ({ ...of, perLink: false }));
  return [...perLink, ...ofChain];
}

export const read = (chain, link, field) => column(chain, field.perLink ? link : "chain", field.name);

/** A value as text. */
export function texts(field, manifest, words) {
  switch (field.kind) {
    case "label":
      return (value) => labelName(manifest.labels[value] ?? "dead");
    case "pattern":
      return (value) => patternName(manifest.patterns[value]);
    case "formation":
      return (value) => (value < 0 ? "never" : integer(manifest.links[value].lm_step));
    case "token":
      return (value) => (value < 0 ? "–" : visible(words[value] ?? `#${value}`));
    default:
      return field.unit?.startsWith("share") && field.scale !== "log" ? share : number;
  }
}

export const patternName = (name) => (name ?? "–").replaceAll("_", " ");

const STEPS = 256;

/** Colours of values, packed as one number each (-1 for none), and what a legend says of them. */
export function painter(field, manifest, values) {
  if (field.kind === "label" || field.kind === "pattern") {
    const names = field.kind === "label" ? manifest.labels : manifest.patterns;
    const hexes = names.map((name, i) => (field.kind === "label" ? labelColour(name) : categorical(i)));
    const table = hexes.map((hex) => packed(rgb(hex)));
    const legend = names.map((name, i) => ({
      colour: hexes[i],
      text: field.kind === "label" ? labelName(name) : patternName(name),
      value: i,
    }));
    return { packed: pack(values, (value) => table[value] ?? 0x808080), legend, categories: true };
  }
  const ramp = Array.from({ length: STEPS }, (_, i) => packed(sequential(i / (STEPS - 1))));
  const { links } = manifest;
  if (field.kind === "formation") {
    const last = Math.max(links.length - 1, 1);
    return {
      packed: pack(values, (value) => (value < 0 ? -1 : ramp[Math.round((value / last) * (STEPS - 1))])),
      legend: ends(integer(links[0].lm_step), integer(links.at(-1).lm_step)),
      categories: false,
    };
  }
  const log = field.scale === "log";
  const into = log ? (value) => (value > 0 ? Math.log10(value) : NaN) : (value) => value;
  const [low, high] =
    field.range && !log ? [Math.max(field.range[0], 0), field.range[1]] : extent(values, into);
  if (!Number.isFinite(low))
    return { packed: new Int32Array(values.length).fill(-1), legend: [], categories: false };
  const scale = (STEPS - 1) / (high - low || 1);
  const back = (value) => number(log ? 10 ** value : value);
  const colour = (value) => {
    const at = into(value);
    return Number.isFinite(at) ? ramp[Math.min(Math.max(Math.round((at - low) * scale), 0), STEPS - 1)] : -1;
  };
  return { packed: pack(values, colour), legend: ends(back(low), back(high)), categories: false };
}

const packed = ([red, green, blue]) => (red << 16) | (green << 8) | blue;

function pack(values, colour) {
  const found = new Int32Array(values.length);
  for (let i = 0; i < values.length; i += 1) found[i] = colour(values[i]);
  return found;
}

/** Smallest and largest of the values that are numbers. */
export function extent(values, into = (value) => value) {
  let [low, high] = [Infinity, -Infinity];
  for (let i = 0; i < values.length; i += 1) {
    const at = into(values[i]);
    if (at < low && at > -Infinity) low = at;
    if (at > high && at < Infinity) high = at;
  }
  return [low, high];
}

function ends(low, high) {
  return [0, 0.25, 0.5, 0.75, 1].map((at) => ({
    colour: css(sequential(at)),
    text: at === 0 ? low : at === 1 ? high : "",
  }));
}

/** Manifest, vocabulary and fields of an analysed chain. */
export async function openChain(chain) {
  const manifest = await manifestOf(chain);
  if (!manifest.analysed) return { manifest, words: [], fields: [] };
  const words = await vocabulary(chain);
  return { manifest, words, fields: fieldsOf(manifest) };
}
