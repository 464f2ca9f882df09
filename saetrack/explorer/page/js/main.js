// Which page an address shows, the bar above it, and what is renewed while it is open.

import { address, PageState, parse } from "./address.js";
import { chain, newest, Refused, theSite } from "./data.js";
import { button, el, put, say } from "./dom.js";
import { listenToKeys, showHelp } from "./keys.js";
import { chainPage } from "./chain.js";
import { featurePage } from "./feature.js";
import { homePage } from "./home.js";
import { listsPage } from "./lists_page.js";
import { ownTextPage } from "./own_text.js";
import { featureNamed } from "./query.js";
import { searchPage } from "./search.js";

const LOOK_MS = 8000; // for a chain that grows
const NEWS_MS = 10_000;
const TABS = [
  ["", "Features"],
  ["search", "Search"],
  ["text", "Own text"],
  ["lists", "Lists"],
];
const PAGES = { search: searchPage, text: ownTextPage, lists: listsPage };

let shown = null;

/** The page of an address. */
function pageOf(parts) {
  if (!parts.length) return homePage;
  if (parts.length === 1) return chainPage;
  if (parts.length > 2) return null;
  return /^\d+$/.test(parts[1]) ? featurePage : (PAGES[parts[1]] ?? null);
}

async function show() {
  const { parts, params } = parse(location.hash);
  if (!shown || shown.path !== parts.join("\n")) return mount(parts, params);
  frame(params);
  shown.state.follow(params);
}

/** A page alone, or a panel of it, for a frame of another page. */
function frame(params) {
  document.documentElement.classList.toggle("embedded", params.get("embed") === "1");
  document.documentElement.dataset.panel = params.get("panel") ?? "";
}

async function mount(parts, params) {
  shown?.end.abort();
  const end = new AbortController();
  const mine = (shown = { path: parts.join("\n"), state: new PageState(parts, params), end, keys: [] });
  frame(params);
  document.title = parts.length ? `${parts.slice(0, 2).join(" · ")} · saetrack` : "saetrack explorer";
  drawBar(parts);
  const main = document.getElementById("main");
  try {
    const page = pageOf(parts);
    if (!page) throw new Refused(`There is no page ${parts.slice(1).join("/")}.`);
    const data = parts.length ? await chain(parts[0]) : null;
    if (end.signal.aborted) return;
    mine.data = data;
    if (data && data.name !== parts[0]) {
      parts = wholeAddress(mine, data.name);
      drawBar(parts);
    }
    const root = el("div", { class: `page page-${page.name.replace("Page", "")}` });
    const keys = await page({ root, data, parts, state: mine.state, signal: end.signal });
    if (end.signal.aborted) return;
    mine.keys = keys ?? [];
    put(main, root);
    root.dispatchEvent(new Event("shown"));
    requestAnimationFrame(() => setTimeout(() => performance.mark("shown"))); // for who measures
  } catch (error) {
    mine.refused = true;
    if (!end.signal.aborted) refuse(main, parts, error);
  }
  if (end.signal.aborted) return;
  listenToKeys([...mine.keys, ...common(parts, mine)], end.signal);
}

/** The address with a chain's whole name in place of a beginning of it. */
function wholeAddress(mine, name) {
  const parts = [name, ...mine.state.parts.slice(1)];
  Object.assign(mine, { path: parts.join("\n") });
  mine.state.parts = parts;
  history.replaceState(null, "", address(parts, Object.fromEntries(mine.state.params)));
  return parts;
}

function refuse(main, parts, error) {
  if (!(error instanceof Refused)) console.error(error);
  const line = error instanceof Refused ? error.message : `The page failed: ${error.message}`;
  put(
    main,
    el(
      "div",
      { class: "page refused", role: "alert" },
      el("h1", { text: "This cannot be shown" }),
      el("p", { text: line }),
      el(
        "p",
        {},
        button("Try again", () => again()),
        " ",
        parts.length > 1 ? el("a", { href: address([parts[0]]), text: "The chain" }) : null,
        parts.length > 1 ? " · " : null,
        el("a", { href: "#/", text: "All chains" }),
      ),
    ),
  );
  say(line);
}

function again() {
  const { parts, params } = parse(location.hash);
  return mount(parts, params);
}

function common(parts, mine) {
  return [
    ["?", null, () => showHelp(mine.keys)],
    ["t", null, () => toggleTheme()],
    [
      "/",
      null,
      () => {
        const field = document.querySelector("[data-search]");
        if (field?.offsetParent) field.select();
        else if (parts.length) location.hash = address([parts[0], "search"]);
      },
    ],
  ];
}

/** To the feature that somebody named, or to the features that have a text. */
function find(typed) {
  const { data, state } = shown;
  const feature = data?.manifest.analysed ? featureNamed(typed, data.manifest.d_sae) : null;
  const step = feature === null ? null : state.get("step");
  location.hash = address(
    feature === null ? [state.parts[0], "search"] : [data.name, feature],
    feature === null ? { q: typed } : { step },
  );
}

function drawBar(parts) {
  const bar = document.getElementById("bar");
  const [name] = parts;
  const here = parts.length > 1 && !/^\d+$/.test(parts[1]) ? parts[1] : "";
  const shows = `${name}\n${here}`;
  if (bar.dataset.shows === shows) return; // the bar of one feature is that of the next
  bar.dataset.shows = shows;
  const form =
    name &&
    el(
      "form",
      {
        class: "find",
        role: "search",
        onsubmit: (event) => {
          event.preventDefault();
          find(event.target.elements.q.value);
        },
      },
      el("input", {
        type: "search",
        name: "q",
        placeholder: "Search features  /",
        "aria-label": "Search features of this chain",
        "data-search": here === "search" ? null : true,
        autocomplete: "off",
        spellcheck: "false",
      }),
    );
  put(
    bar,
    el(
      "a",
      { class: "brand", href: "#/", "aria-label": "saetrack: all chains" },
      el("img", { src: "icon.svg", alt: "", width: 20, height: 20 }),
      el("span", { text: "saetrack" }),
    ),
    name
      ? el("a", { class: "chain-name", href: address([name]), title: name, text: name })
      : el("span", { class: "chain-name muted", text: "explorer" }),
    name
      ? el(
          "nav",
          { "aria-label": "Pages of this chain" },
          TABS.map(([tab, title]) =>
            el("a", {
              href: address(tab ? [name, tab] : [name]),
              "aria-current": tab === here ? "page" : null,
              text: title,
            }),
          ),
        )
      : el("span", { class: "grow" }),
    here === "search" ? null : form,
    button("◐", () => toggleTheme(), {
      class: "icon",
      "aria-label": "Dark or light",
      title: "Dark or light (t)",
    }),
    button("?", () => showHelp(shown.keys), {
      class: "icon",
      "aria-label": "Keys and words",
      title: "Keys and words (?)",
    }),
  );
}

/** A chain that grew, or was analysed anew, is drawn again with the same address. */
async function lookForNews() {
  const of = shown;
  if (document.hidden || !of?.data || (await theSite()).static) return;
  const newer = await newest(of.data.name).catch(() => of.data);
  if (shown !== of || newer === of.data) return;
  const [before, now] = [of.data.manifest, newer.manifest];
  const grew = before.links.length !== now.links.length;
  const words = grew
    ? `The chain has ${now.links.length} links now.`
    : "The chain was analysed anew. This is the new analysis.";
  if (of.refused || [chainPage, featurePage].includes(pageOf(of.state.parts)))
    await mount(of.state.parts, new URLSearchParams([...of.state.params]));
  else of.data = newer; // what is being typed stays
  tell(words);
}

/** A line at the foot of the window for a while, which screen readers hear too. */
function tell(words) {
  const line = document.getElementById("news");
  line.textContent = words;
  line.hidden = false;
  setTimeout(() => (line.hidden = true), NEWS_MS);
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});
addEventListener("hashchange", show);
setInterval(lookForNews, LOOK_MS);
document.addEventListener("visibilitychange", lookForNews);
show();
