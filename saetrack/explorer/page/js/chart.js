// Curves over LM steps, as SVG: at most some dozens of points each, so that they may be elements,
// take the theme's colours by themselves and are sharp at any size.

import { el, put, svg } from "./dom.js";
import { percent, short, stepShort, whole } from "./words.js";

const LEFT = 40;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 20;
const isNumber = (value) => value !== null && value !== undefined && Number.isFinite(value);

/** The span of an axis, its ticks, and where a value lies (0 to 1, or null). */
export function axisOf(values, { log = false, range = null } = {}) {
  const known = values.filter((value) => isNumber(value) && (!log || value > 0));
  if (!known.length) return null;
  let low = known.reduce((a, b) => Math.min(a, b));
  let high = known.reduce((a, b) => Math.max(a, b));
  if (log) return logAxis(low, high);
  if (range) {
    // Cosines: the half below 0 is shown where a value needs it.
    high = Math.max(high, range[1]);
    low = low < 0 ? Math.min(low, range[0] < -1e-9 && low < -0.2 ? range[0] : low) : Math.max(0, range[0]);
  }
  if (low === high) [low, high] = [Math.min(0, low), high || 1];
  const step = niceStep((high - low) / 3);
  low = Math.floor(low / step + 1e-9) * step;
  high = Math.ceil(high / step - 1e-9) * step;
  const ticks = [];
  for (let tick = low; tick <= high + step / 2; tick += step) ticks.push(+tick.toPrecision(8));
  return { ticks, place: (value) => (isNumber(value) ? (value - low) / (high - low) : null) };
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 2.5, 5, 10].find((step) => step * power >= rough * 0.999);
}

function logAxis(lowest, highest) {
  const low = Math.floor(Math.log10(lowest) + 1e-9);
  const high = Math.max(low + 1, Math.ceil(Math.log10(highest) - 1e-9));
  const apart = Math.ceil((high - low) / 4);
  const ticks = [];
  for (let power = low; power <= high; power += apart) ticks.push(10 ** power);
  return {
    ticks,
    place: (value) => (isNumber(value) && value > 0 ? (Math.log10(value) - low) / (high - low) : null),
  };
}

const tickText = (value) =>
  value >= 1000
    ? stepShort(value)
    : value !== 0 && Math.abs(value) < 0.01
      ? value.toExponential(0).replace("e-", "e−")
      : String(+value.toPrecision(4));

/** A path through points, broken where one is missing. */
function path(points) {
  let pen = "M";
  return points
    .map((point) => {
      if (!point) {
        pen = "M";
        return "";
      }
      const part = `${pen}${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
      pen = "L";
      return part;
    })
    .join("");
}

/** The area between two lists of points, piece by piece. */
function area(lows, highs) {
  const pieces = [];
  let piece = [];
  lows.forEach((low, number) => {
    if (low && highs[number]) piece.push([low, highs[number]]);
    if ((!low || !highs[number] || number + 1 === lows.length) && piece.length) {
      const there = piece.map(([, high]) => high.map((x) => x.toFixed(1)).join(" "));
      const back = piece.map(([low_]) => low_.map((x) => x.toFixed(1)).join(" ")).reverse();
      pieces.push(`M${[...there, ...back].join("L")}Z`);
      piece = [];
    }
  });
  return pieces.join("");
}

/**
 * Curves on one axis of steps.
 *
 * `series`: {title, values (one per link), mark (class), steps (own ones, optional)};
 * `band`: {title, low, high} of a control; `hatched`: links. Gives `node` and `mark(link, beside)`.
 */
export function curves({
  title,
  steps,
  series,
  band = null,
  log = false,
  range = null,
  hatched = [],
  size = [300, 132],
  words = null,
  onHover = null,
  onPick = null,
}) {
  const [width, height] = size;
  const x = (position) => LEFT + position * (width - LEFT - RIGHT);
  const values = [...series.flatMap((one) => one.values), ...(band?.low ?? []), ...(band?.high ?? [])];
  const axis = axisOf(values, { log, range });
  const node = svg("svg", {
    class: "chart",
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": chartWords(title, steps, series, band, words ?? short),
  });
  if (!axis) {
    node.append(svg("text", { x: width / 2, y: height / 2, class: "none", text: "not measured" }));
    return { node, mark: () => null };
  }
  const y = (value) => {
    const place = axis.place(value);
    return place === null ? null : TOP + (1 - place) * (height - TOP - BOTTOM);
  };
  const tick = words === percent ? (value) => `${+(100 * value).toPrecision(4)} %` : tickText;
  const frame = { x, y, width, height, axis, tick };
  node.append(...drawFrame(frame, steps, hatched));
  const points_ = (list, own = steps) =>
    own.order.map((link) => (y(list[link]) === null ? null : [x(own.positions[link]), y(list[link])]));
  if (band)
    node.append(
      svg(
        "path",
        { class: "band", d: area(points_(band.low), points_(band.high)) },
        svg("title", { text: `control: ${band.title}` }),
      ),
    );
  for (const one of series) {
    const at = points_(one.values, one.steps);
    const group = svg(
      "g",
      { class: `series ${one.mark ?? ""}` },
      svg("path", { class: "line", d: path(at) }),
    );
    const known = at.filter(Boolean); // a chain of one link is a point that must be found
    for (const [cx, cy] of known) group.append(svg("circle", { cx, cy, r: known.length > 1 ? 1.9 : 4 }));
    node.append(group);
  }
  const [now, second] = ["now", "now second"].map((mark) =>
    svg("line", { class: mark, y1: TOP, y2: height - BOTTOM }),
  );
  node.append(second, now);
  listen(node, frame, steps, onHover, onPick);
  const put_ = (line, link) => {
    line.classList.toggle("gone", link === null);
    if (link !== null) for (const end of ["x1", "x2"]) line.setAttribute(end, x(steps.positions[link]));
  };
  const mark = (link, beside = null) => {
    put_(now, link);
    put_(second, beside);
  };
  mark(null);
  return { node, mark };
}

function drawFrame({ x, y, width, height, axis, tick: tickWords }, steps, hatched) {
  const parts = [];
  const cells = steps.cells();
  for (const link of hatched) {
    const [from, to] = cells.get(link);
    parts.push(
      svg("rect", {
        class: "hatch",
        x: x(from),
        y: TOP,
        width: Math.max(1, x(to) - x(from)),
        height: height - TOP - BOTTOM,
      }),
    );
  }
  for (const tick of axis.ticks) {
    parts.push(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) }));
    parts.push(svg("text", { class: "y", x: LEFT - 5, y: y(tick) + 3, text: tickWords(tick) }));
  }
  for (const link of steps.named(46 / width)) {
    const anchor = steps.positions[link] > 0.95 ? "end" : steps.positions[link] < 0.05 ? "start" : "middle";
    parts.push(
      svg("text", {
        class: "x",
        x: x(steps.positions[link]),
        y: height - 6,
        "text-anchor": anchor,
        text: steps.tick(link),
      }),
    );
  }
  return parts;
}

function listen(node, { width }, steps, onHover, onPick) {
  const linkAt = (event) => {
    const box = node.getBoundingClientRect();
    const inside = ((event.clientX - box.left) / box.width) * width;
    return steps.nearest((inside - LEFT) / (width - LEFT - RIGHT));
  };
  if (onHover) {
    node.addEventListener("pointermove", (event) => onHover(linkAt(event)));
    node.addEventListener("pointerleave", () => onHover(null));
  }
  if (onPick) {
    node.classList.add("pickable");
    node.addEventListener("click", (event) => onPick(linkAt(event)));
  }
}

/** What a chart shows, for who cannot see it. */
function chartWords(title, steps, series, band, words) {
  const lines = series.map((one) => {
    const own = one.steps ?? steps;
    const known = own.order.filter((link) => isNumber(one.values[link]));
    if (!known.length) return `${one.title ?? title}: not measured`;
    const at = (link) => `${words(one.values[link])} at step ${whole(own.links[link].lm_step)}`;
    const lowest = known.reduce((a, b) => (one.values[b] < one.values[a] ? b : a));
    const highest = known.reduce((a, b) => (one.values[b] > one.values[a] ? b : a));
    return `${one.title ?? title}: begins at ${at(known[0])}, ends at ${at(known.at(-1))}, lowest ${at(lowest)}, highest ${at(highest)}`;
  });
  const control = band
    ? `; control ${band.title} ends between ${short(band.low.at(-1))} and ${short(band.high.at(-1))}`
    : "";
  return `${lines.join(". ")}${control}`;
}

/** A small curve without axes. */
export function sparkline(values, steps, title, words = short) {
  const axis = axisOf(values);
  const node = svg("svg", {
    class: "spark",
    viewBox: "0 0 100 28",
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": chartWords(title, steps, [{ title, values }], null, words),
  });
  if (!axis) return node;
  const at = steps.order.map((link) =>
    axis.place(values[link]) === null
      ? null
      : [2 + 96 * steps.positions[link], 26 - 24 * axis.place(values[link])],
  );
  node.append(svg("path", { class: "line", d: path(at) }));
  const last = at.filter(Boolean).at(-1);
  if (last) node.append(svg("path", { class: "dot", d: `M${last[0]} ${last[1]}h0.01` }));
  return node;
}

/** Bars in equal bins. */
export function bars(
  counts,
  { title, low = 0, high, band = null, unit = "", log = false, size = [300, 132], tick = short },
) {
  const [width, height] = size;
  const most = counts.reduce((a, b) => Math.max(a, b), 0);
  const room = width - LEFT - RIGHT;
  const tall = height - TOP - BOTTOM;
  const value = (share) => (log ? 10 ** (low + share * (high - low)) : low + share * (high - low));
  const words = `${title}: ${counts.length} bins from ${tick(value(0))} to ${tick(value(1))}, most in a bin: ${whole(most)}`;
  const node = svg("svg", {
    class: "chart bars",
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": words,
  });
  if (!most)
    return put(node, svg("text", { x: width / 2, y: height / 2, class: "none", text: "nothing here" }));
  if (band) {
    const place = (at) => LEFT + room * Math.min(1, Math.max(0, at));
    node.append(
      svg("rect", {
        class: "band",
        x: place(band[0]),
        y: TOP,
        width: Math.max(1.5, place(band[1]) - place(band[0])),
        height: tall,
      }),
    );
  }
  // One path for all bars: a step of the slider draws them anew.
  const each = room / counts.length;
  const d = counts
    .map((count, bin) => {
      if (!count) return "";
      const high_ = Math.max(1, (tall * count) / most);
      return `M${(LEFT + each * bin + 0.4).toFixed(1)} ${(TOP + tall).toFixed(1)}v${(-high_).toFixed(1)}h${(each - 0.8).toFixed(1)}v${high_.toFixed(1)}z`;
    })
    .join("");
  const hint = svg("title", {});
  const path_ = svg("path", { class: "bin", d }, hint);
  path_.addEventListener("pointermove", (event) => {
    const box = node.getBoundingClientRect();
    const bin = Math.min(
      counts.length - 1,
      Math.max(0, Math.floor((((event.clientX - box.left) / box.width) * width - LEFT) / each)),
    );
    hint.textContent = `${tick(value(bin / counts.length))} to ${tick(value((bin + 1) / counts.length))}: ${whole(counts[bin])}`;
  });
  node.append(path_);
  node.append(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: TOP + tall, y2: TOP + tall }));
  node.append(
    svg("text", { class: "y", x: LEFT - 5, y: TOP + 6, text: stepShort(most) }),
    svg("text", { class: "y", x: LEFT - 5, y: TOP + tall, text: "0" }),
  );
  for (const share of [0, 0.5, 1]) {
    node.append(
      svg("text", {
        class: "x",
        x: LEFT + room * share,
        y: height - 6,
        "text-anchor": ["start", "middle", "end"][share * 2],
        text: tick(value(share)) + (share === 1 && unit ? ` ${unit}` : ""),
      }),
    );
  }
  return node;
}

/** The frame of a chart: title, the value of the moment, the chart. */
export function panel(title, description, reading, chart, attributes = {}) {
  return el(
    "figure",
    { class: "panel", ...attributes },
    el("figcaption", { title: description }, el("span", { text: title }), reading),
    chart,
  );
}
