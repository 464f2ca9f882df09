// What an address asks for that there is not: told in a line each, never passed over.

import { listNamed } from "./lists.js";
import { PICKED_HERE } from "./population.js";
import { plain } from "./words.js";

const FEW = 16; // names that a line has room for
const SWITCHES = ["down", "align", "breaks", "fold", "absent", "embed"];
const CHOICES = {
  scale: ["log", "link"],
  window: ["short", "medium", "long"],
  panel: ["curves", "contexts", "facts", "ribbon"],
};
const TOLD_ELSEWHERE = ["step", "beside", "text"]; // steps by the timeline; a text may be any

/** A line for each value of the address that names nothing. */
export function straysOf({ state, manifest, timeline }) {
  return [...state.params].flatMap(([parameter, value]) => {
    if (TOLD_ELSEWHERE.includes(parameter)) return [];
    const wrong = wrongPart(parameter, value, { manifest, timeline });
    return wrong === null
      ? []
      : [`The address asks for ${parameter}=${cut(wrong.part)}, ${wrong.why}: it is left out.`];
  });
}

const cut = (text) => (text.length > 40 ? `${text.slice(0, 39)}…` : text);

/** The first part of a value that is not right, and why; null if all are. */
function wrongPart(parameter, value, { manifest, timeline }) {
  const names = namesOf(parameter, manifest);
  if (names) {
    const part = value.split(",").find((name) => !names.includes(name));
    if (part === undefined) return null;
    const listed = names.length <= FEW ? ` (there are ${names.map(plain).join(", ")})` : "";
    return { part, why: `which this page does not have${listed}` };
  }
  const isRight = CHECKS[parameter];
  if (!isRight) return { part: value, why: "which says nothing to this page" };
  return isRight(value, { manifest, timeline }) ? null : { part: value, why: "which is not as it must be" };
}

/** The names among which a parameter chooses; undefined for others. */
function namesOf(parameter, manifest) {
  if (SWITCHES.includes(parameter)) return ["0", "1"];
  if (CHOICES[parameter]) return CHOICES[parameter];
  if (!manifest.analysed) return undefined;
  const columns = manifest.columns.map((column) => column.name);
  return {
    label: manifest.labels,
    pattern: manifest.patterns,
    colour: [...columns, "formation_step"],
    sort: [...columns, "formation_step", "feature"],
    show: manifest.columns.filter((column) => column.curve).map((column) => column.name),
    columns,
  }[parameter];
}

const isNumber = (text) => text === "" || Number.isFinite(Number(text));

const CHECKS = {
  where: (value, { manifest }) =>
    value.split(";").every((part) => {
      const [name, low = "", high = ""] = part.split(":");
      return namesOf("sort", manifest).includes(name) && isNumber(low) && isNumber(high);
    }),
  changed: (value, { timeline }) => {
    const known = timeline.links.map((_, link) => timeline.nameOf(link));
    const names = value.split(",");
    return names.length === 2 && names.every((name) => known.includes(name));
  },
  list: (value) => listNamed(value) !== null,
  picked: (value, { manifest }) =>
    value === PICKED_HERE ||
    value.split(".").every((name) => /^\d+$/.test(name) && Number(name) < manifest.d_sae),
};
