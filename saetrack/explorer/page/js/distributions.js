// What all features are like at the chosen step, beside the control; and what the chain is like.

import { bars, curves, panel } from "./chart.js";
import { JUDGED, MEANINGFUL } from "./classes.js";
import { el, put, select, svg } from "./dom.js";
import { METRICS } from "./compare.js";
import { ofJudged, sharesBesideDirections } from "./label_shares.js";
import { labelName, percent, short, whole } from "./words.js";

const BINS = 40;

const scaled = new WeakMap(); // columns as they lie on their axis: taken once, a slider comes back

/** Base 10; a plain loop takes a tenth of the time of a mapped `from`. */
function logarithms(values) {
  const found = new Float32Array(values.length);
  for (let at = 0; at < found.length; at++) found[at] = Math.log10(values[at]);
  return found;
}

/** Values on their axis, NaN where there are none there; smallest and largest of the others. */
function onAxis(values, log) {
  if (!scaled.has(values)) {
    const places = log ? logarithms(values) : values;
    let [low, high] = [Infinity, -Infinity];
    for (let at = 0; at < places.length; at++) {
      const value = places[at];
      if (value < low && value > -Infinity) low = value;
      if (value > high && value < Infinity) high = value;
    }
    scaled.set(values, { places, low, high });
  }
  return scaled.get(values);
}

/** Counts of values in equal bins; what lies beyond the ends counts in the last ones. */
function binned(places, low, high, mask) {
  const counts = new Uint32Array(BINS);
  const scale = BINS / (high - low);
  let known = 0;
  for (let at = 0; at < places.length; at++) {
    const bin = (places[at] - low) * scale;
    if (!mask[at] || !(bin > -Infinity && bin < Infinity)) continue;
    known++;
    counts[bin <= 0 ? 0 : bin >= BINS ? BINS - 1 : bin | 0]++;
  }
  return { counts: [...counts], known };
}

/** A histogram of one column at the chosen step. */
export class Distribution {
  constructor(population) {
    this.population = population;
    const columns = population.columns.filter((column) => column.per_link && column.curve);
    this.which = select(
      "Column of the histogram",
      columns.map((column) => [column.name, column.title]),
      population.state.get("show", "feature_density"),
      (name) => population.state.set({ show: name }),
    );
    this.words = el("p", { class: "muted small-text" });
    this.chart = el("div");
    this.node = el(
      "figure",
      { class: "panel" },
      el("figcaption", {}, this.which, (this.reading = el("span", { class: "reading" }))),
      this.chart,
      this.words,
    );
    this.ends = new Map();
  }

  /** The same axis at each step, so that what moves is the features. */
  endsOf(column, values) {
    const log = column.scale === "log";
    const known = this.ends.get(column.name);
    const of = onAxis(values, log);
    let [low, high] =
      known ?? (column.range ? [Math.max(0, column.range[0]), column.range[1]] : [Infinity, -Infinity]);
    if (column.range) {
      if (of.low < low) low = column.range[0];
    } else {
      [low, high] = [Math.min(low, of.low), Math.max(high, of.high)];
      if (low > high) return null;
      if (log) [low, high] = [Math.floor(low), Math.ceil(high)];
      else if (low > 0 && low < 0.5 * high) low = 0;
      if (low === high) high = low + 1;
    }
    this.ends.set(column.name, [low, high]);
    return [low, high];
  }

  update() {
    const { population } = this;
    const column =
      population.byName.get(population.state.get("show", "feature_density")) ??
      population.columns.find((one) => one.curve);
    if (!column) return;
    this.which.value = column.name;
    const values = population.valuesNow(column.name);
    if (!values) return;
    const log = column.scale === "log";
    const ends = this.endsOf(column, values);
    if (!ends) {
      put(this.chart, el("p", { class: "none-here muted", text: "Not measured at this step." }));
      this.reading.textContent = "";
      return;
    }
    const { counts, known } = binned(onAxis(values, log).places, ...ends, population.mask);
    const { control } = column;
    const [low, high] = [control?.low[population.link], control?.high[population.link]].map((value) =>
      value === null || value === undefined
        ? null
        : ((log ? Math.log10(value) : value) - ends[0]) / (ends[1] - ends[0]),
    );
    const band = control && low !== null && high !== null ? [low, high] : null;
    put(
      this.chart,
      bars(counts, {
        title: `${column.title} of features at LM ${population.timeline.words(population.link)}`,
        low: ends[0],
        high: ends[1],
        log,
        band,
        unit: "",
      }),
    );
    const absent = population.order.length - known;
    this.reading.textContent = `${whole(known)} features${absent ? `, ${whole(absent)} ${log ? "at 0" : "not measured"}` : ""}`;
    put(
      this.words,
      column.unit ? `${column.unit}. ` : "",
      band
        ? el("span", {}, el("i", { class: "band-key" }), `control: ${control.title}`)
        : control
          ? "The control was not measured at this step."
          : "No control of this was measured.",
    );
  }
}

/** Labels of all features over the steps, as areas. */
export class LabelsOverSteps {
  constructor(population) {
    this.population = population;
    this.box = el("div");
    this.reading = el("span", { class: "reading" });
    this.beside = el("div", { class: "beside-directions small-text" });
    this.node = panel(
      "Labels over LM steps",
      "How many features have each label at each link.",
      this.reading,
      this.box,
    );
  }

  /** Read the labels of all links, a few at a time; then draw. */
  async read(signal) {
    const { data, manifest } = this.population;
    const waiting = manifest.links.map((_, link) => link);
    const read = async () => {
      for (let link = waiting.shift(); link !== undefined; link = waiting.shift()) {
        if (signal.aborted) return;
        await data.column(link, "label");
      }
    };
    await Promise.all([read(), read(), read()]);
    this.isRead = true;
    await this.count();
  }

  /** Labels at each link: of the features of a lasso, or of all. */
  async count() {
    const { data, manifest, chosen, state, lassos, count } = this.population;
    const of = `${state.get("picked")} ${lassos}`;
    if (!this.isRead || this.of === of) return;
    this.of = of;
    const counted = await Promise.all(
      manifest.links.map(async (_, link) => {
        const counts = new Array(manifest.labels.length).fill(0);
        const labels = await data.column(link, "label");
        if (chosen.size) for (const feature of chosen) counts[labels[feature]]++;
        else for (const label of labels) counts[label]++;
        return counts;
      }),
    );
    if (this.of !== of) return; // another lasso came meanwhile
    this.counts = counted;
    this.total = chosen.size || count;
    this.ofLasso = chosen.size > 0;
    this.draw();
  }

  draw() {
    const { timeline, manifest } = this.population;
    const { total: count } = this;
    if (!this.counts) return;
    const { steps } = timeline;
    const [width, height, left, top, bottom] = [300, 132, 40, 8, 20];
    const x = (link) => left + steps.positions[link] * (width - left - 8);
    const y = (share) => top + (1 - share) * (height - top - bottom);
    const words = manifest.labels.map(
      (label, at) =>
        `${labelName(label)} ${percent(this.counts.at(0)[at] / count)} at first, ${percent(this.counts.at(-1)[at] / count)} at the end`,
    );
    const chance = this.byChance();
    if (chance)
      words.push(
        `if as many had a meaning as of random directions, ${percent(chance.at(0))} at first, ${percent(chance.at(-1))} at the end`,
      );
    const node = svg("svg", {
      class: "chart pickable",
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label": `Labels over LM steps: ${words.join("; ")}`,
    });
    let below = manifest.links.map(() => 0);
    manifest.labels.forEach((label, at) => {
      const above = below.map((share, link) => share + this.counts[link][at] / count);
      const there = steps.order.map((link) => `${x(link).toFixed(1)} ${y(above[link]).toFixed(1)}`);
      const back = [...steps.order]
        .reverse()
        .map((link) => `${x(link).toFixed(1)} ${y(below[link]).toFixed(1)}`);
      node.append(
        svg(
          "path",
          { class: `l-${label}`, d: `M${[...there, ...back].join("L")}Z` },
          svg("title", { text: labelName(label) }),
        ),
      );
      below = above;
    });
    if (chance)
      node.append(
        svg(
          "path",
          {
            class: "by-chance",
            d: `M${steps.order.map((link) => `${x(link).toFixed(1)} ${y(chance[link]).toFixed(1)}`).join("L")}`,
          },
          svg("title", { text: "as many as random directions have a meaning" }),
        ),
      );
    for (const share of [0, 0.5, 1])
      node.append(svg("text", { class: "y", x: left - 5, y: y(share) + 3, text: `${100 * share} %` }));
    for (const link of steps.named(0.16))
      node.append(
        svg("text", {
          class: "x",
          x: x(link),
          y: height - 6,
          "text-anchor":
            steps.positions[link] > 0.95 ? "end" : steps.positions[link] < 0.05 ? "start" : "middle",
          text: steps.tick(link),
        }),
      );
    this.now = svg("line", { class: "now", y1: top, y2: height - bottom });
    node.append(this.now);
    node.addEventListener("click", (event) => {
      const box = node.getBoundingClientRect();
      timeline.go(
        steps.nearest((((event.clientX - box.left) / box.width) * width - left) / (width - left - 8)),
      );
    });
    this.x = x;
    put(this.box, node);
    this.mark();
  }

  mark() {
    if (!this.now) return;
    const { link } = this.population.timeline;
    for (const end of ["x1", "x2"]) this.now.setAttribute(end, this.x(link));
    const { name: chain, labels, labels_of_directions: directions } = this.population.manifest;
    const { line, nodes } = sharesBesideDirections({
      chain,
      labels,
      counts: this.counts[link],
      ofDirections: directions?.[link],
      words: this.population.timeline.words(link),
      where: this.ofLasso ? " of the lasso" : "",
    });
    this.reading.textContent = line;
    put(this.beside, nodes);
  }

  /** At each link the share of all features that would have a meaning if as many had as of directions. */
  byChance() {
    const { labels, labels_of_directions: directions } = this.population.manifest;
    return directions?.map((counts, link) => {
      const judged = labels.reduce((sum, one, at) => sum + (JUDGED.includes(one) ? this.counts[link][at] : 0), 0);
      return ((ofJudged(labels, counts, MEANINGFUL)?.share ?? 0) * judged) / this.total;
    });
  }
}

/** The chain's own curves, with the chosen step marked. */
export function chainCurves(links, timeline) {
  const node = el("div", { class: "panels" });
  let marks = [];
  const draw = () => {
    marks = [];
    const hatched = links.flatMap((link, at) => (link.collapsed ? [at] : []));
    put(
      node,
      METRICS.filter(([name]) => links.some((link) => link[name] !== null && link[name] !== undefined)).map(
        ([name, title, description, words]) => {
          const reading = el("span", { class: "reading" });
          const values = links.map((link) => link[name] ?? null);
          const chart = curves({
            title,
            steps: timeline.steps,
            size: [230, 120],
            series: [{ values }],
            hatched,
            words,
            onHover: (link) => (reading.textContent = words(values[link ?? timeline.link])),
            onPick: (link) => timeline.go(link),
          });
          marks.push(() => {
            chart.mark(timeline.link);
            reading.textContent = words(values[timeline.link]);
          });
          return panel(title, description, reading, chart.node);
        },
      ),
    );
    marks.forEach((mark) => mark());
  };
  draw();
  return { node, draw, mark: () => marks.forEach((mark) => mark()) };
}
