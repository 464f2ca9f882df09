// A feature: its life as a ribbon, curves beside controls, contexts at one step or at two.

import { address } from "./address.js";
import { askForList } from "./ask_list.js";
import { JUDGED, LABEL_MEANINGS, PATTERN_MEANINGS } from "./classes.js";
import { contextsView, contextTools } from "./contexts.js";
import { home, notAnalysed, Refused } from "./data.js";
import { button, el, framed, put, say } from "./dom.js";
import { FeatureCurves } from "./feature_curves.js";
import { explanations } from "./explanations.js";
import {
  activationHistogram,
  commonTokens,
  neighbours,
  promotedTokens,
} from "./feature_facts.js";
import { ofJudged } from "./label_shares.js";
import { addToList } from "./lists.js";
import { matches } from "./matches.js";
import { backTo, further } from "./reading_order.js";
import { bigRibbon } from "./ribbon.js";
import { Slider } from "./slider.js";
import { straysOf } from "./strays.js";
import { Timeline } from "./timeline.js";
import { labelName, percent, plain, tokenAlone, whole } from "./words.js";

const CONTEXT_PARTS = ["window", "align", "breaks", "fold"];

export async function featurePage({ root, data, parts, state, signal }) {
  const number = Number(parts[1]);
  const { manifest } = data;
  if (!manifest.analysed) throw notAnalysed(data, "The features of this chain were not analysed yet.");
  if (number >= manifest.d_sae)
    throw new Refused(
      `There is no feature ${number}: the chain has ${whole(manifest.d_sae)} features, from 0 to ${manifest.d_sae - 1}.`,
    );
  const [life] = await Promise.all([data.feature(number), data.vocabulary()]);
  const page = new FeatureView(root, data, life, number, state, signal);
  setTimeout(() => prefetch(data, number), 80);
  return page.keys();
}

/** The next features, so that j and k are at once. */
function prefetch(data, number) {
  for (const by of [1, -1]) {
    const { feature } = further(data, number, by);
    if (feature !== null) data.feature(feature).catch(() => null);
  }
}

class FeatureView {
  constructor(root, data, life, number, state, signal) {
    Object.assign(this, { root, data, life, number, state, signal });
    this.timeline = new Timeline(data.manifest.links, state);
    const { timeline } = this;
    this.ribbon = el("div", {}, bigRibbon(life, data, timeline));
    state.on(["scale"], () => put(this.ribbon, bigRibbon(life, data, timeline)));
    this.slider = new Slider(timeline, {
      phases: data.manifest.phases,
      above: this.ribbon,
      strays: () => straysOf({ state, timeline, manifest: data.manifest }),
      signal,
    });
    this.head = el("div", { class: "feature-head" });
    this.curves = new FeatureCurves(life, data.manifest, timeline);
    this.contexts = el("div");
    this.facts = el("section", { class: "box facts-box", "aria-label": "At this step" });
    this.matches = el("div", { class: "all-matches" });
    this.grid = el(
      "div",
      { class: "feature-grid" },
      el(
        "section",
        { class: "box contexts-box", "aria-label": "Contexts" },
        el("header", {}, el("h2", { text: "Contexts" }), contextTools(state, timeline)),
        this.contexts,
      ),
      this.curves.node,
      this.facts,
    );
    root.append(this.head, this.slider.node, this.grid);
    const draw = framed(() => this.draw());
    state.on(["step", "beside"], draw);
    state.on(CONTEXT_PARTS, () => this.drawContexts());
    state.on(["scale"], () => this.curves.draw());
    this.known = new Set(); // chains whose features can be opened here
    this.draw();
    this.readNeighbours();
    this.readChains();
    this.readExplanations();
  }

  draw() {
    this.drawHead();
    this.curves.mark();
    this.drawContexts();
    this.drawFacts();
    this.drawMatches();
    this.grid.classList.toggle(
      "beside",
      this.timeline.beside !== null && this.timeline.beside !== this.timeline.link,
    );
    this.readNeighbours();
    this.root.dataset.link = this.timeline.link; // the link that all panels show now
  }

  drawContexts() {
    put(this.contexts, contextsView(this.life, this.data, this.timeline, this.state));
  }

  drawHead() {
    const { life, data, timeline, number } = this;
    const { manifest } = data;
    const label = manifest.labels[life.labels[timeline.link]];
    const top = life.top_tokens[timeline.link];
    const { pattern } = life;
    const formed =
      life.formation_link >= 0 ? `formed at LM ${timeline.words(life.formation_link)}` : "never formed";
    const { at, of, filtered } = further(data, number, 0);
    const place = `${whole(at + 1)} of ${whole(of)}${filtered ? " in the table" : ""}`;
    const link = (by, text, title) => {
      const { feature } = further(data, number, by);
      return feature === null
        ? el("button", { class: "icon", disabled: true, "aria-label": title }, text)
        : el("a", { class: "button icon", href: this.to(feature), "aria-label": title, title, text });
    };
    const focused = this.head.contains(document.activeElement)
      ? (document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent)
      : null;
    put(
      this.head,
      el("a", { class: "back", href: backTo(data), text: "← all features" }),
      el("h1", {}, `Feature ${number}`),
      el("span", {
        class: "tok big",
        title: "Commonest token at the strongest contexts, at this step",
        text: top >= 0 ? tokenAlone(data.vocabularyNow[top]) : "no token",
      }),
      el(
        "span",
        { class: `chip strong l-${label}`, title: LABEL_MEANINGS[label] ?? "" },
        el("i"),
        labelName(label),
      ),
      el("span", {
        class: "muted",
        title: PATTERN_MEANINGS[pattern] ?? "",
        text: `pattern: ${plain(pattern)} (${(PATTERN_MEANINGS[pattern] ?? "").replace(/\.$/, "")}) · ${formed}`,
      }),
      el(
        "span",
        { class: "head-tools" },
        link(-1, "‹", "Feature before (k)"),
        el("span", { class: "muted", text: place }),
        link(1, "›", "Next feature (j)"),
        button("Add to list", () => this.add(), { title: "Keep this feature in a list (l)" }),
        button("Copy link", () => this.copy(), { title: "The address of what this page shows" }),
        button("Embed", () => this.embed(), { title: "HTML that shows this feature in another page" }),
        el("a", {
          class: "outside",
          href: address(this.state.parts, { step: this.state.get("step") }),
          target: "_blank",
          rel: "noopener",
          text: "Open in the explorer ↗",
        }),
      ),
      el(
        "p",
        { class: "muted small-text why" },
        el("strong", { text: `${labelName(label)} at LM ${timeline.words(timeline.link)}: ` }),
        `${LABEL_MEANINGS[label] ?? ""}${this.ofDirections(label)}`,
      ),
    );
    if (focused)
      [...this.head.querySelectorAll("a, button")]
        .find((node) => (node.getAttribute("aria-label") ?? node.textContent) === focused)
        ?.focus();
  }

  /** How many random directions have a label at the step too: what the label alone is worth. */
  ofDirections(label) {
    const { labels, labels_of_directions: counts } = this.data.manifest;
    if (!counts || !JUDGED.includes(label)) return "";
    const { share } = ofJudged(labels, counts[this.timeline.link], [label]) ?? {};
    return share === undefined ? "" : ` Of random directions at this step ${percent(share)} are that too.`;
  }

  /** Another feature with the same step and choices. */
  to(feature) {
    return address([this.data.name, feature], Object.fromEntries(this.state.params));
  }

  drawFacts() {
    const { life, data, timeline } = this;
    const { link } = timeline;
    const columns = ["label", "top_token"].map((name) => data.columnNow(link, name));
    put(
      this.facts,
      el("header", {}, el("h2", { text: `At LM ${timeline.words(link)}` })),
      el(
        "div",
        { class: "facts-grid" },
        explanations(this.explained, data.manifest, timeline),
        activationHistogram(life, data.manifest, timeline),
        commonTokens(life, data, timeline),
        promotedTokens(life, data, timeline),
        neighbours(life, data, timeline, ...columns),
        this.matches,
      ),
    );
  }

  /** Labels and tokens of neighbours lie in columns, which come a moment later. */
  async readNeighbours() {
    const { data, timeline } = this;
    const { link } = timeline;
    if (["label", "top_token"].every((name) => data.columnNow(link, name))) return;
    await Promise.all(["label", "top_token"].map((name) => data.column(link, name))).catch(() => null);
    if (!this.signal.aborted && timeline.link === link && data.columnNow(link, "top_token")) this.drawFacts();
  }

  /** Explanations are no part of an analysis, and come a moment later. */
  async readExplanations() {
    const all = await this.data.explanations();
    this.explained = all.filter(({ feature }) => feature === this.number);
    if (this.explained.length && !this.signal.aborted) this.drawFacts();
  }

  drawMatches() {
    put(this.matches, matches(this.life, this.data.manifest, this.timeline, this.known));
  }

  /** Which matched chains can be opened comes a moment later. */
  async readChains() {
    if (!this.data.manifest.matches.length) return;
    const found = await home().catch(() => ({ chains: [] }));
    if (this.signal.aborted) return;
    this.known = new Set(found.chains.filter((chain) => chain.analysed).map((chain) => chain.name));
    this.drawMatches();
  }

  add() {
    askForList(`feature ${this.number}`, (name) =>
      addToList(name, [{ chain: this.data.name, feature: this.number, step: this.state.get("step") }]),
    );
  }

  async copy() {
    const words = await copied(location.href);
    say(words);
  }

  embed() {
    const base = location.href.split("#")[0];
    const source = base + address(this.state.parts, { ...Object.fromEntries(this.state.params), embed: "1" });
    const field = el("textarea", { rows: 4, readonly: true, "aria-label": "HTML to embed" });
    field.value = `<iframe src="${source.replaceAll("&", "&amp;").replaceAll('"', "&quot;")}" width="100%" height="700" title="Feature ${this.number} of ${this.data.name}"></iframe>`;
    const dialog = el(
      "dialog",
      { class: "help", "aria-labelledby": "embed-title" },
      el("h2", { id: "embed-title", text: "Embed this feature" }),
      el("p", {
        class: "muted",
        text: "For a page that can reach this address. &panel=curves, &panel=contexts, &panel=facts or &panel=ribbon at the end shows that panel alone.",
      }),
      field,
      el(
        "p",
        { class: "line" },
        button("Copy", async () => say(await copied(field.value)), { class: "primary" }),
        button("Close", () => dialog.close()),
      ),
    );
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    field.select();
  }

  keys() {
    const go = (by) => {
      const { feature } = further(this.data, this.number, by);
      if (feature === null) say(by > 0 ? "This is the last feature." : "This is the first feature.");
      else location.hash = this.to(feature);
    };
    const { timeline } = this;
    return [
      ["ArrowLeft", "step before", () => timeline.move(-1)],
      ["ArrowRight", "next step", () => timeline.move(1)],
      ["j", "next feature", () => go(1)],
      ["k", "feature before", () => go(-1)],
      [
        "b",
        "this step beside others, or one step alone",
        () => this.state.set({ beside: timeline.beside === null ? timeline.nameOf(timeline.link) : null }),
      ],
      ["p", "play or pause", () => this.slider.toggle()],
      ["l", "add to a list", () => this.add()],
      ["u", "back to all features", () => (location.hash = backTo(this.data))],
    ];
  }
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return "Copied.";
  } catch {
    return "This browser lets the page copy nothing: copy the address by hand.";
  }
}
