// All features of a chain at the chosen link: which of them are shown, in which order, which are chosen.

import { sorted } from "./sorting.js";
import { listNamed } from "./lists.js";
import { asMeant, featureNamed } from "./query.js";

/** What the page computes from columns, beside those of the manifest. */
export const FORMED = {
  name: "formation_step",
  title: "Formed at",
  unit: "LM step",
  per_link: false,
  scale: "log",
  description:
    "The LM step from which on label and tokens are those of the last LM step; of an LM that stands still, the number of the link.",
};

const PICKED_MOST = 500; // features of a lasso that an address has room for
export const PICKED_HERE = "here"; // more than these are known to this page only

const picked = (names, count) =>
  new Set(
    (names ?? "")
      .split(".")
      .filter((name) => /^\d+$/.test(name) && Number(name) < count)
      .map(Number),
  );

export class Population {
  constructor(data, timeline, state, signal) {
    Object.assign(this, { data, timeline, state });
    this.manifest = data.manifest;
    this.count = data.manifest.d_sae;
    this.columns = [...data.manifest.columns, FORMED];
    this.byName = new Map(this.columns.map((column) => [column.name, column]));
    this.chosen = picked(state.get("picked"), this.count); // by lasso
    this.hovered = -1;
    this.lassos = 0;
    this.listeners = [];
    this.asked = 0;
    state.on(
      [
        "step",
        "sort",
        "down",
        "label",
        "pattern",
        "where",
        "text",
        "changed",
        "list",
        "picked",
        "colour",
        "show",
      ],
      () => this.update(),
    );
    signal.addEventListener("abort", () => (this.listeners = []));
  }

  on(listener) {
    this.listeners.push(listener);
  }

  tell(what) {
    for (const listener of this.listeners) listener(what);
  }

  /** A column's values at a link; those of the chain are the same at each. */
  async values(name, link = this.timeline.link) {
    if (name === FORMED.name) return this.#formationSteps();
    return this.data.column(this.byName.get(name)?.per_link === false ? "chain" : link, name);
  }

  valuesNow(name, link = this.timeline.link) {
    if (name === FORMED.name) return this.formed ?? null;
    return this.data.columnNow(this.byName.get(name)?.per_link === false ? "chain" : link, name);
  }

  async #formationSteps() {
    if (this.formed) return this.formed;
    const links = await this.data.column("chain", "formation_link");
    this.formed = new Float32Array(links.length);
    const standing = (this.manifest.standing ?? null) !== null; // its links have numbers only
    for (let at = 0; at < links.length; at++)
      this.formed[at] =
        links[at] < 0 ? NaN : standing ? links[at] + 1 : this.manifest.links[links[at]].lm_step;
    return this.formed;
  }

  /** Numbers that put features into the order of a column. */
  async #keys(name) {
    if (name === "feature") return { values: null };
    const values = await this.values(name);
    if (name !== "top_token") return { values };
    const ranks = await this.#textRanks();
    const keys = new Float32Array(values.length);
    for (let at = 0; at < keys.length; at++) keys[at] = values[at] < 0 ? NaN : ranks[values[at]];
    return { values: keys };
  }

  async #textRanks() {
    if (this.ranks) return this.ranks;
    const texts = (await this.data.vocabulary()).map((text) => text.trim().toLowerCase());
    const order = texts
      .map((_, token) => token)
      .sort((a, b) => (texts[a] < texts[b] ? -1 : texts[a] > texts[b] ? 1 : 0));
    this.ranks = new Uint32Array(texts.length);
    order.forEach((token, rank) => (this.ranks[token] = rank));
    return this.ranks;
  }

  /** The ranges of the address: [column, low, high]; what names no column is left out. */
  get ranges() {
    return this.state
      .get("where", "")
      .split(";")
      .map((part) => part.split(":"))
      .filter(([name]) => this.byName.has(name))
      .map(([name, low, high]) => [name, low ? Number(low) : -Infinity, high ? Number(high) : Infinity])
      .filter(([, low, high]) => !Number.isNaN(low) && !Number.isNaN(high));
  }

  /** The two links of "changed between". */
  get changed() {
    const names = this.state.get("changed", "").split(",");
    if (names.length !== 2) return null;
    const links = names.map((name) =>
      this.manifest.links.findIndex((_, link) => this.timeline.nameOf(link) === name),
    );
    return links.includes(-1) ? null : links;
  }

  chosenOf(parameter, names) {
    return this.state
      .get(parameter, "")
      .split(",")
      .map((name) => names.indexOf(name))
      .filter((at) => at >= 0);
  }

  /** Filter and sort anew; columns that are missing are waited for. */
  update() {
    const mine = ++this.asked;
    this.ready = this.#compute(mine).catch((error) => {
      if (mine !== this.asked) return;
      this.error = error.message;
      this.tell("error");
    });
    return this.ready;
  }

  async #compute(mine) {
    const { link } = this.timeline;
    const sort = this.byName.has(this.state.get("sort")) ? this.state.get("sort") : "feature";
    const [tests, keys] = await Promise.all([this.#tests(), this.#keys(sort), this.#shown()]);
    if (mine !== this.asked) return;
    const found = new Uint32Array(this.count);
    let length = 0;
    const only = tests.length === 1 ? tests[0] : (feature) => tests.every((test) => test(feature));
    for (let feature = 0; feature < this.count; feature++) {
      if (!tests.length || only(feature)) found[length++] = feature;
    }
    const features = found.subarray(0, length);
    const down = this.state.get("down") === "1";
    this.order = keys.values
      ? sorted(features, keys.values, down)
      : down
        ? features.slice().reverse()
        : features;
    this.mask = new Uint8Array(this.count);
    for (const feature of features) this.mask[feature] = 1;
    this.link = link;
    this.error = null;
    this.tell("update");
    this.#prefetch(link);
  }

  /** The columns that panels draw. */
  #shown(link = this.timeline.link) {
    const names = new Set([
      "label",
      "top_token",
      "pattern",
      FORMED.name,
      this.state.get("colour", "label"),
      this.state.get("show", "feature_density"),
      ...this.tableColumns,
    ]);
    return Promise.all(
      [...names].filter((name) => this.byName.has(name)).map((name) => this.values(name, link)),
    );
  }

  get tableColumns() {
    const asked = this.state.get("columns");
    if (asked !== null) return asked.split(",").filter((name) => this.byName.has(name));
    return ["feature_density", "cosine_to_first"].filter((name) => this.byName.has(name));
  }

  #prefetch(link) {
    const neighbours = [1, -1, 2]
      .map((by) => this.timeline.steps.beside(link, by))
      .filter((other) => other !== link);
    setTimeout(() => neighbours.forEach((other) => this.#shown(other).catch(() => null)), 60);
  }

  /** The filters as functions of a feature. */
  async #tests() {
    const { manifest, state, data } = this;
    const tests = [];
    for (const [parameter, names] of [
      ["label", manifest.labels],
      ["pattern", manifest.patterns],
    ]) {
      const chosen = new Set(this.chosenOf(parameter, names));
      if (!chosen.size) continue;
      const values = await this.values(parameter);
      tests.push((feature) => chosen.has(values[feature]));
    }
    for (const [name, low, high] of this.ranges) {
      const values = await this.values(name);
      tests.push((feature) => values[feature] >= low && values[feature] <= high);
    }
    const text = state.get("text", "");
    if (text) tests.push(await this.#textTest(text));
    if (this.changed) tests.push(await this.#changeTest(this.changed));
    if (state.get("list") !== null) {
      const members = new Set(
        listNamed(state.get("list"))
          ?.items.filter((item) => item.chain === data.name)
          .map((item) => item.feature),
      );
      tests.push((feature) => members.has(feature));
    }
    if (state.get("picked") !== PICKED_HERE) this.chosen = picked(state.get("picked"), this.count);
    if (this.chosen.size) tests.push((feature) => this.chosen.has(feature));
    if (data.kept && state.get("absent") !== "1") tests.push((feature) => data.kept.has(feature));
    return tests;
  }

  async #textTest(text) {
    const [texts, tops] = await Promise.all([this.data.vocabulary(), this.values("top_token")]);
    const meant = asMeant(text).toLowerCase();
    const named = featureNamed(text, this.count);
    const has = Uint8Array.from(texts, (token) => (token.toLowerCase().includes(meant) ? 1 : 0));
    return (feature) => feature === named || (tops[feature] >= 0 && has[tops[feature]] === 1);
  }

  /** Whether label or commonest token differ at two links. */
  async #changeTest([first, second]) {
    const [labels, labels2, tops, tops2] = await Promise.all(
      ["label", "top_token"].flatMap((name) => [
        this.data.column(first, name),
        this.data.column(second, name),
      ]),
    );
    return (feature) => labels[feature] !== labels2[feature] || tops[feature] !== tops2[feature];
  }

  hover(feature) {
    if (feature === this.hovered) return;
    this.hovered = feature;
    this.tell("hover");
  }

  choose(features) {
    this.lassos++;
    this.chosen = new Set(features);
    const named = features.length <= PICKED_MOST ? features.join(".") : PICKED_HERE;
    this.state.set({ picked: named });
    this.update();
  }
}
