// A feature at one step, its partners in other chains, and what was written about it.

import { address } from "./address.js";
import { labelColour, labelName } from "./colours.js";
import { coloured, el, integer, number, share, visible } from "./dom.js";
import { bars } from "./plot.js";

/** What is known of a feature at one step: histogram, tokens, nearest directions. */
export function detailsAt({ manifest, life, words, link, addressOf }) {
  const at = life.links[link];
  const largest = life.curves.max_act?.[link];
  const fires = life.curves.feature_density?.[link];
  const neighbour = ([feature, cosine]) =>
    el(
      "li",
      {},
      el("a", { href: addressOf(feature) }, `feature ${feature}`),
      el("span", { class: "numeric" }, number(cosine)),
    );
  return [
    el("h2", {}, `At step ${integer(manifest.links[link].lm_step)}`),
    el(
      "p",
      {},
      chip(manifest, life.labels[link]),
      ` ${labelName(manifest.labels[life.labels[link]])}`,
      el(
        "span",
        { class: "quiet" },
        fires ? ` · fires on ${share(fires)} of the tokens, at most ${number(largest)}` : " · does not fire",
      ),
    ),
    el(
      "div",
      { class: "grid columns" },
      el(
        "div",
        {},
        el("h3", {}, "Activations"),
        bars({
          title: "Activations",
          counts: at.histogram,
          from: { value: 0, text: "0" },
          to: { value: largest ?? 0, text: number(largest) },
          width: 260,
          height: 90,
          note: "It does not fire at this step.",
        }),
      ),
      el(
        "div",
        {},
        el("h3", {}, "Tokens it fires on"),
        at.common_tokens.length
          ? el(
              "ul",
              { class: "pairs" },
              at.common_tokens.map(([id, part]) =>
                el(
                  "li",
                  {},
                  el("span", { class: "token-chip" }, visible(words[id] ?? `#${id}`)),
                  el("span", { class: "numeric" }, share(part)),
                ),
              ),
            )
          : el("p", { class: "quiet" }, "none"),
      ),
      el(
        "div",
        {},
        el("h3", { title: "Largest cosines of decoder directions at this step" }, "Nearest directions"),
        at.neighbours.length
          ? el("ul", { class: "pairs" }, at.neighbours.slice(0, 6).map(neighbour))
          : el("p", { class: "quiet" }, "none"),
      ),
    ),
  ];
}

/** The feature's partners in other chains, with how much each is worth. */
export function matchesOf(life) {
  const others = life.matches.map((match) =>
    el(
      "li",
      {},
      el(
        "a",
        {
          href: address({
            chain: match.chain,
            rest: String(match.feature),
            params: { step: match.lm_step },
          }),
        },
        `feature ${match.feature} of ${match.chain}`,
      ),
      el(
        "div",
        { class: "quiet" },
        `at step ${integer(match.lm_step)}: decoder cosine ${number(match.decoder_cosine)}${match.activation_correlation === null ? "" : `, correlation of activations ${number(match.activation_correlation)}`}${match.chance === null || match.chance === undefined ? "" : `; chance reaches ${number(match.chance)}`}`,
      ),
      match.poor
        ? el(
            "p",
            { class: "warning" },
            "A poor match: it is hardly better than chance, and is not the same feature.",
          )
        : null,
    ),
  );
  return el(
    "section",
    { class: "panel", "aria-label": "The same feature elsewhere" },
    el("h2", {}, "The same feature elsewhere"),
    others.length
      ? el("ul", { class: "matches" }, others)
      : el("p", { class: "quiet" }, "No other chain was matched with this one."),
    el(
      "p",
      { class: "quiet" },
      "A single trajectory can be rounding noise: what holds for this feature alone, in one chain, is an anecdote until a second seed shows it too.",
    ),
  );
}

/** What was written about the feature. */
export function explanationsOf(life) {
  return el(
    "section",
    { class: "panel" },
    el("h2", {}, "Explanations"),
    el(
      "ul",
      {},
      life.explanations.map((of) => el("li", {}, typeof of === "string" ? of : of.text)),
    ),
  );
}

/** A label's colour as a dot. */
export function chip(manifest, label) {
  const name = manifest.labels[label];
  return coloured("dot-of large", labelColour(name), { title: labelName(name) });
}
