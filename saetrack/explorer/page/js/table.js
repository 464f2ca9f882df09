// The table of all features: only the rows in sight are elements.

import { address } from "./address.js";
import { el, framed, put, style } from "./dom.js";
import { smallRibbon } from "./ribbon.js";
import { FORMED } from "./population.js";
import { labelName, plain, short, tokenAlone, whole } from "./words.js";

const MARGIN = 4; // rows drawn beyond those in sight
const TALLEST = 8e6; // pixels that every browser scrolls; a longer table is scrolled in jumps

export class TablePanel {
  constructor(population, linkOf) {
    Object.assign(this, { population, linkOf });
    this.head = el("thead");
    this.body = el("tbody");
    this.table = el("table", { class: "features", "aria-label": "Features" }, this.head, this.body);
    this.node = el(
      "div",
      { class: "table-scroll", tabindex: "0", role: "region", "aria-label": "Table of features, scrolls" },
      this.table,
    );
    this.rowHeight = 0;
    this.draw = framed(() => this.paint());
    // Asking where the table stands makes the browser lay out the page: asked when it changes only.
    this.scrolled = this.seen = 0;
    this.node.addEventListener(
      "scroll",
      () => {
        this.scrolled = this.node.scrollTop;
        this.draw();
      },
      { passive: true },
    );
    this.node.addEventListener("pointerleave", () => population.hover(-1));
    new ResizeObserver(() => {
      this.seen = this.node.clientHeight;
      this.scrolled = this.node.scrollTop;
      this.draw();
    }).observe(this.node);
  }

  /** [name, title, how a cell is drawn, class]. */
  get shown() {
    const { population } = this;
    const { manifest } = population;
    const label = (values) => (feature) => {
      const name = manifest.labels[values[feature]];
      return el("span", { class: `chip l-${name}` }, el("i"), labelName(name));
    };
    return [
      ["feature", "Feature", null, "number"],
      [
        "top_token",
        "Token",
        (tops) => (feature) =>
          tops[feature] >= 0 && population.data.vocabularyNow // which may come after the columns
            ? el("span", { class: "tok", text: tokenAlone(population.data.vocabularyNow[tops[feature]]) })
            : "–",
        "token",
      ],
      ["life", "Life", null, "life"],
      ["label", "Label", label, "label"],
      ["pattern", "Pattern", (values) => (feature) => plain(manifest.patterns[values[feature]]), "pattern"],
      [
        FORMED.name,
        FORMED.title,
        (values) => (feature) => (Number.isNaN(values[feature]) ? "–" : whole(values[feature])),
        "number",
      ],
      ...population.tableColumns.map((name) => [
        name,
        population.byName.get(name).title,
        (values) => (feature) => short(values[feature]),
        "number",
      ]),
    ];
  }

  update() {
    this.columns = this.shown.filter(
      ([name]) => ["feature", "life"].includes(name) || population_has(this.population, name),
    );
    this.drawHead();
    this.draw();
  }

  drawHead() {
    const { state } = this.population;
    const [sort, down] = [state.get("sort", "feature"), state.get("down") === "1"];
    const stamp = JSON.stringify([sort, down, this.columns.map(([name]) => name)]);
    if (stamp === this.headStamp) return;
    this.headStamp = stamp;
    const focused = this.head.contains(document.activeElement) ? document.activeElement.dataset.sort : null;
    put(
      this.head,
      el(
        "tr",
        { "aria-rowindex": "1" },
        this.columns.map(([name, title, , kind]) => {
          if (name === "life")
            return el(
              "th",
              { scope: "col", class: kind, title: "Labels over all links" },
              el("span", { text: title }),
            );
          const is = sort === name;
          const column = this.population.byName.get(name);
          return el(
            "th",
            { scope: "col", class: kind, "aria-sort": is ? (down ? "descending" : "ascending") : "none" },
            el(
              "button",
              {
                type: "button",
                "data-sort": name,
                title: column?.description ?? title,
                onclick: () => {
                  // Numbers are most often wanted from the largest.
                  const first = kind === "number" && !["feature", FORMED.name].includes(name);
                  const next = is ? !down : first;
                  state.set({ sort: name === "feature" ? null : name, down: next ? "1" : null });
                },
              },
              el("span", { text: title }),
              el("i", { "aria-hidden": "true", text: is ? (down ? "▼" : "▲") : "" }),
            ),
          );
        }),
      ),
    );
    if (focused) this.head.querySelector(`[data-sort="${focused}"]`)?.focus();
  }

  paint() {
    const { population } = this;
    const { order } = population;
    if (!order || !this.columns || !this.node.isConnected) return;
    this.rowHeight ||=
      parseFloat(getComputedStyle(this.table).getPropertyValue("--row")) *
      parseFloat(getComputedStyle(document.documentElement).fontSize);
    const height = this.rowHeight;
    const whole_ = order.length * height;
    const tall = Math.min(whole_, TALLEST);
    const { seen } = this;
    const scrolled = Math.min(this.scrolled, Math.max(0, tall - seen)); // fewer rows than before
    const share = tall > seen ? Math.min(1, scrolled / (tall - seen)) : 0;
    const top = tall < whole_ ? share * (whole_ - seen) : scrolled;
    const first = Math.max(0, Math.floor(top / height) - MARGIN);
    const last = Math.min(order.length, Math.ceil((top + seen) / height) + MARGIN);
    const offset = scrolled - (top - first * height);
    const cells = this.columns.map(([name, , cell]) =>
      cell ? cell(population.valuesNow(name) ?? []) : null,
    );
    // A step of the slider changes some cells: the rows stay, so that the browser lays out only those.
    const stamp = JSON.stringify([offset, tall, this.headStamp, first, ...order.slice(first, last)]);
    if (order.length && stamp === this.stamp) return this.patch(cells);
    this.stamp = stamp;
    const focused = this.body.contains(document.activeElement)
      ? document.activeElement.closest("tr").dataset.feature
      : null;
    const rows = [];
    for (let at = first; at < last; at++) rows.push(this.row(order[at], at, cells));
    put(
      this.body,
      this.spacer(Math.max(0, offset)),
      rows,
      this.spacer(Math.max(0, tall - Math.max(0, offset) - (last - first) * height)),
    );
    this.table.setAttribute("aria-rowcount", order.length + 1);
    if (focused) this.body.querySelector(`[data-feature="${focused}"] a`)?.focus({ preventScroll: true });
    if (!order.length)
      put(
        this.body,
        el(
          "tr",
          {},
          el("td", {
            class: "empty",
            colspan: this.columns.length,
            text: population.count ? "No feature is like this at this step." : "No features.",
          }),
        ),
      );
  }

  /** The same rows with other cells. */
  patch(cells) {
    for (const row of this.body.querySelectorAll("tr[data-feature]")) {
      const feature = Number(row.dataset.feature);
      this.columns.forEach(([name], column) => {
        const cell = row.cells[column];
        if (name === "feature") cell.firstChild.setAttribute("href", this.linkOf(feature));
        else if (name === "life") {
          if (!cell.firstChild || this.ribbons !== this.population.timeline.steps)
            put(cell, this.life(feature));
        } else {
          const next = cells[column](feature);
          if ((next.textContent ?? next) !== cell.textContent) put(cell, next);
        }
      });
    }
    this.ribbons = this.population.timeline.steps;
  }

  spacer(height) {
    return height > 0
      ? el(
          "tr",
          { class: "spacer", "aria-hidden": "true" },
          style(el("td", { colspan: this.columns.length }), { height: `${height}px` }),
        )
      : null;
  }

  row(feature, at, cells) {
    const { population } = this;
    const row = el(
      "tr",
      {
        "data-feature": feature,
        "aria-rowindex": at + 2,
        class: population.hovered === feature ? "hovered" : null,
      },
      this.columns.map(([name, , , kind], column) => {
        if (name === "feature")
          return el(
            "th",
            { scope: "row", class: kind },
            el("a", { href: this.linkOf(feature), text: feature }),
          );
        if (name === "life") return el("td", { class: kind }, this.life(feature));
        return el("td", { class: kind }, cells[column](feature));
      }),
    );
    row.addEventListener("pointerenter", () => {
      population.hover(feature);
    });
    row.addEventListener("click", (event) => {
      if (event.target.closest("a") || getSelection().toString()) return;
      location.hash = this.linkOf(feature);
    });
    return row;
  }

  /** Labels over all links, once their columns are here. */
  life(feature) {
    const { population } = this;
    const { links } = population.manifest;
    const labels = [];
    for (let link = 0; link < links.length; link++) {
      const column = population.data.columnNow(link, "label");
      if (!column) return null;
      labels.push(column[feature]);
    }
    return smallRibbon(labels, population.manifest, population.timeline.steps);
  }

  hover() {
    for (const row of this.body.rows)
      row.classList.toggle("hovered", Number(row.dataset.feature) === this.population.hovered);
  }

  top() {
    this.node.scrollTop = this.scrolled = 0;
  }
}

const population_has = (population, name) => population.byName.has(name);

/** The address of a feature, with the step that is looked at. */
export const featureAddress = (data, timeline, feature) =>
  address([data.name, feature], { step: timeline.state.get("step"), scale: timeline.state.get("scale") });
