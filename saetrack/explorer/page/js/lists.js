// Lists of features that a person keeps, on their own machine: named, exported, imported.

import { address } from "./address.js";
import { el, integer, refill } from "./dom.js";

const KEY = "saetrack.lists";

function load() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return found && typeof found === "object" ? found : {};
  } catch {
    return {};
  }
}

function save(lists) {
  localStorage.setItem(KEY, JSON.stringify(lists));
}

export const namesOfLists = () => Object.keys(load());

/** Add features to a list, once each; how many there are then. */
export function addToList(name, features) {
  const lists = load();
  const known = new Map((lists[name] ?? []).map((of) => [`${of.chain} ${of.feature}`, of]));
  for (const of of features) known.set(`${of.chain} ${of.feature}`, of);
  lists[name] = [...known.values()];
  save(lists);
  return known.size;
}

const addressOf = ({ chain, feature, step }) => address({ chain, rest: String(feature), params: { step } });

const quoted = (text) => `"${String(text).replaceAll('"', '""')}"`;

function asCsv(features) {
  const root = location.href.split("#")[0];
  const rows = features.map((of) =>
    [quoted(of.chain), of.feature, of.step ?? "", quoted(root + addressOf(of))].join(","),
  );
  return ["chain,feature,step,address", ...rows].join("\r\n");
}

/** Features from what `asCsv` wrote, or from any table with the columns chain and feature. */
export function fromCsv(text) {
  const [head, ...rows] = text.trim().split(/\r?\n/).map(cells);
  const at = Object.fromEntries((head ?? []).map((name, i) => [name.trim().toLowerCase(), i]));
  if (!("chain" in at) || !("feature" in at))
    throw new Error("The file must be a table with the columns chain and feature.");
  return rows
    .filter((row) => row.length > 1)
    .map((row, i) => {
      const feature = Number(row[at.feature]);
      if (!Number.isInteger(feature) || feature < 0)
        throw new Error(`Row ${i + 2}: feature “${row[at.feature]}” is not a number.`);
      const step = at.step === undefined || row[at.step] === "" ? null : Number(row[at.step]);
      return { chain: row[at.chain], feature, step };
    });
}

function cells(line) {
  const found = [];
  for (const match of line.matchAll(/(?:"((?:[^"]|"")*)"|([^,]*))(?:,|$)/g)) {
    if (match.index === line.length && found.length) break;
    found.push(match[1] !== undefined ? match[1].replaceAll('""', '"') : match[2]);
  }
  return found;
}

export function listsView() {
  const node = el("div", { class: "page" });
  const said = el("p", { role: "status" });
  const draw = () => {
    const lists = load();
    const names = Object.keys(lists);
    refill(
      node,
      el("h1", {}, "Lists"),
      el(
        "p",
        { class: "quiet" },
        "Lists are kept in this browser alone. Export one to share it: the file holds each feature with its address.",
      ),
      el(
        "div",
        { class: "filters" },
        el(
          "label",
          { class: "small" },
          "Import a list (CSV) ",
          el("input", { type: "file", accept: ".csv,text/csv", onchange: take }),
        ),
      ),
      said,
      names.length
        ? names.map((name) => section(name, lists[name]))
        : el(
            "p",
            { class: "notice" },
            "There is no list yet. Draw around points of a chain's map, or choose “Add to a list” at a feature.",
          ),
    );
  };

  async function take(event) {
    const [file] = event.target.files;
    try {
      const features = fromCsv(await file.text());
      addToList(file.name.replace(/\.csv$/i, ""), features);
      draw();
      said.textContent = `${integer(features.length)} features were imported.`;
    } catch (error) {
      said.textContent = error.message;
    }
  }

  function section(name, features) {
    const change = (work) => {
      const lists = load();
      work(lists);
      save(lists);
      draw();
    };
    const download = () => {
      const link = el("a", {
        download: `${name}.csv`,
        href: URL.createObjectURL(new Blob([asCsv(features)], { type: "text/csv" })),
      });
      link.click();
      URL.revokeObjectURL(link.href);
    };
    return el(
      "section",
      { class: "panel" },
      el(
        "div",
        { class: "panel-head" },
        el("h2", {}, name, el("span", { class: "quiet" }, ` ${integer(features.length)} features`)),
        el("button", { type: "button", class: "small", onclick: download }, "Export CSV"),
        el(
          "button",
          {
            type: "button",
            class: "small",
            onclick: () => {
              const other = prompt("New name", name);
              if (other && other !== name)
                change((lists) => {
                  lists[other] = lists[name];
                  delete lists[name];
                });
            },
          },
          "Rename",
        ),
        el(
          "button",
          {
            type: "button",
            class: "small",
            onclick: () => confirm(`Delete the list “${name}”?`) && change((lists) => delete lists[name]),
          },
          "Delete",
        ),
      ),
      el(
        "ul",
        { class: "list-features" },
        features.slice(0, 500).map((of) =>
          el(
            "li",
            {},
            el("a", { href: addressOf(of) }, `${of.chain} · feature ${of.feature}`),
            of.step === null || of.step === undefined
              ? null
              : el("span", { class: "quiet" }, ` step ${integer(of.step)}`),
            el(
              "button",
              {
                type: "button",
                class: "icon",
                "aria-label": `Remove feature ${of.feature}`,
                onclick: () =>
                  change((lists) => {
                    lists[name] = lists[name].filter(
                      (other) => other.chain !== of.chain || other.feature !== of.feature,
                    );
                  }),
              },
              "✕",
            ),
          ),
        ),
      ),
      features.length > 500
        ? el("p", { class: "quiet" }, "The first 500 are shown; the export holds all.")
        : null,
    );
  }

  draw();
  return { node, title: "lists", keys: {} };
}
