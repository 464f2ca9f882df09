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
    const cells = columns.map((of) => el("span", { class: of.numeric ? "cell-of numeric" : "cell-of", role: "cell" }));
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
    head.replaceChildren(...columns.map((of) => {
      const here = sorted.name === of.name;
      const button = el("button", { type: "button", title: of.description ?? "", onclick: () => onsort(of.name) }, of.title, el("span", { class: "arrow", "aria-hidden": "true" }, here ? (sorted.down ? " ↓" : " ↑") : ""));
      return el("span", { class: of.numeric ? "cell-of numeric" : "cell-of", role: "columnheader", "aria-sort": here ? (sorted.down ? "descending" : "ascending") : "none" }, button);
    }));
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
    get count() { return integer(order.length); },
  };
}

/** Features by a column's values; those without one come last. `rows` is reordered. */
export function sortBy(rows, values, down) {
  const sign = down ? -1 : 1;
  return rows.sort((a, b) => {
    const [left, right] = [values[a], values[b]];
    const [noLeft, noRight] = [missing(left), missing(right)];
    if (noLeft || noRight) return noLeft - noRight || a - b;
    return sign * (left - right) || a - b;
  });
}

const missing = (value) => Number(Number.isNaN(value) || value === undefined);
