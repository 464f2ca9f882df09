// What else is known of a feature at a step: histogram, tokens, neighbours; and matches elsewhere.

import { address } from "./address.js";
import { bars } from "./chart.js";
import { el, style } from "./dom.js";
import { featureAddress } from "./table.js";
import { labelName, percent, plain, short, tokenAlone, whole } from "./words.js";

/** Activations above 0, in equal bins up to the largest. */
export function activationHistogram(life, manifest, timeline) {
  const { link } = timeline;
  const counts = life.links[link].histogram;
  const total = counts.reduce((sum, count) => sum + count, 0);
  const max = life.curves.max_act?.[link] ?? 0;
  const reading = total ? `fires on ${whole(total)} tokens` : "fires on no token";
  return el(
    "section",
    { class: "fact" },
    el("h3", {}, "Activations", el("span", { class: "muted", text: ` ${reading}` })),
    bars(counts, { title: `Activations at LM ${timeline.words(link)}`, high: max || 1, size: [300, 110] }),
  );
}

/** Tokens that it fires on most often. */
export function commonTokens(life, data, timeline) {
  const rows = life.links[timeline.link].common_tokens.filter(([token]) => token >= 0);
  return el(
    "section",
    { class: "fact" },
    el(
      "h3",
      {},
      "Commonest tokens",
      el("span", { class: "muted", text: " share of all its firings, also weak ones" }),
    ),
    rows.length
      ? el(
          "table",
          { class: "plain shares" },
          el(
            "tbody",
            {},
            rows.map(([token, share]) =>
              el(
                "tr",
                {},
                el(
                  "th",
                  { scope: "row" },
                  el("span", { class: "tok", text: tokenAlone(data.vocabularyNow[token]) }),
                ),
                el("td", { class: "bar-cell" }, style(el("i"), { width: `${Math.min(100, 100 * share)}%` })),
                el("td", { class: "number", text: percent(share) }),
              ),
            ),
          ),
        )
      : el("p", { class: "muted", text: "It fires on no token here." }),
  );
}

/** Nearest features by decoder cosine. Their labels come from a column, if it is here. */
export function neighbours(life, data, timeline, labels, tops) {
  const rows = life.links[timeline.link].neighbours.filter(([feature]) => feature >= 0);
  const { manifest, vocabularyNow } = data;
  return el(
    "section",
    { class: "fact" },
    el(
      "h3",
      {},
      "Nearest neighbours",
      el("span", { class: "muted", text: " by decoder cosine at this step" }),
    ),
    rows.length
      ? el(
          "table",
          { class: "plain" },
          el(
            "tbody",
            {},
            rows.map(([feature, cosine]) => {
              const name = manifest.labels[labels?.[feature]];
              const top = tops?.[feature] ?? -1;
              return el(
                "tr",
                {},
                el("th", { scope: "row" }, linked(data, timeline, feature)),
                el(
                  "td",
                  {},
                  top >= 0 ? el("span", { class: "tok", text: tokenAlone(vocabularyNow[top]) }) : "–",
                ),
                el("td", {}, name ? el("span", { class: `chip l-${name}` }, el("i"), labelName(name)) : ""),
                el("td", { class: "number", text: short(cosine) }),
              );
            }),
          ),
        )
      : el("p", { class: "muted", text: "It has no direction here: it is dead." }),
  );
}

/** A feature by its number; a static site may not hold it. */
function linked(data, timeline, feature) {
  if (data.kept && !data.kept.has(feature))
    return el("span", { class: "muted", title: "This site does not hold this feature", text: feature });
  return el("a", { href: featureAddress(data, timeline, feature), text: feature });
}

/** Partners in other chains, with how good the match is. */
export function matches(life, manifest, known) {
  const why =
    "A single trajectory can be rounding noise: training amplifies the last digit of any number. What comes out again in another seed is more than that.";
  const node = el("section", { class: "fact matches" }, el("h3", { text: "Matches in other chains" }));
  if (!manifest.matches.length) {
    node.append(
      el("p", { class: "muted", text: "This analysis matched no other chain." }),
      el(
        "p",
        { class: "muted" },
        el("code", { text: "saetrack analyze … --with-controls" }),
        " trains the second seed and the reverse chain, and matches their features.",
      ),
    );
  }
  const of = new Map(life.matches.map((match) => [match.chain, match]));
  // First the chains in which the same should come out again.
  for (const other of [...manifest.matches].sort((a, b) => (a.role === "noise") - (b.role === "noise"))) {
    const match = of.get(other.chain);
    node.append(
      match
        ? oneMatch(other, match, known)
        : el("p", { class: "muted", text: `${plain(other.name ?? other.chain)}: it has no partner.` }),
    );
  }
  node.append(el("p", { class: "muted small-text", text: why }));
  return node;
}

function oneMatch(other, match, known) {
  const title = el(
    "p",
    { class: "match-title" },
    el("strong", { text: plain(other.name ?? other.chain) }),
    el("span", {
      class: `badge${other.role === "noise" ? "" : " good"}`,
      title:
        other.role === "noise"
          ? "A control: it shows what the method does by itself."
          : "It should show the same as this chain.",
      text: other.role === "noise" ? "noise control" : plain(other.role),
    }),
  );
  const target = known.has(other.chain)
    ? el("a", {
        href: address([other.chain, match.feature], { step: match.lm_step }),
        text: `feature ${match.feature}`,
      })
    : el("span", { title: "Its chain is not part of this site", text: `feature ${match.feature}` });
  const chance =
    match.chance === null || match.chance === undefined
      ? ""
      : `; shuffled tokens reach ${short(match.chance)}`;
  const correlation =
    match.activation_correlation === null
      ? ""
      : `correlation of activations ${short(match.activation_correlation)}${chance}; `;
  const line = el(
    "p",
    {},
    target,
    ` at step ${whole(match.lm_step)}`,
    el("br"),
    el("span", { class: "muted", text: `${correlation}decoder cosine ${short(match.decoder_cosine)}` }),
  );
  const warning = match.poor
    ? el("p", {
        class: "notice",
        text: "⚠ Poor match: this may be another feature. Do not read its life as that of this one.",
      })
    : null;
  const control =
    other.role === "noise" && !match.poor
      ? el("p", { class: "muted", text: "A good match here says that this does not need the LM's training." })
      : null;
  return el(
    "div",
    { class: `match${match.poor ? " poor" : other.role === "noise" ? " noise" : ""}`, title: other.text },
    title,
    line,
    control,
    warning,
  );
}

/** Explanations, as later analyses add them: objects with a text, and whatever else they say. */
export function explanations(life) {
  if (!life.explanations?.length) return null;
  return el(
    "section",
    { class: "fact" },
    el("h3", { text: "Explanations" }),
    el(
      "ul",
      {},
      life.explanations.map((one) => {
        const others =
          typeof one === "object"
            ? Object.entries(one).filter(
                ([name, value]) => name !== "text" && ["string", "number"].includes(typeof value),
              )
            : [];
        return el(
          "li",
          {},
          el("p", { text: typeof one === "object" ? (one.text ?? "") : String(one) }),
          others.length
            ? el("p", {
                class: "muted small-text",
                text: others
                  .map(
                    ([name, value]) => `${plain(name)} ${typeof value === "number" ? short(value) : value}`,
                  )
                  .join(" · "),
              })
            : null,
        );
      }),
    ),
  );
}
