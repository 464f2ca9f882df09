// One's own text at any steps: which features fire where.

import { el, put, say, select, button } from "./dom.js";
import { home, Refused } from "./data.js";
import { Timeline } from "./timeline.js";
import { AnswerView } from "./own_text_answer.js";
import { whole } from "./words.js";

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
  const { own_text_characters } = await home();
  page.longest = own_text_characters ?? Infinity;
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
        length > this.longest / 2 ? `${whole(length)} of at most ${whole(this.longest)} characters` : "";
      this.length.classList.toggle("too-long", length > this.longest);
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
    this.answer = new AnswerView(this.found, data, state, timeline);
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
          this.oneStep(),
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
    this.root.prepend(
      el("p", { class: "notice stray", hidden: !this.strayWords(), text: this.strayWords() }),
    );
    if (this.text.value) this.read();
    else setTimeout(() => this.text.focus(), 0);
  }

  /** Why there is one box where a chain has many links. */
  oneStep() {
    const { links } = this.data.manifest;
    if (links.length < 2 || this.steps.length > 1) return null;
    const [box] = this.steps;
    box.checked = true;
    return el("p", {
      class: "muted small-text",
      text: `There is one step: every link of this chain reads the LM's step ${whole(box.value)}. The last link's SAE answers.`,
    });
  }

  /** A line where the address names steps that the chain has not. */
  strayWords() {
    const known = new Set(this.steps.map((box) => box.value));
    const stray = this.state
      .get("steps", "")
      .split(",")
      .filter((name) => name && !known.has(name));
    return stray.length
      ? `The address asks for steps=${stray.join(",")}, which ${stray.length > 1 ? "are no LM steps" : "is no LM step"} of this chain: left out.`
      : "";
  }

  async read() {
    const { data, state } = this;
    const steps = this.steps.filter((box) => box.checked).map((box) => Number(box.value));
    if (!this.text.value.trim()) return this.say("Type a text first.");
    if (!steps.length) return this.say("Choose an LM step first.");
    const length = [...this.text.value].length;
    if (length > this.longest)
      return this.say(`The text has ${whole(length)} characters; ${whole(this.longest)} are read at most.`);
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
      this.answer.show(answer);
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
}
