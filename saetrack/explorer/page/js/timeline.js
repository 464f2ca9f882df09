// Where links lie on an axis of LM steps, and which of them is chosen.

import { stepShort, whole } from "./words.js";

/** Positions of links from 0 to 1: by the logarithm of their LM step, or evenly by link. */
export class Steps {
  constructor(links, kind) {
    this.links = links;
    const count = links.length;
    const steps = links.map((link) => link.lm_step);
    const place = steps.map((step) => Math.log2(1 + step));
    const low = Math.min(...place);
    const high = Math.max(...place);
    // A chain that stands still has all its links at one step.
    this.standing = low === high && count > 1;
    this.kind = this.standing || new Set(steps).size < count ? "link" : kind;
    this.order = steps.map((_, link) => link);
    this.rank = new Map(this.order.map((link, rank) => [link, rank]));
    this.positions = place.map((at, link) => {
      if (count === 1) return 0.5;
      return this.kind === "log" ? (at - low) / (high - low) : link / (count - 1);
    });
  }

  /** The link nearest to a position. */
  nearest(at) {
    let best = 0;
    this.positions.forEach((position, link) => {
      if (Math.abs(position - at) < Math.abs(this.positions[best] - at)) best = link;
    });
    return best;
  }

  /** The link some places further along the axis, or the last in that direction. */
  beside(link, by) {
    const rank = Math.min(this.order.length - 1, Math.max(0, this.rank.get(link) + by));
    return this.order[rank];
  }

  /** The position of any LM step, between those of links. */
  xOf(step) {
    const places = this.order.map((link) => [this.links[link].lm_step, this.positions[link]]);
    if (step <= places[0][0]) return places[0][1];
    for (let at = 1; at < places.length; at++) {
      const [[lowStep, low], [highStep, high]] = [places[at - 1], places[at]];
      if (step <= highStep) {
        const log = (value) => Math.log2(1 + value);
        return low + (high - low) * ((log(step) - log(lowStep)) / (log(highStep) - log(lowStep) || 1));
      }
    }
    return places.at(-1)[1];
  }

  /** From where to where a link's cell reaches: half way to its neighbours. */
  cells() {
    const edges = new Map();
    this.order.forEach((link, rank) => {
      const here = this.positions[link];
      const before = rank ? (this.positions[this.order[rank - 1]] + here) / 2 : 0;
      const after = rank + 1 < this.order.length ? (here + this.positions[this.order[rank + 1]]) / 2 : 1;
      edges.set(link, [before, after]);
    });
    return edges;
  }

  /** Links whose names have room along the axis, at least so far apart. */
  named(apart) {
    const shown = [];
    const all = [...this.order].reverse(); // the last link is always named
    for (const link of all) {
      if (shown.every((other) => Math.abs(this.positions[other] - this.positions[link]) >= apart))
        shown.push(link);
    }
    return shown;
  }

  tick(link) {
    return this.standing ? `#${link + 1}` : stepShort(this.links[link].lm_step);
  }
}

/** The chosen link, the one beside it and the kind of axis, kept in the page's address. */
export class Timeline {
  constructor(links, state) {
    this.state = state;
    this.grow(links);
  }

  grow(links) {
    this.links = links;
    this.unique = new Set(links.map((link) => link.lm_step)).size === links.length;
  }

  get steps() {
    const kind = this.state.get("scale", "log");
    if (this.made?.links !== this.links || this.asked !== kind) {
      this.made = new Steps(this.links, kind);
      this.asked = kind;
    }
    return this.made;
  }

  get link() {
    return this.#linkOf(this.state.get("step")) ?? this.links.length - 1;
  }

  get beside() {
    return this.#linkOf(this.state.get("beside"));
  }

  /** How the address names a link: by its LM step, or by step and number where that is not enough. */
  nameOf(link) {
    const { lm_step } = this.links[link];
    return this.unique ? String(lm_step) : `${lm_step}@${link}`;
  }

  go(link) {
    this.state.set({ step: this.nameOf(link) });
  }

  move(by) {
    this.go(this.steps.beside(this.link, by));
  }

  /** In words: "step 512". */
  words(link) {
    const { lm_step } = this.links[link];
    return this.unique ? `step ${whole(lm_step)}` : `step ${whole(lm_step)}, link ${link + 1}`;
  }

  /** A line for each step of the address that the chain has not; what is shown instead. */
  get strays() {
    return ["step", "beside"].flatMap((parameter) => {
      const name = this.state.get(parameter);
      if (name === null || this.#exactly(name) !== null) return [];
      const shown = this.#linkOf(name);
      const instead =
        shown !== null
          ? `LM ${this.words(shown)} is shown, the nearest one`
          : parameter === "step"
            ? `LM ${this.words(this.links.length - 1)} is shown`
            : "one step alone is shown";
      return [`The address asks for ${parameter}=${name}, which is no LM step of this chain: ${instead}.`];
    });
  }

  #exactly(name) {
    const [, step, at] = /^(\d+)(?:@(\d+))?$/.exec(name) ?? [];
    if (at !== undefined)
      return Number(at) < this.links.length && this.links[at].lm_step === Number(step) ? Number(at) : null;
    const found = step === undefined ? -1 : this.links.findLastIndex((link) => link.lm_step === Number(step));
    return found >= 0 ? found : null;
  }

  #linkOf(name) {
    if (name === null) return null;
    const exactly = this.#exactly(name);
    if (exactly !== null) return exactly;
    const step = Number(name.split("@")[0] || NaN);
    if (!Number.isFinite(step)) return null;
    // The address may come from an analysis of more links: the nearest one is shown.
    let best = 0;
    this.links.forEach((link, at_) => {
      if (Math.abs(link.lm_step - step) < Math.abs(this.links[best].lm_step - step)) best = at_;
    });
    return best;
  }
}
