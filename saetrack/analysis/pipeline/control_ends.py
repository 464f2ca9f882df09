"""What a control's features mean at its first and its last link, which decide their patterns.

Of a control the two ends are read and nothing between: contexts at both, labelled under the
thresholds that random directions set there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from saetrack.analysis.contexts.liveness import live_features
from saetrack.analysis.meaning.patterns import trace_patterns
from saetrack.analysis.pipeline.chain_analysis import ChainAnalysis
from saetrack.analysis.pipeline.chain_reader import ChainReader
from saetrack.analysis.pipeline.checkpoint_result import readable
from saetrack.analysis.pipeline.registered_chain import RegisteredChain, by_links
from saetrack.lm.checkpoints.ahead import Ahead
from saetrack.utils.files import whole_folder

PATTERNS_FILE = "patterns.parquet"


@dataclass(frozen=True)
class ControlEnds:
    """The patterns of one control.

    Attributes:
        name: of the control.
        reader: of its first and last link.
    """

    name: str
    reader: ChainReader

    @property
    def label(self) -> str:
        """What is read, as a person names it."""
        return f"read · ends of {self.name}"

    @property
    def is_missing(self) -> bool:
        """Whether it is still to be read."""
        return not self._folder.exists()

    def read(self) -> None:
        """Read both ends, and keep the patterns.

        Raises:
            UserError: the LM or a link cannot be read.
        """
        reader = self.reader
        at_final, status = reader.meanings(reader.links[-1])
        at_first, _ = reader.meanings(reader.links[0])
        reader.loaded.drop()
        live = status["feature"].isin(live_features(status))
        with whole_folder(self._folder) as draft:
            trace_patterns([at_first, at_final]).assign(live=live).to_parquet(draft / PATTERNS_FILE)

    def patterns(self) -> pd.DataFrame:
        """As `saetrack.analysis.meaning.patterns.trace_patterns` of both ends; and `live`.

        Raises:
            UserError: the cache cannot be read.
        """
        with readable(self._folder):
            return pd.read_parquet(self._folder / PATTERNS_FILE)

    @property
    def _folder(self) -> Path:
        return self.reader.ends_folder


def control_ends(analysis: ChainAnalysis) -> list[ControlEnds]:
    """One for each control of an analysis; reads nothing."""
    return [
        ControlEnds(name, ChainReader(replace(analysis, registered=_ends(control), controls={})))
        for name, control in analysis.controls.items()
    ]


def _ends(control: RegisteredChain) -> RegisteredChain:
    """A control without the links between its first and its last."""
    standing = by_links(control)
    first, final = standing.links[0], standing.links[-1]
    read = [standing.standing or link.checkpoint for link in (final, first)]
    return replace(standing, links=[first, final], ahead=Ahead(control.ready.source, read))
