// Where a link stands along an axis: by its LM step on a logarithmic scale, or by its number.

const KEY = "saetrack.scale";

export const scales = ["log", "link"];

/** The scale that was chosen last on this machine. */
export function chosenScale() {
  try {
    return scales.includes(localStorage.getItem(KEY)) ? localStorage.getItem(KEY) : "log";
  } catch {
    return "log";
  }
}

export function chooseScale(name) {
  try {
    localStorage.setItem(KEY, name);
  } catch {
    // a browser that keeps nothing: the choice lasts as long as the page
  }
}

/** Positions of LM steps, from 0 to 1. */
export function positions(lmSteps, scale = chosenScale()) {
  if (lmSteps.length < 2) return lmSteps.map(() => 0.5);
  if (scale === "link") return lmSteps.map((_, i) => i / (lmSteps.length - 1));
  const logs = lmSteps.map((step) => Math.log1p(step));
  const first = Math.min(...logs);
  const extent = Math.max(...logs) - first || 1;
  return logs.map((value) => (value - first) / extent);
}

/** Indices of the links whose numbers have room along `width` pixels. */
export function ticks(at, width, room = 56) {
  const chosen = [];
  const order = at.map((_, i) => i);
  // The last one first: it is the one that people look for.
  for (const i of [order.at(-1), ...order.slice(0, -1)]) {
    if (chosen.every((other) => Math.abs(at[i] - at[other]) * width >= room)) chosen.push(i);
  }
  return chosen.sort((a, b) => at[a] - at[b]);
}

/** The index of the value that is nearest to another, the first of equals. */
export function nearest(values, to) {
  return values.reduce(
    (best, value, i) => (Math.abs(value - to) < Math.abs(values[best] - to) ? i : best),
    0,
  );
}

/** The index of the link at an LM step, or of the nearest; of the last without one. */
export function linkAt(links, lmStep) {
  if (lmStep === null || lmStep === undefined || lmStep === "") return links.length - 1;
  return nearest(
    links.map((link) => link.lm_step),
    Number(lmStep),
  );
}

/** What every chart over a chain's links shows: their steps, collapsed ones, phases. */
export function axisOf({ links, phases }) {
  return {
    lmSteps: links.map((link) => link.lm_step),
    collapsed: links.flatMap((link, i) => (link.collapsed ? [i] : [])),
    phases,
  };
}
