// A feature's contexts at a step: by quantile, tokens shaded; or at two steps, what is new and gone.

import { el, put, select, toggle } from "./dom.js";
import { contextParts, windowOf } from "./tokens.js";
import { GROUP_NAMES, plain, short, whole } from "./words.js";

const WINDOWS = {
  short: { before: 6, after: 4 },
  medium: { before: 12, after: 7 },
  long: { before: 99, after: 99 },
};
/** What the shades of tokens mean. */
const shading = () =>
  el(
    "p",
    { class: "muted small-text shading" },
    "Shade: activation,",
    ["a2", "a5", "a9"].map((shade) => el("i", { class: shade })),
    "the darkest is the feature's largest at this step. Underlined: the token that the context is shown for.",
  );

const keyOf = (context) => `${context.row}:${context.position}`;

/** The choices above contexts; they are kept in the address. */
export function contextTools(state, timeline) {
  const choice = (name, title, options, otherwise) =>
    select(title, options, state.get(name, otherwise), (value) =>
      state.set({ [name]: value === otherwise ? null : value }),
    );
  const named = () => (timeline.beside === null ? "" : timeline.nameOf(timeline.beside));
  const beside = select(
    "Second step, side by side",
    [
      ["", "one step"],
      ...timeline.steps.order.map((link) => [timeline.nameOf(link), `beside ${timeline.words(link)}`]),
    ],
    named(),
    (value) => state.set({ beside: value }),
  );
  state.on(["beside"], () => (beside.value = named()));
  return el(
    "div",
    { class: "context-tools" },
    beside,
    choice(
      "window",
      "Tokens around each",
      [
        ["short", "short window"],
        ["medium", "medium window"],
        ["long", "long window"],
      ],
      "medium",
    ),
    toggle("Align", state.get("align", "1") === "1", (on) => state.set({ align: on ? null : "0" }), {
      title: "Each context on one line, with its token in one column",
    }),
    toggle("Line breaks", state.get("breaks") === "1", (on) => state.set({ breaks: on ? "1" : null }), {
      title: "Break lines where the text does, instead of ⏎",
    }),
    toggle("Fold repeats", state.get("fold", "1") === "1", (on) => state.set({ fold: on ? null : "0" }), {
      title: "Show contexts with the same words once",
    }),
  );
}

function optionsOf(state) {
  return {
    ...(WINDOWS[state.get("window", "medium")] ?? WINDOWS.medium),
    breaks: state.get("breaks") === "1",
    fold: state.get("fold", "1") === "1",
    align: state.get("align", "1") === "1",
  };
}

/** The words that a window shows, and which of them is the context's own. */
function wordsKey(context, options) {
  const { from, to, peak } = windowOf(context, options);
  return `${peak - from}|${context.ids.slice(from, to).join(" ")}`;
}

/** Contexts with the same words in the window become one. */
function folded(contexts, options) {
  if (!options.fold) return contexts.map((context) => ({ context, times: 1 }));
  const found = new Map();
  for (const context of contexts) {
    const key = `${context.group}|${wordsKey(context, options)}`;
    const known = found.get(key);
    if (known) known.times++;
    else found.set(key, { context, times: 1 });
  }
  return [...found.values()];
}

/** All contexts of a feature as the address chooses them. */
export function contextsView(life, data, timeline, state) {
  const options = optionsOf(state);
  const maxOf = (link) =>
    life.curves.max_act?.[link] ?? Math.max(...life.links[link].contexts.map((context) => context.act), 0);
  const { link, beside } = timeline;
  const column = (at, mark, note) =>
    columnOf(life, at, { data, options, maxAct: maxOf(at), mark, note, title: `LM ${timeline.words(at)}` });
  if (beside === null || beside === link) {
    const node = column(link, null, null);
    if (beside === link)
      node.prepend(
        el("p", { class: "muted", text: "Both steps are the same: choose another one to see what changed." }),
      );
    return el("div", { class: "contexts" }, node, shading());
  }
  const [first, second] =
    timeline.steps.rank.get(beside) < timeline.steps.rank.get(link) ? [beside, link] : [link, beside];
  const { gone, fresh, words } = changes(life, [first, second], timeline);
  return el(
    "div",
    { class: "contexts" },
    el("p", { class: "muted beside-words", text: words }),
    el("div", { class: "two" }, column(first, gone, "earlier"), column(second, fresh, "later")),
    shading(),
  );
}

const strongestAt = (life, link) => life.links[link].contexts.filter((context) => context.group === 0);

const COMPARED = WINDOWS.medium; // however many tokens are shown: what is counted stays the same

/** Which of the strongest contexts of two links the other one has not, and that in words. */
function changes(life, links, timeline) {
  const held = links.map((link) => strongestAt(life, link));
  const known = held.map(
    (contexts) => new Set(contexts.flatMap((context) => [keyOf(context), wordsKey(context, COMPARED)])),
  );
  const lacks = (side) => (context) =>
    !known[side].has(keyOf(context)) && !known[side].has(wordsKey(context, COMPARED));
  const [gone, fresh] = [held[0].filter(lacks(1)), held[1].filter(lacks(0))];
  const [from, to] = links.map((link) => `LM ${timeline.words(link)}`);
  const [before, after] = held.map((contexts) => contexts.length);
  const words =
    `Of the ${before} strongest contexts held at ${from}, ${gone.length} are no longer among the ${after} strongest ` +
    `held at ${to}; of those ${after}, ${fresh.length} are newly among them. ` +
    "A context is the same if it is the same place in the text, or has the same words around it " +
    `(${COMPARED.before} tokens before and ${COMPARED.after} after, as far as there are any).${onlyKept(life)}`;
  return {
    gone: (context) =>
      lacks(1)(context)
        ? { kind: "gone", text: after ? `no longer among the ${after}` : "fires no longer" }
        : null,
    fresh: (context) => (lacks(0)(context) ? { kind: "new", text: `newly among the ${after}` } : null),
    words,
  };
}

/** Of a site that holds some of the contexts only these are compared. */
function onlyKept(life) {
  const { kept, of } = life.contexts ?? {};
  return kept && kept < of
    ? ` This site holds ${kept} of the ${of} contexts that the analysis kept at each step, and compares these alone: one that is said to be gone or new may be among the others.`
    : "";
}

function columnOf(life, link, { data, options, maxAct, mark, note, title }) {
  const { manifest } = data;
  const { contexts } = life.links[link];
  const node = el("div", { class: `context-column${options.align ? " aligned" : ""}` });
  if (note) node.append(el("h3", {}, title, el("span", { class: "muted", text: ` ${note}` })));
  const firing = contexts.filter((context) => manifest.context_groups[context.group] !== "silent");
  if (!firing.length)
    node.append(
      el("p", {
        class: "empty",
        text: `It fires on no token of the text at this step${contexts.length ? ". Below are contexts as they are anywhere." : "."}`,
      }),
    );
  let rows = 0;
  manifest.context_groups.forEach((name, group) => {
    const own = folded(
      contexts.filter((context) => context.group === group),
      options,
    );
    if (!own.length) return;
    rows += own.length;
    const row = (one) =>
      contextRow(one, { data, options, maxAct, mark: group === 0 && mark ? mark(one.context) : null });
    node.append(
      el(
        "section",
        { class: `group g-${name}`, "aria-label": GROUP_NAMES[name] ?? plain(name) },
        el("h4", { text: GROUP_NAMES[name] ?? plain(name) }),
        el("ol", { class: "context-list" }, own.map(row)),
      ),
    );
  });
  if (contexts.length) node.append(countWords(life, manifest, link, rows));
  return node;
}

/** How many contexts are shown, of how many; and on how many its label was judged. */
function countWords(life, manifest, link, lines) {
  const { contexts, histogram } = life.links[link];
  const { kept, of, judged } = life.contexts ?? {};
  const places = histogram.reduce((sum, count) => sum + count, 0);
  const silent = contexts.filter(({ group }) => manifest.context_groups[group] === "silent").length;
  const sentences = [
    `${contexts.length - silent} of ${whole(places)} places where it fires are shown${silent ? `, and ${silent} where it does not` : ""}`,
    lines < contexts.length ? `those with the same words are one line: ${lines} lines` : null,
    kept && kept < of ? `this site holds ${kept} of the ${of} contexts that the analysis kept` : null,
    judged && judged !== strongestAt(life, link).length
      ? `its label was judged on its ${judged} strongest contexts, or as many as there are`
      : null,
  ];
  const text = `${sentences.filter(Boolean).join("; ")}.`;
  return el("p", { class: "muted small-text held", text });
}

function contextRow({ context, times }, { data, options, maxAct, mark }) {
  const [before, peak, after] = contextParts(context, data.vocabularyNow, maxAct, options);
  const place = `row ${whole(context.row)}, position ${context.position} of the analysis text`;
  return el(
    "li",
    { class: mark ? `mark-${mark.kind}` : null, "data-place": keyOf(context) },
    el("span", {
      class: "act",
      title: `activation ${short(context.act)}, ${place}`,
      text: context.act > 0 ? short(context.act) : "0",
    }),
    el(
      "span",
      { class: "sentence", dir: "ltr" },
      el("span", { class: "before" }, el("span", {}, before)),
      el("span", { class: "at" }, peak),
      el("span", { class: "after" }, after),
    ),
    times > 1
      ? el("span", { class: "badge", title: `${times} contexts have the same words`, text: `×${times}` })
      : null,
    mark
      ? el("span", { class: `badge mark ${mark.kind}`, title: `${mark.text} strongest`, text: mark.text })
      : null,
  );
}
