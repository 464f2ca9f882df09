// How many features have each label, beside random directions, which the same rules label too.

import { JUDGED, MEANINGFUL } from "./classes.js";
import { el } from "./dom.js";
import { labelName, percent, whole } from "./words.js";

const Z = 1.96; // of a 95 % interval

/** Share of a count with its Wilson interval of 95 %. */
export function shareOf(count, total) {
  if (!total) return null;
  const share = count / total;
  const spread = 1 + Z ** 2 / total;
  const middle = (share + Z ** 2 / (2 * total)) / spread;
  const half = (Z / spread) * Math.sqrt((share * (1 - share)) / total + (Z / (2 * total)) ** 2);
  return { share, low: Math.max(0, middle - half), high: Math.min(1, middle + half) };
}

const sumOf = (labels, counts, wanted) =>
  labels.reduce((sum, label, at) => sum + (wanted.includes(label) ? counts[at] : 0), 0);

/** Of those with enough contexts to be judged, how many have one of some labels. */
export const ofJudged = (labels, counts, wanted) =>
  shareOf(sumOf(labels, counts, wanted), sumOf(labels, counts, JUDGED));

/**
 * What is said in a few words, and the table that says it of each label.
 *
 * `counts` and `ofDirections` are by label; the latter null where the analysis kept none.
 */
export function sharesBesideDirections({ chain, labels, counts, ofDirections, words, where }) {
  if (!ofDirections)
    return {
      line: "",
      nodes: el("p", {
        class: "muted",
        text: `How many have a meaning is not said: this analysis kept no labels of random directions, and the same rules find a meaning in many of those too. A new analysis keeps them: saetrack analyze ${chain}`,
      }),
    };
  const judged = sumOf(labels, counts, JUDGED);
  const directions = sumOf(labels, ofDirections, JUDGED);
  const both = (wanted) => [counts, ofDirections].map((of) => ofJudged(labels, of, wanted));
  const [own, chance] = both(MEANINGFUL);
  return {
    line: `${percent(own?.share)} have a meaning; random directions: ${percent(chance?.share)}`,
    nodes: [
      table(
        [`${whole(judged)} features${where}`, `${whole(directions)} random directions, 95 % interval`],
        [["a meaning", ...both(MEANINGFUL)], ...JUDGED.map((label) => [labelName(label), ...both([label])])],
      ),
      el("p", {
        class: "muted",
        text: `At LM ${words}, of those with enough contexts to be judged; dashed in the chart: as many as of random directions. The same rules label random directions of the same residuals: a share that these reach too does not show that the SAE found something. What counts as a concept is set at each step so that about 5 % of the directions that may be one pass.`,
      }),
    ],
  };
}

function table(heads, rows) {
  const number = (text) => el("td", { class: "number", text });
  return el(
    "table",
    { class: "plain" },
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        el("td", {}),
        heads.map((text) => el("th", { class: "number", scope: "col", text })),
      ),
    ),
    el(
      "tbody",
      {},
      rows.map(([title, features, random]) =>
        el(
          "tr",
          {},
          el("th", { scope: "row", text: title }),
          number(percent(features?.share)),
          number(random ? `${percent(random.share)} (${interval(random)})` : "–"),
        ),
      ),
    ),
  );
}

const interval = ({ low, high }) => `${(100 * low).toFixed(1)} to ${(100 * high).toFixed(1)}`;
