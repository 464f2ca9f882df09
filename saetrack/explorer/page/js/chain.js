// One chain: a slider that drives curves, map, distribution and table.

import { address, go, patch } from "./address.js";
import { labelColour } from "./colours.js";
import { column, feature as featureOf, prefetch } from "./data.js";
import { el, integer, number, perFrame, refill, shortened, visible } from "./dom.js";
import { extent, openChain, painter, read, texts } from "./fields.js";
import { labelsOverTraining } from "./labels_over_training.js";
import { addToList } from "./lists.js";
import { featureMap } from "./map.js";
import { bars, curves } from "./plot.js";
import { linkAt } from "./scale.js";
import { stepSlider } from "./slider.js";
import { sortBy, virtualTable } from "./table.js";

const BINS = 40;
const METRICS = [["explained_variance", "Explained variance"], ["l0", "L0: active features per token"], ["dead", "Dead features (share)"]];

export async function chainView(view) {
  const opened = await openChain(view.chain);
  return opened.manifest.analysed ? new ChainView(view, opened) : notAnalysed(view.chain, opened.manifest);
}

/** What the registry knows of a chain without an analysis. */
function notAnalysed(chain, manifest) {
  const lmSteps = manifest.links.map((link) => link.lm_step);
  const node = el("div", { class: "page" },
    el("h1", {}, chain),
    el("p", { class: "notice" }, "The features of this chain cannot be shown yet: it was not analysed. Run ", el("code", {}, `saetrack analyze --set chain=${chain}`), " and reload this page."),
    el("div", { class: "grid three" }, METRICS.map(([name, title]) => el("section", { class: "panel" }, el("h2", {}, title),
      curves({ title, lmSteps, lines: [{ name: title, values: manifest.links.map((link) => link[name]) }] }).node))));
  return { node, title: chain, keys: {} };
}

class ChainView {
  constructor(view, { manifest, words, fields }) {
    Object.assign(this, { chain: view.chain, manifest, words, fields });
    this.title = view.chain;
    this.byName = new Map(fields.map((field) => [field.name, field]));
    this.link = linkAt(manifest.links, view.params.get("step"));
    this.colour = this.byName.get(view.params.get("colour")) ?? this.byName.get("label");
    this.shown = this.byName.get(view.params.get("distribution")) ?? this.byName.get("feature_density") ?? fields.find((field) => field.kind === "number");
    this.sorted = sortOf(view.params.get("sort"), this.byName);
    this.filter = { label: view.params.get("label") ?? "", pattern: view.params.get("pattern") ?? "", token: view.params.get("token") ?? "", changed: view.params.get("changed") ?? "", of: view.params.get("of") ?? "", min: view.params.get("min") ?? "", max: view.params.get("max") ?? "", lasso: null };
    this.values = {};
    this.keys = { ArrowLeft: () => this.slider.move(-1), ArrowRight: () => this.slider.move(1), " ": () => this.slider.toggle() };
    this.build();
    this.ready = this.step(this.link);
  }

  build() {
    const { manifest } = this;
    this.slider = stepSlider({ links: manifest.links, index: this.link, onchange: (index) => this.step(index), onscale: () => this.drawCurves() });
    this.curveBox = el("div", { class: "grid three" });
    this.mapBox = el("div", { class: "fill" });
    this.legend = el("ul", { class: "legend" });
    this.distributionBox = el("div", {});
    this.labelsBox = el("div", {}, el("p", { class: "quiet" }, "…"));
    this.tableBox = el("div", {});
    this.countLine = el("p", { class: "quiet", role: "status" });
    const notes = (manifest.notes ?? []).map((note) => el("li", {}, note));
    this.node = el("div", { class: "page chain" },
      el("div", { class: "heading" },
        el("h1", {}, this.chain),
        el("p", { class: "quiet" }, `${manifest.lm} · ${manifest.hook} · ${manifest.architecture} · ${integer(manifest.d_sae)} features · ${manifest.direction} · seed ${manifest.seed}`),
        notes.length ? el("details", { class: "notes" }, el("summary", {}, "What to know about these numbers"), el("ul", {}, notes)) : null),
      this.slider.node,
      this.curveBox,
      el("div", { class: "grid two wide-left" },
        el("section", { class: "panel map-panel", "aria-label": "Map" },
          el("div", { class: "panel-head" }, el("h2", {}, "Map of decoder directions"), this.colourChoice()),
          el("p", { class: "quiet" }, "A point is a feature, where its direction lies at the last link (UMAP); distances far apart mean little. Draw around points to choose them."),
          this.mapBox, this.legend),
        el("section", { class: "panel", "aria-label": "Distribution" },
          el("div", { class: "panel-head" }, el("h2", {}, "Distribution at this step"), this.distributionChoice()),
          this.distributionBox,
          el("h2", {}, "Labels over training"), this.labelsBox)),
      el("section", { class: "panel", "aria-label": "Features" },
        el("div", { class: "panel-head" }, el("h2", {}, "Features"), this.countLine),
        this.filters(), this.tableBox));
    this.drawCurves();
    this.buildTable();
  }

  drawCurves() {
    const { links } = this.manifest;
    const lmSteps = links.map((link) => link.lm_step);
    const collapsed = links.flatMap((link, i) => (link.collapsed ? [i] : []));
    this.marks = METRICS.map(([name, title]) => ({ title, ...curves({ title, lmSteps, collapsed, phases: this.manifest.phases, width: 460, height: 128, onpick: (i) => this.slider.choose(i), lines: [{ name: title, values: links.map((link) => link[name]) }] }) }));
    this.curveBox.replaceChildren(...this.marks.map(({ title, node }) => el("section", { class: "panel slim" }, el("h2", {}, title), node)));
    this.marks.forEach((chart) => chart.mark(this.link));
  }

  colourChoice() {
    const choice = el("select", { "aria-label": "Colour of the points", onchange: () => {
      this.colour = this.byName.get(choice.value);
      patch({ colour: choice.value });
      this.paint();
    } }, this.fields.filter((field) => field.kind !== "token").map((field) => el("option", { value: field.name, selected: field === this.colour }, `colour: ${lower(field.title)}`)));
    return choice;
  }

  distributionChoice() {
    const choice = el("select", { "aria-label": "What is distributed", onchange: () => {
      this.shown = this.byName.get(choice.value);
      patch({ distribution: choice.value });
      this.drawDistribution();
    } }, this.fields.filter((field) => field.kind === "number").map((field) => el("option", { value: field.name, selected: field === this.shown }, field.title)));
    return choice;
  }

  filters() {
    const { manifest } = this;
    const take = (name, value) => {
      this.filter[name] = value;
      patch({ [name]: value });
      this.choose();
    };
    const select = (name, title, options) => el("label", {}, title, el("select", { "aria-label": title.trim(), onchange: (event) => take(name, event.target.value) },
      el("option", { value: "" }, "all"), options.map(([value, text]) => el("option", { value, selected: this.filter[name] === String(value) }, text))));
    const labelText = texts(this.byName.get("label"), manifest, this.words);
    const numeric = this.fields.filter((field) => field.kind === "number" || field.kind === "formation");
    const bound = (name, title) => el("input", { type: "number", step: "any", placeholder: title, "aria-label": title, value: this.filter[name], onchange: (event) => take(name, event.target.value) });
    const range = el("span", { class: "range-of" },
      el("select", { "aria-label": "Number to filter by", onchange: (event) => take("of", event.target.value) }, el("option", { value: "" }, "any number"), numeric.map((field) => el("option", { value: field.name, selected: this.filter.of === field.name }, field.title))),
      " ", bound("min", "from"), " ", bound("max", "to"));
    this.lassoButton = el("button", { type: "button", class: "chip", hidden: true, onclick: () => {
      this.filter.lasso = null;
      this.choose();
    } });
    this.listButton = el("button", { type: "button", class: "small", onclick: () => this.keepList() }, "Make a list of these");
    return el("div", { class: "filters" },
      select("label", "Label ", manifest.labels.map((_, i) => [i, labelText(i)])),
      this.byName.has("pattern") ? select("pattern", "Pattern ", manifest.patterns.map((name, i) => [i, name.replaceAll("_", " ")])) : null,
      select("changed", "Label changed since ", manifest.links.map((link, i) => [i, `step ${integer(link.lm_step)}`])),
      el("label", {}, "Token ", el("input", { type: "search", "aria-label": "Token", value: this.filter.token, placeholder: "contains …", oninput: perFrame((event) => take("token", event.target.value)) })),
      range, this.lassoButton, this.listButton);
  }

  keepList() {
    const name = prompt("Name of the list", `${this.chain}, step ${this.manifest.links[this.link].lm_step}`);
    if (!name) return;
    const added = addToList(name, [...this.rows.subarray(0, 5000)].map((feature) => ({ chain: this.chain, feature, step: this.manifest.links[this.link].lm_step })));
    this.countLine.textContent = `${integer(added)} features are in the list “${name}”.`;
  }

  buildTable() {
    const wanted = ["label", "pattern", "formation_link", "top_token", "feature_density", "max_act", "cosine_to_final", "determined_by_token"];
    const fields = wanted.map((name) => this.byName.get(name)).filter(Boolean);
    this.tableFields = fields;
    const columns = [
      { name: "feature", title: "Feature", description: "The feature's index, the same at every link", text: (feature) => String(feature), numeric: true, width: "5.5rem" },
      ...fields.map((field) => {
        const text = texts(field, this.manifest, this.words);
        const of = (feature) => text(this.values[field.name]?.[feature] ?? NaN);
        const numeric = field.kind === "number" || field.kind === "formation";
        const shown = field.kind === "label" ? { node: (feature) => labelChip(this.manifest, this.values.label?.[feature], of(feature)) } : {};
        return { name: field.name, title: SHORT[field.name] ?? field.title, description: field.description, text: (feature) => shortened(of(feature), 24), numeric, ...shown };
      }),
    ];
    this.table = virtualTable({
      columns,
      onpick: (feature) => this.map?.mark(feature),
      onsort: (name) => this.sort(name),
      link: (feature) => address({ chain: this.chain, rest: String(feature), params: { step: this.manifest.links[this.link].lm_step } }),
    });
    this.tableBox.replaceChildren(this.table.node);
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
      "map" in this.manifest.arrays.of_chain ? column(this.chain, "chain", "map") : new Float32Array(2 * this.manifest.d_sae).fill(NaN),
      ...names.map((field) => read(this.chain, index, field)),
    ]);
    if (this.link !== index) return;
    names.forEach((field, i) => {
      this.values[field.name] = values[i];
    });
    this.points ??= map;
    if (!this.map) {
      this.map = featureMap({ points: map, onpick: (feature) => this.open(feature), onhover: (feature, show) => this.hover(feature, show), onlasso: (features) => this.lasso(features) });
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
    for (const next of [index + 1, index - 1]) if (this.manifest.links[next]) prefetch(this.chain, next, perLink);
  }

  async open(feature) {
    go(address({ chain: this.chain, rest: String(feature), params: { step: this.manifest.links[this.link].lm_step } }));
  }

  lasso(features) {
    this.filter.lasso = features.length ? new Set(features) : null;
    this.choose();
  }

  /** The features that pass the filters, sorted, in table and map. */
  async choose() {
    const { filter, manifest } = this;
    const since = filter.changed === "" ? null : await column(this.chain, Number(filter.changed), "label");
    const token = filter.token.trim().toLowerCase();
    const matching = token && new Set(this.words.flatMap((text, id) => (text.toLowerCase().includes(token) ? [id] : [])));
    const { label, pattern, top_token: tokens } = this.values;
    const within = await this.withinRange();
    const only = new Uint8Array(manifest.d_sae);
    const passing = new Uint32Array(manifest.d_sae);
    let passed = 0;
    for (let i = 0; i < manifest.d_sae; i += 1) {
      if (filter.label !== "" && label[i] !== Number(filter.label)) continue;
      if (filter.pattern !== "" && pattern[i] !== Number(filter.pattern)) continue;
      if (since && since[i] === label[i]) continue;
      if (matching && !matching.has(tokens[i])) continue;
      if (within && !within(i)) continue;
      if (filter.lasso && !filter.lasso.has(i)) continue;
      only[i] = 1;
      passing[passed] = i;
      passed += 1;
    }
    const rows = passing.subarray(0, passed);
    this.only = rows.length < manifest.d_sae ? only : null;
    const values = this.values[this.sorted.name];
    this.rows = values ? sortBy(rows, values, this.sorted.down) : this.sorted.down ? rows.reverse() : rows;
    this.table.show(this.rows, this.sorted);
    this.countLine.textContent = `${integer(rows.length)} of ${integer(manifest.d_sae)} features, ${integer(manifest.live?.[this.link] ?? 0)} live at this step`;
    this.lassoButton.hidden = !filter.lasso;
    this.lassoButton.textContent = `${integer(filter.lasso?.size ?? 0)} drawn around ✕`;
    this.paint();
  }

  /** Whether a feature's number lies in the range that is asked for; null where none is. */
  async withinRange() {
    const { of, min, max } = this.filter;
    const field = this.byName.get(of);
    if (!field || (min === "" && max === "")) return null;
    const values = await read(this.chain, this.link, field);
    const [low, high] = [min === "" ? -Infinity : Number(min), max === "" ? Infinity : Number(max)];
    // Where a feature formed is asked for by LM step, and kept by the number of the link.
    const step = field.kind === "formation" ? (value) => (value < 0 ? NaN : this.manifest.links[value].lm_step) : (value) => value;
    return (i) => step(values[i]) >= low && step(values[i]) <= high;
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
    this.legend.replaceChildren(...entries.map((entry) => {
      const swatch = el("span", { class: "swatch" });
      swatch.style.background = entry.colour;
      return el("li", {}, swatch, entry.text, paint.categories ? el("span", { class: "quiet" }, ` ${integer(counts[entry.value])}`) : null);
    }));
  }

  async drawDistribution() {
    const { shown: field, link, manifest } = this;
    const values = await read(this.chain, link, field);
    if (link !== this.link || !this.values.label) return;
    const live = this.values.label;
    const dead = manifest.labels.indexOf("dead");
    const log = field.scale === "log";
    const kept = measured(values, live, dead, log ? 0 : -Infinity);
    const into = log ? Math.log10 : (value) => value;
    const ends = await this.extentOf(field);
    if (link !== this.link) return;
    const counts = new Array(BINS).fill(0);
    const scale = BINS / (ends.high - ends.low || 1);
    for (let i = 0; i < kept.length; i += 1) counts[Math.min(BINS - 1, Math.max(0, Math.floor((into(kept[i]) - ends.low) * scale)))] += 1;
    const back = (value) => (log ? 10 ** value : value);
    const { control } = field;
    refill(this.distributionBox,
      el("p", { class: "quiet" }, field.description),
      bars({ title: field.title, counts, from: { value: ends.low, text: number(back(ends.low)) }, to: { value: ends.high, text: number(back(ends.high)) }, height: 190, band: control && control.low[link] !== null ? [into(control.low[link]), into(control.high[link])].map((value) => (value - ends.low) / (ends.high - ends.low || 1)) : null, width: 460, note: "No live feature has this measured at this step." }),
      el("p", { class: "quiet" }, `${integer(kept.length)} features, median ${number(median(kept))}${field.unit ? ` (${field.unit})` : ""}. Heights are roots of counts${log ? ", the axis is logarithmic" : ""}. The axis is the same at every step.`),
      control && control.low[link] !== null
        ? el("p", {}, el("span", { class: "swatch control" }), `Control (${control.title}): ${number(control.low[link])} to ${number(control.high[link])} at this step; `, el("strong", {}, `${percent(kept, control, link)} of the features lie outside.`))
        : el("p", { class: "quiet" }, "No control was registered for this number."));
  }

  /** The same axis at every step: of the first, middle and last link. */
  async extentOf(field) {
    this.extents ??= new Map();
    if (!this.extents.has(field.name)) {
      const last = this.manifest.links.length - 1;
      const all = await Promise.all([...new Set([0, Math.floor(last / 2), last])].map((link) => read(this.chain, link, field)));
      const into = field.scale === "log" ? (value) => (value > 0 ? Math.log10(value) : NaN) : (value) => value;
      const ends = all.map((values) => extent(values, into));
      const [low, high] = [Math.min(...ends.map(([end]) => end)), Math.max(...ends.map(([, end]) => end))];
      this.extents.set(field.name, Number.isFinite(low) ? { low, high } : { low: 0, high: 1 });
    }
    return this.extents.get(field.name);
  }

  /** Once all else is there: it reads the labels at every link. */
  async drawLabels() {
    const lives = await Promise.all(this.manifest.links.map((_, link) => column(this.chain, link, "label")));
    const { node, mark } = labelsOverTraining({ manifest: this.manifest, lives, onpick: (i) => this.slider.choose(i) });
    this.labelsBox.replaceChildren(node);
    this.labelMark = mark;
    mark(this.link);
  }

  async hover(feature, show) {
    const { link } = this;
    const token = this.values.top_token?.[feature] ?? -1;
    const head = [el("strong", {}, `feature ${feature}`), el("span", {}, ` ${texts(this.byName.get("label"), this.manifest, this.words)(this.values.label[feature])}`),
      el("div", {}, token >= 0 ? el("span", { class: "token-chip" }, visible(this.words[token])) : el("span", { class: "quiet" }, "fires on nothing here"))];
    show(feature, head);
    try {
      const { links } = await featureOf(this.chain, feature);
      const top = links[link]?.contexts[0];
      if (top) show(feature, [...head, el("div", { class: "quiet tip-text" }, contextText(top, this.words))]);
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

const SHORT = { top_token: "Token", cosine_to_final: "To final", determined_by_token: "By token", max_act: "Largest", formation_link: "Formed" };

function sortOf(text, byName) {
  const name = (text ?? "").replace(/^-/, "");
  return byName.has(name) || name === "feature" ? { name, down: text.startsWith("-") } : { name: "max_act", down: true };
}

const lower = (title) => title[0].toLowerCase() + title.slice(1);

function labelChip(manifest, value, text) {
  const dot = el("span", { class: "dot-of" });
  dot.style.background = labelColour(manifest.labels[value] ?? "dead");
  return el("span", { class: "with-dot" }, dot, text);
}

function contextText({ ids, position, first }, words) {
  const at = position - first;
  const from = Math.max(0, at - 8);
  return visible(ids.slice(from, at + 6).map((id) => words[id] ?? "").join(""), { blanks: false });
}

/** The values above a bound, of features that are not dead. */
function measured(values, live, dead, above) {
  const found = new values.constructor(values.length);
  let n = 0;
  for (let i = 0; i < values.length; i += 1) {
    if (live[i] === dead || !(values[i] > above) || values[i] === Infinity) continue;
    found[n] = values[i];
    n += 1;
  }
  return found.subarray(0, n);
}

/** The middle value, by quickselect: sorting all would take most of a slider's step. */
function median(values) {
  if (!values.length) return NaN;
  const found = values.slice();
  const middle = found.length >> 1;
  let [from, to] = [0, found.length - 1];
  while (from < to) {
    const pivot = found[(from + to) >> 1];
    let [i, j] = [from, to];
    while (i <= j) {
      while (found[i] < pivot) i += 1;
      while (found[j] > pivot) j -= 1;
      if (i > j) break;
      const kept = found[i];
      found[i] = found[j];
      found[j] = kept;
      i += 1;
      j -= 1;
    }
    if (middle <= j) to = j;
    else if (middle >= i) from = i;
    else break;
  }
  return found[middle];
}

function percent(values, { low, high }, link) {
  if (!values.length) return "–";
  const outside = values.filter((value) => value < low[link] || value > high[link]).length;
  return `${((100 * outside) / values.length).toFixed(1)} %`;
}
