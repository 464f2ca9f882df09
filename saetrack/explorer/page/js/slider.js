// One slider over LM steps, which drives every panel of a page.

import { button, el, put, say, style } from "./dom.js";
import { whole } from "./words.js";

const PLAY_MS = 650;
const NAMES_APART = 0.055; // of the axis
const NAME_PX = 36; // that the widest of them needs
const at = (x) => `${(100 * x).toFixed(3)}%`;

/**
 * The slider of a timeline.
 *
 * `phases` are spans of LM steps by name; `ready` gives a promise that playing waits for, so that
 * each step is seen; `above` is put over the track, on the same axis; `strays` gives lines about
 * other parts of the address.
 */
export class Slider {
  constructor(timeline, { phases = {}, ready = () => null, above = null, strays = () => [], signal }) {
    Object.assign(this, { timeline, phases, ready, above, strays });
    this.playing = false;
    this.build();
    timeline.state.on(["step", "beside"], () => this.mark());
    timeline.state.on(["scale"], () => this.draw());
    timeline.state.onAny(() => this.tellStrays());
    signal.addEventListener("abort", () => this.pause());
  }

  build() {
    this.play = button("▶", () => this.toggle(), {
      class: "icon",
      "aria-label": "Play",
      title: "Play through the steps (p)",
    });
    const back = button("‹", () => this.timeline.move(-1), {
      class: "icon",
      "aria-label": "Step before",
      title: "Step before (←)",
    });
    const on = button("›", () => this.timeline.move(1), {
      class: "icon",
      "aria-label": "Next step",
      title: "Next step (→)",
    });
    this.kind = button(
      "",
      () => {
        const now = this.timeline.state.get("scale", "log");
        this.timeline.state.set({ scale: now === "log" ? "link" : null });
      },
      { class: "small quiet", title: "Axis: by the logarithm of the LM step, or evenly by link" },
    );
    this.readout = el("output", { class: "readout", id: "readout" });
    this.handle = el("div", {
      class: "handle",
      role: "slider",
      tabindex: "0",
      "aria-label": "LM step",
      "aria-valuemin": "1",
      onkeydown: (event) => this.key(event),
    });
    this.second = el("div", { class: "handle second", "aria-hidden": "true" });
    this.stray = el("p", { class: "notice stray", role: "status", hidden: true });
    this.track = el("div", { class: "track" });
    this.inner = el("div", { class: "inner" });
    this.names = el("div", { class: "names", "aria-hidden": "true" });
    new ResizeObserver(([{ contentRect }]) => {
      this.width = contentRect.width;
      this.drawNames();
    }).observe(this.inner);
    this.track.append(this.inner);
    this.track.addEventListener("pointerdown", (event) => this.drag(event));
    this.node = el(
      "div",
      { class: "slider", role: "group", "aria-label": "Slider over LM steps" },
      el("div", { class: "controls" }, this.play, back, on),
      this.track,
      el("div", { class: "readings" }, this.readout, this.kind),
      this.stray,
    );
    this.draw();
  }

  draw() {
    const { steps, links } = this.timeline;
    const cells = steps.cells();
    const collapsed = links.flatMap((link, number) => (link.collapsed ? [number] : []));
    put(
      this.inner,
      this.above,
      el(
        "div",
        { class: "rail" },
        collapsed.map((number) => {
          const [from, to] = cells.get(number);
          return style(
            el("span", {
              class: "hatched",
              title: "Collapsed checkpoint: residual vectors of unrelated tokens point nearly the same way",
            }),
            { left: at(from), width: at(to - from) },
          );
        }),
        links.map((_, number) => style(el("i", { class: "notch" }), { left: at(steps.positions[number]) })),
      ),
      this.second,
      this.handle,
      this.names,
      this.drawPhases(),
    );
    this.drawNames();
    this.handle.setAttribute("aria-valuemax", links.length);
    this.kind.textContent = steps.kind === "log" ? "axis: log steps" : "axis: by link";
    this.mark();
  }

  /** As many names of steps as there is room for. */
  drawNames() {
    const { steps } = this.timeline;
    const apart = Math.max(NAMES_APART, this.width ? NAME_PX / this.width : 0);
    const name = (link) => style(el("span", { text: steps.tick(link) }), { left: at(steps.positions[link]) });
    put(this.names, steps.named(apart).map(name));
  }

  drawPhases() {
    const { steps } = this.timeline;
    const spans = Object.entries(this.phases).filter(() => !steps.standing);
    if (!spans.length) return null;
    return el(
      "div",
      { class: "phases" },
      spans.map(([name, [first, last]]) => {
        const [from, to] = [steps.xOf(first), steps.xOf(last)];
        const title = `${name}: steps ${whole(first)} to ${whole(last)} (of the mean progress of all followed features)`;
        return style(el("span", { title, text: name }), {
          left: at(from),
          width: at(Math.max(0, to - from)),
        });
      }),
    );
  }

  mark() {
    const { steps, link, beside, links } = this.timeline;
    style(this.handle, { left: at(steps.positions[link]) });
    this.second.hidden = beside === null;
    if (beside !== null) style(this.second, { left: at(steps.positions[beside]) });
    const words = `${this.timeline.words(link)}`;
    const collapsed = links[link].collapsed ? ", collapsed checkpoint" : "";
    put(
      this.readout,
      el("strong", { text: `LM ${words}` }),
      el("span", { class: "muted", text: ` link ${link + 1} of ${links.length}${collapsed}` }),
    );
    this.tellStrays();
    this.handle.setAttribute("aria-valuenow", link + 1);
    this.handle.setAttribute("aria-valuetext", `${words}, link ${link + 1} of ${links.length}${collapsed}`);
    say(`LM ${words}, link ${link + 1} of ${links.length}${collapsed}`);
  }

  /** What the address asks for that there is not. */
  tellStrays() {
    this.stray.textContent = [...this.timeline.strays, ...this.strays()].join(" ");
    this.stray.hidden = !this.stray.textContent;
  }

  key(event) {
    const far = { Home: 0, End: this.timeline.links.length - 1 }[event.key];
    if (far === undefined) return;
    event.preventDefault();
    this.timeline.go(this.timeline.steps.order[far]);
  }

  drag(event) {
    if (event.button) return;
    event.preventDefault();
    this.pause();
    this.handle.focus({ preventScroll: true });
    const go = (moved) => {
      const box = this.inner.getBoundingClientRect();
      this.timeline.go(this.timeline.steps.nearest((moved.clientX - box.left) / box.width));
    };
    go(event);
    const end = new AbortController();
    this.track.setPointerCapture(event.pointerId);
    this.track.addEventListener("pointermove", go, end);
    for (const name of ["pointerup", "pointercancel"])
      this.track.addEventListener(name, () => end.abort(), end);
  }

  toggle() {
    if (this.playing) this.pause();
    else this.start();
  }

  async start() {
    const { timeline } = this;
    this.playing = true;
    this.play.textContent = "❚❚";
    this.play.setAttribute("aria-label", "Pause");
    if (timeline.steps.beside(timeline.link, 1) === timeline.link) timeline.go(timeline.steps.order[0]);
    while (this.playing) {
      await Promise.all([
        new Promise((done) => setTimeout(done, PLAY_MS)),
        Promise.resolve(this.ready()).catch(() => null),
      ]);
      if (!this.playing) return;
      const next = timeline.steps.beside(timeline.link, 1);
      if (next === timeline.link) return this.pause();
      timeline.go(next);
    }
  }

  pause() {
    this.playing = false;
    this.play.textContent = "▶";
    this.play.setAttribute("aria-label", "Play");
  }
}
