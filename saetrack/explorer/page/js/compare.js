// Chains laid over one another on shared axes.

import { address } from "./address.js";
import { curves } from "./chart.js";
import { button, el, put } from "./dom.js";
import { Steps } from "./timeline.js";
import { short, whole } from "./words.js";

export const METRICS = [
  [
    "explained_variance",
    "Explained variance",
    "Share of the variance of activations that the SAE explains, on held-out text.",
  ],
  ["l0", "L0", "Features that are active per token, on average."],
  ["dead", "Dead features", "Share of features that are active on no held-out token."],
  [
    "ce_loss_recovered",
    "CE loss recovered",
    "Share of the LM's loss that is kept when the SAE's output takes the place of the activations.",
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
  const all = [...new Set(chains.flatMap((chain) => chain.links.lm_step))].sort((a, b) => a - b);
  const steps = new Steps(
    all.map((lm_step) => ({ lm_step })),
    "log",
  );
  const own = chains.map((chain) => placed(chain, steps));
  const legend = el(
    "ul",
    { class: "legend" },
    chains.map((chain, number) =>
      el(
        "li",
        { class: `s${number % 7} d${Math.floor(number / 7) % 3}` },
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
    chains.some((chain) => (chain.links[name] ?? []).some((value) => value !== null)),
  ).map(([name, title, description]) => {
    const reading = el("output", { class: "reading" });
    const chart = curves({
      title,
      steps,
      size: [360, 190],
      series: chains.map((chain, number) => ({
        title: chain.name,
        values: chain.links[name] ?? [],
        steps: own[number],
        mark: `s${number % 7} d${Math.floor(number / 7) % 3}`,
      })),
      onHover: (link) => {
        chart.mark(link);
        reading.textContent = link === null ? "" : readings(all[link], chains, name);
      },
    });
    return el(
      "figure",
      { class: "panel" },
      el("figcaption", { title: description }, el("span", { text: title }), reading),
      chart.node,
    );
  });
  return put(root, legend, el("div", { class: "panels wide" }, panels));
}

/** Where a chain's links lie on an axis that it shares. */
function placed(chain, steps) {
  const links = chain.links.lm_step.map((lm_step) => ({ lm_step }));
  const order = links.map((_, link) => link).sort((a, b) => links[a].lm_step - links[b].lm_step || a - b);
  return { links, order, positions: links.map((link) => steps.xOf(link.lm_step)) };
}

function readings(lm_step, chains, name) {
  const values = chains.map((chain) => chain.links[name]?.[chain.links.lm_step.indexOf(lm_step)]).map(short);
  return `step ${whole(lm_step)}: ${values.join(" · ")}`;
}
