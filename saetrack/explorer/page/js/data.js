// What the pages read, from a server or from the files of a static site: the difference ends here.

import { searchSite } from "./static_search.js";

const KEPT_BYTES = 256e6; // of columns; the oldest go first
const READERS = {
  u1: (buffer) => new Uint8Array(buffer),
  u2: (buffer) => new Uint16Array(buffer),
  u4: (buffer) => new Uint32Array(buffer),
  i2: (buffer) => new Int16Array(buffer),
  i4: (buffer) => new Int32Array(buffer),
  f4: (buffer) => new Float32Array(buffer),
  f2: (buffer) => Float32Array.from(new Uint16Array(buffer), half),
};

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

/** What lacks an analysis, in a line; the page opens by itself once there is one. */
export function notAnalysed(data, words) {
  const rest = data.analysing
    ? `${analysingWords(data.analysing)} This page opens by itself when it is done.`
    : `This makes it: saetrack analyze ${data.name}. This page opens by itself when it is done.`;
  return new Refused(`${words} ${rest}`);
}

/** Since when an analysis runs. */
export function analysingWords({ since }) {
  const began = since ? new Date(since) : null;
  const at = began && !Number.isNaN(began.getTime()) ? ` since ${began.toLocaleString()}` : "";
  return `An analysis of this chain is running${at}.`;
}

/** What went wrong, as a line for the reader. */
export class Refused extends Error {
  constructor(line, status = 0) {
    super(line);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer. Is `saetrack explore` still running?");
  }
  if (answer.ok) return answer;
  let line = `${path}: ${answer.status} ${answer.statusText}`;
  try {
    line = (await answer.json()).error ?? line;
  } catch {
    // a plain file server answers with a page of its own
  }
  throw new Refused(line, answer.status);
}

/** The bytes of a `.gz` file: some servers unpack it on the way, some do not. */
async function unpacked(answer) {
  const buffer = await answer.arrayBuffer();
  const [first, second] = new Uint8Array(buffer, 0, Math.min(2, buffer.byteLength));
  if (first !== 0x1f || second !== 0x8b) return buffer;
  const stream = new Blob([buffer]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

const json = (buffer) => JSON.parse(new TextDecoder().decode(buffer));

let site = null;
/** What kind of place the page lies in; asked once. */
export function theSite() {
  site ??= ask("site.json").then((answer) => answer.json());
  site.catch(() => (site = null));
  return site;
}

/** All chains. The links of each come by LM step, in whatever order they were trained: the server orders them. */
export const home = async () => (await ask("api/home.json")).json();

const chains = new Map();
/** A chain's data, the same object for each page that asks; what is known already is not asked for. */
export const chain = async (name) => chains.get(name) ?? newest(name);

/** The same as it is now: another object if the chain grew, or was analysed anew. */
export async function newest(name) {
  const of = await theSite();
  const [whole, manifest] = await manifestOf(name);
  // Links of an LM that stands still are told apart by their place, and are all at its step.
  const { standing = null } = manifest;
  if (standing !== null) for (const link of manifest.links) link.lm_step = standing;
  const stamp = JSON.stringify([
    manifest.analysed,
    manifest.analysis,
    manifest.links,
    manifest.live,
    manifest.notes,
  ]);
  const known = chains.get(whole);
  if (known?.stamp === stamp) {
    known.analysing = manifest.analysing ?? null; // which changes nothing of what is shown
    dispatchEvent(new Event("analysing"));
    return known;
  }
  const made = new ChainData(whole, manifest, of, stamp);
  chains.set(whole, made);
  return made;
}

/** A chain's whole name and its manifest; a beginning of the name is enough where only one has it. */
async function manifestOf(name) {
  const read = async (of) => (await ask(`api/chains/${encodeURIComponent(of)}/chain.json`)).json();
  try {
    const manifest = await read(name);
    return [manifest.name?.startsWith(name) ? manifest.name : name, manifest];
  } catch (error) {
    if (error.status !== 404) throw error;
    const names = (await home()).chains.map((chain) => chain.name);
    const found = names.filter((other) => other.startsWith(name));
    if (found.length > 1)
      throw new Refused(
        `${found.length} chains have a name that begins with ${name}: ${found.join(", ")}.`,
        404,
      );
    if (!found.length || found[0] === name)
      throw new Refused(`There is no chain whose name begins with ${name}: it is not registered here.`, 404);
    return [found[0], await read(found[0])];
  }
}

/** One chain: its manifest, columns, features. */
export class ChainData {
  constructor(name, manifest, site, stamp) {
    Object.assign(this, { name, manifest, site, stamp });
    this.analysing = manifest.analysing ?? null;
    this.at = `api/chains/${encodeURIComponent(name)}`;
    this.columns = new Map();
    this.features = new Map();
    this.bytes = 0;
    this.texts = null;
    const kept = site.static ? site.chains?.[name]?.features : null;
    this.kept = kept ? new Set(kept) : null;
  }

  /** The text of each token id. */
  vocabulary() {
    this.texts ??= (
      this.site.static
        ? ask(`${this.at}/vocabulary.json.gz`).then(unpacked).then(json)
        : ask(`${this.at}/vocabulary.json`).then((answer) => answer.json())
    ).then((texts) => (this.vocabularyNow = texts));
    this.texts.catch(() => (this.texts = null));
    return this.texts;
  }

  /** One value per feature: `link` is an index, or "chain". */
  column(link, name) {
    const key = `${link}/${name}`;
    let found = this.columns.get(key);
    if (found) {
      this.columns.delete(key); // to the end: it was used last
    } else {
      found = { values: null };
      found.promise = this.#readColumn(link, name).then((values) => {
        found.values = values;
        this.bytes += values.byteLength;
        this.#letGo();
        return values;
      });
      found.promise.catch(() => this.columns.delete(key));
    }
    this.columns.set(key, found);
    return found.promise;
  }

  /** The same if it is here already, without waiting. */
  columnNow(link, name) {
    return this.columns.get(`${link}/${name}`)?.values ?? null;
  }

  async #readColumn(link, name) {
    const facts = this.manifest.arrays[link === "chain" ? "of_chain" : "links"][name];
    if (!facts) throw new Refused(`The chain has no column ${name}.`);
    const path = `${this.at}/columns/${link}/${name}.bin`;
    const buffer = this.site.static
      ? await unpacked(await ask(`${path}.gz`))
      : await (await ask(path)).arrayBuffer();
    return READERS[facts.dtype](buffer);
  }

  #letGo() {
    for (const [key, { values }] of this.columns) {
      if (this.bytes <= KEPT_BYTES) return;
      if (!values) continue;
      this.bytes -= values.byteLength;
      this.columns.delete(key);
    }
  }

  /** Everything of one feature at all links. */
  feature(number) {
    let found = this.features.get(number);
    if (!found) {
      found = this.site.static ? this.#fromBlock(number) : this.#fromServer(number);
      found.catch(() => this.features.delete(number));
      this.features.set(number, found);
      if (this.features.size > 64) this.features.delete(this.features.keys().next().value);
    }
    return found;
  }

  async #fromServer(number) {
    return (await ask(`${this.at}/features/${number}.json`)).json();
  }

  async #fromBlock(number) {
    if (this.kept && !this.kept.has(number)) {
      throw new Refused(
        `This site holds ${this.kept.size.toLocaleString("en")} of the chain's features, and feature ${number} is not among them. ` +
          `All of them are shown by: saetrack explore ${this.name}`,
      );
    }
    const block = Math.floor(number / this.site.block);
    this.blocks ??= new Map();
    if (!this.blocks.has(block)) {
      const read = ask(`${this.at}/features/${block}.json.gz`).then(unpacked).then(json);
      read.catch(() => this.blocks.delete(block));
      this.blocks.set(block, read);
      if (this.blocks.size > 8) this.blocks.delete(this.blocks.keys().next().value);
    }
    return (await this.blocks.get(block))[number];
  }

  /** What was explained of the chain's features; nothing where that cannot be had. */
  explanations() {
    const path = `${this.at}/explanations.json`;
    this.explained ??= this.site.static
      ? ask(`${path}.gz`).then(unpacked).then(json)
      : ask(path).then((answer) => answer.json());
    this.explained = this.explained.catch(() => []);
    return this.explained;
  }

  /** Features by the texts of their tokens and contexts. */
  async search(query, limit = 50, offset = 0) {
    if (this.site.static) return searchSite(this, await this.#searchIndex(), query, limit, offset);
    const from = offset ? `&offset=${offset}` : "";
    return (await ask(`${this.at}/search.json?q=${encodeURIComponent(query)}&limit=${limit}${from}`)).json();
  }

  /** The contexts that a static site searches, as typed arrays by name. */
  #searchIndex() {
    this.index ??= this.#readIndex();
    this.index.catch(() => (this.index = null));
    return this.index;
  }

  async #readIndex() {
    const { contexts, arrays } = await (await ask(`${this.at}/search/index.json`)).json();
    const read = async ([name, { dtype }]) => [
      name,
      READERS[dtype](await unpacked(await ask(`${this.at}/search/${name}.bin.gz`))),
    ];
    return { contexts, ...Object.fromEntries(await Promise.all(Object.entries(arrays).map(read))) };
  }

  /** Which features fire on a text; an LM reads it. */
  async ownText(text, lm_steps, features) {
    const body = JSON.stringify({ text, lm_steps, features });
    const headers = { "Content-Type": "application/json" };
    return (await ask(`${this.at}/text.json`, { method: "POST", headers, body })).json();
  }
}
