// Contexts of a feature at one step: tokens shaded by activation, in groups from the strongest down.

import { el, number, visible } from "./dom.js";

const GROUPS = {
  top: ["Strongest", "Of each text only the strongest place counts."],
  q4: [
    "Upper quarter of its activations",
    "Drawn at random from the quarter of the places with the largest activations.",
  ],
  q3: ["Second quarter", "Drawn at random."],
  q2: ["Third quarter", "Drawn at random."],
  q1: ["Weakest quarter", "Drawn at random from the places where the feature fires least."],
  silent: ["Does not fire", "Drawn at random from the places where it is silent."],
};
const SHADES = 10;

/** Choices that hold for all contexts of the page. */
export const choices = { width: "medium", lines: false, folded: true, groups: "all" };
const WIDTHS = { narrow: 5, medium: 12, wide: 999 };

/** The controls of `choices`; `onchange` draws again. */
export function choiceBar(onchange) {
  const select = (name, title, options) =>
    el(
      "label",
      {},
      `${title} `,
      el(
        "select",
        {
          "aria-label": title,
          onchange: (event) => {
            choices[name] = event.target.value;
            onchange();
          },
        },
        options.map(([value, text]) => el("option", { value, selected: choices[name] === value }, text)),
      ),
    );
  const tick = (name, title) =>
    el(
      "label",
      {},
      el("input", {
        type: "checkbox",
        checked: choices[name],
        onchange: (event) => {
          choices[name] = event.target.checked;
          onchange();
        },
      }),
      ` ${title}`,
    );
  return el(
    "div",
    { class: "filters" },
    select("groups", "Contexts", [
      ["all", "all strengths"],
      ["top", "the strongest"],
      ["rest", "weaker and silent"],
    ]),
    select("width", "Width", [
      ["narrow", "narrow"],
      ["medium", "medium"],
      ["wide", "as wide as kept"],
    ]),
    tick("lines", "line breaks"),
    tick("folded", "fold repeats"),
  );
}

/** The key by which two steps share a context. */
export const keyOf = (context) => `${context.row}:${context.position}`;

/** The words from one offset of a context's token up to another. */
export function wordsAround({ ids, first, position }, words, from, to) {
  const at = position - first;
  const text = ids
    .slice(Math.max(at + from, 0), at + to)
    .map((id) => words[id] ?? "")
    .join("");
  return visible(text, { blanks: false });
}

/** All contexts of one link. others: keys at the other step, or null; mark: what a key that they lack is called. */
export function contextList({ contexts, words, groupNames, others = null, mark = "new" }) {
  if (!contexts.length)
    return el("p", { class: "quiet" }, "The feature fires nowhere in the analysis text at this step.");
  const groups = new Map();
  for (const context of contexts) {
    const name = groupNames[context.group];
    if (choices.groups === "top" ? name !== "top" : choices.groups === "rest" && name === "top") continue;
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(context);
  }
  return el(
    "div",
    { class: "contexts" },
    [...groups].map(([name, found]) => {
      const [title, hint] = GROUPS[name] ?? [name, ""];
      return el(
        "section",
        {},
        el("h3", { title: hint }, title),
        el(
          "ol",
          { class: "context-rows" },
          fold(found).map(({ context, times }) =>
            row(context, times, { words, others, mark, silent: name === "silent", top: name === "top" }),
          ),
        ),
      );
    }),
  );
}

/** Contexts with the same words around them, once each. */
function fold(contexts) {
  if (!choices.folded) return contexts.map((context) => ({ context, times: 1 }));
  const seen = new Map();
  for (const context of contexts) {
    const [from, to] = around(context, 5);
    const key = context.ids.slice(from, to).join(" ");
    if (seen.has(key)) seen.get(key).times += 1;
    else seen.set(key, { context, times: 1 });
  }
  return [...seen.values()];
}

function around({ ids, position, first }, tokens) {
  const at = position - first;
  return [Math.max(0, at - tokens), Math.min(ids.length, at + Math.ceil(tokens / 2) + 1)];
}

function row(context, times, { words, others, mark, silent, top }) {
  const [from, to] = around(context, WIDTHS[choices.width]);
  const here = context.position - context.first;
  const tokens = [];
  for (let i = from; i < to; i += 1)
    tokens.push(token(words[context.ids[i]] ?? `#${context.ids[i]}`, context.acts[i], i === here, context));
  const isNew = others && top && !others.has(keyOf(context));
  return el(
    "li",
    { class: isNew ? `context is-${mark}` : "context" },
    el("span", { class: "act", title: "Activation at the marked token" }, silent ? "0" : number(context.act)),
    el("span", { class: choices.lines ? "text with-lines" : "text", dir: "auto" }, tokens),
    times > 1 ? el("span", { class: "badge", title: "Contexts with the same words" }, `${times}×`) : null,
    isNew ? el("span", { class: `badge ${mark}` }, mark) : null,
  );
}

function token(text, act, isHere, context) {
  const shade = act > 0 ? Math.max(1, Math.round((act / 255) * SHADES)) : 0;
  const strength =
    act > 0
      ? `, activation ${number((act / 255) * (context.scale ?? 1))}${context.scale ? "" : " of the largest"}`
      : "";
  const node = el("span", {
    class: `token a${shade}${isHere ? " here" : ""}`,
    title: `${visible(text)}${strength}`,
  });
  // Blanks stay blanks within running text; a token of blanks alone is shown by signs.
  node.textContent = visible(text, { blanks: text.trim() === "" && isHere });
  if (choices.lines && text.includes("\n")) node.append(el("br"));
  return node;
}
