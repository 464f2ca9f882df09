// Numbers, tokens and names as a reader likes them.

import { LABEL_NAMES } from "./classes.js";

/** Words of the pages that need a sentence. */
export const OTHER_MEANINGS = {
  "formed at": "The LM step from which on the feature's label and tokens are those of the last LM step.",
  density: "The share of tokens on which the feature fires.",
  progress:
    "How alike the feature's contexts of the last LM step are at this step, by the LM's residuals or by the SAE's activations, less what random contexts reach.",
  "explained by the token alone":
    "The share of the activation's variance that one number for each token explains, found on the token's other occurrences: 1 for a feature that only looks at the token itself.",
  "quarters of contexts":
    "All places where the feature fires, ordered by activation and cut into four equal parts; two places of each are shown.",
  "collapsed checkpoint":
    "Residual vectors of unrelated tokens point nearly the same way there: cosines and maps say little.",
  control:
    "What comes out without what is claimed: an LM that stands still, or random directions and contexts. Each curve names its own. What lies within its band needs no explanation; what lies outside may still have a simple one.",
  "above the band of progress":
    "The feature's contexts share something. One token is enough for that: look at the share explained by the token.",
  "noise control":
    "A chain over an LM that stands still. Whatever changes in it comes from training the SAEs alone.",
};
export const GROUP_NAMES = {
  top: "Strongest",
  q4: "Upper quarter of its activations",
  q3: "Third quarter",
  q2: "Second quarter",
  q1: "Weakest quarter",
  silent: "Does not fire here",
};

export const labelName = (name) => LABEL_NAMES[name] ?? plain(name);
export const capital = (text) => text[0].toUpperCase() + text.slice(1);
export const plain = (name) => String(name ?? "").replaceAll("_", " ");
const NUMBERS = new Intl.NumberFormat("en-US"); // made once: making it costs more than using it
export const whole = (value) => NUMBERS.format(Number(value));

/** Three digits, without noise behind them. */
export function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Number.isInteger(value)) return whole(value);
  const size = Math.abs(value);
  if (size >= 10_000) return whole(Math.round(value));
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  if (size >= 0.01) return value.toFixed(size >= 1 ? 2 : 3);
  if (size >= 0.001) return value.toFixed(4);
  return value.toExponential(1).replace("e-", "e−");
}

/** LM steps in the room of a tick: 512, 1k, 143k. */
export function stepShort(step) {
  if (step < 10_000) return step < 1000 ? String(step) : `${+(step / 1000).toFixed(1)}k`;
  return step < 1e6 ? `${Math.round(step / 1000)}k` : `${+(step / 1e6).toFixed(1)}M`;
}

/** A share in percent, with a digit behind the point. */
export function percent(share) {
  if (share === null || share === undefined || Number.isNaN(share)) return "–";
  const value = 100 * share;
  return `${value !== 0 && value < 1 ? short(value) : value.toFixed(1)} %`;
}

const SIGNS = { "\n": "⏎", "\r": "␍", "\t": "⇥", " ": " " };
// Control characters, signs without width, and those that turn the direction of writing.
const UNSEEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

function sign(character) {
  if (SIGNS[character]) return SIGNS[character];
  const code = character.codePointAt(0);
  if (code < 32) return String.fromCodePoint(0x2400 + code);
  if (code === 127) return "␡";
  return `⟨${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
}

/** A token's text within a sentence: what cannot be seen is shown by signs. */
export function tokenText(text) {
  return String(text ?? "").replace(UNSEEN, sign);
}

/** A token alone: blanks at its ends are shown too, since they tell tokens apart. */
export function tokenAlone(text) {
  if (text === undefined || text === null) return "–";
  const shown = tokenText(text).replace(/^ +| +$/g, (blanks) => "·".repeat(blanks.length));
  if (shown === "") return "(empty)";
  return shown.length > 40 ? `${shown.slice(0, 39)}…` : shown;
}

/** What first, before and last mean on a chain that is trained from the last LM step back to the first. */
export function reverseNote({ direction: way, links }) {
  if (way !== "reverse" || !links.length) return null;
  const [first, last] = [links[0].lm_step, links.at(-1).lm_step].map(whole);
  return `A reverse chain: trained from the last checkpoint back to the first; shown here in the order of the LM's steps. “First” means LM step ${first}, “last” and “final” LM step ${last}, “before” the next lower LM step.`;
}

export const direction = (name) =>
  name === "reverse" ? "reverse: from the last LM step to the first" : plain(name);
