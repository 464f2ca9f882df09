// One feature: its life as a ribbon, curves beside their controls, contexts at one step or two.

import { address, go, patch } from "./address.js";
import { labelName } from "./colours.js";
import { choiceBar, contextList, keyOf } from "./contexts.js";
import { feature as featureOf } from "./data.js";
import { el, integer, perFrame, refill } from "./dom.js";
import { chip, detailsAt, explanationsOf, matchesOf } from "./feature_details.js";
import { openChain, patternName } from "./fields.js";
import { addToList, namesOfLists } from "./lists.js";
import { curves } from "./plot.js";
import { ribbon } from "./ribbon.js";
import { axisOf, linkAt } from "./scale.js";
import { stepSlider } from "./slider.js";

export async function featureView(view) {
  const opened = await openChain(view.chain);
  if (!opened.manifest.analysed)
    throw new Error(
      `The features of ${view.chain} cannot be shown: the chain was not analysed (saetrack analyze).`,
    );
  if (view.feature >= opened.manifest.d_sae)
    throw new Error(`Feature ${view.feature}: the chain has features 0 to ${opened.manifest.d_sae - 1}.`);
  return new FeatureView(view, opened, await featureOf(view.chain, view.feature));
}

class FeatureView {
  constructor(view, { manifest, words }, life) {
    Object.assign(this, { chain: view.chain, number: view.feature, manifest, words, life });
    this.title = `feature ${this.number} · ${this.chain}`;
    this.link = linkAt(manifest.links, view.params.get("step"));
    const beside = view.params.get("beside");
    this.beside = beside === null ? null : linkAt(manifest.links, beside);
    this.keys = {
      ArrowLeft: () => this.slider.move(-1),
      ArrowRight: () => this.slider.move(1),
      " ": () => this.slider.toggle(),
      j: () => this.go(1),
      k: () => this.go(-1),
      b: () => this.setBeside(this.beside === null ? 0 : null),
    };
    this.build();
    this.step(this.link);
    for (const next of [this.number + 1, this.number - 1])
      if (next >= 0 && next < manifest.d_sae) featureOf(this.chain, next).catch(() => {});
  }

  go(by) {
    const next = this.number + by;
    if (next < 0 || next >= this.manifest.d_sae) return;
    go(this.addressOf(next));
  }

  addressOf(feature, chain = this.chain) {
    const at = (index) => (index === null ? null : this.manifest.links[index].lm_step);
    return address({
      chain,
      rest: String(feature),
      params: { step: at(this.link), beside: chain === this.chain ? at(this.beside) : null },
    });
  }

  build() {
    const { manifest, life } = this;
    this.slider = stepSlider({
      links: manifest.links,
      index: this.link,
      onchange: perFrame((index) => this.step(index)),
      onscale: () => {
        this.drawCurves();
        this.step(this.link);
      },
    });
    this.ribbonBox = el("div", { class: "ribbon-box" });
    this.contextBox = el("div", { class: "sides" });
    this.curveBox = el("div", { class: "curves" });
    this.detailBox = el("div", { class: "details" });
    this.besideChoice = el(
      "select",
      {
        "aria-label": "Another step beside it",
        onchange: () =>
          this.setBeside(this.besideChoice.value === "" ? null : Number(this.besideChoice.value)),
      },
      el("option", { value: "" }, "no other step"),
      manifest.links.map((link, i) => el("option", { value: i }, `step ${integer(link.lm_step)}`)),
    );
    this.node = el(
      "div",
      { class: "page feature" },
      this.heading(),
      this.ribbonBox,
      this.slider.node,
      el(
        "div",
        { class: "grid two wide-left" },
        el(
          "section",
          { class: "panel", "aria-label": "Contexts" },
          el(
            "div",
            { class: "panel-head" },
            el("h2", {}, "Contexts"),
            el("label", {}, "beside ", this.besideChoice),
          ),
          choiceBar(() => this.drawContexts()),
          this.contextBox,
        ),
        el(
          "div",
          { class: "stack" },
          el("section", { class: "panel", "aria-label": "At this step" }, this.detailBox),
          el(
            "section",
            { class: "panel", "aria-label": "Curves" },
            el("h2", {}, "Over training"),
            this.curveBox,
          ),
          matchesOf(life),
          life.explanations.length ? explanationsOf(life) : null,
        ),
      ),
    );
    this.drawCurves();
  }

  heading() {
    const { manifest, life, number: feature } = this;
    const formed =
      life.formation_link < 0
        ? "never formed"
        : `formed at step ${integer(manifest.links[life.formation_link].lm_step)}`;
    const previous = el(
      "a",
      {
        class: "icon",
        href: this.addressOf(Math.max(feature - 1, 0)),
        "aria-label": "Feature before",
        title: "Feature before (k)",
      },
      "‹",
    );
    const next = el(
      "a",
      {
        class: "icon",
        href: this.addressOf(Math.min(feature + 1, manifest.d_sae - 1)),
        "aria-label": "Next feature",
        title: "Next feature (j)",
      },
      "›",
    );
    const listed = el("span", { class: "quiet", role: "status" });
    const keep = el(
      "button",
      {
        type: "button",
        class: "small",
        onclick: () => {
          const name = prompt("Name of the list", namesOfLists()[0] ?? "My features");
          if (!name) return;
          addToList(name, [{ chain: this.chain, feature, step: manifest.links[this.link].lm_step }]);
          listed.textContent = `In the list “${name}”.`;
        },
      },
      "Add to a list",
    );
    const copy = el(
      "button",
      {
        type: "button",
        class: "small",
        title: "The address of this very view; with &embed=1 a page can show it in a frame",
        onclick: async () => {
          await navigator.clipboard.writeText(location.href);
          listed.textContent = "The address is copied.";
        },
      },
      "Copy address",
    );
    return el(
      "div",
      { class: "heading" },
      el(
        "div",
        { class: "title-row" },
        previous,
        el("h1", {}, `Feature ${feature}`),
        next,
        keep,
        copy,
        listed,
      ),
      el(
        "p",
        { class: "quiet" },
        `${life.pattern ? `${patternName(life.pattern)} · ` : ""}${formed} · `,
        el(
          "a",
          { href: address({ chain: this.chain, params: { step: manifest.links[this.link].lm_step } }) },
          this.chain,
        ),
      ),
    );
  }

  step(index) {
    this.link = index;
    patch({ step: this.manifest.links[index].lm_step });
    const { manifest, life } = this;
    refill(
      this.ribbonBox,
      ribbon({
        manifest,
        labels: life.labels,
        formation: life.formation_link,
        chosen: index,
        beside: this.beside,
        width: 1000,
        height: 30,
        onpick: (i) => this.slider.choose(i),
      }),
      legendOf(manifest, life.labels),
    );
    this.marks.forEach((chart) => chart.mark(index));
    this.drawContexts();
    refill(this.detailBox, detailsAt({ ...this, addressOf: (feature) => this.addressOf(feature) }));
  }

  setBeside(index) {
    this.beside = index;
    patch({ beside: index === null ? null : this.manifest.links[index].lm_step });
    this.step(this.link);
  }

  drawContexts() {
    const { manifest, life, words } = this;
    this.besideChoice.value = this.beside ?? "";
    const sides = this.beside === null ? [this.link] : [this.beside, this.link];
    const top = manifest.context_groups.indexOf("top");
    const keys = sides.map(
      (link) => new Set(life.links[link].contexts.filter((context) => context.group === top).map(keyOf)),
    );
    this.contextBox.classList.toggle("two-sides", sides.length === 2);
    refill(
      this.contextBox,
      ...sides.map((link, side) => {
        const scale = life.curves.max_act?.[link];
        const contexts = life.links[link].contexts.map((context) => ({ ...context, scale }));
        const title = `step ${integer(manifest.links[link].lm_step)}`;
        const others = sides.length === 2 ? keys[1 - side] : null;
        return el(
          "div",
          { class: "side" },
          el("h3", { class: "side-title" }, chip(manifest, life.labels[link]), ` ${title}`),
          others
            ? el(
                "p",
                { class: "quiet" },
                `${side ? "new" : "gone"}: strongest contexts that step ${integer(manifest.links[sides[1 - side]].lm_step)} does not have among its own.`,
              )
            : null,
          contextList({
            contexts,
            words,
            groupNames: manifest.context_groups,
            others,
            mark: side ? "new" : "gone",
          }),
        );
      }),
    );
  }

  drawCurves() {
    const { manifest, life } = this;
    const axis = axisOf(manifest);
    const wanted = manifest.columns.filter((of) => of.curve && life.curves[of.name]);
    this.marks = [];
    this.curveBox.replaceChildren(
      ...wanted.map((of) => {
        const chart = curves({
          ...axis,
          title: of.title,
          scale: of.scale,
          range: of.range,
          band: of.control,
          onpick: (i) => this.slider.choose(i),
          lines: [{ name: `this feature, ${of.title.toLowerCase()}`, values: life.curves[of.name] }],
        });
        this.marks.push(chart);
        return el(
          "div",
          { class: "curve-of" },
          el(
            "h3",
            { title: of.description },
            of.title,
            el("span", { class: "quiet" }, of.unit ? ` ${of.unit}` : ""),
          ),
          chart.node,
          el(
            "p",
            { class: "quiet" },
            of.control
              ? [el("span", { class: "swatch control" }), ` control: ${of.control.title}`]
              : "without a control",
          ),
        );
      }),
    );
    this.marks.forEach((chart) => chart.mark(this.link));
  }

  end() {
    this.slider.stop();
  }
}

function legendOf(manifest, labels) {
  const used = [...new Set(labels)].sort((a, b) => a - b);
  const entries = used.map((label) => el("li", {}, chip(manifest, label), labelName(manifest.labels[label])));
  return el(
    "ul",
    { class: "legend" },
    entries,
    manifest.links.some((link) => link.collapsed)
      ? el("li", {}, "hatched: a collapsed checkpoint, whose residuals are all alike")
      : null,
  );
}
