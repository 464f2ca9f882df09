// Written by `python -m saetrack.explorer.words`: change saetrack.analysis.meaning instead.

export const LABEL_NAMES = {
  "token": "one token",
  "several_tokens": "several tokens",
  "weak_concept": "weak concept",
  "concept": "concept",
  "contextual": "contextual, not coherent",
  "insufficient": "too few contexts",
  "ultra_low": "ultra-low",
  "dead": "dead"
};

export const LABEL_MEANINGS = {
  "token": "Four of five of its strongest contexts have one and the same token.",
  "several_tokens": "The token alone explains four fifths or more of its activation, and it is not one token or word: it fires on a list of tokens, related or not.",
  "weak_concept": "Four of five of its strongest contexts have forms of one word.",
  "concept": "Its strongest contexts have several words, the token alone does not explain when it fires, and the contexts are more alike than those of 95 % of random directions of which the same holds.",
  "contextual": "The token alone does not explain when it fires, and no likeness of its strongest contexts was found: it may still mean something that likeness does not show.",
  "insufficient": "It has too few contexts to be judged.",
  "ultra_low": "It fires so rarely that it is left out of the analyses.",
  "dead": "It fires on no token of the text."
};

export const PATTERN_MEANINGS = {
  "maintaining": "The same token, or the same several tokens, at the first LM step and at the last.",
  "shifting": "One or several tokens become other tokens, or a concept.",
  "grouping": "What was contextual and not coherent becomes tokens or a concept.",
  "merging": "One token becomes several: others join it that had features of their own at first.",
  "widening": "One token becomes several: others join it that had no feature of their own.",
  "narrowing": "Several tokens become one of them, or a concept becomes one or several tokens.",
  "kept_concept": "A concept stays on the same tokens.",
  "moved_concept": "A concept moves to other tokens.",
  "dissolving": "Tokens or a concept become contextual and not coherent.",
  "unformed": "Contextual and not coherent at the first LM step and at the last.",
  "late_born": "Dead or too rare at first, alive at the end.",
  "dying": "Alive at first, dead or too rare at the end.",
  "absent": "Dead or too rare at both ends."
};

export const MEANINGFUL = [
  "token",
  "several_tokens",
  "weak_concept",
  "concept"
];

export const JUDGED = [
  "token",
  "several_tokens",
  "weak_concept",
  "concept",
  "contextual"
];
