// What the colours of the map mean: a colour for each feature, and the legend that explains it.

import { button, el, put, style } from "./dom.js";
import { categoryColours, css, labelColours, sequential, themeColour } from "./palette.js";
import { quantiles } from "./sorting.js";
import { labelName, plain, short, whole } from "./words.js";

export class MapLegend {
  constructor(population) {
    this.population = population;
    this.node = el("div", { class: "map-legend" });
  }

  /** A colour for each feature, and the legend that explains it. */
  colours() {
    const { population } = this;
    const name = population.byName.has(population.state.get("colour"))
      ? population.state.get("colour")
      : "label";
    const values = population.valuesNow(name);
    if (!values) return null;
    const { manifest } = population;
    if (["label", "final_label", "pattern"].includes(name)) {
      const names = name === "pattern" ? manifest.patterns : manifest.labels;
      const colours = name === "pattern" ? categoryColours(names) : labelColours(names);
      this.categories(name, names, colours, values);
      return (feature) => colours[values[feature]];
    }
    return this.gradient(population.byName.get(name), values);
  }

  gradient(column, values) {
    const log = column.scale === "log";
    // LM steps begin at 0, which has a place on their axis.
    const steps = column.unit === "LM step";
    const ends = quantiles(log && !steps ? values.filter((value) => value > 0) : values, [0.02, 0.98]);
    const words = steps ? whole : short;
    const none = themeColour("--line-strong");
    const { title, unit } = column;
    if (!ends) {
      put(this.node, el("span", { class: "muted", text: `${title}: not measured at this step` }));
      return () => none;
    }
    const size = (value) => (steps ? Math.log2(1 + value) : log ? Math.log10(value) : value);
    const [low, high] = ends.map(size);
    const colours = sequential();
    put(
      this.node,
      el("span", { text: title }),
      el("span", { class: "muted", text: words(ends[0]) }),
      style(el("i", { class: "gradient" }), {
        background: `linear-gradient(to right, ${css(colours[0])}, ${css(colours[255])})`,
      }),
      el("span", { class: "muted", text: `${words(ends[1])} ${unit}` }),
      el("span", { class: "muted", text: steps ? "grey: never" : "grey: not measured" }),
    );
    return (feature) => {
      const value = size(values[feature]);
      return Number.isFinite(value)
        ? colours[Math.round(255 * Math.min(1, Math.max(0, (value - low) / (high - low || 1))))]
        : none;
    };
  }

  categories(name, names, colours, values) {
    const counts = new Uint32Array(names.length);
    const { kept } = this.population.data; // of a static site, which shows no others
    const lasso = this.population.chosen;
    if (lasso.size) for (const feature of lasso) counts[values[feature]]++;
    else if (kept) for (const feature of kept) counts[values[feature]]++;
    else for (const value of values) counts[value]++;
    const parameter = name === "pattern" ? "pattern" : name === "label" ? "label" : null;
    const chosen = parameter ? this.population.chosenOf(parameter, names) : [];
    const stamp = JSON.stringify([
      name,
      [...counts],
      chosen,
      lasso.size,
      document.documentElement.dataset.theme,
    ]);
    if (stamp === this.stamp && this.node.querySelector(".chip")) return;
    this.stamp = stamp;
    const focused = this.node.contains(document.activeElement) ? document.activeElement.dataset.at : null;
    put(
      this.node,
      lasso.size ? el("span", { class: "muted", text: "In the lasso:" }) : null,
      names.map((one, at) => {
        if (!counts[at] && !chosen.includes(at)) return null;
        const words = name === "pattern" ? plain(one) : labelName(one);
        const node = button(
          "",
          () => {
            const next = chosen.includes(at) ? chosen.filter((other) => other !== at) : [...chosen, at];
            this.population.state.set({ [parameter]: next.map((other) => names[other]).join(",") });
          },
          {
            class: "chip quiet small",
            "aria-pressed": String(chosen.includes(at)),
            "data-at": at,
            disabled: !parameter,
            title: `Show only: ${words}`,
          },
        );
        return put(
          node,
          style(el("i"), { background: css(colours[at]) }),
          words,
          el("span", { class: "muted", text: ` ${whole(counts[at])}` }),
        );
      }),
    );
    if (focused !== null) this.node.querySelector(`[data-at="${focused}"]`)?.focus();
  }
}
