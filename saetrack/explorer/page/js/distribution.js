// How a number is distributed over the living features at one step, beside its control.

import { el, integer, number, refill } from "./dom.js";
import { extent, read } from "./fields.js";
import { bars } from "./plot.js";

const BINS = 40;

/** The panel of one chain. `draw(field, link, labels)` shows a field at a link. */
export function distribution({ chain, manifest }) {
  const node = el("div", {});
  const extents = new Map();
  const dead = manifest.labels.indexOf("dead");
  let asked = 0;

  async function draw(field, link, labels) {
    asked += 1;
    const mine = asked;
    const [values, ends] = await Promise.all([read(chain, link, field), extentOf(field)]);
    if (mine !== asked) return;
    const log = field.scale === "log";
    const into = log ? Math.log10 : (value) => value;
    const kept = measured(values, labels, dead, log ? 0 : -Infinity);
    const share = (value) => (into(value) - ends.low) / (ends.high - ends.low || 1);
    const counts = new Array(BINS).fill(0);
    for (let i = 0; i < kept.length; i += 1) {
      counts[Math.min(BINS - 1, Math.max(0, Math.floor(share(kept[i]) * BINS)))] += 1;
    }
    const control = field.control && field.control.low[link] !== null ? field.control : null;
    const end = (at) => ({ value: at, text: number(log ? 10 ** at : at) });
    refill(
      node,
      el("p", { class: "quiet" }, field.description),
      bars({
        title: field.title,
        counts,
        from: end(ends.low),
        to: end(ends.high),
        band: control ? [share(control.low[link]), share(control.high[link])] : null,
        width: 460,
        height: 190,
        note: "No live feature has this measured at this step.",
      }),
      el("p", { class: "quiet" }, summary(field, kept, log)),
      control
        ? besideControl(control, kept, link)
        : el("p", { class: "quiet" }, "No control was registered for this number."),
    );
  }

  /** The same axis at every step: of the first, middle and last link. */
  async function extentOf(field) {
    if (!extents.has(field.name)) {
      const last = manifest.links.length - 1;
      const links = [...new Set([0, Math.floor(last / 2), last])];
      const all = await Promise.all(links.map((link) => read(chain, link, field)));
      const into =
        field.scale === "log" ? (value) => (value > 0 ? Math.log10(value) : NaN) : (value) => value;
      const ends = all.map((values) => extent(values, into));
      const [low, high] = [Math.min(...ends.map(([end]) => end)), Math.max(...ends.map(([, end]) => end))];
      extents.set(field.name, Number.isFinite(low) ? { low, high } : { low: 0, high: 1 });
    }
    return extents.get(field.name);
  }

  return { node, draw };
}

function summary(field, kept, log) {
  const unit = field.unit ? ` (${field.unit})` : "";
  const axis = log ? ", the axis is logarithmic" : "";
  return `${integer(kept.length)} features, median ${number(median(kept))}${unit}. Heights are roots of counts${axis}. The axis is the same at every step.`;
}

function besideControl(control, kept, link) {
  return el(
    "p",
    {},
    el("span", { class: "swatch control" }),
    `Control (${control.title}): ${number(control.low[link])} to ${number(control.high[link])} at this step; `,
    el("strong", {}, `${percent(kept, control, link)} of the features lie outside.`),
  );
}

/** The values above a bound, of features that are not dead. */
function measured(values, live, dead, above) {
  const found = new values.constructor(values.length);
  let n = 0;
  for (let i = 0; i < values.length; i += 1) {
    if (live[i] === dead || !(values[i] > above) || values[i] === Infinity) continue;
    found[n] = values[i];
    n += 1;
  }
  return found.subarray(0, n);
}

/** The middle value, by quickselect: sorting all would take most of a slider's step. */
function median(values) {
  if (!values.length) return NaN;
  const found = values.slice();
  const middle = found.length >> 1;
  let [from, to] = [0, found.length - 1];
  while (from < to) {
    const pivot = found[(from + to) >> 1];
    let [i, j] = [from, to];
    while (i <= j) {
      while (found[i] < pivot) i += 1;
      while (found[j] > pivot) j -= 1;
      if (i > j) break;
      const kept = found[i];
      found[i] = found[j];
      found[j] = kept;
      i += 1;
      j -= 1;
    }
    if (middle <= j) to = j;
    else if (middle >= i) from = i;
    else break;
  }
  return found[middle];
}

function percent(values, { low, high }, link) {
  if (!values.length) return "–";
  const outside = values.filter((value) => value < low[link] || value > high[link]).length;
  return `${((100 * outside) / values.length).toFixed(1)} %`;
}
