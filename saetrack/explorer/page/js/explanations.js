// What was explained of a feature in words, and at which steps that is true.

import { LABEL_MEANINGS } from "./classes.js";
import { curves } from "./chart.js";
import { el } from "./dom.js";
import { capital, labelName, plain, whole } from "./words.js";

const SERIES = [
  ["detection", "s0", "detection: does it tell texts on which the feature fires from others?"],
  ["fuzzing", "s2", "fuzzing: does it tell right marks from wrong ones?"],
  ["shuffled", "s6", "another feature's explanation, the mean of both: the control"],
];
const PERCENT = (value) => (value === null || value === undefined ? "not judged" : `${value} %`);

const opened = new Set(); // runs beside the first one that the reader looks at

/** The explanations by their runs, in the order that the server gives them. */
function byRun(found) {
  const runs = new Map();
  for (const one of found) runs.set(one.run.id, [...(runs.get(one.run.id) ?? []), one]);
  return [...runs.values()];
}

/** A run in words: runs of one explainer differ in what they explained, and so in what holds. */
export function runWords({ run, explainer, threshold }) {
  const of = { true: "of this analysis", false: "of an earlier or another analysis of this chain" };
  const began = new Date(run.begun);
  return [
    `run ${run.id.slice(0, 8)} by ${plain(explainer)}`,
    Number.isNaN(began.getTime()) ? null : began.toLocaleDateString("en-CA"),
    of[run.is_of_shown],
    run.explained === 1 ? "1 explanation" : `${whole(run.explained)} explanations`,
    threshold === null || threshold === undefined
      ? "what holds was not told"
      : `holds above ${threshold} %`,
  ]
    .filter(Boolean)
    .join(", ");
}

/** Each explanation of a feature with its curves; null where there is none. */
export function explanations(found, manifest, timeline) {
  if (!found?.length) return null;
  const [shown, ...others] = byRun(found);
  const list = (of) =>
    el(
      "ul",
      { class: "explained" },
      of.map((one) => explanation(one, manifest, timeline)),
    );
  return el(
    "section",
    { class: "fact explanations" },
    el("h3", {}, "Explanations", el("span", { class: "muted", text: " judged at every step" })),
    staleNote([shown, ...others], manifest),
    el("p", { class: "muted small-text of-run", text: capital(`${runWords(shown[0])}.`) }),
    list(shown),
    others.map((of) => otherRun(of, list)),
    el(
      "ul",
      { class: "legend muted small-text" },
      SERIES.map(([, mark, words]) => el("li", { class: mark }, el("i", { class: "key" }), words)),
    ),
    el("p", {
      class: "muted small-text",
      text: "Each explanation was made once, from contexts of one step, and is judged at every step on texts that were not shown. 50 % is chance. It holds where the mean of detection and fuzzing is above what 95 % of other features' explanations reach. Explanations of random directions do that too: how many is what a feature has to exceed.",
    }),
  );
}

/** That no run stands on the analysis that is shown, and how to explain its features anew. */
function staleNote(runs, manifest) {
  if (!runs.every(([{ run }]) => run.is_of_shown === false)) return null;
  return el(
    "p",
    { class: "note stale" },
    "These explanations belong to an earlier or another analysis of this chain, not to the one that is shown here. ",
    el("code", { text: `saetrack explain ${manifest.name}` }),
    " makes them anew; answers to questions that were asked before are in the cache and cost nothing again.",
  );
}

/** Another run's, folded: what holds by its threshold is not what holds by the first one's. */
function otherRun(of, list) {
  const { id } = of[0].run;
  const node = el(
    "details",
    { class: "other-run", open: opened.has(id) },
    el("summary", {
      class: "small-text",
      text: `Of another run, judged apart from the above: ${runWords(of[0])}`,
    }),
    list(of),
  );
  node.addEventListener("toggle", () => (node.open ? opened.add(id) : opened.delete(id)));
  return node;
}

function explanation(one, manifest, timeline) {
  const { link } = timeline;
  const chart = curves({
    title: one.text,
    steps: timeline.steps,
    size: [360, 132],
    series: SERIES.map(([name, mark]) => ({ title: name, values: one[name], mark })),
    range: [lowest(one), 100],
    words: PERCENT,
    hatched: manifest.links.flatMap((at, number) => (at.collapsed ? [number] : [])),
    onPick: (at) => timeline.go(at),
  });
  chart.mark(link, timeline.beside);
  const at = (number) =>
    number === null ? "a step that the analysis shown here leaves out" : `LM ${timeline.words(number)}`;
  const span =
    one.at === null
      ? "whether it holds there is not told here"
      : !one.is_judged
        ? "too few features were explained to say whether it holds"
        : one.since === null || one.until === null
          ? "it does not hold there"
          : one.since === one.until
            ? `it holds at ${at(one.since)} alone`
            : `it holds from ${at(one.since)} until ${at(one.until)}`;
  return el(
    "li",
    {},
    el(
      "p",
      {},
      el("q", { text: one.text }),
      " ",
      el(
        "span",
        { class: `chip l-${one.label}`, title: LABEL_MEANINGS[one.label] ?? "" },
        el("i"),
        labelName(one.label),
      ),
    ),
    el("p", {
      class: "muted small-text",
      text: `By ${plain(one.explainer)} from contexts at ${at(one.at)}; ${span}. Now: detection ${PERCENT(one.detection[link])}, fuzzing ${PERCENT(one.fuzzing[link])}, control ${PERCENT(one.shuffled[link])}.${directions(one.directions_hold[link])}`,
    }),
    chart.node,
  );
}

/** Where the axis begins: what is much worse than chance has its place too. */
const lowest = (one) =>
  Math.min(40, ...SERIES.flatMap(([name]) => one[name]).map((value) => 20 * Math.floor((value ?? 40) / 20)));

/** What chance makes: of explanations of random directions, made at the same place. */
const directions = (share) =>
  share === null ? "" : ` Of random directions' explanations ${share} % hold here.`;

/**
 * Explanations that hold all words of a query, one of each feature: of the run that comes first.
 *
 * Those of one run stand together, the ones that hold longest first.
 */
export function explanationsWith(all, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const length = ({ since, until }) => (since === null || until === null ? 0 : until - since + 1);
  const runs = [...new Set(all.map(({ run }) => run.id))];
  const order = (a, b) =>
    runs.indexOf(a.run.id) - runs.indexOf(b.run.id) || length(b) - length(a) || a.feature - b.feature;
  const found = new Map();
  const holding = all.filter(({ text }) => words.every((word) => text.toLowerCase().includes(word)));
  for (const one of holding.sort(order)) if (!found.has(one.feature)) found.set(one.feature, one);
  return [...found.values()];
}
