// Which features of a chain are shown: by label, pattern, token, any number, change, or a lasso.

import { patch } from "./address.js";
import { column } from "./data.js";
import { el, integer, perFrame } from "./dom.js";
import { patternName, read, texts } from "./fields.js";

const NAMES = ["label", "pattern", "token", "changed", "of", "min", "max"];

/** The controls, and what they let pass. `onchange` is called when something else is asked for. */
export class Filters {
  constructor({ chain, manifest, words, fields, params, onchange }) {
    Object.assign(this, { chain, manifest, words, onchange });
    this.byName = new Map(fields.map((field) => [field.name, field]));
    this.asked = Object.fromEntries(NAMES.map((name) => [name, params.get(name) ?? ""]));
    this.lassoed = null;
    this.lassoButton = el("button", {
      type: "button",
      class: "chip",
      hidden: true,
      onclick: () => this.lasso([]),
    });
    this.node = this.build(fields);
  }

  build(fields) {
    const { manifest, byName } = this;
    const labelText = texts(byName.get("label"), manifest, this.words);
    const labels = manifest.labels.map((_, i) => [i, labelText(i)]);
    const patterns = manifest.patterns.map((name, i) => [i, patternName(name)]);
    const links = manifest.links.map((link, i) => [i, `step ${integer(link.lm_step)}`]);
    return el(
      "div",
      { class: "filters" },
      this.select("label", "Label", labels),
      byName.has("pattern") ? this.select("pattern", "Pattern", patterns) : null,
      this.select("changed", "Label changed since", links),
      el("label", {}, "Token ", this.input("token", { type: "search", placeholder: "contains …" })),
      this.range(fields.filter((field) => field.kind === "number" || field.kind === "formation")),
      this.lassoButton,
    );
  }

  take(name, value) {
    this.asked[name] = value;
    patch({ [name]: value });
    this.onchange();
  }

  select(name, title, options) {
    const offered = options.map(([value, text]) =>
      el("option", { value, selected: this.asked[name] === String(value) }, text),
    );
    const choice = { "aria-label": title, onchange: (event) => this.take(name, event.target.value) };
    return el("label", {}, `${title} `, el("select", choice, el("option", { value: "" }, "all"), offered));
  }

  input(name, properties) {
    return el("input", {
      "aria-label": "Token",
      value: this.asked[name],
      oninput: perFrame((event) => this.take(name, event.target.value)),
      ...properties,
    });
  }

  /** Any number from here to there; of the LM step at which a feature formed, by that step. */
  range(numeric) {
    const offered = numeric.map((field) =>
      el("option", { value: field.name, selected: this.asked.of === field.name }, field.title),
    );
    const choice = {
      "aria-label": "Number to filter by",
      onchange: (event) => this.take("of", event.target.value),
    };
    const bound = (name, title) =>
      this.input(name, { type: "number", step: "any", placeholder: title, "aria-label": title });
    return el(
      "span",
      { class: "range-of" },
      el("select", choice, el("option", { value: "" }, "any number"), offered),
      " ",
      bound("min", "from"),
      " ",
      bound("max", "to"),
    );
  }

  /** Only some features, or all again. */
  lasso(features) {
    this.lassoed = features.length ? new Set(features) : null;
    this.lassoButton.hidden = !this.lassoed;
    this.lassoButton.textContent = `${integer(features.length)} drawn around ✕`;
    this.onchange();
  }

  /** Features that pass at a link, ascending, and for each feature whether it does. */
  async passing(link, { label, pattern, top_token: tokens }) {
    const { asked, lassoed } = this;
    const since = asked.changed === "" ? null : await column(this.chain, Number(asked.changed), "label");
    const within = await this.withinRange(link);
    const matching = this.matchingTokens();
    const only = new Uint8Array(this.manifest.d_sae);
    const passing = new Uint32Array(this.manifest.d_sae);
    let passed = 0;
    for (let i = 0; i < only.length; i += 1) {
      if (asked.label !== "" && label[i] !== Number(asked.label)) continue;
      if (asked.pattern !== "" && pattern[i] !== Number(asked.pattern)) continue;
      if (since && since[i] === label[i]) continue;
      if (matching && !matching.has(tokens[i])) continue;
      if (within && !within(i)) continue;
      if (lassoed && !lassoed.has(i)) continue;
      only[i] = 1;
      passing[passed] = i;
      passed += 1;
    }
    return { rows: passing.subarray(0, passed), only: passed < only.length ? only : null };
  }

  matchingTokens() {
    const wanted = this.asked.token.trim().toLowerCase();
    if (!wanted) return null;
    return new Set(this.words.flatMap((text, id) => (text.toLowerCase().includes(wanted) ? [id] : [])));
  }

  async withinRange(link) {
    const { of, min, max } = this.asked;
    const field = this.byName.get(of);
    if (!field || (min === "" && max === "")) return null;
    const values = await read(this.chain, link, field);
    const [low, high] = [min === "" ? -Infinity : Number(min), max === "" ? Infinity : Number(max)];
    // Where a feature formed is kept by the number of the link.
    const at =
      field.kind === "formation"
        ? (value) => (value < 0 ? NaN : this.manifest.links[value].lm_step)
        : (value) => value;
    return (i) => at(values[i]) >= low && at(values[i]) <= high;
  }
}
