// Search over tokens and contexts; each result with its life as a ribbon.

import { address } from "./address.js";
import { el, put, say, settled } from "./dom.js";
import { explanationsWith } from "./explanations.js";
import { labelsOf, smallRibbon } from "./ribbon.js";
import { Timeline } from "./timeline.js";
import { home, notAnalysed, Refused } from "./data.js";
import { asMeant, featureNamed, numberNamed } from "./query.js";
import { contextLine } from "./tokens.js";
import { tokenAlone, whole } from "./words.js";

const SHOWN = 50; // features of each kind at a time

export async function searchPage({ root, data, state, signal }) {
  if (!data.manifest.analysed)
    throw notAnalysed(
      data,
      "The features of this chain were not analysed yet, so there is nothing to search.",
    );
  const { search_characters: longest } = await home();
  const results = el("div", { class: "results" });
  const field = el("input", {
    type: "search",
    value: state.get("q", ""),
    placeholder: "A token or a piece of text",
    "aria-label": "Search tokens and contexts",
    "data-search": true,
    spellcheck: "false",
    autocomplete: "off",
    maxlength: longest,
  });
  const type = settled(() => state.set({ q: field.value, from: null }), 200);
  field.addEventListener("input", type);
  const place = `It looks through the commonest token at the strongest contexts of each feature at each step, through its contexts and its explanations${data.site.static ? ", as far as this site holds them" : ""}.`;
  root.append(
    el(
      "form",
      {
        class: "search-form",
        role: "search",
        onsubmit: (event) => {
          event.preventDefault();
          const feature = featureNamed(field.value, data.manifest.d_sae);
          if (feature !== null) location.hash = address([data.name, feature]);
        },
      },
      el("h1", { text: "Search" }),
      field,
      el("p", {
        class: "muted",
        text: `${place} Case does not matter. A number finds the feature of that number.`,
      }),
    ),
    results,
  );
  await data.vocabulary();
  const view = new Results(results, data, state, signal, longest);
  state.on(["q", "from"], () => {
    if (document.activeElement !== field) field.value = state.get("q", "");
    view.look();
  });
  view.look();
  setTimeout(() => field.focus(), 0);
  return [];
}

class Results {
  constructor(node, data, state, signal, longest) {
    Object.assign(this, { node, data, state, signal, longest, asked: 0 });
    this.timeline = new Timeline(data.manifest.links, state);
    this.watch = new IntersectionObserver(
      (entries) =>
        entries
          .filter((entry) => entry.isIntersecting)
          .forEach((entry) => {
            this.watch.unobserve(entry.target);
            entry.target.fill?.();
          }),
      { rootMargin: "200px" },
    );
    signal.addEventListener("abort", () => this.watch.disconnect());
  }

  async look() {
    const typed = this.state.get("q", "");
    const query = asMeant(typed);
    const mine = ++this.asked;
    if (!query.trim())
      return put(
        this.node,
        el("p", {
          class: "empty",
          text: typed.trim()
            ? "Line ends and blanks alone are not searched here; the field above the table of features finds tokens of them."
            : "Type a word, such as one that you expect a feature for.",
        }),
      );
    let found;
    try {
      if ([...query].length > this.longest)
        throw new Refused(
          `A text of ${this.longest} characters at most is searched; this one has ${[...query].length}.`,
        );
      found = await this.data.search(query, SHOWN, Number(this.state.get("from", 0)) || 0);
      found.explained = explanationsWith(await this.data.explanations(), query);
    } catch (error) {
      if (mine === this.asked)
        put(this.node, el("p", { class: "notice", role: "alert", text: error.message }));
      return;
    }
    if (mine === this.asked && !this.signal.aborted) this.show(typed, found);
  }

  show(typed, { tokens, contexts, explained, truncated, total }) {
    const from = Number(this.state.get("from", 0)) || 0;
    const named = featureNamed(typed, this.data.manifest.d_sae);
    const known = new Set(tokens.map((hit) => hit.feature));
    const others = contexts.filter((hit) => !known.has(hit.feature));
    const [byToken, byContext] = [total?.tokens ?? tokens.length, total?.contexts ?? contexts.length];
    const byWords = explained.length ? `, ${whole(explained.length)} by an explanation` : "";
    const words = `${whole(byToken)} features by the commonest token at their strongest contexts, ${whole(byContext)} by a context${byWords}`;
    say(words);
    const { d_sae } = this.data.manifest;
    const direct =
      named === null
        ? numberNamed(typed) === null
          ? null
          : el("p", {
              class: "box named",
              text: `There is no feature ${numberNamed(typed)}: the chain has ${whole(d_sae)}, from 0 to ${d_sae - 1}.`,
            })
        : el(
            "p",
            { class: "box named" },
            el("a", { href: address([this.data.name, named]), text: `Feature ${named}` }),
            el("span", { class: "muted", text: " has this number; Enter opens it." }),
          );
    if (!tokens.length && !contexts.length && !explained.length)
      return put(
        this.node,
        direct,
        el("p", {
          class: "empty",
          text: from
            ? "No further features."
            : `No feature has “${typed}” as the commonest token at its strongest contexts, or in a context.`,
        }),
        this.pages(from, false),
      );
    return put(
      this.node,
      direct,
      el("p", {
        class: "muted",
        text: `${words}.${from || truncated ? ` Of each kind, features ${whole(from + 1)} to ${whole(from + Math.max(tokens.length, contexts.length))} are shown.` : ""}`,
      }),
      this.section("By the commonest token at the strongest contexts", tokens, (hit) => this.tokenHit(hit)),
      this.section("By an explanation", from ? [] : explained.slice(0, SHOWN), (hit) =>
        this.explanationHit(hit),
      ),
      this.section("By a context", others, (hit) => this.contextHit(hit)),
      this.pages(from, truncated),
    );
  }

  /** Ways to the features before and behind those that are shown. */
  pages(from, more) {
    const { data, state } = this;
    const to = (next, text) =>
      el("a", {
        class: "button",
        href: address([data.name, "search"], { q: state.get("q"), from: next || null }),
        text,
      });
    if (!from && !more) return null;
    return el(
      "p",
      { class: "line pages" },
      from ? to(Math.max(0, from - SHOWN), `‹ ${SHOWN} before`) : null,
      more ? to(from + SHOWN, `the next ${SHOWN} ›`) : null,
    );
  }

  section(title, hits, row) {
    if (!hits.length) return null;
    return el(
      "section",
      { class: "box", "aria-label": title },
      el("h2", {}, title, el("span", { class: "muted", text: ` ${whole(hits.length)}` })),
      el("ul", { class: "hits" }, hits.map(row)),
    );
  }

  hit(feature, link, ...parts) {
    const ribbon = el("span", { class: "hit-ribbon" });
    const node = el(
      "li",
      {},
      el(
        "a",
        {
          href: address([this.data.name, feature], {
            step: link === null ? null : this.timeline.nameOf(link),
          }),
        },
        el("strong", { text: feature }),
      ),
      ribbon,
      ...parts,
    );
    node.fill = async () => {
      const labels = await labelsOf(this.data, feature);
      put(ribbon, smallRibbon(labels, this.data.manifest, this.timeline.steps, link));
    };
    this.watch.observe(node);
    return node;
  }

  tokenHit({ feature, text, links }) {
    const { manifest } = this.data;
    const at =
      links.length === manifest.links.length
        ? "at every step"
        : links.length === 1
          ? `at ${this.timeline.words(links[0])}`
          : `at ${links.length} of ${manifest.links.length} steps, last at ${this.timeline.words(links.at(-1))}`;
    return this.hit(
      feature,
      links.at(-1),
      el("span", { class: "tok", text: tokenAlone(text) }),
      el("span", { class: "muted", text: at }),
    );
  }

  explanationHit({ feature, at, text, explainer, run }) {
    const maker = el("span", { class: "muted", text: ` by ${explainer}, run ${run.id.slice(0, 8)}` });
    const link = at ?? this.data.manifest.links.length - 1; // of an analysis of other links
    return this.hit(
      feature,
      link,
      el("span", { class: "muted", text: this.timeline.words(link) }),
      el("span", {}, el("q", { text }), maker),
    );
  }

  contextHit({ feature, link, position, first, ids }) {
    const context = { position, first, ids, acts: ids.map(() => 0) };
    const line = contextLine(context, this.data.vocabularyNow, { before: 10, after: 8 });
    return this.hit(
      feature,
      link,
      el("span", { class: "muted", text: this.timeline.words(link) }),
      el("span", { class: "hit-context" }, line),
    );
  }
}
