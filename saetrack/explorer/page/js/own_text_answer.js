// What an LM and its SAEs answer to a text: which features fire where.

import { address } from "./address.js";
import { el, put, say, select } from "./dom.js";
import { shade, tokenSpan } from "./tokens.js";
import { labelName, short, tokenAlone, whole } from "./words.js";

/** The answer to a text, ordered by one of its steps. */
export class AnswerView {
  constructor(node, data, state, timeline) {
    Object.assign(this, { node, data, state, timeline });
    state.on(["step"], () => this.answer && this.show(this.answer));
  }

  /** The step of the answer by which features are ordered: that of the address, or the last. */
  shown({ steps }) {
    const asked = Number(this.state.get("step", "").split("@")[0] || NaN);
    return steps.find((step) => step.lm_step === asked) ?? steps.at(-1);
  }

  show(answer) {
    this.answer = answer;
    const { tokens, steps, pieces = [], note } = answer;
    const shown = this.shown(answer);
    const acts = new Map(
      steps.map((step) => [step.lm_step, new Map(step.features.map((one) => [one.feature, one.acts]))]),
    );
    const largest = (step, feature) => Math.max(0, ...(acts.get(step.lm_step).get(feature) ?? []));
    const features = shown.features.map((one) => one.feature);
    const here = new Map(features.map((feature) => [feature, largest(shown, feature)]));
    features.sort((a, b) => here.get(b) - here.get(a) || a - b);
    const most = new Map(
      features.map((feature) => [feature, Math.max(...steps.map((step) => largest(step, feature)))]),
    );
    if (!features.length)
      return put(
        this.node,
        el("p", { class: "empty", text: "No feature fires on this text at these steps." }),
      );
    say(`${features.length} features`);
    // The first `strongest` are the strongest of all features at this step; others are strong elsewhere.
    const strongest = features
      .slice(0, shown.strongest ?? features.length)
      .filter((one) => here.get(one) > 0);
    const given = { tokens, steps, features, acts, most, here, pieces, shown, strongest };
    return put(
      this.node,
      note ? el("p", { class: "muted", text: note }) : null,
      this.byFeature(given),
      this.byToken(given),
    );
  }

  /** Which step the order is of. */
  orderChoice(steps, shown) {
    if (steps.length < 2) return null;
    return select(
      "Order by step",
      steps.map(({ lm_step }) => [lm_step, `order by LM step ${whole(lm_step)}`]),
      shown.lm_step,
      (lm_step) => this.state.set({ step: lm_step }),
    );
  }

  name(feature, lm_step) {
    const { data } = this;
    const last = data.manifest.links.length - 1;
    const top = data.manifest.analysed ? (data.columnNow(last, "top_token")?.[feature] ?? -1) : -1;
    const label = data.manifest.analysed
      ? data.manifest.labels[data.columnNow(last, "label")?.[feature]]
      : null;
    return [
      el("a", { href: address([data.name, feature], { step: lm_step }), text: `feature ${feature}` }),
      top >= 0
        ? el("span", {
            class: "tok",
            title: `commonest token at its strongest contexts, at LM ${this.timeline.words(last)}`,
            text: tokenAlone(data.vocabularyNow?.[top]),
          })
        : null,
      label ? el("span", { class: `chip l-${label}` }, el("i"), labelName(label)) : null,
    ];
  }

  byFeature(given) {
    const { steps, features, shown, strongest } = given;
    const others = features.filter((feature) => !strongest.includes(feature));
    const lines = (some) => some.map((feature) => this.featureLines(feature, given));
    return el(
      "section",
      { class: "box", "aria-label": "By feature" },
      el(
        "header",
        {},
        el(
          "h2",
          {},
          "By feature",
          el("span", {
            class: "muted",
            text: ` strongest at LM step ${whole(shown.lm_step)} first; shaded by activation, of the feature's largest here`,
          }),
        ),
        this.orderChoice(steps, shown),
      ),
      strongest.length
        ? lines(strongest)
        : el("p", {
            class: "muted",
            text: `No feature fires on the text at LM step ${whole(shown.lm_step)}.`,
          }),
      others.length
        ? el("h3", {
            class: "others",
            text: `Strong at other steps, not among the ${strongest.length} strongest at LM step ${whole(shown.lm_step)}`,
          })
        : null,
      lines(others),
    );
  }

  /** One feature on the text, a line for each step. */
  featureLines(feature, { tokens, steps, acts, most, here, pieces, shown }) {
    const apart = !tokens.slice(1).some((token) => /^\s/.test(token)); // tokens that carry no blanks
    const line = (own) =>
      tokens.map((token, at) =>
        tokenSpan(
          pieces[at]?.[0] > 1 ? "·" : apart && at ? ` ${token}` : token,
          most.get(feature) ? own[at] / most.get(feature) : 0,
          { title: own[at] > 0 ? `activation ${short(own[at])}` : null },
        ),
      );
    return el(
      "div",
      { class: "own-feature" },
      el(
        "p",
        { class: "line" },
        this.name(feature, shown.lm_step),
        el("span", {
          class: "muted",
          text: `largest ${short(here.get(feature))} at step ${whole(shown.lm_step)}${steps.length > 1 ? `, ${short(most.get(feature))} at any` : ""}`,
        }),
      ),
      el(
        "table",
        { class: "plain own-lines" },
        el(
          "tbody",
          {},
          steps.map((step) =>
            el(
              "tr",
              { class: step === shown && steps.length > 1 ? "hovered" : null },
              el("th", { scope: "row", class: "number", text: whole(step.lm_step) }),
              el("td", { class: "sentence", dir: "ltr" }, line(acts.get(step.lm_step).get(feature) ?? [])),
            ),
          ),
        ),
      ),
    );
  }

  byToken({ tokens, steps, pieces }) {
    const strongest = Math.max(
      ...steps.flatMap((step) => step.of_token.flatMap((of) => of.strongest.map(([, act]) => act))),
      1e-9,
    );
    const one = (step, [feature, act]) =>
      el("a", {
        class: `fires ${shade(act / strongest)}`,
        href: address([this.data.name, feature], { step: step.lm_step }),
        title: `feature ${feature}, activation ${short(act)}`,
        text: feature,
      });
    const cell = (at, step) => {
      const { count, strongest: firing } = step.of_token[at];
      const more = count - firing.length;
      return el(
        "td",
        {},
        firing.map((of) => one(step, of)),
        more > 0
          ? el("span", {
              class: "muted",
              title: `${count} features fire on this token at this step`,
              text: `+${more}`,
            })
          : count
            ? null
            : el("span", { class: "muted", title: "No feature fires on this token at this step", text: "–" }),
      );
    };
    const name = (token, at) => [
      el("span", { class: "tok", text: tokenAlone(token) }),
      pieces[at]
        ? el("span", {
            class: "muted small-text",
            title: "This character is several tokens",
            text: ` ${pieces[at][0]}/${pieces[at][1]}`,
          })
        : null,
    ];
    return el(
      "section",
      { class: "box", "aria-label": "Tokens by steps" },
      el(
        "h2",
        {},
        "Tokens by steps",
        el("span", {
          class: "muted",
          text: " of all features: the three strongest on each token, and how many more fire there; shaded by activation",
        }),
      ),
      el(
        "div",
        { class: "table-scroll", tabindex: "0", role: "region", "aria-label": "Tokens by steps, scrolls" },
        el(
          "table",
          { class: "plain grid tokens-by-steps" },
          el(
            "thead",
            {},
            el(
              "tr",
              {},
              el("th", { scope: "col", text: "Token" }),
              steps.map((step) => el("th", { scope: "col", text: `step ${whole(step.lm_step)}` })),
            ),
          ),
          el(
            "tbody",
            {},
            tokens.map((token, at) =>
              el(
                "tr",
                {},
                el("th", { scope: "row" }, name(token, at)),
                steps.map((step) => cell(at, step)),
              ),
            ),
          ),
        ),
      ),
    );
  }
}
