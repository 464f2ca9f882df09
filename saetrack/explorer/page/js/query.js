// What somebody typed: the number of a feature, or a text as the page writes it.

/** The feature that "19", "#19" or "feature 19" names; null if it is a text. */
export function featureNamed(typed, d_sae) {
  const [, number] = /^(?:feature\s*)?#?\s*(\d{1,9})$/i.exec(typed.trim()) ?? [];
  return number !== undefined && Number(number) < d_sae ? Number(number) : null;
}

const WRITTEN = { "⏎": "\n", "␍": "\r", "⇥": "\t" };

/** The text that is meant where it was copied from the page, which shows blanks at a token's ends as ·. */
export function asMeant(typed) {
  const meant = typed
    .replace(/^·+|·+$/g, (dots) => " ".repeat(dots.length))
    .replace(/[⏎␍⇥]/g, (written) => WRITTEN[written]);
  return meant.trim() ? meant : typed; // the sign itself
}
