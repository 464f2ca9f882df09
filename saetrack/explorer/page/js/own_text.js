// One's own text at any steps: which features fire where.

import { address } from "./address.js";
import { el, put, say, select, button } from "./dom.js";
import { Refused } from "./data.js";
import { Timeline } from "./timeline.js";
import { shade, tokenSpan } from "./tokens.js";
import { labelName, short, tokenAlone, whole } from "./words.js";

const LONGEST = 2000; // characters, as the server takes them
const STEPS_AT_FIRST = 4;

export async function ownTextPage({ root, data, state, signal }) {
  const page = new OwnText(root, data, state, signal);
  if (data.site.static) {
    page.instead(
      "This is a static site: a text of your own needs the LM. On a machine that can load it, this serves the same pages:",
      `saetrack explore ${data.name}`,
    );
    return [];
  }
  if (!data.manifest.links.length) throw new Refused("This chain has no link yet.");
  page.form();
  return [];
}

class OwnText {
  constructor(root, data, state, signal) {
    Object.assign(this, { root, data, state, signal });
    this.timeline = new Timeline(data.manifest.links, state);
    root.append(el("h1", { text: "Own text" }));
  }

  instead(words, command) {
    this.root.append(
      el(
        "section",
        { class: "box command" },
        el("p", { text: words }),
        el("p", {}, el("code", { text: command })),
      ),
    );
  }

  /** Steps of the address; a few over the whole chain where it names none. */
  chosen() {
    const { links, order } = { links: this.data.manifest.links, order: this.timeline.steps.order };
    const named = this.state.get("steps", "").split(",").filter(Boolean).map(Number);
    const known = links.flatMap((link, at) => (named.includes(link.lm_step) ? [at] : []));
    if (known.length) return known;
    const count = Math.min(STEPS_AT_FIRST, order.length);
    return [
      ...new Set(
        Array.from(
          { length: count },
          (_, at) => order[Math.round((at * (order.length - 1)) / Math.max(1, count - 1))],
        ),
      ),
    ];
  }

  form() {
    const { data, state, timeline } = this;
    const chosen = new Set(this.chosen());
    this.text = el("textarea", {
      rows: 4,
      placeholder: "The harbour was quiet until the ships returned.",
      "aria-label": "Your text",
    });
    this.text.value = state.get("text", "");
    // A text that is too long is told, not cut: what is read is what is seen.
    this.length = el("span", { class: "muted count", "aria-live": "off" });
    const count = () => {
      const length = [...this.text.value].length;
      this.length.textContent =
        length > LONGEST / 2 ? `${whole(length)} of at most ${whole(LONGEST)} characters` : "";
      this.length.classList.toggle("too-long", length > LONGEST);
    };
    this.text.addEventListener("input", count);
    count();
    const seen = new Set();
    this.steps = timeline.steps.order
      .filter((link) => {
        const { lm_step } = data.manifest.links[link];
        return !seen.has(lm_step) && seen.add(lm_step);
      })
      .map((link) =>
        el("input", {
          type: "checkbox",
          value: data.manifest.links[link].lm_step,
          checked: chosen.has(link),
        }),
      );
    const all = (on) => this.steps.forEach((box) => (box.checked = on));
    this.features = select(
      "How many features",
      [5, 10, 20, 50].map((count) => [count, `${count} features`]),
      state.get("features", "10"),
      () => null,
    );
    this.run = el("button", { class: "primary", type: "submit" }, "Read the text");
    this.status = el("p", { class: "muted", role: "status" });
    this.found = el("div", { class: "own-found" });
    this.root.append(
      el(
        "form",
        {
          class: "box own-form",
          onsubmit: (event) => {
            event.preventDefault();
            this.read();
          },
        },
        el("label", {}, el("span", { class: "unseen", text: "Your text" }), this.text),
        el(
          "fieldset",
          {},
          el(
            "legend",
            {},
            "LM steps ",
            button("all", () => all(true), { class: "small quiet" }),
            button("none", () => all(false), { class: "small quiet" }),
          ),
          el(
            "div",
            { class: "ticks steps" },
            this.steps.map((box) => el("label", {}, box, whole(box.value))),
          ),
        ),
        el(
          "p",
          { class: "line" },
          this.run,
          this.features,
          el("span", { class: "muted", text: "The LM of each step reads the text: some seconds for each." }),
          this.length,
        ),
      ),
      this.status,
      this.found,
    );
    this.text.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.read();
    });
    if (this.text.value) this.read();
    else setTimeout(() => this.text.focus(), 0);
  }

  async read() {
    const { data, state } = this;
    const steps = this.steps.filter((box) => box.checked).map((box) => Number(box.value));
    if (!this.text.value.trim()) return this.say("Type a text first.");
    if (!steps.length) return this.say("Choose an LM step first.");
    const length = [...this.text.value].length;
    if (length > LONGEST)
      return this.say(`The text has ${whole(length)} characters; ${whole(LONGEST)} are read at most.`);
    state.set({ text: this.text.value, steps: steps.join(","), features: this.features.value });
    this.run.disabled = true;
    this.say("The LMs read the text …");
    try {
      const answer = await data.ownText(this.text.value, steps, Number(this.features.value));
      if (data.manifest.analysed) {
        // Tokens and labels beside the features' numbers; the answer stands without them too.
        await Promise.all([
          data.vocabulary(),
          ...["label", "top_token"].map((name) => data.column(data.manifest.links.length - 1, name)),
        ]).catch(() => null);
      }
      if (this.signal.aborted) return;
      this.say("");
      this.show(answer);
    } catch (error) {
      put(this.found);
      this.say(error.message);
    } finally {
      this.run.disabled = false;
    }
  }

  say(words) {
    this.status.textContent = words;
    this.status.classList.toggle("notice", Boolean(words) && !this.run.disabled);
  }

  show({ tokens, steps, pieces = [] }) {
    const features = steps[0]?.features.map((one) => one.feature) ?? [];
    const acts = new Map(
      steps.map((step) => [step.lm_step, new Map(step.features.map((one) => [one.feature, one.acts]))]),
    );
    const most = new Map(
      features.map((feature) => [
        feature,
        Math.max(...steps.map((step) => Math.max(0, ...acts.get(step.lm_step).get(feature)))),
      ]),
    );
    if (!features.length)
      return put(
        this.found,
        el("p", { class: "empty", text: "No feature fires on this text at these steps." }),
      );
    say(`${features.length} features`);
    const given = { tokens, steps, features, acts, most, pieces };
    return put(this.found, this.byFeature(given), this.byToken(given));
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

  byFeature({ tokens, steps, features, acts, most, pieces }) {
    const apart = !tokens.slice(1).some((token) => /^\s/.test(token)); // tokens that carry no blanks
    return el(
      "section",
      { class: "box", "aria-label": "By feature" },
      el(
        "h2",
        {},
        "By feature",
        el("span", {
          class: "muted",
          text: " strongest on the text first; shaded by activation, of the feature's largest here",
        }),
      ),
      features.map((feature) =>
        el(
          "div",
          { class: "own-feature" },
          el(
            "p",
            { class: "line" },
            this.name(feature, steps.at(-1).lm_step),
            el("span", { class: "muted", text: `largest ${short(most.get(feature))}` }),
          ),
          el(
            "table",
            { class: "plain own-lines" },
            el(
              "tbody",
              {},
              steps.map((step) => {
                const own = acts.get(step.lm_step).get(feature);
                const line = tokens.map((token, at) =>
                  tokenSpan(
                    pieces[at]?.[0] > 1 ? "·" : apart && at ? ` ${token}` : token,
                    most.get(feature) ? own[at] / most.get(feature) : 0,
                    { title: own[at] > 0 ? `activation ${short(own[at])}` : null },
                  ),
                );
                return el(
                  "tr",
                  {},
                  el("th", { scope: "row", class: "number", text: whole(step.lm_step) }),
                  el("td", { class: "sentence", dir: "ltr" }, line),
                );
              }),
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
