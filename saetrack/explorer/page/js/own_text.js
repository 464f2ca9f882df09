// One's own text at some steps: which features fire where, tokens by steps.

import { address, patch } from "./address.js";
import { column, isStatic, ownText } from "./data.js";
import { el, integer, number, visible } from "./dom.js";
import { openChain } from "./fields.js";

const MOST_SIGNS = 2000;

export async function textView(view) {
  const opened = await openChain(view.chain);
  const { manifest } = opened;
  const node = el(
    "div",
    { class: "page" },
    el("h1", {}, "Your own text"),
    el("p", { class: "quiet" }, view.chain),
  );
  const shown = { node, title: "own text", keys: {} };
  if (isStatic()) {
    node.append(
      el(
        "p",
        { class: "notice" },
        "A static site cannot read a text: that needs a machine that loads the language model. Run ",
        el("code", {}, `saetrack explore ${view.chain}`),
        " there.",
      ),
    );
    return shown;
  }
  if (!manifest.links.length) {
    node.append(el("p", { class: "notice" }, "This chain has no link yet."));
    return shown;
  }
  const last = manifest.links.length - 1;
  const asked = (view.params.get("steps") ?? "").split(",").filter(Boolean).map(Number);
  const first = asked.length
    ? asked
    : [...new Set([0, Math.floor(last / 2), last])].map((i) => manifest.links[i].lm_step);
  const text = el("textarea", {
    rows: 3,
    maxlength: MOST_SIGNS,
    "aria-label": "Text",
    placeholder: "Type or paste a text …",
    value: view.params.get("text") ?? "",
  });
  const ticks = manifest.links.map((link) =>
    el(
      "label",
      { class: "chip" },
      el("input", { type: "checkbox", value: link.lm_step, checked: first.includes(link.lm_step) }),
      ` ${integer(link.lm_step)}`,
    ),
  );
  const answer = el("div", { "aria-live": "polite" });
  const run = el("button", { type: "submit", class: "primary" }, "Read it");
  const form = el(
    "form",
    {
      class: "panel",
      onsubmit: async (event) => {
        event.preventDefault();
        const steps = ticks
          .map((label) => label.querySelector("input"))
          .filter((box) => box.checked)
          .map((box) => Number(box.value));
        if (!text.value.trim() || !steps.length) {
          answer.replaceChildren(el("p", { class: "notice" }, "Give a text and at least one step."));
          return;
        }
        patch({ steps: steps.join(","), text: text.value });
        run.disabled = true;
        answer.replaceChildren(
          el("p", { class: "quiet" }, "The language model reads it; the first time at a step it is loaded …"),
        );
        try {
          const found = await ownText(view.chain, text.value, steps);
          answer.replaceChildren(table(view.chain, found, await namesAt(view.chain, opened, found.steps)));
        } catch (error) {
          answer.replaceChildren(el("p", { class: "warning" }, error.message));
        }
        run.disabled = false;
      },
    },
    text,
    el("fieldset", { class: "chips" }, el("legend", {}, "At these LM steps"), ticks),
    run,
  );
  node.append(form, answer);
  // Once the view is on the page: a form that is not cannot be sent.
  if (text.value && asked.length) setTimeout(() => form.isConnected && form.requestSubmit());
  return shown;
}

/** Of each step, what a feature is called there: its commonest token, if the chain was analysed. */
async function namesAt(chain, { manifest, words }, steps) {
  if (!manifest.analysed) return steps.map(() => () => "");
  return Promise.all(
    steps.map(async ({ lm_step: step }) => {
      const link = manifest.links.findIndex((of) => of.lm_step === step);
      if (link < 0) return () => "";
      const tokens = await column(chain, link, "top_token");
      return (feature) => (tokens[feature] >= 0 ? visible(words[tokens[feature]]) : "");
    }),
  );
}

/** Tokens downwards, steps to the right; of each token the features that fire most on it. */
function table(chain, { tokens, steps }, names) {
  const most = steps.map(({ features }) => Math.max(1e-9, ...features.flatMap(({ acts }) => acts)));
  const cell = ({ lm_step: step, features }, t, largest, name) => {
    const firing = features
      .filter(({ acts }) => acts[t] > 0)
      .sort((a, b) => b.acts[t] - a.acts[t])
      .slice(0, 4);
    return el(
      "td",
      {},
      firing.map(({ feature, acts }) =>
        el(
          "a",
          {
            class: `fires a${Math.max(1, Math.round((acts[t] / largest) * 10))}`,
            href: address({ chain, rest: String(feature), params: { step } }),
            title: `feature ${feature}: ${number(acts[t])}`,
          },
          String(feature),
          el("small", {}, ` ${name(feature)}`),
        ),
      ),
    );
  };
  return el(
    "div",
    { class: "panel scroll-x" },
    el(
      "p",
      { class: "quiet" },
      "Numbers are features, the strongest first, each with the token on which it fires most; the darker, the stronger at that step. Only the features that fire most on the whole text are looked at.",
    ),
    el(
      "table",
      { class: "own" },
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          el("th", { scope: "col" }, "token"),
          steps.map(({ lm_step: step }) => el("th", { scope: "col" }, `step ${integer(step)}`)),
        ),
      ),
      el(
        "tbody",
        {},
        tokens.map((token, t) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, el("span", { class: "token-chip" }, visible(token))),
            steps.map((of, i) => cell(of, t, most[i], names[i])),
          ),
        ),
      ),
    ),
  );
}
