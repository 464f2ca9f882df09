// Features by their commonest token and by their contexts, each with its life as a small ribbon.

import { wordsAround } from "./contexts.js";
import { address } from "./address.js";
import { column, isStatic, search } from "./data.js";
import { el, integer, visible } from "./dom.js";
import { openChain } from "./fields.js";
import { ribbon } from "./ribbon.js";

export async function searchView(view) {
  const { manifest, words } = await openChain(view.chain);
  const query = view.params.get("q") ?? "";
  const node = el("div", { class: "page" }, el("h1", {}, "Search"), el("p", { class: "quiet" }, view.chain));
  if (!manifest.analysed) {
    node.append(
      el(
        "p",
        { class: "notice" },
        "This chain was not analysed yet: there is nothing to search (saetrack analyze).",
      ),
    );
  } else if (!query.trim()) {
    node.append(
      el(
        "p",
        { class: "notice" },
        "Type a word into the field above ( / ) to find features that fire on it, or whose contexts hold it.",
      ),
    );
  } else {
    const found = await search(view.chain, query);
    const lives = await Promise.all(manifest.links.map((_, link) => column(view.chain, link, "label")));
    const life = (feature) =>
      ribbon({
        manifest,
        labels: lives.map((labels) => labels[feature]),
        width: 240,
        height: 12,
        small: true,
      });
    const link = (feature, index) =>
      address({ chain: view.chain, rest: String(feature), params: { step: manifest.links[index].lm_step } });
    node.append(
      el(
        "div",
        { class: "grid two" },
        el(
          "section",
          { class: "panel" },
          el(
            "h2",
            {},
            `${integer(found.tokens.length)} features whose commonest token holds “${visible(query)}”`,
          ),
          found.tokens.length
            ? el(
                "ul",
                { class: "results of-tokens" },
                found.tokens.map((of) =>
                  el(
                    "li",
                    {},
                    el("a", { href: link(of.feature, of.links.at(-1)) }, `feature ${of.feature}`),
                    el("span", { class: "token-chip" }, visible(of.text)),
                    life(of.feature),
                    el("span", { class: "quiet" }, stepsOf(manifest, of.links)),
                  ),
                ),
              )
            : el("p", { class: "quiet" }, "none"),
        ),
        el(
          "section",
          { class: "panel" },
          el("h2", {}, "In contexts"),
          found.contexts === null
            ? el(
                "p",
                { class: "notice" },
                "A static site searches tokens only: contexts are searched where saetrack explore serves the chain.",
              )
            : found.contexts.length
              ? el(
                  "ul",
                  { class: "results of-contexts" },
                  found.contexts.map((of) =>
                    el(
                      "li",
                      {},
                      el("a", { href: link(of.feature, of.link) }, `feature ${of.feature}`),
                      el(
                        "span",
                        {
                          class: "snippet",
                          dir: "auto",
                          title: `step ${integer(manifest.links[of.link].lm_step)}, ${manifest.context_groups[of.group] === "top" ? "among its strongest contexts" : "among its weaker contexts"}`,
                        },
                        snippet(of, words),
                      ),
                      life(of.feature),
                    ),
                  ),
                )
              : el("p", { class: "quiet" }, "none"),
        ),
      ),
      found.truncated ? el("p", { class: "quiet" }, "There are more; a longer text finds fewer.") : "",
    );
    if (isStatic() && !words.length) node.append(el("p", { class: "quiet" }, "The vocabulary is empty."));
  }
  return { node, title: `search ${query}`, keys: {} };
}

/** The words around a place, the place itself marked. */
function snippet(context, words) {
  const text = (from, to) => wordsAround(context, words, from, to);
  return [text(-7, 0), el("mark", {}, text(0, 1)), text(1, 5)];
}

function stepsOf(manifest, links) {
  const steps = links.map((link) => manifest.links[link].lm_step);
  return links.length === manifest.links.length
    ? "at every step"
    : `at ${links.length} of ${manifest.links.length} steps, ${integer(steps[0])} to ${integer(steps.at(-1))}`;
}
