// All chains as cards by LM, and the ones that are ticked laid over one another.

import { address, patch } from "./address.js";
import { home } from "./data.js";
import { categorical } from "./colours.js";
import { coloured, el, integer, number, refill, share } from "./dom.js";
import { curves } from "./plot.js";

const ASK_MS = 5000;
const METRICS = [
  ["explained_variance", "Explained variance"],
  ["l0", "L0: active features per token"],
  ["dead", "Dead features (share)"],
  ["ce_loss_recovered", "CE loss recovered"],
];

export async function homeView(view) {
  const ticked = new Set((view.params.get("chains") ?? "").split(",").filter(Boolean));
  const node = el("div", { class: "page home" });
  let last = "";
  let state = null;

  async function ask() {
    const found = await home();
    const text = JSON.stringify(found);
    if (text === last) return;
    last = text;
    state = found;
    draw();
  }

  function draw() {
    const known = state.chains.map((of) => of.name);
    for (const name of [...ticked]) if (!known.includes(name)) ticked.delete(name);
    const byLm = grouped(state.chains);
    const focused = document.activeElement?.dataset?.chain;
    refill(
      node,
      el(
        "div",
        { class: "heading" },
        el("h1", {}, "Chains"),
        el(
          "p",
          { class: "quiet" },
          "Sparse autoencoders followed through a language model's training. Open a chain to see its features form; tick chains to lay their curves over one another.",
        ),
      ),
      state.notice ? el("p", { class: "warning" }, state.notice) : null,
      state.chains.length
        ? null
        : el(
            "p",
            { class: "notice" },
            "The registry holds no chain yet. ",
            el("code", {}, "saetrack track mini"),
            " trains one in a few minutes.",
          ),
      ticked.size ? compared() : null,
      [...byLm].map(([lm, chains]) =>
        el("section", {}, el("h2", { class: "lm" }, lm), el("div", { class: "cards" }, chains.map(card))),
      ),
      servers(state.servers ?? {}),
    );
    if (focused) node.querySelector(`input[data-chain="${CSS.escape(focused)}"]`)?.focus();
  }

  function card(of) {
    const lmSteps = of.links.lm_step;
    const tick = el("input", {
      type: "checkbox",
      "data-chain": of.name,
      checked: ticked.has(of.name),
      onchange: () => {
        if (tick.checked) ticked.add(of.name);
        else ticked.delete(of.name);
        patch({ chains: [...ticked].join(",") });
        draw();
      },
    });
    const done = of.planned ? `${of.registered} of ${of.planned} links` : `${of.registered} links`;
    const state_ = of.training
      ? el("span", { class: "badge live" }, "training now")
      : of.analysed
        ? el("span", { class: "badge" }, "features")
        : el("span", { class: "badge pale", title: "saetrack analyze shows its features" }, "not analysed");
    const title = of.conventional ? "conventional SAE" : `${of.direction} chain`;
    return el(
      "article",
      { class: "card" },
      el(
        "div",
        { class: "card-head" },
        el(
          "a",
          { class: "card-title", href: address({ chain: of.name }) },
          `${of.hook} · ${of.architecture}`,
        ),
        state_,
      ),
      el(
        "p",
        { class: "quiet" },
        `${title} · seed ${of.seed} · ${integer(of.d_sae ?? 0)} features`,
        el("br"),
        el("span", { class: "name" }, of.name),
      ),
      lmSteps.length > 1 ? sparkline(of) : null,
      el(
        "dl",
        { class: "facts" },
        METRICS.slice(0, 3).map(([name, title_]) => [
          el("dt", {}, title_.split(/[:(]/)[0]),
          el("dd", {}, name === "dead" ? share(of.links[name].at(-1)) : number(of.links[name].at(-1))),
        ]),
      ),
      progress(of, done),
      el(
        "div",
        { class: "card-foot" },
        el("label", {}, tick, " compare"),
        of.warnings
          ? el(
              "span",
              { class: "badge warn", title: "saetrack show says which" },
              `${of.warnings} warning${of.warnings > 1 ? "s" : ""}`,
            )
          : null,
        of.mlflow ? el("a", { href: of.mlflow, rel: "noreferrer" }, "MLflow run") : null,
        of.analysis?.figures?.length
          ? el(
              "details",
              {},
              el("summary", {}, "figures"),
              el(
                "ul",
                {},
                of.analysis.figures.map((figure) =>
                  el("li", {}, el("a", { href: figure.address, rel: "noreferrer" }, figure.title)),
                ),
              ),
            )
          : null,
      ),
    );
  }

  function progress(of, done) {
    if (!of.planned || of.registered >= of.planned) return el("p", { class: "quiet" }, done);
    return el(
      "div",
      { class: "progress" },
      el("progress", { max: of.planned, value: of.registered, "aria-label": `Links done of ${of.name}` }),
      el("span", { class: "quiet" }, done),
    );
  }

  function compared() {
    const chosen = state.chains.filter((of) => ticked.has(of.name));
    const steps = [...new Set(chosen.flatMap((of) => of.links.lm_step))].sort((a, b) => a - b);
    const colour = new Map(chosen.map((of, i) => [of.name, categorical(i)]));
    return el(
      "section",
      { class: "panel" },
      el(
        "div",
        { class: "panel-head" },
        el("h2", {}, "Laid over one another"),
        el(
          "button",
          {
            type: "button",
            class: "small",
            onclick: () => {
              ticked.clear();
              patch({ chains: null });
              draw();
            },
          },
          "Clear",
        ),
      ),
      el(
        "ul",
        { class: "legend" },
        chosen.map((of) => {
          return el("li", {}, coloured("swatch", colour.get(of.name)), of.name);
        }),
      ),
      el(
        "div",
        { class: "grid two" },
        METRICS.map(([name, title]) =>
          el(
            "div",
            {},
            el("h3", {}, title),
            curves({
              title,
              lmSteps: steps,
              width: 640,
              height: 210,
              lines: chosen.map((of) => ({
                name: of.name,
                values: of.links[name] ?? [],
                steps: of.links.lm_step,
                colour: colour.get(of.name),
                dashed: of.direction === "reverse",
              })),
            }).node,
          ),
        ),
      ),
    );
  }

  await ask();
  const timer = setInterval(() => document.hidden || ask().catch(() => {}), ASK_MS);
  return { node, title: "chains", keys: {}, end: () => clearInterval(timer) };
}

function sparkline(of) {
  const lmSteps = of.links.lm_step;
  // A chain whose LM stands still has all links at one step: they are shown by their numbers.
  const stands = new Set(lmSteps).size < lmSteps.length;
  return curves({
    title: `Explained variance of ${of.name}${stands ? ", by link" : ""}`,
    lmSteps: stands ? lmSteps.map((_, link) => link) : lmSteps,
    lines: [{ name: "explained variance", values: of.links.explained_variance }],
    width: 330,
    height: 84,
  }).node;
}

function servers({ mlflow, prefect }) {
  const links = [
    ["MLflow: runs, metrics, the registry of models", mlflow],
    ["Prefect: flows and their schedules", prefect],
  ].filter(([, where]) => where);
  return links.length
    ? el(
        "footer",
        { class: "foot" },
        links.map(([name, where]) => el("a", { href: where, rel: "noreferrer" }, name)),
      )
    : null;
}

function grouped(chains) {
  const found = new Map();
  for (const of of chains) {
    if (!found.has(of.lm)) found.set(of.lm, []);
    found.get(of.lm).push(of);
  }
  return found;
}
