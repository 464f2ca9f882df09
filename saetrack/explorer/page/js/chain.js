// One chain: a slider that drives curves, map, distribution and table.

import { wordsAround } from "./contexts.js";
import { address, go, patch } from "./address.js";
import { column, feature as featureOf, prefetch } from "./data.js";
import { distribution } from "./distribution.js";
import { coloured, el, integer, visible } from "./dom.js";
import { featureTable, tableFields } from "./feature_table.js";
import { openChain, painter, read, texts } from "./fields.js";
import { Filters } from "./filters.js";
import { labelsOverTraining } from "./labels_over_training.js";
import { addToList } from "./lists.js";
import { featureMap } from "./map.js";
import { curves } from "./plot.js";
import { axisOf, linkAt } from "./scale.js";
import { stepSlider } from "./slider.js";
import { sortBy } from "./table.js";

const METRICS = [
  ["explained_variance", "Explained variance"],
  ["l0", "L0: active features per token"],
  ["dead", "Dead features (share)"],
];

export async function chainView(view) {
  const opened = await openChain(view.chain);
  return opened.manifest.analysed ? new ChainView(view, opened) : notAnalysed(view.chain, opened.manifest);
}

/** What the registry knows of a chain without an analysis. */
function notAnalysed(chain, manifest) {
  const lmSteps = manifest.links.map((link) => link.lm_step);
  const node = el(
    "div",
    { class: "page" },
    el("h1", {}, chain),
    el(
      "p",
      { class: "notice" },
      "The features of this chain cannot be shown yet: it was not analysed. Write the line ",
      el("code", {}, `chain: ${chain}`),
      " into a file analysis.yaml, run ",
      el("code", {}, "saetrack analyze analysis.yaml"),
      " and reload this page.",
    ),
    el(
      "div",
      { class: "grid three" },
      METRICS.map(([name, title]) =>
        el(
          "section",
          { class: "panel" },
          el("h2", {}, title),
          curves({
            title,
            lmSteps,
            lines: [{ name: title, values: manifest.links.map((link) => link[name]) }],
          }).node,
        ),
      ),
    ),
  );
  return { node, title: chain, keys: {} };
}

class ChainView {
  constructor(view, { manifest, words, fields }) {
    Object.assign(this, { chain: view.chain, manifest, words, fields });
    this.title = view.chain;
    this.byName = new Map(fields.map((field) => [field.name, field]));
    this.link = linkAt(manifest.links, view.params.get("step"));
    this.colour = this.byName.get(view.params.get("colour")) ?? this.byName.get("label");
    this.shown =
      this.byName.get(view.params.get("distribution")) ??
      this.byName.get("feature_density") ??
      fields.find((field) => field.kind === "number");
    this.sorted = sortOf(view.params.get("sort"), this.byName);
    this.values = {};
    this.filters = new Filters({
      ...{ chain: view.chain, manifest, words, fields, params: view.params },
      onchange: () => this.choose(),
    });
    this.distribution = distribution({ chain: view.chain, manifest });
    this.tableFields = tableFields(this.byName);
    this.table = featureTable({
      ...{ manifest, words, fields: this.tableFields, values: this.values },
      onpick: (feature) => this.map?.mark(feature),
      onsort: (name) => this.sort(name),
      link: (feature) => this.addressOf(feature),
    });
    this.keys = {
      ArrowLeft: () => this.slider.move(-1),
      ArrowRight: () => this.slider.move(1),
      " ": () => this.slider.toggle(),
    };
    this.build();
    this.step(this.link);
  }

  build() {
    const { manifest } = this;
    this.slider = stepSlider({
      links: manifest.links,
      index: this.link,
      onchange: (index) => this.step(index),
      onscale: () => this.drawCurves(),
    });
    this.curveBox = el("div", { class: "grid three" });
    this.mapBox = el("div", { class: "fill" });
    this.legend = el("ul", { class: "legend" });
    this.labelsBox = el("div", {}, el("p", { class: "quiet" }, "…"));
    this.countLine = el("p", { class: "quiet", role: "status" });
    const notes = (manifest.notes ?? []).map((note) => el("li", {}, note));
    this.node = el(
      "div",
      { class: "page chain" },
      el(
        "div",
        { class: "heading" },
        el("h1", {}, this.chain),
        el(
          "p",
          { class: "quiet" },
          `${manifest.lm} · ${manifest.hook} · ${manifest.architecture} · ${integer(manifest.d_sae)} features · ${manifest.direction} · seed ${manifest.seed}`,
        ),
        notes.length
          ? el(
              "details",
              { class: "notes" },
              el("summary", {}, "What to know about these numbers"),
              el("ul", {}, notes),
            )
          : null,
      ),
      this.slider.node,
      this.curveBox,
      el(
        "div",
        { class: "grid two wide-left" },
        el(
          "section",
          { class: "panel map-panel", "aria-label": "Map" },
          el("div", { class: "panel-head" }, el("h2", {}, "Map of decoder directions"), this.colourChoice()),
          el(
            "p",
            { class: "quiet" },
            "A point is a feature, where its direction lies at the last link (UMAP); distances far apart mean little. Draw around points to choose them.",
          ),
          this.mapBox,
          this.legend,
        ),
        el(
          "section",
          { class: "panel", "aria-label": "Distribution" },
          el(
            "div",
            { class: "panel-head" },
            el("h2", {}, "Distribution at this step"),
            this.distributionChoice(),
          ),
          this.distribution.node,
          el("h2", {}, "Labels over training"),
          this.labelsBox,
        ),
      ),
      el(
        "section",
        { class: "panel", "aria-label": "Features" },
        el("div", { class: "panel-head" }, el("h2", {}, "Features"), this.countLine),
        this.filters.node,
        el(
          "button",
          { type: "button", class: "small", onclick: () => this.keepList() },
          "Make a list of these",
        ),
        this.table.node,
      ),
    );
    this.drawCurves();
  }

  drawCurves() {
    const { links } = this.manifest;
    const axis = axisOf(this.manifest);
    this.marks = METRICS.map(([name, title]) => ({
      title,
      ...curves({
        ...axis,
        title,
        width: 460,
        height: 128,
        onpick: (i) => this.slider.choose(i),
        lines: [{ name: title, values: links.map((link) => link[name]) }],
      }),
    }));
    this.curveBox.replaceChildren(
      ...this.marks.map(({ title, node }) =>
        el("section", { class: "panel slim" }, el("h2", {}, title), node),
      ),
    );
    this.marks.forEach((chart) => chart.mark(this.link));
  }

  colourChoice() {
    return this.fieldChoice("Colour of the points", "colour", {
      fields: this.fields.filter((field) => field.kind !== "token"),
      chosen: this.colour,
      text: (field) => `colour: ${lower(field.title)}`,
      onchoose: (field) => {
        this.colour = field;
        this.paint();
      },
    });
  }

  distributionChoice() {
    return this.fieldChoice("What is distributed", "distribution", {
      fields: this.fields.filter((field) => field.kind === "number"),
      chosen: this.shown,
      text: (field) => field.title,
      onchoose: (field) => {
        this.shown = field;
        this.drawDistribution();
      },
    });
  }

  /** A choice among fields, which is kept in the address. */
  fieldChoice(title, parameter, { fields, chosen, text, onchoose }) {
    const choice = el(
      "select",
      {
        "aria-label": title,
        onchange: () => {
          patch({ [parameter]: choice.value });
          onchoose(this.byName.get(choice.value));
        },
      },
      fields.map((field) => el("option", { value: field.name, selected: field === chosen }, text(field))),
    );
    return choice;
  }

  keepList() {
    const name = prompt("Name of the list", `${this.chain}, step ${this.manifest.links[this.link].lm_step}`);
    if (!name) return;
    const added = addToList(
      name,
      [...this.rows.subarray(0, 5000)].map((feature) => ({
        chain: this.chain,
        feature,
        step: this.manifest.links[this.link].lm_step,
      })),
    );
    this.countLine.textContent = `${integer(added)} features are in the list “${name}”.`;
  }

  sort(name) {
    const down = this.sorted.name === name ? !this.sorted.down : this.byName.get(name)?.kind === "number";
    this.sorted = { name, down };
    patch({ sort: `${down ? "-" : ""}${name}` });
    this.choose();
  }

  /** Show another link: read what the panels want of it, then draw them all. */
  async step(index) {
    this.link = index;
    patch({ step: this.manifest.links[index].lm_step });
    this.marks.forEach((chart) => chart.mark(index));
    this.labelMark?.(index);
    const names = [...new Set([...this.tableFields, this.colour, this.shown])];
    const [map, ...values] = await Promise.all([
      "map" in this.manifest.arrays.of_chain
        ? column(this.chain, "chain", "map")
        : new Float32Array(2 * this.manifest.d_sae).fill(NaN),
      ...names.map((field) => read(this.chain, index, field)),
    ]);
    if (this.link !== index) return;
    names.forEach((field, i) => {
      this.values[field.name] = values[i];
    });
    if (!this.map) {
      this.map = featureMap({
        points: map,
        onpick: (feature) => go(this.addressOf(feature)),
        onhover: (feature, show) => this.hover(feature, show),
        onlasso: (features) => this.filters.lasso(features),
      });
      this.mapBox.append(this.map.node);
    }
    await this.choose();
    await this.drawDistribution();
    this.node.dataset.drawn = String(this.manifest.links[index].lm_step);
    const perLink = names.filter((field) => field.perLink).map((field) => field.name);
    if (!this.labelMark) {
      this.labelMark = () => {};
      this.drawLabels();
    }
    for (const next of [index + 1, index - 1])
      if (this.manifest.links[next]) prefetch(this.chain, next, perLink);
  }

  addressOf(feature) {
    const step = this.manifest.links[this.link].lm_step;
    return address({ chain: this.chain, rest: String(feature), params: { step } });
  }

  /** The features that pass the filters, sorted, in table and map. */
  async choose() {
    const { manifest, link, sorted } = this;
    const { rows, only } = await this.filters.passing(link, this.values);
    if (link !== this.link) return;
    this.only = only;
    const values = this.values[sorted.name];
    this.rows = values ? sortBy(rows, values, sorted.down) : sorted.down ? rows.reverse() : rows;
    this.table.show(this.rows, sorted);
    this.countLine.textContent = `${integer(rows.length)} of ${integer(manifest.d_sae)} features, ${integer(manifest.live?.[link] ?? 0)} live at this step`;
    this.paint();
  }

  drawDistribution() {
    return this.distribution.draw(this.shown, this.link, this.values.label);
  }

  async paint() {
    if (!this.map) return;
    const { link } = this;
    const values = await read(this.chain, link, this.colour);
    if (link !== this.link) return;
    const paint = painter(this.colour, this.manifest, values);
    this.map.paint(paint.packed, this.only);
    this.drawLegend(paint, values);
  }

  drawLegend(paint, values) {
    const counts = new Uint32Array(256);
    if (paint.categories) for (let i = 0; i < values.length; i += 1) counts[values[i]] += 1;
    const entries = paint.categories ? paint.legend.filter((entry) => counts[entry.value] > 0) : paint.legend;
    this.legend.classList.toggle("ramp", !paint.categories);
    this.legend.replaceChildren(
      ...entries.map((entry) => {
        return el(
          "li",
          {},
          coloured("swatch", entry.colour),
          entry.text,
          paint.categories ? el("span", { class: "quiet" }, ` ${integer(counts[entry.value])}`) : null,
        );
      }),
    );
  }

  /** Once all else is there: it reads the labels at every link. */
  async drawLabels() {
    const lives = await Promise.all(this.manifest.links.map((_, link) => column(this.chain, link, "label")));
    const { node, mark } = labelsOverTraining({
      manifest: this.manifest,
      lives,
      onpick: (i) => this.slider.choose(i),
    });
    this.labelsBox.replaceChildren(node);
    this.labelMark = mark;
    mark(this.link);
  }

  async hover(feature, show) {
    const { link } = this;
    const token = this.values.top_token?.[feature] ?? -1;
    const head = [
      el("strong", {}, `feature ${feature}`),
      el(
        "span",
        {},
        ` ${texts(this.byName.get("label"), this.manifest, this.words)(this.values.label[feature])}`,
      ),
      el(
        "div",
        {},
        token >= 0
          ? el("span", { class: "token-chip" }, visible(this.words[token]))
          : el("span", { class: "quiet" }, "fires on nothing here"),
      ),
    ];
    show(feature, head);
    try {
      const { links } = await featureOf(this.chain, feature);
      const top = links[link]?.contexts[0];
      if (top)
        show(feature, [...head, el("div", { class: "quiet tip-text" }, wordsAround(top, this.words, -8, 6))]);
    } catch {
      // the tip stays as it is
    }
  }

  end() {
    this.slider.stop();
    this.map?.end();
    this.table.end();
  }
}

function sortOf(text, byName) {
  const name = (text ?? "").replace(/^-/, "");
  return byName.has(name) || name === "feature"
    ? { name, down: text.startsWith("-") }
    : { name: "max_act", down: true };
}

const lower = (title) => title[0].toLowerCase() + title.slice(1);
