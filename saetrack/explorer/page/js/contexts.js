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

/** Contexts with the same words in the window become one. */
function folded(contexts, options) {
  if (!options.fold) return contexts.map((context) => ({ context, times: 1 }));
  const found = new Map();
  for (const context of contexts) {
    const { from, to } = windowOf(context, options);
    const key = `${context.group}|${context.ids.slice(from, to).join(" ")}`;
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
  const column = (at, marks, note) =>
    columnOf(life.links[at].contexts, {
      data,
      options,
      maxAct: maxOf(at),
      marks,
      heading: note,
      title: `LM ${timeline.words(at)}`,
    });
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
  const strongest = (at) => life.links[at].contexts.filter((context) => context.group === 0);
  const keys = [first, second].map((at) => new Set(strongest(at).map(keyOf)));
  const gone = strongest(first).filter((context) => !keys[1].has(keyOf(context))).length;
  const fresh = strongest(second).filter((context) => !keys[0].has(keyOf(context))).length;
  const both = strongest(second).length - fresh;
  const summary = `Of the strongest contexts, ${both} stay, ${gone} are gone and ${fresh} are new.`;
  return el(
    "div",
    { class: "contexts" },
    el("p", {
      class: "muted beside-words",
      text: `${summary} A context is the same if it is the same place in the text.`,
    }),
    el(
      "div",
      { class: "two" },
      column(first, (context) => (keys[1].has(keyOf(context)) ? null : "gone"), "earlier"),
      column(second, (context) => (keys[0].has(keyOf(context)) ? null : "new"), "later"),
    ),
    shading(),
  );
}

function columnOf(contexts, { data, options, maxAct, marks, heading, title }) {
  const { manifest } = data;
  const node = el("div", { class: `context-column${options.align ? " aligned" : ""}` });
  if (heading) node.append(el("h3", {}, title, el("span", { class: "muted", text: ` ${heading}` })));
  const firing = contexts.filter((context) => manifest.context_groups[context.group] !== "silent");
  if (!firing.length)
    node.append(
      el("p", {
        class: "empty",
        text: `It fires on no token of the text at this step${contexts.length ? ". Below are contexts as they are anywhere." : "."}`,
      }),
    );
  manifest.context_groups.forEach((name, group) => {
    const own = contexts.filter((context) => context.group === group);
    if (!own.length) return;
    const list = el(
      "ol",
      { class: "context-list" },
      folded(own, options).map((one) =>
        contextRow(one, { data, options, maxAct, mark: group === 0 && marks ? marks(one.context) : null }),
      ),
    );
    node.append(
      el(
        "section",
        { class: `group g-${name}`, "aria-label": GROUP_NAMES[name] ?? plain(name) },
        el("h4", { text: GROUP_NAMES[name] ?? plain(name) }),
        list,
      ),
    );
  });
  return node;
}

function contextRow({ context, times }, { data, options, maxAct, mark }) {
  const [before, peak, after] = contextParts(context, data.vocabularyNow, maxAct, options);
  const place = `row ${whole(context.row)}, position ${context.position} of the analysis text`;
  return el(
    "li",
    { class: mark ? `mark-${mark}` : null, "data-place": keyOf(context) },
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
    mark ? el("span", { class: `badge mark ${mark}`, text: mark }) : null,
  );
}
