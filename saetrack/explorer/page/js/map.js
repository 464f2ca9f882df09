// The map of decoder directions: a point for each feature, drawn pixel by pixel.

import { button, el, framed, put, settled, style, toggle } from "./dom.js";
import { MapLegend } from "./map_legend.js";
import { css, themeColour } from "./palette.js";
import { discs, dots } from "./map_pixels.js";
import { insidePolygon, PointGrid } from "./map_points.js";
import { contextLine } from "./tokens.js";
import { labelName, tokenAlone } from "./words.js";

const MARGIN = 14;
const MANY = 8000; // points from which on they are drawn without smooth edges

export class MapPanel {
  constructor(population, positions, onOpen) {
    Object.assign(this, { population, positions, onOpen, zoom: 1, centre: [0.5, 0.5], moving: false });
    this.canvas = el("canvas", {
      role: "img",
      "aria-label": "Map of decoder directions; the table lists the same features",
    });
    this.over = el("canvas", { class: "over", "aria-hidden": "true" });
    this.hint = el("div", { class: "hover-card", hidden: true });
    this.legend = new MapLegend(population);
    const tools = el(
      "div",
      { class: "map-tools" },
      toggle("Move", false, (on) => (this.moving = on), {
        title: "Drag moves the map instead of drawing a lasso",
      }),
      button("+", () => this.zoomBy(1.6), { class: "icon", "aria-label": "Zoom in" }),
      button("−", () => this.zoomBy(1 / 1.6), { class: "icon", "aria-label": "Zoom out" }),
      button("⤢", () => this.reset(), { class: "icon", "aria-label": "Whole map", title: "Whole map" }),
    );
    this.box = el("div", { class: "map-box" }, this.canvas, this.over, tools, this.hint);
    this.node = el("div", { class: "map" }, this.box, this.legend.node);
    this.normalise();
    this.draw = framed(() => this.paint());
    this.showContext = settled((feature) => this.fetchContext(feature), 120);
    this.listen();
    new ResizeObserver(() => this.layOut()).observe(this.box);
  }

  /** Positions from 0 to 1; a feature that is dead at the end has none. */
  normalise() {
    const { positions } = this;
    const low = [Infinity, Infinity];
    const high = [-Infinity, -Infinity];
    this.placed = 0;
    for (let at = 0; at < positions.length; at++) {
      const value = positions[at];
      if (!Number.isFinite(value)) continue;
      this.placed += 1 - (at % 2);
      if (value < low[at % 2]) low[at % 2] = value;
      if (value > high[at % 2]) high[at % 2] = value;
    }
    this.unit = new Float32Array(positions.length);
    for (let at = 0; at < positions.length; at++) {
      const span = high[at % 2] - low[at % 2];
      this.unit[at] = span > 0 ? (positions[at] - low[at % 2]) / span : positions[at] - positions[at] + 0.5;
    }
  }

  layOut() {
    const { width, height } = this.box.getBoundingClientRect();
    if (!width || !height) return;
    this.ratio = Math.min(2, devicePixelRatio || 1);
    this.size = [Math.round(width * this.ratio), Math.round(height * this.ratio)];
    for (const canvas of [this.canvas, this.over]) [canvas.width, canvas.height] = this.size;
    this.project();
  }

  /** Where each feature lies in pixels. */
  project() {
    const [width, height] = this.size;
    const margin = MARGIN * this.ratio;
    const [scaleX, scaleY] = [(width - 2 * margin) * this.zoom, (height - 2 * margin) * this.zoom];
    const { unit, centre } = this;
    this.pixels = new Float32Array(unit.length);
    for (let at = 0; at < unit.length; at += 2) {
      this.pixels[at] = width / 2 + (unit[at] - centre[0]) * scaleX;
      this.pixels[at + 1] = height / 2 - (unit[at + 1] - centre[1]) * scaleY;
    }
    this.grid = new PointGrid(this.pixels, width, height, 16 * this.ratio);
    this.draw();
  }

  zoomBy(factor) {
    this.zoom = Math.min(40, Math.max(1, this.zoom * factor));
    if (this.zoom === 1) this.centre = [0.5, 0.5];
    this.project();
  }

  reset() {
    this.zoom = 1;
    this.zoomBy(1);
  }

  paint() {
    if (!this.pixels || !this.population.mask) return;
    const colourOf = this.legend.colours();
    if (!colourOf) return;
    const { population, pixels, ratio } = this;
    const [width, height] = this.size;
    const context = this.canvas.getContext("2d");
    const image = context.createImageData(width, height);
    const radius = ratio * Math.min(5, Math.max(1.1, 60 / Math.sqrt(this.placed + 1)) * Math.sqrt(this.zoom));
    const paintOne = this.placed > MANY ? dots(image, radius) : discs(image, radius);
    const faint = themeColour("--line");
    for (const shown of [0, 1]) {
      // those that are filtered out lie below
      for (let feature = 0; feature < population.count; feature++) {
        if (population.mask[feature] !== shown) continue;
        const x = Math.round(pixels[2 * feature]);
        const y = Math.round(pixels[2 * feature + 1]);
        if (x > 0 && y > 0 && x < width && y < height) paintOne(x, y, shown ? colourOf(feature) : faint);
      }
    }
    context.putImageData(image, 0, 0);
    this.paintOver();
  }

  /** Lasso, chosen features and the one under the pointer. */
  paintOver() {
    const context = this.over.getContext("2d");
    const { population, pixels, ratio } = this;
    context.clearRect(0, 0, ...this.size);
    context.strokeStyle = css(themeColour("--ink"));
    context.lineWidth = 1.2 * ratio;
    if (population.chosen.size <= 4000)
      for (const feature of population.chosen) ring(context, pixels, feature, 4 * ratio);
    context.lineWidth = 2 * ratio;
    if (population.hovered >= 0) ring(context, pixels, population.hovered, 7 * ratio);
    if (!this.lasso) return;
    context.setLineDash([5 * ratio, 3 * ratio]);
    context.beginPath();
    for (const [x, y] of this.lasso) context.lineTo(x, y);
    context.closePath();
    context.stroke();
    context.setLineDash([]);
  }

  place(event) {
    const box = this.over.getBoundingClientRect();
    return [(event.clientX - box.left) * this.ratio, (event.clientY - box.top) * this.ratio];
  }

  listen() {
    this.over.addEventListener("pointermove", (event) => !event.buttons && this.hover(this.place(event)));
    this.over.addEventListener("pointerleave", () => this.hover(null));
    this.over.addEventListener("pointerdown", (event) => this.drag(event));
    this.over.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.metaKey) return; // a page that is scrolled stays a page
        event.preventDefault();
        this.zoomBy(event.deltaY < 0 ? 1.25 : 0.8);
      },
      { passive: false },
    );
  }

  drag(event) {
    if (event.button) return;
    const start = this.place(event);
    const [from, centre] = [start, [...this.centre]];
    let far = false;
    const end = new AbortController();
    this.over.setPointerCapture(event.pointerId);
    this.over.addEventListener(
      "pointermove",
      (moved) => {
        const [x, y] = this.place(moved);
        far ||= Math.hypot(x - from[0], y - from[1]) > 5 * this.ratio;
        if (!far) return;
        this.hint.hidden = true;
        if (this.moving) {
          this.centre = [
            centre[0] - (x - from[0]) / (this.size[0] * this.zoom),
            centre[1] + (y - from[1]) / (this.size[1] * this.zoom),
          ];
          this.project();
        } else {
          (this.lasso ??= [from]).push([x, y]);
          this.paintOver();
        }
      },
      end,
    );
    this.over.addEventListener("pointercancel", () => end.abort(), end);
    this.over.addEventListener(
      "pointerup",
      () => {
        end.abort();
        if (this.lasso) this.close();
        else if (!far) {
          const found = this.grid.nearest(start, 12 * this.ratio, this.population.mask);
          if (found >= 0) this.onOpen(found);
          else if (this.population.chosen.size) this.population.choose([]);
        }
      },
      end,
    );
  }

  close() {
    const polygon = this.lasso;
    this.lasso = null;
    const { pixels, population } = this;
    const found = [];
    for (let feature = 0; feature < population.count; feature++) {
      const inside =
        (population.mask[feature] || population.chosen.size) &&
        insidePolygon(polygon, pixels[2 * feature], pixels[2 * feature + 1]);
      if (inside) found.push(feature);
    }
    population.choose(found);
  }

  hover(at) {
    if (!this.grid || !this.population.mask) return;
    const found = at ? this.grid.nearest(at, 12 * this.ratio, this.population.mask) : -1;
    this.population.hover(found);
    this.over.classList.toggle("over-point", found >= 0);
    this.hint.hidden = found < 0;
    if (found < 0) return;
    const { population } = this;
    const [label, top] = ["label", "top_token"].map((name) => population.valuesNow(name)?.[found]);
    const token = top >= 0 ? population.data.vocabularyNow?.[top] : null;
    this.line = el("p", { class: "muted", text: "…" });
    put(
      this.hint,
      el(
        "p",
        {},
        el("strong", { text: `Feature ${found}` }),
        " ",
        el(
          "span",
          { class: `chip l-${population.manifest.labels[label]}` },
          el("i"),
          labelName(population.manifest.labels[label]),
        ),
        " ",
        el("span", { class: "tok", text: tokenAlone(token) }),
      ),
      this.line,
    );
    const [x, y] = [this.pixels[2 * found] / this.ratio, this.pixels[2 * found + 1] / this.ratio];
    const [width, height] = this.size.map((pixels) => pixels / this.ratio);
    style(this.hint, {
      left: `${Math.min(x + 12, Math.max(0, width - 300))}px`,
      top: y > height - 110 ? "auto" : `${y + 12}px`,
      bottom: y > height - 110 ? `${height - y + 12}px` : "auto",
    });
    this.showContext(found);
  }

  async fetchContext(feature) {
    const { population } = this;
    if (population.hovered !== feature) return;
    const [life] = await Promise.all([population.data.feature(feature), population.data.vocabulary()]).catch(
      (error) => [null, error],
    );
    if (population.hovered !== feature || this.hint.hidden) return;
    const context = life?.links[population.timeline.link].contexts[0];
    if (!life) this.line.textContent = "Its contexts cannot be read just now.";
    else if (!context) this.line.textContent = "It fires on no token of the text at this step.";
    else put(this.line, contextLine(context, population.data.vocabularyNow, { before: 6, after: 4 }));
  }
}

function ring(context, pixels, feature, radius) {
  const x = pixels[2 * feature];
  if (!Number.isFinite(x)) return;
  context.beginPath();
  context.arc(x, pixels[2 * feature + 1], radius, 0, 7);
  context.stroke();
}
