// A feature's labels over the links as a ribbon: large with words, or small beside a name.

import { LABEL_MEANINGS } from "./classes.js";
import { el, style, svg } from "./dom.js";
import { labelName, tokenAlone } from "./words.js";

const at = (x) => `${(100 * x).toFixed(3)}%`;

/** Runs of links with one label, along the axis: [label, [links]]. */
function runs(labels, order) {
  const found = [];
  for (const link of order) {
    const last = found.at(-1);
    if (last?.[0] === labels[link]) last[1].push(link);
    else found.push([labels[link], [link]]);
  }
  return found;
}

/** In words: "noise to step 64, then token". */
export function ribbonWords(labels, manifest, steps) {
  return runs(labels, steps.order)
    .map(([label, links]) => {
      const [first, last] = [manifest.links[links[0]].lm_step, manifest.links[links.at(-1)].lm_step];
      const name = labelName(manifest.labels[label]);
      return first === last ? `${name} at step ${first}` : `${name} from step ${first} to ${last}`;
    })
    .join("; ");
}

/** The large one, on the axis of a slider: what is said of it stands above, the labels stay free. */
export function bigRibbon(life, data, timeline) {
  const { manifest } = data;
  const { steps } = timeline;
  const cells = steps.cells();
  const changes = tokenChanges(life.top_tokens, data.vocabularyNow, timeline);
  const node = el("div", {
    class: "ribbon",
    role: "img",
    "aria-label": `Labels over LM steps: ${ribbonWords(life.labels, manifest, steps)}. ${changes.map(({ words }) => words).join("; ")}`,
  });
  for (const [label, links] of runs(life.labels, steps.order)) {
    const name = manifest.labels[label];
    const [from, to] = [cells.get(links[0])[0], cells.get(links.at(-1))[1]];
    const title = `${labelName(name)}: ${LABEL_MEANINGS[name] ?? ""}`;
    node.append(
      style(el("span", { class: `cell l-${name}`, title }, el("b", { text: labelName(name) })), {
        left: at(from),
        width: at(to - from),
      }),
    );
  }
  for (const link of steps.order.filter((one) => manifest.links[one].collapsed)) {
    const [from, to] = cells.get(link);
    node.append(style(el("span", { class: "cell hatched over" }), { left: at(from), width: at(to - from) }));
  }
  for (const { link, words } of changes)
    node.append(style(el("i", { class: "token-change", title: words }), { left: at(cells.get(link)[0]) }));
  return [aboveRibbon(life, timeline, cells, changes.length), node];
}

/** Where the commonest token at the strongest contexts is another one than at the link before. */
function tokenChanges(tops, texts, timeline) {
  const { order } = timeline.steps;
  const named = (token) => (token >= 0 ? tokenAlone(texts?.[token]) : "none");
  return order.flatMap((link, rank) => {
    const before = rank ? tops[order[rank - 1]] : tops[link];
    if (before === tops[link]) return [];
    const from = `commonest token at the strongest contexts: ${named(before)} before`;
    return [{ link, words: `${from}, ${named(tops[link])} from ${timeline.words(link)} on` }];
  });
}

/** The mark of formation, and what the ribbon's signs mean. */
function aboveRibbon(life, timeline, cells, changes) {
  const formed = life.formation_link;
  const mark = () => {
    const from = cells.get(formed)[0];
    const last = timeline.words(timeline.steps.order.at(-1));
    const title = `Formed at LM ${timeline.words(formed)}: from here on its label and tokens are those of LM ${last}`;
    const text = from > 0.5 ? "formed ▾" : "▾ formed";
    return style(el("span", { class: from > 0.5 ? "formed left" : "formed", title, text }), {
      left: at(from),
    });
  };
  const key = changes ? el("span", { class: "ribbon-key" }, el("i"), "commonest token changes") : null;
  if (formed < 0) return el("div", { class: "above-ribbon" }, key);
  // The words stand on the side where the mark is not.
  const side = cells.get(formed)[0] > 0.5 ? "begin" : "end";
  return el("div", { class: `above-ribbon key-at-${side}` }, key, mark());
}

/** The small one; labels are one per link. */
export function smallRibbon(labels, manifest, steps, current = null) {
  const cells = steps.cells();
  const node = svg("svg", {
    class: "small-ribbon",
    viewBox: "0 0 100 10",
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": ribbonWords(labels, manifest, steps),
  });
  for (const [label, links] of runs(labels, steps.order)) {
    const [from, to] = [cells.get(links[0])[0], cells.get(links.at(-1))[1]];
    node.append(
      svg("rect", {
        x: 100 * from,
        y: 0,
        width: 100 * (to - from),
        height: 10,
        class: `l-${manifest.labels[label]}`,
      }),
    );
  }
  if (current !== null)
    node.append(
      svg("rect", {
        x: Math.max(0, 100 * steps.positions[current] - 0.7),
        y: 0,
        width: 1.4,
        height: 10,
        class: "now",
      }),
    );
  return node;
}

/** Labels of one feature at all links, from the columns. */
export async function labelsOf(data, feature) {
  const columns = await Promise.all(data.manifest.links.map((_, link) => data.column(link, "label")));
  return columns.map((column) => column[feature]);
}
