// A table of all features of which only the rows in sight exist.

import { el, integer, perFrame } from "./dom.js";

const ROW_PIXELS = 30;
const SPARE_ROWS = 6;

/** columns: [{name, title, description, text(feature), node?(feature), numeric}]; onsort(name). */
export function virtualTable({ columns, onpick, onsort, link }) {
  const head = el("div", { class: "row head", role: "row" });
  const body = el("div", { class: "rows", role: "presentation" });
  const space = el("div", { class: "space", role: "presentation" }, body);
  const scroller = el("div", { class: "scroller", tabindex: 0, role: "presentation" }, space);
  const node = el("div", { class: "table", role: "table", "aria-label": "Features" }, head, scroller);
  let order = [];
  let sorted = { name: null, down: false };
  const pool = [];

  const render = perFrame(() => {
    const first = Math.max(0, Math.floor(scroller.scrollTop / ROW_PIXELS) - SPARE_ROWS);
    const room = Math.ceil((scroller.clientHeight || 400) / ROW_PIXELS) + 2 * SPARE_ROWS;
    const last = Math.min(order.length, first + room);
    body.style.transform = `translateY(${first * ROW_PIXELS}px)`;
    while (pool.length < last - first) pool.push(row());
    pool.forEach((of, i) => {
      const index = first + i;
      if (index >= last) {
        of.node.hidden = true;
        return;
      }
      of.node.hidden = false;
      of.show(order[index], index);
    });
  });

  function row() {
    const cells = columns.map((of) =>
      el("span", { class: of.numeric ? "cell-of numeric" : "cell-of", role: "cell" }),
    );
    const made = el("a", { class: "row", role: "row" }, cells);
    body.append(made);
    return {
      node: made,
      show(feature, index) {
        made.href = link(feature);
        made.setAttribute("aria-rowindex", index + 2);
        columns.forEach((of, i) => {
          if (of.node) cells[i].replaceChildren(of.node(feature));
          else cells[i].textContent = of.text(feature);
        });
        made.onmouseenter = () => onpick(feature);
        made.onfocus = () => onpick(feature);
      },
    };
  }

  function drawHead() {
    head.replaceChildren(
      ...columns.map((of) => {
        const here = sorted.name === of.name;
        const button = el(
          "button",
          { type: "button", title: of.description ?? "", onclick: () => onsort(of.name) },
          of.title,
          el("span", { class: "arrow", "aria-hidden": "true" }, here ? (sorted.down ? " ↓" : " ↑") : ""),
        );
        return el(
          "span",
          {
            class: of.numeric ? "cell-of numeric" : "cell-of",
            role: "columnheader",
            "aria-sort": here ? (sorted.down ? "descending" : "ascending") : "none",
          },
          button,
        );
      }),
    );
  }

  scroller.addEventListener("scroll", render, { passive: true });
  const observer = new ResizeObserver(render);
  observer.observe(scroller);
  node.style.setProperty("--columns", columns.map((of) => of.width ?? "minmax(5.2rem, 1fr)").join(" "));
  return {
    node,
    show(features, by) {
      order = features;
      sorted = by;
      node.setAttribute("aria-rowcount", order.length + 1);
      space.style.height = `${order.length * ROW_PIXELS}px`;
      drawHead();
      render();
    },
    refresh: render,
    end: () => observer.disconnect(),
    get count() {
      return integer(order.length);
    },
  };
}

/** Features by a column's values, which are made numbers of 32 bits and sorted by halves (radix). */
export function sortBy(rows, values, down) {
  const bits = new Uint32Array(1);
  const float = new Float32Array(bits.buffer);
  const keys = new Uint32Array(rows.length);
  for (let i = 0; i < rows.length; i += 1) {
    const value = values[rows[i]];
    if (Number.isNaN(value)) {
      keys[i] = 0xffffffff; // those without a value come last
      continue;
    }
    float[0] = value;
    // The bits of floats ascend with them, once those of negative ones are turned over.
    const key = bits[0] & 0x80000000 ? ~bits[0] >>> 0 : (bits[0] | 0x80000000) >>> 0;
    keys[i] = down ? 0xfffffffe - Math.min(key, 0xfffffffe) : Math.min(key, 0xfffffffe);
  }
  let order = new Uint32Array(rows.length);
  for (let i = 0; i < rows.length; i += 1) order[i] = i;
  for (const shift of [0, 16]) order = byHalf(order, keys, shift);
  for (let i = 0; i < rows.length; i += 1) order[i] = rows[order[i]];
  return order;
}

function byHalf(order, keys, shift) {
  const begins = new Uint32Array(65537);
  for (let i = 0; i < keys.length; i += 1) begins[((keys[i] >>> shift) & 0xffff) + 1] += 1;
  for (let half = 0; half < 65536; half += 1) begins[half + 1] += begins[half];
  const sorted = new Uint32Array(order.length);
  for (let i = 0; i < order.length; i += 1) {
    const half = (keys[order[i]] >>> shift) & 0xffff;
    sorted[begins[half]] = order[i];
    begins[half] += 1;
  }
  return sorted;
}
