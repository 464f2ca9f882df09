"""A chain's features matched with those of its controls, while the shared checkpoint is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from saetrack.analysis.geometry.inputs import DecoderLink
from saetrack.analysis.pipeline.chain_analysis import ChainAnalysis
from saetrack.analysis.pipeline.checkpoint_result import (
    DECODER_FILE,
    load_decoder,
    readable,
    save_decoder,
)
from saetrack.analysis.pipeline.match_chains import MatchedTokens, match_links, shared_links
from saetrack.analysis.pipeline.registered_chain import RegisteredChain, decoder_link
from saetrack.chain.plan import Link
from saetrack.lm.hook import Hook
from saetrack.lm.hooked import HookedLM
from saetrack.registry import PulledLink
from saetrack.utils.files import content_hash, whole_folder

# Raise when matching changes, so that old tables are not taken for new ones.
MATCHING_VERSION = 1


@dataclass(frozen=True)
class ControlMatching:
    """The features of a chain and of a control at the last checkpoint that both have.

    Attributes:
        name: of the control.
        control: its chain.
        links: the chain's link and the control's.
        hook: that both read.
        tokens: on which activations are correlated.
        seed: of the chance levels.
        folder: of the cache, where tables are kept, and the decoder rows of the control's link: it
            is pulled once.
    """

    name: str
    control: RegisteredChain
    links: tuple[Link, Link]
    hook: Hook
    tokens: MatchedTokens
    seed: int
    folder: Path

    @property
    def is_missing(self) -> bool:
        """Whether it is still to be measured."""
        return not self.folder.exists()

    def decoder(self) -> DecoderLink:
        """Of the control's link; it must have been measured."""
        return load_decoder(self.folder / DECODER_FILE, self.links[1])

    def measure(self, lm: HookedLM, pulled: PulledLink) -> None:
        """Match, and keep the tables.

        Args:
            lm: the shared checkpoint, hooked there.
            pulled: the chain's link.
        """
        beside = self.control.pull(self.links[1])
        hooks = self.hook, self.hook
        pairs, numbers = match_links((pulled, beside), hooks, lm, self.tokens, self.seed)
        lm_step = self.links[1].checkpoint.lm_step
        with whole_folder(self.folder) as draft:
            pairs.assign(lm_step=lm_step).to_parquet(draft / "pairs.parquet")
            numbers.assign(lm_step=lm_step).to_parquet(draft / "matching.parquet")
            save_decoder(draft / DECODER_FILE, decoder_link(self.links[1], beside))

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
    corpus = registered.chain.corpus
    tokens = MatchedTokens(corpus, config.match_tokens, config.exclude_bos)
    matchings = []
    for name, control in analysis.controls.items():
        links = shared_links(registered, control)
        if links is None:
            continue
        identities = [link.identity for link in links]
        asked = [corpus.sha256, config.match_tokens, config.exclude_bos, config.seed]
        key = content_hash([MATCHING_VERSION, *identities, *asked])[:32]
        folder = analysis.settings.cache_dir / "matchings" / key
        hook = registered.chain.hook
        matchings.append(ControlMatching(name, control, links, hook, tokens, config.seed, folder))
    return matchings
