// A feature's life as a ribbon: its label at each link, where it formed, where the LM was collapsed.

import { integer, svg, titled } from "./dom.js";
import { labelColour, labelName } from "./colours.js";
import { positions } from "./scale.js";

/** labels: index per link, into manifest.labels. */
export function ribbon({
  manifest,
  labels,
  formation = -1,
  chosen = null,
  beside = null,
  width = 640,
  height = 26,
  onpick = null,
  small = false,
}) {
  const { links } = manifest;
  const at = positions(
    links.map((link) => link.lm_step),
    small ? "link" : undefined,
  );
  const edges = bounds(at).map((x) => x * width);
  const names = labels.map((label) => labelName(manifest.labels[label] ?? "dead"));
  const spoken = `${names[0]} at first, ${names.at(-1)} at the end${formation >= 0 ? `, formed at step ${integer(links[formation].lm_step)}` : ""}`;
  const drawing = svg("svg", {
    class: `ribbon${small ? " small" : ""}`,
    viewBox: `0 0 ${width} ${height}`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": `Life: ${spoken}`,
  });
  if (!small) drawing.append(hatching());
  links.forEach((link, i) => {
    const box = {
      x: edges[i],
      y: 0,
      width: Math.max(edges[i + 1] - edges[i] - (small ? 0 : 0.8), 0.5),
      height,
    };
    const cell = svg("rect", {
      class: onpick ? "cell pickable" : "cell",
      ...box,
      fill: labelColour(manifest.labels[labels[i]] ?? "dead"),
      onclick: onpick ? () => onpick(i) : null,
    });
    drawing.append(
      titled(
        cell,
        `step ${integer(link.lm_step)}: ${names[i]}${link.collapsed ? " (collapsed checkpoint)" : ""}`,
      ),
    );
    if (link.collapsed && !small)
      drawing.append(svg("rect", { class: "hatched", ...box, fill: "url(#hatch)" }));
  });
  if (formation >= 0 && !small)
    drawing.append(
      titled(
        svg("path", { class: "formed", d: `M${edges[formation]},0 l7,0 l-7,9 z` }),
        `formed at step ${integer(links[formation].lm_step)}`,
      ),
    );
  if (!small) drawPhases(drawing, manifest, edges);
  const frame = (i, kind) =>
    svg("rect", {
      class: kind,
      x: edges[i] + 1,
      y: 1,
      width: Math.max(edges[i + 1] - edges[i] - 2.6, 1.5),
      height: height - 2,
    });
  if (chosen !== null) drawing.append(frame(chosen, "chosen"));
  if (beside !== null) drawing.append(frame(beside, "chosen beside"));
  return drawing;
}

/** The chain's phases as thin marks on top, dark and light in turn. */
function drawPhases(drawing, { links, phases = {} }, edges) {
  Object.entries(phases).forEach(([name, [first, last]], number) => {
    const inside = links.flatMap(({ lm_step: step }, i) => (step >= first && step <= last ? [i] : []));
    if (!inside.length) return;
    const [from, to] = [edges[inside[0]], edges[inside.at(-1) + 1]];
    drawing.append(
      titled(
        svg("rect", {
          class: `phase-of ${number % 2 ? "odd" : ""}`,
          x: from,
          y: 0,
          width: Math.max(to - from - 1, 1),
          height: 3.5,
        }),
        `phase: ${name}, steps ${integer(first)} to ${integer(last)}`,
      ),
    );
  });
}

/** Edges between positions, half-way from each to the next. */
function bounds(at) {
  if (at.length === 1) return [0, 1];
  const middle = at.slice(1).map((x, i) => (x + at[i]) / 2);
  return [0, ...middle, 1];
}

function hatching() {
  const pattern = svg("pattern", {
    id: "hatch",
    width: 6,
    height: 6,
    patternUnits: "userSpaceOnUse",
    patternTransform: "rotate(45)",
  });
  pattern.append(svg("line", { x1: 0, y1: 0, x2: 0, y2: 6, stroke: "#fff", "stroke-width": 2.4 }));
  return svg("defs", {}, pattern);
}
