"""A chain's features matched with those of its controls, while the shared checkpoint is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from saetrack.analysis.pipeline.chain_analysis import ChainAnalysis
from saetrack.analysis.pipeline.checkpoint_result import readable
from saetrack.analysis.pipeline.config import AnalyzeConfig
from saetrack.analysis.pipeline.match_chains import match_links, shared_links
from saetrack.analysis.pipeline.registered_chain import RegisteredChain
from saetrack.chain.plan import Link
from saetrack.lm.hooked import HookedLM
from saetrack.registry import PulledLink
from saetrack.utils.files import content_hash, whole_folder

# Raise when matching changes, so that old tables are not taken for new ones.
MATCHING_VERSION = 2


@dataclass(frozen=True)
class ControlMatching:
    """The features of a chain and of a control at the last checkpoint that both have.

    Attributes:
        name: of the control.
        chains: that is analysed, and the control's.
        links: of both.
        config: of the analysis.
        folder: of the cache, where tables are kept.
    """

    name: str
    chains: tuple[RegisteredChain, RegisteredChain]
    links: tuple[Link, Link]
    config: AnalyzeConfig
    folder: Path

    @property
    def is_missing(self) -> bool:
        """Whether it is still to be measured."""
        return not self.folder.exists()

    @property
    def is_at_both_ends(self) -> bool:
        """Whether both links are the last of their chains, at which patterns end."""
        ends = (chain.links[-1].identity for chain in self.chains)
        return all(link.identity == end for link, end in zip(self.links, ends, strict=True))

    def measure(self, lm: HookedLM, pulled: PulledLink) -> None:
        """Match, and keep the tables."""
        both = pulled, self.chains[1].pull(self.links[1])
        pairs, numbers = match_links(self.chains, both, lm, self.config)
        lm_step = self.links[1].checkpoint.lm_step
        with whole_folder(self.folder) as draft:
            pairs.assign(lm_step=lm_step).to_parquet(draft / "pairs.parquet")
            numbers.assign(lm_step=lm_step).to_parquet(draft / "matching.parquet")

    def tables(self) -> dict[str, pd.DataFrame]:
        """`pairs` and `matching` of this control; it must have been measured.

        Raises:
            UserError: the cache cannot be read.
        """
        with readable(self.folder):
            return {
                name: pd.read_parquet(self.folder / f"{name}.parquet").assign(other=self.name)
                for name in ("pairs", "matching")
            }


def control_matchings(analysis: ChainAnalysis) -> list[ControlMatching]:
    """One for each control that shares a checkpoint with the chain; measures nothing."""
    config, registered = analysis.config, analysis.registered
    corpus_hash = registered.chain.corpus.sha256
    asked = [corpus_hash, config.match_tokens, config.leaves_bos_out, config.seed]
    matchings = []
    for name, control in analysis.controls.items():
        if links := shared_links(registered, control):
            key = content_hash([MATCHING_VERSION, *(link.identity for link in links), *asked])[:32]
            folder = analysis.settings.cache_dir / "matchings" / key
            matchings.append(ControlMatching(name, (registered, control), links, config, folder))
    return matchings
