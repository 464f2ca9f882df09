// What the page shows is in its address: #/CHAIN/FEATURE?step=...

const WORDS = new Set(["search", "text", "lists"]);

/** The view that an address names: {kind, chain, feature, params}. */
export function parse(hash = location.hash) {
  const [path, query = ""] = hash.replace(/^#/, "").split("?");
  const params = new URLSearchParams(query);
  const parts = path.split("/").filter(Boolean).map(decoded);
  if (!parts.length) return { kind: "home", params };
  if (parts[0] === "lists" && parts.length === 1) return { kind: "lists", chain: null, params };
  const [chain, second] = parts;
  if (second === undefined) return { kind: "chain", chain, params };
  if (WORDS.has(second)) return { kind: second, chain, params };
  if (/^\d{1,9}$/.test(second)) return { kind: "feature", chain, feature: Number(second), params };
  return { kind: "unknown", chain, params };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The address of a view; parameters that are null are left out. */
export function address({ chain = null, rest = null, params = {} } = {}) {
  const path = [chain, rest]
    .filter((part) => part !== null)
    .map((part) => encodeURIComponent(part))
    .join("/");
  const kept = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== null && value !== undefined && value !== "") kept.set(name, value);
  }
  const query = kept.toString();
  return `#/${path}${query ? `?${query}` : ""}`;
}

/** Change some parameters of the present address without a new entry in the history. */
export function patch(changes) {
  const [path, query = ""] = location.hash.split("?");
  const params = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "") params.delete(name);
    else params.set(name, value);
  }
  const written = params.toString();
  history.replaceState(null, "", `${path || "#/"}${written ? `?${written}` : ""}`);
}

/** Go to an address, as a link would. */
export function go(target) {
  location.hash = target;
}
