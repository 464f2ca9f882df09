// Filters of the table and the map: all of them are in the page's address.

import { button, el, put, select, settled } from "./dom.js";
import { askForList } from "./ask_list.js";
import { addToList, listNames } from "./lists.js";
import { featureNamed } from "./query.js";
import { featureAddress } from "./table.js";
import { PICKED_HERE } from "./population.js";
import { presets } from "./presets.js";
import { labelName, plain, short, whole } from "./words.js";

export class FilterBar {
  constructor(population) {
    Object.assign(this, { population });
    const { state } = population;
    const type = settled(() => state.set({ text: this.text.value }), 150);
    this.text = el("input", {
      type: "search",
      placeholder: "Token text, or number",
      title: "A number and Enter open the feature of that number",
      "aria-label": "Features whose commonest token at the strongest contexts has this text",
      value: state.get("text", ""),
      oninput: type,
      onkeydown: (event) => event.key === "Enter" && this.openNamed(),
      spellcheck: "false",
    });
    this.count = el("output", { class: "count" });
    this.active = el("div", { class: "active-filters" });
    this.presets = presets(population);
    this.menu = el(
      "details",
      { class: "menu" },
      el("summary", { class: "button", text: "Filter" }),
      this.form(),
    );
    this.columns = el(
      "details",
      { class: "menu" },
      el("summary", { class: "button", text: "Columns" }),
      this.columnForm(),
    );
    this.node = el(
      "div",
      { class: "filters" },
      el(
        "div",
        { class: "filter-row" },
        this.text,
        this.menu,
        this.columns,
        this.count,
        button("Save as list", () => this.save(), { title: "Keep the features of the table as a list" }),
      ),
      this.active,
      this.presets.node,
    );
    closeOutside(this.menu);
    closeOutside(this.columns);
  }

  /** Enter goes to the feature whose number was typed. */
  openNamed() {
    const { data, timeline, count } = this.population;
    const feature = featureNamed(this.text.value, count);
    if (feature !== null) location.hash = featureAddress(data, timeline, feature);
  }

  form() {
    const { population } = this;
    const { state, manifest, timeline } = population;
    const steps = manifest.links.map((_, link) => [timeline.nameOf(link), timeline.words(link)]);
    const kind = (title, parameter, names, words) =>
      el(
        "fieldset",
        {},
        el("legend", { text: title }),
        el(
          "div",
          { class: "ticks" },
          names.map((name) =>
            el(
              "label",
              {},
              el("input", {
                type: "checkbox",
                "data-filter": `${parameter}:${name}`,
                onchange: (event) => this.tick(parameter, names, name, event.target.checked),
              }),
              words(name),
            ),
          ),
        ),
      );
    const numeric = population.columns.filter(
      (column) => !["label", "pattern", "final_label", "top_token", "formation_link"].includes(column.name),
    );
    const [low, high] = ["at least", "at most"].map((words) =>
      el("input", { type: "text", inputmode: "decimal", placeholder: words, "aria-label": words, size: 7 }),
    );
    const which = select(
      "Column of the range",
      numeric.map((column) => [column.name, column.title]),
      numeric[0].name,
      () => null,
    );
    const range = el(
      "fieldset",
      {},
      el("legend", { text: "Range of a column at this step" }),
      el(
        "div",
        { class: "line" },
        which,
        low,
        high,
        button("Add", () => this.addRange(which.value, low, high)),
      ),
    );
    const from = select("First step", steps, steps[0][0], () => null);
    const to = select("Second step", steps, steps.at(-1)[0], () => null);
    const changed = el(
      "fieldset",
      {},
      el("legend", { text: "Label or commonest token at the strongest contexts differ between" }),
      el(
        "div",
        { class: "line" },
        from,
        el("span", { text: "and" }),
        to,
        button("Add", () => state.set({ changed: `${from.value},${to.value}` })),
      ),
    );
    const names = listNames();
    const lists = names.length
      ? el(
          "fieldset",
          {},
          el("legend", { text: "List" }),
          select("List", [["", "any feature"], ...names], state.get("list", ""), (name) =>
            state.set({ list: name }),
          ),
        )
      : null;
    return el(
      "div",
      { class: "menu-box" },
      kind("Label at this step", "label", manifest.labels, labelName),
      kind("Pattern", "pattern", manifest.patterns, plain),
      range,
      changed,
      lists,
    );
  }

  columnForm() {
    const { population } = this;
    const curves = population.columns.filter(
      (column) => column.per_link && !["label", "top_token"].includes(column.name),
    );
    return el(
      "div",
      { class: "menu-box narrow" },
      curves.map((column) =>
        el(
          "label",
          { title: column.description },
          el("input", {
            type: "checkbox",
            checked: population.tableColumns.includes(column.name),
            onchange: (event) => {
              const others = population.tableColumns.filter((name) => name !== column.name);
              population.state.set({
                columns: [...others, ...(event.target.checked ? [column.name] : [])].join(","),
              });
              population.update();
            },
          }),
          column.title,
        ),
      ),
    );
  }

  tick(parameter, names, name, isOn) {
    const chosen = new Set(this.population.chosenOf(parameter, names).map((at) => names[at]));
    if (isOn) chosen.add(name);
    else chosen.delete(name);
    this.population.state.set({ [parameter]: names.filter((one) => chosen.has(one)).join(",") });
  }

  addRange(name, low, high) {
    const [least, most] = [low, high].map((field) => field.value.trim().replace(",", "."));
    const wrong = [low, high].find(
      (field, at) => [least, most][at] !== "" && !Number.isFinite(Number([least, most][at])),
    );
    if (wrong || (least === "" && most === "")) return (wrong ?? low).focus();
    const others = this.population.state
      .get("where", "")
      .split(";")
      .filter((part) => part && !part.startsWith(`${name}:`));
    this.population.state.set({ where: [...others, `${name}:${least}:${most}`].join(";") });
  }

  update() {
    const { population } = this;
    const { state, manifest, timeline } = population;
    const chips = [];
    const chip = (words, undo) =>
      chips.push(
        el(
          "span",
          { class: "filter-chip" },
          words,
          button("×", undo, { class: "icon tiny", "aria-label": `Take away: ${words}` }),
        ),
      );
    for (const [parameter, names, words] of [
      ["label", manifest.labels, labelName],
      ["pattern", manifest.patterns, plain],
    ]) {
      for (const at of population.chosenOf(parameter, names))
        chip(`${parameter}: ${words(names[at])}`, () => this.tick(parameter, names, names[at], false));
    }
    for (const [name, low, high] of population.ranges) {
      const words = `${population.byName.get(name).title} ${low > -Infinity ? `≥ ${short(low)}` : ""} ${high < Infinity ? `≤ ${short(high)}` : ""}`;
      chip(words, () =>
        state.set({
          where: state
            .get("where")
            .split(";")
            .filter((part) => !part.startsWith(`${name}:`))
            .join(";"),
        }),
      );
    }
    if (population.changed)
      chip(`changed between ${population.changed.map((link) => timeline.words(link)).join(" and ")}`, () =>
        state.set({ changed: null }),
      );
    if (state.get("list")) chip(`list: ${state.get("list")}`, () => state.set({ list: null }));
    if (population.chosen.size)
      chip(
        `lasso: ${whole(population.chosen.size)} features${state.get("picked") === PICKED_HERE ? " (too many for the address: save them as a list)" : ""}`,
        () => population.choose([]),
      );
    if (chips.length + (state.get("text") ? 1 : 0) > 1)
      chips.push(button("Clear all", () => this.clear(), { class: "small quiet" }));
    put(this.active, chips);
    this.presets.mark();
    const shown = population.order.length;
    const all = population.data.kept?.size ?? population.count;
    this.count.textContent =
      shown === all ? `${whole(all)} features` : `${whole(shown)} of ${whole(all)} features`;
    for (const box of this.menu.querySelectorAll("[data-filter]")) {
      const [parameter, name] = box.dataset.filter.split(":");
      box.checked = state.get(parameter, "").split(",").includes(name);
    }
    if (document.activeElement !== this.text) this.text.value = state.get("text", "");
  }

  clear() {
    this.population.chosen = new Set();
    this.population.state.set({
      label: null,
      pattern: null,
      where: null,
      text: null,
      changed: null,
      list: null,
      picked: null,
    });
  }

  save() {
    const { population } = this;
    const features = [...population.order];
    askForList(`${whole(features.length)} features`, (name) =>
      addToList(
        name,
        features.map((feature) => ({
          chain: population.data.name,
          feature,
          step: population.state.get("step"),
        })),
      ),
    );
  }
}

function closeOutside(menu) {
  document.addEventListener("pointerdown", (event) => {
    if (menu.open && !menu.contains(event.target)) menu.open = false;
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
}
