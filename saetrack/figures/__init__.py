"""Tables to figures; never loads a model."""

from saetrack.figures.chain import chain_figure
from saetrack.figures.comparison import curves_figure, matching_figure, speed_figure

__all__ = ["chain_figure", "curves_figure", "matching_figure", "speed_figure"]
