// A feature's curves over LM steps, each beside its control; the same as a table.

import { curves, panel } from "./chart.js";
import { button, el, put } from "./dom.js";
import { reverseNote, short, whole } from "./words.js";

const BAND_NOTES = {
  progress_activation:
    "Progress above the band means that the feature's contexts share something, and one token is enough: look at the share explained by the token.",
};

/** Every column that the analysis calls a curve; what later analyses add shows up by itself. */
export class FeatureCurves {
  constructor(life, manifest, timeline) {
    Object.assign(this, { life, manifest, timeline, asTable: false });
    this.box = el("div");
    this.kind = button(
      "as a table",
      () => {
        this.asTable = !this.asTable;
        this.kind.textContent = this.asTable ? "as curves" : "as a table";
        this.draw();
      },
      { class: "small quiet" },
    );
    const bandNotes = this.columns[0].flatMap(({ name }) => BAND_NOTES[name] ?? []);
    this.node = el(
      "section",
      { class: "box curves", "aria-label": "Curves" },
      el("header", {}, el("h2", {}, "Over LM steps"), this.kind),
      this.box,
      el(
        "p",
        { class: "muted small-text" },
        el("i", { class: "band-key" }),
        "band: the control that is named beside the value · line: chosen step · hatched: collapsed checkpoint",
        bandNotes.length ? el("br") : null,
        bandNotes.join(" "),
      ),
      this.meanings(),
    );
    this.draw();
  }

  /** What each curve is, for who has no pointer to rest on it. */
  meanings() {
    const shown = this.manifest.columns.filter((column) => column.curve);
    return el(
      "details",
      { class: "meanings small-text" },
      el("summary", { text: "What the curves mean" }),
      el("p", { text: reverseNote(this.manifest) ?? "" }),
      el(
        "dl",
        {},
        shown.flatMap((column) => [
          el("dt", { text: column.title }),
          el("dd", {
            text: column.description + (column.control ? ` Control: ${column.control.title}.` : ""),
          }),
        ]),
      ),
    );
  }

  get columns() {
    const known = this.manifest.columns.filter((column) => column.curve && this.life.curves[column.name]);
    const has = (column) => this.life.curves[column.name].some((value) => value !== null);
    return [known.filter(has), known.filter((column) => !has(column))];
  }

  draw() {
    const [shown, absent] = this.columns;
    this.marks = [];
    if (this.asTable) put(this.box, this.table(shown));
    else
      put(
        this.box,
        el(
          "div",
          { class: "panels two-up" },
          shown.map((column) => this.panel(column)),
        ),
      );
    if (absent.length)
      this.box.append(
        el("p", {
          class: "muted small-text not-measured",
          text: `Not measured of this feature: ${absent.map((column) => column.title.toLowerCase()).join(", ")}. ${absent.some((column) => /followed/.test(column.description)) ? "An analysis measures these of followed features only; followed_features in its config says of how many." : ""}`,
        }),
      );
    this.mark();
  }

  panel(column) {
    const { timeline, manifest } = this;
    const values = this.life.curves[column.name];
    const reading = el("span", { class: "reading" });
    const hatched = manifest.links.flatMap((link, at) => (link.collapsed ? [at] : []));
    const read = (link) => {
      const control = column.control;
      const [low, high] = [control?.low[link], control?.high[link]];
      const band =
        control && low !== null && high !== null
          ? `, ${control.title.replace(/, [^,]* %$/, "")} ${short(low)} to ${short(high)}`
          : "";
      reading.textContent = `${short(values[link])}${band}`;
    };
    const chart = curves({
      title: column.title,
      steps: timeline.steps,
      series: [{ values }],
      band: column.control,
      log: column.scale === "log",
      range: column.range,
      hatched,
      onHover: (link) => read(link ?? timeline.link),
      onPick: (link) => timeline.go(link),
    });
    this.marks.push(() => {
      chart.mark(timeline.link, timeline.beside);
      read(timeline.link);
    });
    const control = column.control ? ` Control: ${column.control.title}.` : "";
    return panel(
      column.title,
      `${column.description} ${column.unit ? `Unit: ${column.unit}.` : ""}${control}`,
      reading,
      chart.node,
    );
  }

  table(columns) {
    const { manifest, life, timeline } = this;
    const rows = timeline.steps.order.map((link) =>
      el(
        "tr",
        { "data-link": link },
        el("th", { scope: "row", class: "number", text: whole(manifest.links[link].lm_step) }),
        columns.map((column) => {
          const { control } = column;
          const band =
            control && control.low[link] !== null
              ? el("span", {
                  class: "muted",
                  text: ` (${short(control.low[link])} – ${short(control.high[link])})`,
                })
              : null;
          return el("td", { class: "number" }, short(life.curves[column.name][link]), band);
        }),
      ),
    );
    this.marks.push(() =>
      rows.forEach((row) => row.classList.toggle("hovered", Number(row.dataset.link) === timeline.link)),
    );
    return el(
      "div",
      { class: "table-scroll short", tabindex: "0", role: "region", "aria-label": "Curves as a table" },
      el(
        "table",
        { class: "plain grid" },
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            el("th", { scope: "col", text: "LM step" }),
            columns.map((column) =>
              el("th", {
                scope: "col",
                title: column.description,
                text: column.title + (column.control ? " (control)" : ""),
              }),
            ),
          ),
        ),
        el("tbody", {}, rows),
      ),
    );
  }

  mark() {
    this.marks.forEach((mark) => mark());
  }
}
