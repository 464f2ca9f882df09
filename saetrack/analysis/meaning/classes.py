"""The classes of features: their names, order, colours, what each means; and the paper's classes.

This is the only list of them. Figures, the explorer's page (`saetrack.explorer.words`), sheets and
explanations take names and sentences from here. How a feature gets its class is stated in
`saetrack.analysis.meaning.labels`.
"""

from __future__ import annotations

from dataclasses import dataclass

from saetrack.utils.figures.style import BLUE, GREY


@dataclass(frozen=True)
class FeatureClass:
    """What a feature may be.

    Attributes:
        name: in tables.
        title: in figures and on pages.
        meaning: one sentence, of a feature at a checkpoint.
        colour: on a light ground, as #rrggbb.
        dark_colour: the same on a dark ground.
    """

    name: str
    title: str
    meaning: str
    colour: str
    dark_colour: str


# Those with tokens or a likeness in common. Blues are of tokens, the paper's light and dark red of
# concepts; all differ in lightness too.
_MEANINGFUL = (
    FeatureClass(
        "token",
        "one token",
        "Four of five of its strongest contexts have one and the same token.",
        BLUE,
        "#3e9fe0",
    ),
    FeatureClass(
        "several_tokens",
        "several tokens",
        "The token alone explains four fifths or more of its activation, and it is not one token "
        "or word: it fires on a list of tokens, related or not.",
        "#7CC4EC",
        "#9BD5F5",
    ),
    FeatureClass(
        "weak_concept",
        "weak concept",
        "Four of five of its strongest contexts have forms of one word.",
        "#E8998D",
        "#f3b9ae",
    ),
    FeatureClass(
        "concept",
        "concept",
        "Its strongest contexts have several words, the token alone does not explain when it "
        "fires, and the contexts are more alike than those of 95 % of random directions of which "
        "the same holds.",
        "#9B1B30",
        "#dd4560",
    ),
)
_CONTEXTUAL = FeatureClass(
    "contextual",
    "contextual, not coherent",
    "The token alone does not explain when it fires, and no likeness of its strongest contexts was "
    "found: it may still mean something that likeness does not show.",
    GREY,
    "#8a929a",
)
_ABSENT = (
    FeatureClass(
        "insufficient",
        "too few contexts",
        "It has too few contexts to be judged.",
        "#D9D9D9",
        "#4b535b",
    ),
    FeatureClass(
        "ultra_low",
        "ultra-low",
        "It fires so rarely that it is left out of the analyses.",
        "#BFBFBF",
        "#5e676f",
    ),
    FeatureClass("dead", "dead", "It fires on no token of the text.", "#404040", "#343b42"),
)
CLASSES = (*_MEANINGFUL, _CONTEXTUAL, *_ABSENT)

MEANINGFUL = tuple(one.name for one in _MEANINGFUL)
CONTEXTUAL = _CONTEXTUAL.name
# What a feature with enough contexts may be.
JUDGED = (*MEANINGFUL, CONTEXTUAL)
TOKENS, CONCEPTS = ("token", "several_tokens"), ("weak_concept", "concept")
ABSENT = tuple(one.name for one in _ABSENT)
LABELS = tuple(one.name for one in CLASSES)
LABEL_NAMES = {one.name: one.title for one in CLASSES}
LABEL_MEANINGS = {one.name: one.meaning for one in CLASSES}
LABEL_COLOURS = {one.name: one.colour for one in CLASSES}

# The paper's classes (section 3, appendix F), in its order. Its last one is what is left over: also
# features that fire on a few tokens, which here are `several_tokens`.
PAPER_NAMES = {
    "token": "token-level",
    "weak_concept": "weak concept-level",
    "concept": "concept-level",
    "noise": "noise",
}
PAPER_CLASSES = tuple(PAPER_NAMES)
PAPER_COLOURS = {name: LABEL_COLOURS.get(name, GREY) for name in PAPER_CLASSES}
