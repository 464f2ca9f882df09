// What a server answers, or the files of a static site: the rest of the page does not know which.

const KEPT_COLUMNS = 600;
const KEPT_FEATURES = 60;

let site = { static: false };
const kept = { manifests: new Map(), vocabularies: new Map(), columns: new Map(), features: new Map() };

/** Ask which of the two this is. */
export async function begin() {
  site = await answer("site.json");
  return site;
}

export const isStatic = () => site.static;

async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Is saetrack explore still running?");
  }
  if (response.ok) return response;
  let line = `${response.status} ${response.statusText}`;
  try {
    line = (await response.json()).error ?? line;
  } catch {
    // no JSON: the status must do
  }
  throw new Error(line);
}

async function answer(path, options) {
  return (await request(path, options)).json();
}

/** A file's bytes; those of a static site are compressed. */
async function bytes(path) {
  if (!site.static) return (await request(path)).arrayBuffer();
  const response = await request(`${path}.gz`);
  return new Response(response.body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

async function packed(path) {
  return site.static ? JSON.parse(new TextDecoder().decode(await bytes(path))) : answer(path);
}

/** Keep an answer, or its promise, and forget the oldest beyond `most`. */
function once(map, key, most, make) {
  if (map.has(key)) {
    const found = map.get(key);
    map.delete(key);
    map.set(key, found);
    return found;
  }
  const made = make();
  map.set(key, made);
  made.catch(() => map.delete(key));
  if (map.size > most) map.delete(map.keys().next().value);
  return made;
}

const root = (chain) => `api/chains/${encodeURIComponent(chain)}`;

export const home = () => answer("api/home.json");

/** The manifest of a chain's life store, or what the registry knows of a chain without one. */
export function manifest(chain) {
  return once(kept.manifests, chain, 8, () => answer(`${root(chain)}/chain.json`));
}

/** Forget what was read of a chain, which was analysed anew. */
export function forget(chain) {
  for (const map of Object.values(kept)) {
    for (const key of map.keys()) if (key === chain || key.startsWith(`${chain}\n`)) map.delete(key);
  }
}

export function vocabulary(chain) {
  return once(kept.vocabularies, chain, 4, () => packed(`${root(chain)}/vocabulary.json`));
}

const ARRAYS = {
  u1: Uint8Array,
  u2: Uint16Array,
  u4: Uint32Array,
  i2: Int16Array,
  i4: Int32Array,
  f4: Float32Array,
};

/** One value per feature. `link` is an index, or "chain". */
export function column(chain, link, name) {
  return once(kept.columns, `${chain}\n${link}\n${name}`, KEPT_COLUMNS, async () => {
    const { arrays } = await manifest(chain);
    const of = link === "chain" ? arrays.of_chain[name] : arrays.links[name];
    if (!of) throw new Error(`This chain has no column ${name}.`);
    const buffer = await bytes(`${root(chain)}/columns/${link}/${name}.bin`);
    return of.dtype === "f2" ? halves(new Uint16Array(buffer)) : new ARRAYS[of.dtype](buffer);
  });
}

/** Fetch columns that may be wanted next; what goes wrong is seen when they are. */
export function prefetch(chain, link, names) {
  for (const name of names) column(chain, link, name).catch(() => {});
}

function halves(bits) {
  const out = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i += 1) {
    const sign = bits[i] & 0x8000 ? -1 : 1;
    const exponent = (bits[i] >> 10) & 31;
    const fraction = bits[i] & 1023;
    if (exponent === 31) out[i] = fraction ? NaN : sign * Infinity;
    else
      out[i] =
        sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  }
  return out;
}

/** Everything of one feature, at all links. */
export function feature(chain, number) {
  return once(kept.features, `${chain}\n${number}`, KEPT_FEATURES, async () => {
    if (!site.static) return answer(`${root(chain)}/features/${number}.json`);
    const block = await packed(`${root(chain)}/features/${Math.floor(number / site.block)}.json`);
    if (!(number in block))
      throw new Error(`Feature ${number} is not part of this site, which holds some features only.`);
    return block[number];
  });
}

/** Features by the text of their commonest token and of their contexts. */
export async function search(chain, query, limit = 60) {
  if (!site.static) return answer(`${root(chain)}/search.json?q=${encodeURIComponent(query)}&limit=${limit}`);
  const [{ links }, texts] = await Promise.all([manifest(chain), vocabulary(chain)]);
  const wanted = query.trim().toLowerCase();
  const ids = new Set();
  texts.forEach((text, id) => {
    if (text.toLowerCase().includes(wanted)) ids.add(id);
  });
  const found = new Map();
  for (let link = 0; link < links.length; link += 1) {
    const tokens = await column(chain, link, "top_token");
    tokens.forEach((id, number) => {
      if (!ids.has(id)) return;
      if (!found.has(number)) found.set(number, { feature: number, text: texts[id], links: [] });
      found.get(number).links.push(link);
    });
  }
  const tokens = [...found.values()].sort((a, b) => b.links.length - a.links.length || a.feature - b.feature);
  return { q: query, tokens: tokens.slice(0, limit), contexts: null, truncated: tokens.length > limit };
}

/** Which features fire on a text of one's own. */
export function ownText(chain, text, lmSteps, features = 12) {
  const body = JSON.stringify({ text, lm_steps: lmSteps, features });
  const options = { method: "POST", headers: { "content-type": "application/json" }, body };
  return answer(`${root(chain)}/text.json`, options);
}
