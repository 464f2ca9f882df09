// Addresses: `#/NAME/FEATURE?step=...`. What a page shows is in its address, so that a link shows the same.

/** The parts of an address and its parameters. */
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const parts = path.split("/").filter(Boolean).map(decoded);
  return { parts, params: new URLSearchParams(query) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** An address from parts and parameters; those that are null or empty are left out. */
export function address(parts, params = {}) {
  const path = parts.map((part) => encodeURIComponent(part)).join("/");
  const given = Object.entries(params).filter(
    ([, value]) => value !== null && value !== undefined && value !== "",
  );
  const query = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return `#/${path}${query ? `?${query.replaceAll("%2C", ",").replaceAll("%3A", ":")}` : ""}`;
}

/** The parameters of the page that is shown; listeners hear what changed. */
export class PageState {
  constructor(parts, params) {
    this.parts = parts;
    this.params = new Map(params);
    this.listeners = [];
  }

  get(name, otherwise = null) {
    return this.params.get(name) ?? otherwise;
  }

  /** Change parameters, in the address too; null takes one out. */
  set(changes) {
    const changed = this.#change(changes);
    if (!changed.length) return;
    history.replaceState(null, "", address(this.parts, Object.fromEntries(this.params)));
    this.#tell(changed);
  }

  /** The address was changed from outside: by hand, or back and forward. */
  follow(params) {
    const gone = [...this.params.keys()].filter((name) => !params.has(name));
    const changed = this.#change({
      ...Object.fromEntries(gone.map((name) => [name, null])),
      ...Object.fromEntries(params),
    });
    this.#tell(changed);
  }

  /** Call a function when one of some parameters changes. */
  on(names, listener) {
    this.listeners.push([new Set(names), listener]);
  }

  /** Call a function when any parameter changes. */
  onAny(listener) {
    this.listeners.push([null, listener]);
  }

  #change(changes) {
    return Object.entries(changes)
      .filter(([name, value]) => {
        const next = value === null || value === undefined || value === "" ? undefined : String(value);
        if (this.params.get(name) === next) return false;
        if (next === undefined) this.params.delete(name);
        else this.params.set(name, next);
        return true;
      })
      .map(([name]) => name);
  }

  #tell(changed) {
    for (const [names, listener] of this.listeners) {
      if (changed.length && (!names || changed.some((name) => names.has(name)))) listener(changed);
    }
  }
}
