// What somebody typed: the number of a feature, or a text as the page writes it.

/** The number in "19", "#19" or "feature 19"; null if it is a text. */
export function numberNamed(typed) {
  const [, number] = /^(?:feature\s*)?#?\s*(\d{1,9})$/i.exec(typed.trim()) ?? [];
  return number === undefined ? null : Number(number);
}

/** The feature of that number; null if the chain has none, or it is a text. */
export function featureNamed(typed, d_sae) {
  const number = numberNamed(typed);
  return number !== null && number < d_sae ? number : null;
}

const WRITTEN = { "⏎": "\n", "␍": "\r", "⇥": "\t", "␡": "\u007f" };

/** What a sign stands for that the page writes for a character without one (`sign` of words.js). */
function written(sign) {
  if (WRITTEN[sign]) return WRITTEN[sign];
  if (sign.startsWith("⟨")) return String.fromCodePoint(parseInt(sign.slice(1, -1), 16));
  return String.fromCharCode(sign.charCodeAt(0) - 0x2400);
}

/** The text that is meant where it was copied from the page, which shows blanks at a token's ends as ·. */
export function asMeant(typed) {
  const meant = typed
    .replace(/^·+|·+$/g, (dots) => " ".repeat(dots.length))
    .replace(/[⏎␍⇥␡\u2400-\u241f]|⟨(?:[0-9A-F]{4,5}|10[0-9A-F]{4})⟩/g, written);
  return /[^ ]/.test(meant) ? meant : typed; // the sign itself
}
