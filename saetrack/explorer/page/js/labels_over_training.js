// How many features mean what at each link: layers of the labels' colours, the living ones below.

import { labelColour, labelName } from "./colours.js";
import { el, integer, svg, titled } from "./dom.js";
import { brief, pointed } from "./plot.js";
import { positions, ticks } from "./scale.js";

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [460, 190, 44, 12, 6, 22];

/** lives: the labels of all features at each link. Returns the node and `mark(index)`. */
export function labelsOverTraining({ manifest, lives, onpick }) {
  const { links, labels, d_sae: total } = manifest;
  const counts = lives.map((values) => {
    const found = new Uint32Array(labels.length);
    for (let i = 0; i < values.length; i += 1) found[values[i]] += 1;
    return found;
  });
  const xs = positions(links.map((link) => link.lm_step)).map((x) => LEFT + x * (WIDTH - LEFT - RIGHT));
  const y = (count) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - count / total);
  const spoken = labels
    .map(
      (name, i) =>
        `${labelName(name)} ${integer(counts[0][i])} at first and ${integer(counts.at(-1)[i])} at the end`,
    )
    .join(", ");
  const drawing = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: "img",
    class: "pickable",
    "aria-label": `Features by label: ${spoken}`,
  });
  const below = new Float64Array(links.length);
  labels.forEach((name, label) => {
    if (!counts.some((found) => found[label])) return;
    const lower = xs.map((x, i) => `${x.toFixed(1)},${y(below[i]).toFixed(1)}`);
    counts.forEach((found, i) => {
      below[i] += found[label];
    });
    const upper = xs.map((x, i) => `${x.toFixed(1)},${y(below[i]).toFixed(1)}`);
    const layer = svg("polygon", {
      points: [...lower, ...upper.reverse()].join(" "),
      fill: labelColour(name),
    });
    drawing.append(
      titled(
        layer,
        `${labelName(name)}: ${integer(counts[0][label])} at first, ${integer(counts.at(-1)[label])} at the end`,
      ),
    );
  });
  for (const i of ticks(
    xs.map((x) => x / WIDTH),
    WIDTH,
    46,
  )) {
    drawing.append(
      svg(
        "text",
        {
          class: "tick",
          x: xs[i],
          y: HEIGHT - BOTTOM + 14,
          "text-anchor": i === links.length - 1 ? "end" : "middle",
        },
        brief(links[i].lm_step),
      ),
    );
  }
  for (const share of [0, 0.5, 1])
    drawing.append(
      svg(
        "text",
        { class: "tick", x: LEFT - 5, y: y(share * total) + 3.5, "text-anchor": "end" },
        integer(Math.round(share * total)),
      ),
    );
  const cursor = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM });
  drawing.append(cursor);
  drawing.addEventListener("click", (event) => onpick(pointed(drawing, event, xs, WIDTH)));
  const mark = (i) => {
    cursor.setAttribute("x1", xs[i]);
    cursor.setAttribute("x2", xs[i]);
  };
  return {
    node: el(
      "figure",
      { class: "chart" },
      drawing,
      el(
        "figcaption",
        { class: "quiet" },
        "All features by what they mean, in the colours of the map. Labels are judged at each step by the same rule; how many random directions pass it differs from step to step.",
      ),
    ),
    mark,
  };
}
