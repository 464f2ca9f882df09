// The map of decoder directions: a point per feature, on a canvas, with hover and lasso.

import { el, perFrame } from "./dom.js";

const NEAR_PIXELS = 9;
const FAINT = 0.1;
const MANY = 6000;

/** points: (d_sae, 2) with NaN for features without a place; onpick(feature), onlasso([features]). */
export function featureMap({ points, onpick, onhover, onlasso }) {
  const canvas = el("canvas", {
    class: "map",
    tabindex: 0,
    role: "img",
    "aria-label": "Map of decoder directions; the table below holds the same features",
  });
  const tip = el("div", { class: "tip", hidden: true });
  const node = el("div", { class: "map-box" }, canvas, tip);
  const count = points.length / 2;
  const bounds = extent(points);
  let size = [0, 0];
  let xs = new Float32Array(count);
  let ys = new Float32Array(count);
  let grid = new Map();
  let colours = null;
  let wanted = null;
  let marked = -1;
  let path = null;

  function place() {
    const box = node.getBoundingClientRect();
    if (!box.width) return;
    const ratio = window.devicePixelRatio || 1;
    size = [box.width, box.height];
    canvas.width = Math.round(box.width * ratio);
    canvas.height = Math.round(box.height * ratio);
    canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
    grid = new Map();
    const pad = 14;
    const scale = Math.min((size[0] - 2 * pad) / bounds.width, (size[1] - 2 * pad) / bounds.height);
    for (let i = 0; i < count; i += 1) {
      xs[i] = size[0] / 2 + (points[2 * i] - bounds.x) * scale;
      ys[i] = size[1] / 2 - (points[2 * i + 1] - bounds.y) * scale;
      if (Number.isNaN(xs[i])) continue;
      const key = cell(xs[i], ys[i]);
      if (!grid.has(key)) grid.set(key, []);
      grid.get(key).push(i);
    }
    draw();
  }

  const cell = (x, y) => Math.floor(x / 12) * 4096 + Math.floor(y / 12);

  const draw = perFrame(() => {
    if (!colours || !size[0]) return;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, size[0], size[1]);
    if (count > MANY) pixels(context);
    else {
      discs(context, false);
      discs(context, true);
    }
    if (marked >= 0 && !Number.isNaN(xs[marked])) ring(context, marked);
    if (path) outline(context);
  });

  function discs(context, isBright) {
    const radius = count > 4000 ? 1.8 : 3;
    context.globalAlpha = isBright ? 0.9 : FAINT;
    // Points of one colour together: a change of colour costs more than a point.
    const byColour = new Map();
    for (let i = 0; i < count; i += 1) {
      if (Number.isNaN(xs[i]) || colours[i] === -1 || isBright !== (!wanted || wanted[i] === 1)) continue;
      if (!byColour.has(colours[i])) byColour.set(colours[i], []);
      byColour.get(colours[i]).push(i);
    }
    for (const [colour, features] of byColour) {
      context.fillStyle = `#${colour.toString(16).padStart(6, "0")}`;
      context.beginPath();
      for (const i of features) {
        context.moveTo(xs[i] + radius, ys[i]);
        context.arc(xs[i], ys[i], radius, 0, 2 * Math.PI);
      }
      context.fill();
    }
    context.globalAlpha = 1;
  }

  /** Many points: pixels of an image, which is several times as quick as shapes. */
  function pixels(context) {
    const image = context.createImageData(canvas.width, canvas.height);
    const drawn = new Uint32Array(image.data.buffer);
    const ratio = canvas.width / size[0];
    const side = Math.max(1, Math.round(2 * ratio));
    for (const isBright of [false, true]) {
      if (!isBright && !wanted) continue;
      const alpha = (isBright ? 235 : 40) << 24;
      for (let i = 0; i < count; i += 1) {
        if (Number.isNaN(xs[i]) || colours[i] === -1 || isBright !== (!wanted || wanted[i] === 1)) continue;
        const colour = alpha | ((colours[i] & 255) << 16) | (colours[i] & 0xff00) | (colours[i] >> 16);
        const x = Math.round(xs[i] * ratio);
        const y = Math.round(ys[i] * ratio);
        for (let dy = 0; dy < side; dy += 1) {
          const at = (y + dy) * canvas.width + x;
          for (let dx = 0; dx < side; dx += 1) drawn[at + dx] = colour;
        }
      }
    }
    context.putImageData(image, 0, 0);
  }

  function ring(context, i) {
    context.strokeStyle = getComputedStyle(node).color;
    context.lineWidth = 2;
    context.beginPath();
    context.arc(xs[i], ys[i], 8, 0, 2 * Math.PI);
    context.stroke();
  }

  function outline(context) {
    context.strokeStyle = getComputedStyle(node).color;
    context.setLineDash([5, 4]);
    context.beginPath();
    path.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.stroke();
    context.setLineDash([]);
  }

  function at(event) {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  function near([x, y]) {
    let best = -1;
    let distance = NEAR_PIXELS ** 2;
    for (let dx = -12; dx <= 12; dx += 12) {
      for (let dy = -12; dy <= 12; dy += 12) {
        for (const i of grid.get(cell(x + dx, y + dy)) ?? []) {
          const away = (xs[i] - x) ** 2 + (ys[i] - y) ** 2;
          if (away < distance && (!wanted || wanted[i])) [best, distance] = [i, away];
        }
      }
    }
    return best;
  }

  canvas.addEventListener("pointermove", (event) => {
    if (path) {
      path.push(at(event));
      draw();
      return;
    }
    const feature = near(at(event));
    canvas.classList.toggle("over", feature >= 0);
    if (feature === marked) return;
    mark(feature);
    if (feature < 0) tip.hidden = true;
    else onhover(feature, showTip);
  });

  function showTip(feature, content) {
    if (feature !== marked) return;
    tip.replaceChildren(...content);
    tip.hidden = false;
    tip.style.left = `${Math.min(xs[feature] + 12, Math.max(size[0] - 290, 0))}px`;
    tip.style.top = `${Math.min(ys[feature] + 12, Math.max(size[1] - 90, 0))}px`;
  }

  canvas.addEventListener("pointerleave", () => {
    if (path) return;
    mark(-1);
    tip.hidden = true;
  });
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    path = [at(event)];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointerup", (event) => {
    const drawn = path;
    path = null;
    if (!drawn) return;
    if (drawn.length < 6) {
      const feature = near(at(event));
      if (feature >= 0) onpick(feature);
    } else {
      const inside = [];
      for (let i = 0; i < count; i += 1)
        if (!Number.isNaN(xs[i]) && (!wanted || wanted[i]) && within(drawn, xs[i], ys[i])) inside.push(i);
      onlasso(inside);
    }
    draw();
  });

  function mark(feature) {
    marked = feature;
    draw();
  }

  const observer = new ResizeObserver(() => place());
  observer.observe(node);
  return {
    node,
    mark,
    /** packed: colour of each feature as one number, -1 for none; only: those not dimmed, or null. */
    paint(packed, only) {
      colours = packed;
      wanted = only;
      draw();
    },
    end: () => observer.disconnect(),
  };
}

function extent(points) {
  let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < points.length; i += 2) {
    if (Number.isNaN(points[i])) continue;
    left = Math.min(left, points[i]);
    right = Math.max(right, points[i]);
    low = Math.min(low, points[i + 1]);
    high = Math.max(high, points[i + 1]);
  }
  if (!Number.isFinite(left)) return { x: 0, y: 0, width: 1, height: 1 };
  return { x: (left + right) / 2, y: (low + high) / 2, width: right - left || 1, height: high - low || 1 };
}

/** Whether a point lies inside of a polygon (crossings of a ray). */
function within(polygon, x, y) {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i, i += 1) {
    const [xi, yi] = polygon[i];
    const [xj, yj] = polygon[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}
