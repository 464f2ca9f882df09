"""Names and colours of what features are, the same in every figure."""

from __future__ import annotations

from saetrack.analysis.meaning.labels import ABSENT, MEANINGFUL
from saetrack.utils.figures.style import BLUE, GREEN, GREY, ORANGE

# What a feature with enough contexts may be.
JUDGED = (*MEANINGFUL, "noise")
# The paper's blue, light red and dark red, in shades that also differ in lightness.
LABEL_COLOURS = {
    "token": BLUE,
    "weak_concept": "#E8998D",
    "concept": "#9B1B30",
    "noise": GREY,
    **dict(zip(ABSENT, ("#D9D9D9", "#BFBFBF", "#404040"), strict=True)),
}
LABEL_NAMES = {
    "token": "token-level",
    "weak_concept": "weak concept-level",
    "concept": "concept-level",
    "noise": "noise",
    "insufficient": "too few contexts",
    "ultra_low": "ultra-low",
    "dead": "dead",
}
CONTROL_COLOURS = {"random_directions": ORANGE, "first": GREEN}
CONTROL_NAMES = {
    "random_directions": "control: random directions' datapoints, chosen at the end",
    "first": "control: features' datapoints, chosen at the start",
}
CONTROL_NOUNS = {
    "random_directions": "random directions",
    "first": "features followed from the start",
}
# For single features: seven that can be told apart with any colour vision.
FEATURE_COLOURS = (BLUE, "#E69F00", "#009E73", "#9B1B30", "#CC79A7", "#56B4E9", "#000000")
