// Lists of features: named, exported, imported.

import { address } from "./address.js";
import { button, el, put, say } from "./dom.js";
import { fromCsv } from "./csv.js";
import { home } from "./data.js";
import { addToList, asCsv, keep, lists } from "./lists.js";
import { tokenAlone, whole } from "./words.js";

const SHOWN = 200;
const KEEPS_NONE = "This browser keeps no lists: its storage is full or switched off.";

export async function listsPage({ root, data }) {
  const page = new Lists(root, data);
  if (data.manifest.analysed)
    await Promise.all([data.vocabulary(), data.column(data.manifest.links.length - 1, "top_token")]).catch(
      () => null,
    );
  page.draw();
  return [];
}

class Lists {
  constructor(root, data) {
    Object.assign(this, { root, data });
    this.status = el("p", { class: "muted", role: "status" });
    this.file = el("input", {
      type: "file",
      accept: ".csv,.tsv,text/csv,text/tab-separated-values",
      class: "unseen",
      "aria-label": "CSV file with features",
      onchange: () => this.import(),
    });
    this.body = el("div");
    root.append(
      el(
        "div",
        { class: "chain-head line" },
        el("h1", { text: "Lists" }),
        button("Import CSV", () => this.file.click()),
        this.file,
      ),
      el("p", {
        class: "muted",
        text: "Lists are kept in this browser, for all chains. A CSV takes them elsewhere: it has the columns chain, feature, step and address; an import needs chain and feature, or address.",
      }),
      this.status,
      this.body,
    );
  }

  draw() {
    const all = lists();
    put(
      this.body,
      all.length
        ? all.map((list) => this.list(list))
        : el("p", {
            class: "empty",
            text: "There is no list yet. “Save as list” above the table keeps the features that it shows; a lasso on the map chooses some; “Add to list” keeps a single one.",
          }),
    );
  }

  list(list) {
    const here = list.items.some((item) => item.chain === this.data.name);
    const name = el("input", {
      type: "text",
      value: list.name,
      "aria-label": `Name of the list ${list.name}`,
      maxlength: 80,
      onchange: () => this.rename(list.name, name),
    });
    return el(
      "section",
      { class: "box", "aria-label": `List ${list.name}` },
      el(
        "header",
        { class: "line" },
        name,
        el("span", {
          class: "muted",
          text: `${whole(list.items.length)} ${list.items.length === 1 ? "feature" : "features"}`,
        }),
        here
          ? el("a", {
              class: "button",
              href: address([this.data.name], { list: list.name }),
              text: "Show on the map",
            })
          : null,
        button("Export CSV", () => this.export(list)),
        button("Delete", () => this.delete(list.name)),
      ),
      el(
        "ul",
        { class: "list-items" },
        list.items.slice(0, SHOWN).map((item) => this.item(list, item)),
      ),
      list.items.length > SHOWN
        ? el("p", { class: "muted", text: `and ${whole(list.items.length - SHOWN)} more` })
        : null,
    );
  }

  item(list, item) {
    const own = item.chain === this.data.name;
    const top = own
      ? (this.data.columnNow(this.data.manifest.links.length - 1, "top_token")?.[item.feature] ?? -1)
      : -1;
    return el(
      "li",
      {},
      el("a", {
        href: address([item.chain, item.feature], { step: item.step }),
        text: own ? item.feature : `${item.chain} ${item.feature}`,
      }),
      top >= 0 ? el("span", { class: "tok", text: tokenAlone(this.data.vocabularyNow?.[top]) }) : null,
      button("×", () => this.remove(list.name, item), {
        class: "icon tiny",
        "aria-label": `Take feature ${item.feature} away`,
      }),
    );
  }

  change(change, words) {
    if (keep(change(lists()))) this.status.textContent = words;
    else this.status.textContent = KEEPS_NONE;
    this.draw();
    say(this.status.textContent);
  }

  rename(old, field) {
    const name = field.value.trim();
    if (!name || lists().some((list) => list.name === name)) {
      this.status.textContent = name ? `There is a list ${name} already.` : "A list needs a name.";
      field.value = old;
      return;
    }
    this.change(
      (all) => all.map((list) => (list.name === old ? { ...list, name } : list)),
      `The list is called ${name} now.`,
    );
  }

  remove(name, item) {
    const others = (list) =>
      list.items.filter((other) => other.chain !== item.chain || other.feature !== item.feature);
    this.change(
      (all) => all.map((list) => (list.name === name ? { ...list, items: others(list) } : list)),
      `Feature ${item.feature} is no longer in ${name}.`,
    );
  }

  delete(name) {
    const gone = lists().find((list) => list.name === name);
    this.change((all) => all.filter((list) => list.name !== name), `The list ${name} is deleted.`);
    this.status.append(
      " ",
      button("Undo", () => this.change((all) => [gone, ...all], `The list ${name} is back.`), {
        class: "small",
      }),
    );
  }

  export(list) {
    const url = URL.createObjectURL(
      new Blob([asCsv(list, location.href.split("#")[0])], { type: "text/csv" }),
    );
    const link = el("a", { href: url, download: `${list.name.replace(/[^\w.-]+/g, "-")}.csv` });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  async import() {
    const [file] = this.file.files;
    if (!file) return;
    const [text, found] = await Promise.all([file.text(), home().catch((error) => error)]);
    this.file.value = "";
    if (found instanceof Error) return (this.status.textContent = found.message);
    const sizes = new Map(found.chains.map((chain) => [chain.name, chain.d_sae]));
    const { rows, items, left } = fromCsv(text, sizes);
    const name = file.name.replace(/\.[ct]sv$/i, "").slice(0, 80);
    const added = items.length ? addToList(name, items) : 0;
    this.status.textContent =
      added === null ? KEEPS_NONE : importWords(file.name, name, { rows, left, taken: items.length, added });
    this.draw();
  }
}

const NAMED = 10; // features of rows that are left out, of each reason

/** How many rows are left out for a reason, and which features they name. */
function leftWords([why, features]) {
  const named = [...new Set(features)].filter(Boolean);
  const more = named.length > NAMED ? ` and ${whole(named.length - NAMED)} more` : "";
  const listed = named.slice(0, NAMED).map((name) => (name.length > 20 ? `${name.slice(0, 19)}…` : name));
  return `${whole(features.length)} ${why}${named.length ? `: ${listed.join(", ")}${more}` : ""}`;
}

/** How many rows of a file are taken, and why others are not. */
function importWords(file, name, { rows, left, taken, added }) {
  const outside = left.size ? ` Left out: ${[...left].map(leftWords).join("; ")}.` : "";
  if (!taken)
    return `${file}: none of its ${whole(rows)} rows is taken. It must have columns chain and feature, or a column address.${outside}`;
  const known = added < taken ? `, ${whole(taken - added)} of which it had already` : "";
  return `${whole(taken)} of ${whole(rows)} rows are taken into the list ${name}${known}.${outside}`;
}
