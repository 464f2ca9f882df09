// What else is known of a feature at a step: histogram, tokens, neighbours.

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
      "Commonest over all firings",
      el("span", { class: "muted", text: " share of all tokens on which it fires, also weakly" }),
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

/** Tokens whose logits its direction raises and lowers most; nothing where the analysis has none. */
export function promotedTokens(life, data, timeline) {
  const { promoted, suppressed } = life.links[timeline.link];
  if (!promoted?.length) return null;
  const row = (words, tokens) =>
    el(
      "tr",
      {},
      el("th", { scope: "row", text: words }),
      el(
        "td",
        { class: "logits" },
        tokens.map(([token, logit]) =>
          el("span", {
            class: "tok",
            title: `logit ${short(logit)}`,
            text: tokenAlone(data.vocabularyNow[token]),
          }),
        ),
      ),
    );
  return el(
    "section",
    { class: "fact" },
    el("h3", {}, "What it promotes", el("span", { class: "muted", text: " straight to the next token" })),
    el(
      "table",
      { class: "plain" },
      el("tbody", {}, row("promotes", promoted), row("suppresses", suppressed ?? [])),
    ),
    el("p", {
      class: "muted small-text",
      text: "What the direction alone adds to the logits, through the final norm and the unembedding. The norm's weight is folded in, and its scale is fixed at the median over text of this checkpoint: that changes no order of tokens. What blocks above the hook make of the feature is not in it.",
    }),
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
