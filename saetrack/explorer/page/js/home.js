// All chains of the registry as cards, by LM; those that are ticked are laid over one another.

import { address } from "./address.js";
import { sparkline } from "./chart.js";
import { comparison } from "./compare.js";
import { analysingWords, home } from "./data.js";
import { button, el, put, say } from "./dom.js";
import { Steps } from "./timeline.js";
import { percent, short, stepShort, whole } from "./words.js";

const LOOK_MS = 4000;
const CURVES = [
  ["explained_variance", "explained variance", short],
  ["l0", "L0", short],
  ["dead", "dead features", percent],
];

export async function homePage({ root, state, signal }) {
  const page = new Home(root, state);
  await page.look();
  const look = () => !document.hidden && page.look();
  const timer = setInterval(look, LOOK_MS);
  document.addEventListener("visibilitychange", look, { signal });
  signal.addEventListener("abort", () => clearInterval(timer));
  return [["c", "untick all chains", () => page.tick([])]];
}

class Home {
  constructor(root, state) {
    Object.assign(this, { root, state, last: "" });
    this.cards = new Map(); // by the chain's name: [what it shows, its node]
    this.head = el("div", { class: "home-head" });
    this.over = el("section", { class: "compare", "aria-label": "Chosen chains laid over one another" });
    this.groups = el("div", { class: "groups" });
    this.filter = el("input", {
      type: "search",
      placeholder: "Filter chains",
      "aria-label": "Filter chains by name",
      "data-search": true,
      value: state.get("q", ""),
      oninput: () => state.set({ q: this.filter.value }),
    });
    root.append(this.head, this.over, this.groups);
    state.on(["q", "with"], () => this.draw());
  }

  get ticked() {
    const known = new Set(this.chains.map((chain) => chain.name));
    return this.state
      .get("with", "")
      .split(",")
      .filter((name) => known.has(name));
  }

  tick(names) {
    this.state.set({ with: names.join(",") });
  }

  async look() {
    let found;
    try {
      found = await home();
    } catch (error) {
      if (!this.chains) throw error;
      found = { ...this.found, notice: error.message }; // what was there stays
    }
    const text = JSON.stringify(found);
    if (text === this.last) return;
    this.last = text;
    this.found = found;
    this.chains = found.chains;
    this.draw();
  }

  draw() {
    const { servers, notice } = this.found;
    const training = this.chains.filter((chain) => chain.training).length;
    const words = `${whole(this.chains.length)} ${this.chains.length === 1 ? "chain" : "chains"}${training ? `, ${training} in training` : ""}`;
    if (words !== this.said) {
      this.said = words;
      say(words);
    }
    if (!this.head.firstChild)
      this.head.append(
        el("h1", { text: "Chains" }),
        (this.count = el("p", { class: "muted" })),
        this.filter,
        (this.links = el("p", { class: "servers" })),
        (this.notice = el("p", { class: "notice", role: "status" })),
      );
    this.count.textContent = words;
    put(
      this.links,
      [
        ["mlflow", "MLflow"],
        ["prefect", "Prefect"],
      ]
        .filter(([name]) => servers[name])
        .map(([name, title]) =>
          el("a", { href: servers[name], target: "_blank", rel: "noopener", text: `${title} ↗` }),
        ),
    );
    this.notice.textContent = [notice, this.strayWords()].filter(Boolean).join(" ");
    this.notice.hidden = !this.notice.textContent;
    this.drawGroups();
    const names = this.ticked;
    const chosen = names.map((name) => this.chains.find((chain) => chain.name === name));
    comparison(this.over, chosen, (left) => this.tick(left), this.chains.length);
  }

  /** A line where the address names chains that there are not. */
  strayWords() {
    const asked = this.state.get("with", "").split(",").filter(Boolean);
    const stray = asked.filter((name) => !this.ticked.includes(name));
    return stray.length
      ? `The address asks for with=${stray.join(",")}, which is no chain of this registry: left out.`
      : "";
  }

  drawGroups() {
    const wanted = this.state.get("q", "").toLowerCase();
    const shown = this.chains.filter((chain) =>
      `${chain.name} ${chain.architecture} ${chain.hook}`.toLowerCase().includes(wanted),
    );
    // First what is training, then what can be explored; otherwise as the registry has them: newest first.
    const rank = (chain) => (chain.training ? 0 : chain.analysed ? 1 : 2);
    shown.sort((a, b) => rank(a) - rank(b));
    const groups = Map.groupBy ? Map.groupBy(shown, (chain) => chain.lm) : grouped(shown);
    const nodes = [...groups].map(([lm, chains]) =>
      el(
        "section",
        { "aria-label": `Chains over ${lm}` },
        el("h2", {}, lm, el("span", { class: "muted", text: ` ${whole(chains.length)}` })),
        el(
          "div",
          { class: "cards" },
          chains.map((chain) => this.card(chain)),
        ),
      ),
    );
    if (!this.chains.length)
      nodes.push(
        el("p", {
          class: "empty",
          text: "The registry has no chain yet. `saetrack track mini` trains one in a few minutes; it appears here while it is trained.",
        }),
      );
    else if (!shown.length) nodes.push(el("p", { class: "empty", text: "No chain has this in its name." }));
    const focused = document.activeElement?.closest?.("[data-chain] [data-focus], [data-chain] a");
    const [name, at] = focused ? [focused.closest("[data-chain]").dataset.chain, focused.dataset.focus] : [];
    put(this.groups, nodes);
    if (name && at)
      [...this.groups.querySelectorAll(`[data-focus="${at}"]`)]
        .find((node) => node.closest("[data-chain]").dataset.chain === name)
        ?.focus();
  }

  /** The same node as long as it would show the same. */
  card(chain) {
    const isTicked = this.ticked.includes(chain.name);
    const stamp = JSON.stringify(chain) + isTicked;
    const known = this.cards.get(chain.name);
    if (known?.[0] === stamp) return known[1];
    const node = card(chain, isTicked, () => {
      const others = this.ticked.filter((name) => name !== chain.name);
      this.tick(this.ticked.includes(chain.name) ? others : [...others, chain.name]);
    });
    this.cards.set(chain.name, [stamp, node]);
    return node;
  }
}

function grouped(chains) {
  const groups = new Map();
  for (const chain of chains) groups.set(chain.lm, [...(groups.get(chain.lm) ?? []), chain]);
  return groups;
}

/** How many features a chain has, and in a static site how many of them it keeps. */
function featuresOf({ d_sae, kept }) {
  if (kept && kept.features < kept.of)
    return `${whole(kept.features)} of ${whole(kept.of)} features in this site`;
  return d_sae ? `${whole(d_sae)} features` : null;
}

function card(chain, isTicked, onTick) {
  const facts = [
    chain.layer === null ? chain.hook : `layer ${chain.layer}`,
    chain.architecture,
    chain.direction,
    chain.seed === null ? null : `seed ${chain.seed}`,
    featuresOf(chain),
  ].filter(Boolean);
  const planned = chain.planned ? ` of ${chain.planned}` : "";
  const tick = el("input", {
    type: "checkbox",
    checked: isTicked,
    onchange: onTick,
    "data-focus": "tick",
    "aria-label": `Lay the curves of ${chain.name} over others`,
  });
  return el(
    "article",
    {
      class: `card${chain.training ? " training" : ""}${isTicked ? " ticked" : ""}`,
      "data-chain": chain.name,
    },
    el(
      "header",
      {},
      el("h3", {}, el("a", { href: address([chain.name]), "data-focus": "name", text: chain.name })),
      el("label", { class: "tick", title: "Lay over others" }, tick, el("span", { text: "compare" })),
    ),
    el("p", { class: "facts", title: chain.hook, text: facts.join(" · ") }),
    el(
      "p",
      { class: "state" },
      chain.training ? el("span", { class: "badge live", text: "training" }) : null,
      el("span", {
        text: `${chain.registered}${planned} ${chain.registered === 1 && !planned ? "link" : "links"}`,
      }),
      chain.planned
        ? el("progress", {
            max: chain.planned,
            value: chain.registered,
            "aria-label": "links done of planned",
          })
        : null,
      chain.analysed
        ? el("span", { class: "badge good", text: "analysed" })
        : el("span", { class: "badge", title: `saetrack analyze ${chain.name}`, text: "not analysed" }),
      chain.analysing
        ? el("span", {
            class: "badge live",
            title: analysingWords(chain.analysing),
            text: "being analysed",
          })
        : null,
      chain.warnings
        ? el("span", {
            class: "badge warn",
            title: "Warnings of the checks that follow each link: see its run in MLflow",
            text: `⚠ ${chain.warnings} ${chain.warnings === 1 ? "warning" : "warnings"}`,
          })
        : null,
    ),
    cardCurves(chain),
    cardLinks(chain),
  );
}

function cardCurves(chain) {
  if (!chain.registered) return el("p", { class: "muted", text: "No link is registered yet." });
  const links = chain.links.lm_step.map((lm_step) => ({ lm_step }));
  const steps = new Steps(links, "log");
  const standing = new Set(chain.links.lm_step).size === 1 && chain.registered > 1;
  const span = standing
    ? `by link: the LM stands still at step ${whole(chain.links.lm_step[0])}`
    : chain.registered > 1
      ? `steps ${stepShort(Math.min(...chain.links.lm_step))} to ${stepShort(Math.max(...chain.links.lm_step))}`
      : `step ${whole(chain.links.lm_step[0])}`;
  return el(
    "div",
    { class: "sparks" },
    CURVES.map(([name, title, words]) => {
      const values = chain.links[name] ?? [];
      return el(
        "figure",
        {},
        el("figcaption", {}, el("span", { text: title }), el("b", { text: words(values.at(-1)) })),
        sparkline(values, steps, `${title} over LM steps`, words),
      );
    }),
    el("p", { class: "span muted", text: span }),
  );
}

function cardLinks(chain) {
  const outside = { target: "_blank", rel: "noopener" };
  const figures = chain.analysis?.figures ?? [];
  return el(
    "footer",
    {},
    el("a", {
      href: address([chain.name]),
      text: chain.analysed ? "Explore features" : "Look at its curves",
    }),
    chain.mlflow ? el("a", { href: chain.mlflow, ...outside, text: "Run ↗" }) : null,
    chain.analysis?.mlflow ? el("a", { href: chain.analysis.mlflow, ...outside, text: "Analysis ↗" }) : null,
    figures.length
      ? el(
          "details",
          {},
          el("summary", { text: `${figures.length} ${figures.length === 1 ? "figure" : "figures"}` }),
          el(
            "ul",
            {},
            figures.map((figure) =>
              el("li", {}, el("a", { href: figure.address, ...outside, text: figure.title })),
            ),
          ),
        )
      : null,
  );
}
