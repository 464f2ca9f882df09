// Small charts as SVG: curves over LM steps with a control's band, and bars.

import { el, number, svg, titled } from "./dom.js";
import { nearest, positions, ticks } from "./scale.js";

const MARGIN = { left: 44, right: 10, top: 8, bottom: 22 };

/**
 * Curves over the links.
 *
 * lines: [{ name, values, colour?, steps? }], null where nothing was measured; `steps` are LM steps of
 * their own. band: { low, high, title } | null. Returns the node and `mark(index)` for the slider.
 */
export function curves({
  title,
  lmSteps,
  lines,
  band = null,
  scale = "linear",
  range = null,
  phases = {},
  collapsed = [],
  width = 340,
  height = 130,
  onpick = null,
}) {
  const all = lines.flatMap((line) => line.values).concat(band ? band.low : [], band ? band.high : []);
  const known = all.filter(
    (value) => value !== null && Number.isFinite(value) && (scale === "linear" || value > 0),
  );
  const described = lines.map((line) => said(line)).join("; ");
  const figure = el("figure", { class: "chart" });
  if (!known.length) {
    figure.append(el("p", { class: "quiet" }, "not measured"));
    return { node: figure, mark: () => {} };
  }
  const every = [...new Set(lines.flatMap((line) => line.steps ?? lmSteps))].sort((a, b) => a - b);
  const at = new Map(
    positions(every).map((x, i) => [every[i], MARGIN.left + x * (width - MARGIN.left - MARGIN.right)]),
  );
  const xs = lmSteps.map((step) => at.get(step));
  const y = vertical(known, scale, range, height);
  const drawing = svg("svg", {
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": `${title}: ${described}`,
  });
  for (const i of collapsed)
    drawing.append(
      svg("rect", {
        class: "collapsed",
        x: xs[i] - 3,
        y: MARGIN.top,
        width: 6,
        height: height - MARGIN.top - MARGIN.bottom,
      }),
    );
  drawPhases(drawing, phases, at, every, height);
  axes(drawing, { y, at: every.map((step) => at.get(step)), every, width, height, scale });
  if (band) drawBand(drawing, band, xs, y);
  for (const line of lines)
    drawLine(
      drawing,
      line,
      (line.steps ?? lmSteps).map((step) => at.get(step)),
      y,
    );
  const cursor = svg("line", {
    class: "cursor",
    y1: MARGIN.top,
    y2: height - MARGIN.bottom,
    visibility: "hidden",
  });
  drawing.append(cursor);
  if (onpick) {
    drawing.classList.add("pickable");
    drawing.addEventListener("click", (event) => onpick(pointed(drawing, event, xs, width)));
  }
  figure.append(drawing);
  const mark = (i) => {
    if (xs[i] === undefined) return;
    cursor.setAttribute("x1", xs[i]);
    cursor.setAttribute("x2", xs[i]);
    cursor.setAttribute("visibility", "visible");
  };
  return { node: figure, mark };
}

function said({ name, values }) {
  const known = values.filter((value) => value !== null && Number.isFinite(value));
  if (!known.length) return `${name} not measured`;
  return `${name} from ${number(known[0])} to ${number(known.at(-1))}, largest ${number(Math.max(...known))}`;
}

function vertical(known, scale, range, height) {
  let low = Math.min(...known);
  let high = Math.max(...known);
  if (range && scale === "linear") {
    low = Math.min(low, Math.max(range[0], low >= 0 ? 0 : range[0]));
    high = Math.max(high, range[1]);
  }
  if (low === high)
    [low, high] =
      scale === "log"
        ? [low / 2, high * 2]
        : [low - 0.5 * (Math.abs(low) || 1), high + 0.5 * (Math.abs(high) || 1)];
  const into = scale === "log" ? Math.log10 : (value) => value;
  const room = height - MARGIN.top - MARGIN.bottom;
  const y = (value) => MARGIN.top + room * (1 - (into(value) - into(low)) / (into(high) - into(low)));
  y.low = low;
  y.high = high;
  y.has = (value) => value !== null && Number.isFinite(value) && (scale === "linear" || value > 0);
  return y;
}

function axes(drawing, { y, at, every, width, height, scale }) {
  const base = height - MARGIN.bottom;
  const middle = scale === "log" ? Math.sqrt(y.low * y.high) : (y.low + y.high) / 2;
  for (const value of [y.low, middle, y.high]) {
    drawing.append(
      svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }),
      svg(
        "text",
        { class: "tick", x: MARGIN.left - 5, y: y(value) + 3.5, "text-anchor": "end" },
        number(value),
      ),
    );
  }
  for (const i of ticks(
    at.map((x) => x / width),
    width,
    46,
  )) {
    const anchor = at[i] > width - 30 ? "end" : "middle";
    drawing.append(
      svg(
        "text",
        { class: "tick", x: anchor === "end" ? width - 2 : at[i], y: base + 14, "text-anchor": anchor },
        brief(every[i]),
      ),
    );
  }
}

/** An LM step in few signs. */
export function brief(step) {
  if (step >= 1e6) return `${Number((step / 1e6).toPrecision(3))}M`;
  return step >= 1e4 ? `${Number((step / 1e3).toPrecision(3))}k` : step.toLocaleString("en");
}

function drawPhases(drawing, phases, at, every, height) {
  for (const [name, [first, last]] of Object.entries(phases)) {
    const [from, to] = [first, last].map((step) => at.get(every[nearest(every, step)]));
    drawing.append(
      titled(
        svg("rect", { class: "phase", x: from, y: MARGIN.top - 5, width: Math.max(to - from, 1), height: 3 }),
        name,
      ),
    );
  }
}

function drawBand(drawing, { low, high, title }, xs, y) {
  const runs = [[]];
  xs.forEach((x, i) => {
    if (y.has(low[i]) && y.has(high[i])) runs.at(-1).push(i);
    else if (runs.at(-1).length) runs.push([]);
  });
  for (const run of runs.filter((indices) => indices.length)) {
    const upper = run.map((i) => `${xs[i]},${y(high[i])}`);
    const lower = run.map((i) => `${xs[i]},${y(low[i])}`).reverse();
    drawing.append(
      titled(svg("polygon", { class: "band", points: [...upper, ...lower].join(" ") }), `control: ${title}`),
    );
  }
}

function drawLine(drawing, { name, values, colour, dashed }, xs, y) {
  let path = "";
  let broken = true;
  values.forEach((value, i) => {
    if (!y.has(value)) {
      broken = true;
      return;
    }
    path += `${broken ? "M" : "L"}${xs[i].toFixed(1)},${y(value).toFixed(1)}`;
    broken = false;
  });
  drawing.append(
    titled(
      svg("path", {
        class: colour ? "curve" : "curve own-curve",
        d: path,
        stroke: colour,
        "stroke-dasharray": dashed ? "5 4" : null,
      }),
      name,
    ),
  );
  values.forEach((value, i) => {
    if (y.has(value))
      drawing.append(
        svg("circle", {
          class: colour ? "dot" : "dot own-dot",
          cx: xs[i],
          cy: y(value),
          r: values.length > 40 ? 1.4 : 2.2,
          fill: colour,
        }),
      );
  });
}

/** The index of the link at which a drawing, `width` wide in its own units, is pointed. */
export function pointed(drawing, event, xs, width) {
  const box = drawing.getBoundingClientRect();
  return nearest(xs, ((event.clientX - box.left) / box.width) * width);
}

/** Bars of counts between two ends, {value, text} each. band: shares of the axis where a control lies. */
export function bars({ title, counts, band = null, from, to, width = 340, height = 110, note = "" }) {
  const most = Math.max(1, ...counts);
  const figure = el("figure", { class: "chart" });
  if (!counts.some((count) => count > 0)) {
    figure.append(el("p", { class: "quiet" }, note || "nothing to show at this step"));
    return figure;
  }
  const base = height - MARGIN.bottom;
  const step = (width - 20) / counts.length;
  // Roots, so that rare large values are seen beside many small ones.
  const tall = (count) => (base - MARGIN.top) * Math.sqrt(count / most);
  const drawing = svg("svg", {
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": `${title}: ${counts.filter((count) => count > 0).length} of ${counts.length} bins hold something, the fullest ${number(Math.max(...counts))}`,
  });
  counts.forEach((count, i) => {
    const low = from.value + ((to.value - from.value) * i) / counts.length;
    drawing.append(
      titled(
        svg("rect", {
          class: "bar-of",
          x: 10 + i * step,
          y: base - tall(count),
          width: Math.max(step - 1, 0.5),
          height: tall(count),
        }),
        `${number(count)} from ${number(low)}`,
      ),
    );
  });
  if (band) {
    const [low, high] = band.map((share) => 10 + Math.min(Math.max(share, 0), 1) * (width - 20));
    drawing.append(
      titled(
        svg("rect", {
          class: "band outlined",
          x: low,
          y: MARGIN.top,
          width: Math.max(high - low, 1.5),
          height: base - MARGIN.top,
        }),
        "control",
      ),
    );
  }
  drawing.append(
    svg("line", { class: "grid", x1: 10, x2: width - 10, y1: base, y2: base }),
    svg("text", { class: "tick", x: 10, y: base + 14 }, from.text),
    svg("text", { class: "tick", x: width - 10, y: base + 14, "text-anchor": "end" }, to.text),
  );
  figure.append(drawing);
  return figure;
}
