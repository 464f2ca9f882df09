// Sentences of the corpus, with tokens shaded by how strongly a feature fires on them.

import { el } from "./dom.js";
import { short, tokenText } from "./words.js";

const SHADES = 9;

/** The class of an activation from 0 to 1; each shade is a step of opacity. */
export function shade(share) {
  return share > 0 ? `a${Math.max(1, Math.ceil(Math.min(1, share) * SHADES))}` : "";
}

const cut = (shown) => (shown.length > 60 ? `${shown.slice(0, 59)}…` : shown);

/** Texts that follow one another become one. */
function joined(parts) {
  const found = [];
  for (const part of parts) {
    if (typeof part === "string" && typeof found.at(-1) === "string") found.push(found.pop() + part);
    else found.push(part);
  }
  return found;
}

/** A token; a long one is cut, its whole text is its title. */
export function tokenSpan(text, share, { isPeak = false, breaks = false, title = null } = {}) {
  const shown = tokenText(text);
  const mark = [shade(share), isPeak ? "peak" : ""].filter(Boolean).join(" ");
  const node = el("span", {
    class: mark || null,
    title: title ?? (share > 0 ? `${shown}  ${short(share)}` : null),
    text: cut(shown),
  });
  return breaks && text.includes("\n") ? [node, el("br")] : node;
}

/** The part of a context that a window shows: where it begins and ends, and its own token. */
export function windowOf(context, { before, after }) {
  const peak = context.position - context.first;
  return { from: Math.max(0, peak - before), to: Math.min(context.ids.length, peak + after + 1), peak };
}

/** A context on one line: what is before, the token itself, what follows. */
export function contextParts(context, vocabulary, maxAct, { before, after, breaks = false }) {
  const { from, to, peak } = windowOf(context, { before, after });
  const span = (at) => {
    const share = context.acts[at] / 255;
    const text = vocabulary[context.ids[at]] ?? "";
    // Most tokens are plain: as text alone, neighbours in one piece, they cost the browser little.
    if (share === 0 && at !== peak && !(breaks && text.includes("\n"))) return cut(tokenText(text));
    const title = share > 0 ? `activation ${short(share * maxAct)}` : null;
    return tokenSpan(text, share, { isPeak: at === peak, breaks, title });
  };
  const range = (low, high) =>
    joined(Array.from({ length: Math.max(0, high - low) }, (_, at) => span(low + at)).flat());
  return [range(from, peak), peak < context.ids.length ? [span(peak)].flat() : [], range(peak + 1, to)];
}

/** The same in one piece. */
export function contextLine(context, vocabulary, options) {
  return el("span", { class: "context-line", dir: "auto" }, contextParts(context, vocabulary, 1, options));
}
