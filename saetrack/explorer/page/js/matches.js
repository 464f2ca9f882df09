// Partners of a feature in other chains: each compares one step of this chain with one of another.

import { address } from "./address.js";
import { el } from "./dom.js";
import { plain, short, whole } from "./words.js";

const WHY =
  "A single trajectory can be rounding noise: training amplifies the last digit of any number. What comes out again in another seed is more than that.";
/** What a good match with a control says, by the control's kind; others say nothing by it. */
const GOOD_WITH = {
  "control: LM that stays random": "A good match here says that this does not need the LM's training.",
  "control: LM that stays trained":
    "That LM no longer changes, so such a feature does not need the way through the checkpoints.",
};

/** All matches: those of the shown step first, the others apart. `known`: chains that can be opened. */
export function matches(life, manifest, timeline, known) {
  const node = el("section", { class: "fact matches" }, el("h3", { text: "Matches in other chains" }));
  if (!manifest.matches.length) {
    node.append(el("p", { class: "muted", text: "This analysis matched no other chain." }));
    return node;
  }
  const found = pairs(life, manifest, timeline);
  const isHere = ({ match, other }) => comparesShown(match ?? other, timeline);
  const here = found.filter(isHere);
  const elsewhere = found.filter((pair) => !isHere(pair));
  node.append(
    group(`Compared at this step, LM ${timeline.words(timeline.link)}`, here, timeline, known, true),
    group("Compared at other steps: not of what is shown above", elsewhere, timeline, known, false),
    el("p", { class: "muted small-text", text: WHY }),
  );
  return node;
}

/** Each matched chain with this feature's partner, if it has one; those that should show the same first. */
function pairs(life, manifest, timeline) {
  const isControl = (other) => other.role === "noise";
  return [...manifest.matches]
    .sort((a, b) => isControl(a) - isControl(b))
    .flatMap((other) => {
      const own = life.matches.filter((match) => match.chain === other.chain);
      return own.length ? own.map((match) => ({ other, match })) : [{ other, match: null }];
    });
}

/** Whether a match is of the step that is shown; of an LM that stands still, its last link. */
function comparesShown({ lm_step }, timeline) {
  return timeline.links.findLastIndex((link) => link.lm_step === lm_step) === timeline.link;
}

function group(title, found, timeline, known, isShown) {
  return el(
    "div",
    { class: `match-group ${isShown ? "here" : "elsewhere"}`, role: "group", "aria-label": title },
    el("h4", { text: title }),
    found.length
      ? found.map((pair) => (pair.match ? oneMatch(pair, timeline, known, isShown) : noPartner(pair)))
      : el("p", { class: "muted", text: isShown ? "No chain was matched at this step." : "None." }),
  );
}

const nameOf = (other) => plain(other.name ?? other.chain);

function noPartner({ other }) {
  return el("p", {
    class: "muted",
    text: `${nameOf(other)}: it has no partner at step ${whole(other.lm_step)}.`,
  });
}

function oneMatch({ other, match }, timeline, known, isShown) {
  const isControl = other.role === "noise";
  return el(
    "div",
    { class: `match${match.poor ? " poor" : isControl ? " noise" : ""}`, title: other.text },
    el(
      "p",
      { class: "match-title" },
      el("strong", { text: nameOf(other) }),
      el("span", {
        class: `badge${isControl ? "" : " good"}`,
        title: isControl
          ? "A control: it shows what the method does by itself."
          : "It should show the same as this chain.",
        text: isControl ? "noise control" : plain(other.role),
      }),
    ),
    el(
      "p",
      {},
      `this chain's step ${whole(match.lm_step)} with `,
      partner(match, known),
      ` at its step ${whole(match.other_lm_step ?? match.lm_step)}`,
      el("br"),
      el("span", { class: "muted", text: quality(match) }),
    ),
    meaning(other, match, isShown),
    match.poor
      ? el("p", {
          class: "notice",
          text: "⚠ Poor match: this may be another feature. Do not read its life as that of this one.",
        })
      : null,
  );
}

function partner(match, known) {
  const { chain, feature } = match;
  const text = `feature ${feature}`;
  if (!known.has(chain)) return el("span", { title: "Its chain cannot be opened here", text });
  const step = match.other_lm_step ?? match.lm_step;
  return el("a", { href: address([chain, feature], { step }), text });
}

function quality({ activation_correlation, chance, decoder_cosine }) {
  const cosine = `decoder cosine ${short(decoder_cosine)}`;
  if (activation_correlation === null) return cosine;
  const shuffled = chance === null || chance === undefined ? "" : `; shuffled tokens reach ${short(chance)}`;
  return `correlation of activations ${short(activation_correlation)}${shuffled}; ${cosine}`;
}

/** What a good match with a control says; only of the step that is shown. */
function meaning(other, match, isShown) {
  if (!isShown || match.poor) return null;
  const text = GOOD_WITH[match.kind ?? other.kind];
  return text ? el("p", { class: "muted", text }) : null;
}
