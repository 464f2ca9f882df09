// Chains laid over one another on shared axes.

import { address } from "./address.js";
import { curves } from "./chart.js";
import { button, el, put } from "./dom.js";
import { Steps } from "./timeline.js";
import { percent, short, whole } from "./words.js";

/** Of each metric its name, title, meaning, and how its numbers are written: the same everywhere. */
export const METRICS = [
  [
    "explained_variance",
    "Explained variance",
    "Share of the variance of activations that the SAE explains, on held-out text.",
    short,
  ],
  ["l0", "L0", "Features that are active per token, on average.", short],
  ["dead", "Dead features", "Share of features that are active on no held-out token.", percent],
  [
    "ce_loss_recovered",
    "CE loss recovered",
    "Share of the LM's loss that is kept when the SAE's output takes the place of the activations.",
    short,
  ],
  [
    "nats_lost",
    "Nats lost",
    "What the LM's next-token loss rises by when the SAE's output takes the place of the activations.",
    short,
  ],
];

/** Draw the chosen chains; `onChange` hears which remain chosen. */
export function comparison(root, chains, onChange, count) {
  root.hidden = count < 2;
  if (!chains.length)
    return put(
      root,
      el("p", {
        class: "hint muted",
        text: "Tick “compare” on chains to lay their curves over one another here.",
      }),
    );
  const axis = axisFor(chains);
  const marks = new Map(chains.map((chain, at) => [chain, `s${at % 7} d${Math.floor(at / 7) % 3}`]));
  const legend = el(
    "ul",
    { class: "legend" },
    chains.map((chain) =>
      el(
        "li",
        { class: marks.get(chain) },
        el("i"),
        el("a", { href: address([chain.name]), text: chain.name }),
        button("×", () => onChange(chains.filter((other) => other !== chain).map((other) => other.name)), {
          class: "icon tiny",
          "aria-label": `Take ${chain.name} away`,
        }),
      ),
    ),
  );
  const panels = METRICS.filter(([name]) =>
    axis.shown.some((chain) => (chain.links[name] ?? []).some((value) => value !== null)),
  ).map(([name, title, description, words]) => {
    const reading = el("output", { class: "reading" });
    const chart = curves({
      title,
      steps: axis.steps,
      size: [360, 190],
      words,
      series: axis.shown.map((chain) => ({
        title: chain.name,
        values: chain.links[name] ?? [],
        steps: axis.placed(chain),
        mark: marks.get(chain),
      })),
      onHover: (link) => {
        chart.mark(link);
        reading.textContent = link === null ? "" : axis.readings(link, name, words);
      },
    });
    return el(
      "figure",
      { class: "panel" },
      el("figcaption", { title: description }, el("span", { text: title }), reading),
      chart.node,
    );
  });
  return put(root, legend, axis.note, el("div", { class: "panels wide" }, panels));
}

const standsStill = ({ links }) => links.lm_step.length > 1 && new Set(links.lm_step).size === 1;

/** The axis that the chosen chains share: of LM steps, or of links where no LM moves. */
function axisFor(chains) {
  const moving = chains.filter((chain) => !standsStill(chain));
  if (!moving.length) return linkAxis(chains);
  const still = chains.filter(standsStill);
  const all = [...new Set(moving.flatMap((chain) => chain.links.lm_step))].sort((a, b) => a - b);
  const steps = new Steps(
    all.map((lm_step) => ({ lm_step })),
    "log",
  );
  return {
    steps,
    shown: moving,
    note: still.length ? el("p", { class: "muted left-out", text: leftOut(still) }) : null,
    placed: (chain) => {
      const links = chain.links.lm_step.map((lm_step) => ({ lm_step }));
      return { links, order: links.map((_, link) => link), positions: links.map((link) => steps.xOf(link.lm_step)) };
    },
    readings: (at, name, words) => {
      const values = moving.map((chain) => chain.links[name]?.[chain.links.lm_step.indexOf(all[at])]);
      return `step ${whole(all[at])}: ${values.map(words).join(" · ")}`;
    },
  };
}

function leftOut(still) {
  const names = still.map((chain) => chain.name).join(", ");
  const its = still.length === 1 ? "its" : "their";
  return `Left out: ${names}. All ${its} links read one LM step, so ${its} curves have no place on an axis of LM steps. Chains over LMs that stand still can be laid over one another by themselves.`;
}

/** Links one behind another, for chains over LMs that stand still. */
function linkAxis(chains) {
  const count = Math.max(...chains.map((chain) => chain.links.lm_step.length));
  const steps = new Steps(
    Array.from({ length: count }, () => ({ lm_step: 0 })),
    "link",
  );
  return {
    steps,
    shown: chains,
    note: el("p", { class: "muted", text: "By link: the LMs of these chains stand still." }),
    placed: (chain) => {
      const links = chain.links.lm_step.map((lm_step) => ({ lm_step }));
      return { links, order: links.map((_, link) => link), positions: steps.positions };
    },
    readings: (at, name, words) =>
      `link ${at + 1}: ${chains.map((chain) => words(chain.links[name]?.[at])).join(" · ")}`,
  };
}
