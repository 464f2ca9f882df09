// One slider over the LM's steps, with play. It says which link is chosen; its users draw.

import { announce, el, integer, svg, titled } from "./dom.js";
import { brief } from "./plot.js";
import { chooseScale, chosenScale, nearest, positions, ticks } from "./scale.js";

const PLAY_MS = 650;
const WIDTH = 1000;

/** links: of the manifest; index: chosen first; onchange(index): when another is chosen. */
export function stepSlider({ links, index, onchange, onscale = () => {} }) {
  const lmSteps = links.map((link) => link.lm_step);
  let chosen = index;
  let playing = null;
  const range = el("input", {
    type: "range",
    min: 0,
    max: Math.max(links.length - 1, 0),
    step: 1,
    class: "range",
    "aria-label": "LM step",
    oninput: () => choose(Number(range.value)),
  });
  const shown = el("output", { class: "step" });
  const play = el(
    "button",
    {
      type: "button",
      class: "icon",
      "aria-label": "Play",
      title: "Play through the steps (space)",
      onclick: () => toggle(),
    },
    "▶",
  );
  const before = el(
    "button",
    {
      type: "button",
      class: "icon",
      "aria-label": "Step before",
      title: "Step before (←)",
      onclick: () => move(-1),
    },
    "‹",
  );
  const after = el(
    "button",
    {
      type: "button",
      class: "icon",
      "aria-label": "Next step",
      title: "Next step (→)",
      onclick: () => move(1),
    },
    "›",
  );
  const scale = el("button", {
    type: "button",
    class: "small",
    title: "Steps on a logarithmic axis, or one after another",
    onclick: () => {
      chooseScale(chosenScale() === "log" ? "link" : "log");
      draw();
      onscale();
    },
  });
  const strip = svg("svg", {
    class: "strip",
    viewBox: `0 0 ${WIDTH} 34`,
    preserveAspectRatio: "none",
    "aria-hidden": "true",
  });
  const labels = el("div", { class: "strip-labels", "aria-hidden": "true" });
  const node = el(
    "section",
    { class: "slider", "aria-label": "LM step" },
    el("div", { class: "slider-buttons" }, play, before, after, shown, scale),
    el("div", { class: "slider-track" }, strip, labels, range),
  );

  function draw() {
    scale.textContent = chosenScale() === "log" ? "log steps" : "by link";
    scale.setAttribute("aria-label", `Axis: ${scale.textContent}. Change it`);
    const at = positions(lmSteps);
    strip.replaceChildren(svg("line", { class: "rail", x1: 8, x2: WIDTH - 8, y1: 17, y2: 17 }));
    at.forEach((x, i) => {
      const kind = `${i === chosen ? "here" : ""} ${links[i].collapsed ? "is-collapsed" : ""}`;
      const stroke = svg("rect", {
        class: `stop ${kind}`,
        x: 8 + x * (WIDTH - 16) - (i === chosen ? 5 : 2),
        y: i === chosen ? 5 : 10,
        width: i === chosen ? 10 : 4,
        height: i === chosen ? 24 : 14,
        rx: 2,
        onclick: () => choose(i),
      });
      strip.append(
        titled(
          stroke,
          `LM step ${integer(lmSteps[i])}${links[i].collapsed ? ", a collapsed checkpoint" : ""}`,
        ),
      );
    });
    labels.replaceChildren(
      ...ticks(at, 900, 62).map((i) => {
        const label = el("span", { class: "strip-label" }, brief(lmSteps[i]));
        label.style.left = `${(0.8 + at[i] * 98.4).toFixed(2)}%`;
        return label;
      }),
    );
    range.value = chosen;
    range.setAttribute(
      "aria-valuetext",
      `LM step ${integer(lmSteps[chosen])}, link ${chosen + 1} of ${links.length}`,
    );
    shown.replaceChildren(
      el("strong", {}, `step ${integer(lmSteps[chosen])}`),
      el(
        "span",
        { class: "quiet" },
        ` link ${chosen + 1} of ${links.length}${links[chosen].collapsed ? " · collapsed" : ""}`,
      ),
    );
  }

  function choose(next) {
    const within = Math.min(Math.max(next, 0), links.length - 1);
    if (within === chosen) return;
    chosen = within;
    draw();
    announce(`LM step ${lmSteps[chosen]}`);
    onchange(chosen);
  }

  function move(by) {
    stop();
    choose(chosen + by);
  }

  function toggle() {
    if (playing) {
      stop();
      return;
    }
    if (chosen === links.length - 1) choose(0);
    play.textContent = "❚❚";
    play.setAttribute("aria-label", "Pause");
    playing = setInterval(() => (chosen === links.length - 1 ? stop() : choose(chosen + 1)), PLAY_MS);
  }

  function stop() {
    clearInterval(playing);
    playing = null;
    play.textContent = "▶";
    play.setAttribute("aria-label", "Play");
  }

  // Dragging along the strip, which lies under the range.
  strip.addEventListener("pointerdown", (event) => {
    const box = strip.getBoundingClientRect();
    const at = positions(lmSteps);
    const take = (x) => {
      const share = (x - box.left) / box.width;
      choose(nearest(at, share));
    };
    stop();
    take(event.clientX);
    strip.setPointerCapture(event.pointerId);
    const drag = (moved) => take(moved.clientX);
    strip.addEventListener("pointermove", drag);
    strip.addEventListener("pointerup", () => strip.removeEventListener("pointermove", drag), { once: true });
  });
  draw();
  return {
    node,
    choose,
    move,
    toggle,
    stop,
    draw,
    get index() {
      return chosen;
    },
  };
}
