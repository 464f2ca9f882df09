// The table of a chain's features: which fields are its columns, and what a cell shows.

import { labelColour } from "./colours.js";
import { coloured, el, shortened } from "./dom.js";
import { texts } from "./fields.js";
import { virtualTable } from "./table.js";

const SHOWN = [
  "label",
  "pattern",
  "formation_link",
  "top_token",
  "feature_density",
  "max_act",
  "cosine_to_final",
  "determined_by_token",
];
const SHORT = {
  top_token: "Token",
  cosine_to_final: "To final",
  determined_by_token: "By token",
  max_act: "Largest",
  formation_link: "Formed",
};

/** The fields that the table shows, of those that the chain has. */
export const tableFields = (byName) => SHOWN.map((name) => byName.get(name)).filter(Boolean);

/** values: of each field by its name, at the link that is shown. */
export function featureTable({ manifest, words, fields, values, onpick, onsort, link }) {
  const index = {
    name: "feature",
    title: "Feature",
    description: "The feature's index, the same at every link",
    text: (feature) => String(feature),
    numeric: true,
    width: "5.5rem",
  };
  const columns = fields.map((field) => {
    const text = texts(field, manifest, words);
    const of = (feature) => text(values[field.name]?.[feature] ?? NaN);
    const chip = (feature) => labelChip(manifest, values.label?.[feature], of(feature));
    return {
      name: field.name,
      title: SHORT[field.name] ?? field.title,
      description: field.description,
      text: (feature) => shortened(of(feature), 24),
      numeric: field.kind === "number" || field.kind === "formation",
      ...(field.kind === "label" ? { node: chip } : {}),
    };
  });
  return virtualTable({ columns: [index, ...columns], onpick, onsort, link });
}

function labelChip(manifest, value, text) {
  const dot = coloured("dot-of", labelColour(manifest.labels[value] ?? "dead"));
  return el("span", { class: "with-dot" }, dot, text);
}
