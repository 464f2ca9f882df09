// A chain: one slider that drives map, distributions and table at once.

import { analysingWords } from "./data.js";
import { button, el, put, say, select } from "./dom.js";
import { METRICS } from "./compare.js";
import { chainCurves, Distribution, LabelsOverSteps } from "./distributions.js";
import { FilterBar } from "./filters.js";
import { labelMeanings, patternMeanings } from "./keys.js";
import { MapPanel } from "./map.js";
import { Population } from "./population.js";
import { remember } from "./reading_order.js";
import { Slider } from "./slider.js";
import { straysOf } from "./strays.js";
import { featureAddress, TablePanel } from "./table.js";
import { Timeline } from "./timeline.js";
import { direction, reverseNote, whole } from "./words.js";

export async function chainPage({ root, data, state, signal }) {
  const timeline = new Timeline(data.manifest.links, state);
  if (!data.manifest.links.length)
    return void root.append(
      head(data, signal),
      el("p", {
        class: "empty",
        text: "No link of this chain is registered yet. The page shows its links as they come.",
      }),
    );
  if (!data.manifest.analysed) return unanalysed(root, data, timeline, state, signal);
  const population = new Population(data, timeline, state, signal);
  let panels = null;
  const slider = new Slider(timeline, {
    phases: data.manifest.phases,
    ready: () => population.ready,
    strays: () => straysOf({ state, timeline, manifest: data.manifest }),
    signal,
  });
  data
    .vocabulary()
    .then(() => panels?.table.draw())
    .catch(() => null); // tokens come a moment later
  const [positions] = await Promise.all([data.column("chain", "map"), population.update()]);
  if (population.error) throw new Error(population.error);
  panels = new Panels(root, data, population, slider, positions, signal);
  population.on((what) => panels.hear(what));
  state.on(["scale"], () => panels.rescale());
  addEventListener("themechange", () => panels.map.draw(), { signal });
  root.addEventListener(
    "shown",
    () => {
      panels.update();
      panels.labels
        .read(signal)
        .then(() => panels.table.draw())
        .catch(() => null);
    },
    { once: true },
  );
  return keysOf(timeline, slider, panels);
}

function keysOf(timeline, slider, panels) {
  return [
    ["ArrowLeft", "step before", () => timeline.move(-1)],
    ["ArrowRight", "next step", () => timeline.move(1)],
    ["p", "play or pause", () => slider.toggle()],
    ["j", "open the first feature of the table", () => panels.open(0)],
    ["f", "filters", () => (panels.filters.menu.open = !panels.filters.menu.open)],
  ];
}

/** Whether an analysis of the chain is running, as long as the page is shown. */
function analysingLine(data, signal) {
  const line = el("p", { class: "note badge live" });
  const fill = () => {
    line.hidden = !data.analysing;
    line.textContent = data.analysing ? analysingWords(data.analysing) : "";
  };
  addEventListener("analysing", fill, { signal });
  fill();
  return line;
}

function head(data, signal) {
  const { lm, hook, architecture, direction: way, seed, d_sae, links, notes } = data.manifest;
  const facts = [
    lm,
    hook,
    architecture,
    direction(way),
    `seed ${seed}`,
    `${whole(d_sae ?? 0)} features`,
    `${links.length} ${links.length === 1 ? "link" : "links"}`,
  ];
  return el(
    "div",
    { class: "chain-head" },
    el("h1", { class: "unseen", text: data.name }),
    el("p", { class: "facts muted", text: facts.join(" · ") }),
    analysingLine(data, signal),
    [reverseNote(data.manifest), ...keptNote(data), ...(notes ?? [])]
      .filter(Boolean)
      .map((note) => el("p", { class: "note muted", text: note })),
  );
}

/** A static site may hold some of the features only. */
function keptNote({ kept, manifest, name, site }) {
  if (!kept) return [];
  const { rule } = site.chains[name].kept;
  return [
    `This site holds ${whole(kept.size)} of ${whole(manifest.d_sae)} features: ${rule}. Table, map, histogram and search are of these; curves of the chain and labels over LM steps are of all. All features: saetrack explore ${name}`,
  ];
}

/** What labels and patterns are, and how far their counts can be trusted. */
function counted({ of_concepts, of_patterns }) {
  const line = (text) => (text ? el("p", { text }) : null);
  return el(
    "div",
    { class: "counted muted small-text" },
    line(of_concepts),
    labelMeanings(),
    line(of_patterns),
    patternMeanings(),
  );
}

class Panels {
  constructor(root, data, population, slider, positions, signal) {
    Object.assign(this, { root, data, population });
    const linkOf = (feature) => featureAddress(data, population.timeline, feature);
    this.map = new MapPanel(population, positions, (feature) => (location.hash = linkOf(feature)));
    this.table = new TablePanel(population, linkOf);
    this.filters = new FilterBar(population);
    this.distribution = new Distribution(population);
    this.labels = new LabelsOverSteps(population);
    this.curves = chainCurves(data.manifest.links, population.timeline);
    this.error = el("p", { class: "notice", role: "alert", hidden: true });
    const skipped = ["top_token", "formation_link"];
    const colour = select(
      "Colour of the points",
      population.columns
        .filter((column) => !skipped.includes(column.name))
        .map((column) => [column.name, column.title]),
      population.state.get("colour", "label"),
      (name) => population.state.set({ colour: name === "label" ? null : name }),
    );
    population.state.on(["colour"], () => (colour.value = population.state.get("colour", "label")));
    const mapTitle = el(
      "h2",
      {
        title: `Points that lie near one another have similar decoder directions at LM ${population.timeline.words(data.manifest.links.length - 1)}. Positions stay, colours follow the slider.`,
      },
      "Map of decoder directions",
    );
    root.append(
      head(data, signal),
      slider.node,
      this.error,
      el(
        "div",
        { class: "chain-grid" },
        el(
          "div",
          { class: "left" },
          el(
            "section",
            { class: "box", "aria-label": "Map" },
            el("header", {}, mapTitle, el("label", { class: "line muted" }, "colour", colour)),
            this.map.node,
            el("p", {
              class: "muted small-text",
              text: "Drag around points to choose them. Click a point to open the feature.",
            }),
          ),
          el(
            "section",
            { class: "box", "aria-label": "Distributions" },
            el("div", { class: "panels" }, this.distribution.node, this.labels.node),
            this.labels.beside,
            counted(data.manifest),
            this.curves.node,
          ),
        ),
        el("section", { class: "box right", "aria-label": "Features" }, this.filters.node, this.table.node),
      ),
    );
  }

  hear(what) {
    if (what === "hover") {
      this.map.paintOver();
      this.table.hover();
    } else this.update();
  }

  update() {
    const { population } = this;
    this.error.hidden = !population.error;
    this.error.textContent = population.error ?? "";
    if (population.error) return;
    this.filters.update();
    this.table.update();
    this.map.draw();
    this.distribution.update();
    this.labels.mark();
    this.labels.count().catch(() => null);
    this.curves.mark();
    remember(this.data.name, population.order, population.state);
    const filters = ["label", "pattern", "where", "text", "changed", "list", "picked", "sort", "down"]
      .map((name) => population.state.get(name, ""))
      .join("\n");
    if (this.filtered !== undefined && filters !== this.filtered) {
      this.table.top();
      say(`${population.order.length} features`);
    }
    this.filtered = filters;
    const { link } = population;
    requestAnimationFrame(() => (this.root.dataset.link = link)); // the link that all panels show now
  }

  rescale() {
    this.curves.draw();
    this.labels.draw();
    this.table.draw();
  }

  open(at) {
    const feature = this.population.order?.[at];
    if (feature !== undefined) location.hash = featureAddress(this.data, this.population.timeline, feature);
  }
}

/** What the registry knows of a chain that was not analysed. */
function unanalysed(root, data, timeline, state, signal) {
  const { links } = data.manifest;
  const strays = () => straysOf({ state, timeline, manifest: data.manifest });
  const slider = new Slider(timeline, { strays, signal });
  const shown = chainCurves(links, timeline);
  const command = `saetrack analyze ${data.name}`;
  const copy = button("Copy", () => navigator.clipboard?.writeText(command).then(() => say("Copied")), {
    class: "small",
  });
  const facts = el("table", { class: "plain" });
  const draw = () => {
    shown.mark();
    const link = links[timeline.link];
    put(
      facts,
      el(
        "tbody",
        {},
        [
          ["lm_step", "LM step", "", whole],
          ["tokens", "Tokens that it was trained on", "", whole],
          ...METRICS,
        ]
          .filter(([name]) => (link[name] ?? null) !== null)
          .map(([name, title, description, words]) =>
            el(
              "tr",
              { title: description },
              el("th", { scope: "row", text: title }),
              el("td", { text: words(link[name]) }),
            ),
          ),
      ),
    );
  };
  state.on(["step"], draw);
  state.on(["scale"], () => shown.draw());
  draw();
  root.append(
    head(data, signal),
    slider.node,
    el(
      "section",
      { class: "box command" },
      el("h2", { text: "Its features were not analysed" }),
      el("p", {
        text: "What its features mean, how they form and drift is shown here after this command has run:",
      }),
      el("p", { class: "line" }, el("code", { text: command }), copy),
    ),
    el("section", { class: "box", "aria-label": "Curves of the chain" }, shown.node),
    el(
      "section",
      { class: "box", "aria-label": "The chosen link" },
      el("h2", { text: "The chosen link" }),
      facts,
    ),
  );
  return [
    ["ArrowLeft", "step before", () => timeline.move(-1)],
    ["ArrowRight", "next step", () => timeline.move(1)],
    ["p", "play or pause", () => slider.toggle()],
  ];
}
