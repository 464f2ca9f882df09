// From an address to a view: one is shown at a time, and lets go of what it holds when it ends.

import { address, go, parse } from "./address.js";
import { chainView } from "./chain.js";
import { begin, forget, home } from "./data.js";
import { announce, el } from "./dom.js";
import { featureView } from "./feature.js";
import { homeView } from "./home.js";
import { listsView } from "./lists.js";
import { textView } from "./own_text.js";
import { searchView } from "./search.js";
import { openHelp } from "./help.js";
import { themeButton } from "./theme.js";

const VIEWS = {
  home: homeView,
  chain: chainView,
  feature: featureView,
  search: searchView,
  text: textView,
  lists: listsView,
};
const ASK_MS = 15000;

const main = document.getElementById("main");
const query = document.getElementById("query");
let shown = null;
let asked = 0;
let stamp = null;

async function render() {
  const view = parse();
  const number = (asked += 1);
  document.body.classList.toggle("embedded", view.params.get("embed") === "1");
  if (view.kind === "search") query.value = view.params.get("q") ?? "";
  main.setAttribute("aria-busy", "true");
  let next;
  try {
    if (!(view.kind in VIEWS)) throw new Error("There is no such page. Go back to the list of chains.");
    next = await VIEWS[view.kind](view);
  } catch (error) {
    next = { node: failed(error), title: "not shown", keys: {} };
  }
  if (number !== asked) {
    next.end?.();
    return;
  }
  shown?.end?.();
  shown = next;
  main.replaceChildren(next.node);
  main.removeAttribute("aria-busy");
  document.title = `${next.title} · saetrack explorer`;
  crumbs(view);
  announce(next.title);
  window.scrollTo(0, 0);
}

function failed(error) {
  return el(
    "div",
    { class: "page" },
    el("h1", {}, "This cannot be shown"),
    el("p", { class: "warning", role: "alert" }, error.message),
    el("p", {}, el("a", { href: "#/" }, "All chains")),
  );
}

function crumbs(view) {
  const step = view.params.get("step");
  const chain = view.chain
    ? el("a", { href: address({ chain: view.chain, params: { step } }) }, view.chain)
    : null;
  document
    .getElementById("crumbs")
    .replaceChildren(
      ...[chain, view.kind === "feature" ? el("span", {}, `feature ${view.feature}`) : null].filter(Boolean),
    );
  document.getElementById("search").hidden = !view.chain;
  document.getElementById("tools").replaceChildren(
    ...[
      view.chain ? el("a", { href: address({ chain: view.chain, rest: "text" }) }, "Own text") : null,
      el("a", { href: "#/lists" }, "Lists"),
      el(
        "button",
        {
          type: "button",
          class: "icon",
          title: "Keys and help (?)",
          "aria-label": "Keys and help",
          onclick: openHelp,
        },
        "?",
      ),
      themeButton(),
    ].filter(Boolean),
  );
}

/** A chain that was analysed anew, or whose links grew, is read again where it is shown. */
async function lookForMore() {
  const view = parse();
  if (!view.chain || document.hidden) return;
  const { chains } = await home();
  const of = chains.find((one) => one.name === view.chain);
  const now = of && JSON.stringify([of.name, of.registered, of.analysed, of.analysis?.mlflow ?? null]);
  const grew = stamp !== null && now !== stamp && JSON.parse(stamp)[0] === view.chain;
  stamp = now ?? null;
  if (!grew) return;
  forget(view.chain);
  announce("The chain has grown.");
  await render();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches?.("input:not([type=range]):not([type=checkbox]), textarea, select");
  if (event.key === "Escape" && typing) event.target.blur();
  if (typing || document.querySelector("dialog[open]")) return;
  if (event.key === "/" && parse().chain) {
    event.preventDefault();
    query.focus();
    query.select();
  } else if (event.key === "?") {
    openHelp();
  } else if (
    shown?.keys[event.key] &&
    !(event.key === " " && event.target.matches("button, a, summary")) &&
    !(event.key.startsWith("Arrow") && event.target.matches("input[type=range]"))
  ) {
    event.preventDefault();
    shown.keys[event.key]();
  }
}

document.getElementById("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const { chain } = parse();
  if (chain && query.value.trim()) go(address({ chain, rest: "search", params: { q: query.value.trim() } }));
});
document.addEventListener("keydown", onKey);
window.addEventListener("hashchange", render);

try {
  const site = await begin();
  if (!site.static) setInterval(() => lookForMore().catch(() => {}), ASK_MS);
} catch (error) {
  main.replaceChildren(failed(error));
  throw error;
}
await render();
