"""Names and colours of controls and of single features, the same in every figure."""

from __future__ import annotations

from saetrack.utils.figures.style import BLUE, GREEN, ORANGE

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
