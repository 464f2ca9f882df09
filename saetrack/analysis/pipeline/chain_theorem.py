"""Theorem 2.1 at a few checkpoints of a chain, measured while their LMs are loaded."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from saetrack.analysis.geometry.theorem import (
    TheoremNumbers,
    TrainingPath,
    measure_theorem,
    theorem_path_table,
    theorem_table,
)
from saetrack.analysis.pipeline.chain_analysis import ChainAnalysis
from saetrack.analysis.pipeline.checkpoint_result import CheckpointResult, readable
from saetrack.analysis.pipeline.learning_rates import learning_rate_sums
from saetrack.analysis.pipeline.meaning_tables import evenly_chosen
from saetrack.chain.plan import Link
from saetrack.utils.files import content_hash, whole_folder

if TYPE_CHECKING:
    from jaxtyping import Int

    from saetrack.analysis.contexts.datapoints import Datapoints
    from saetrack.lm.hooked import HookedLM

log = logging.getLogger(__name__)

# Raise when what is measured changes, so that old numbers are not taken for new ones.
THEOREM_VERSION = 1
# Beside an LM in float32 there are at most three more of its size: 16 GB in all at this many.
MAX_PARAMETERS = 2**30
FILE = "theorem.npz"


class ChainTheorem:
    """The checkpoints of a chain at which theorem 2.1 is measured; none if it is switched off.

    They are spread over the chain's, the first among them and not the last, from which no way leads
    on. An LM that stands still, or runs in bfloat16, has none.
    """

    def __init__(self, analysis: ChainAnalysis, asked: str) -> None:
        """Measures nothing yet.

        Args:
            analysis: of the chain.
            asked: hash of all that determines which tokens are sampled.
        """
        registered, config = analysis.registered, analysis.config
        self._registered, self._config = registered, config
        self._asked = [asked, THEOREM_VERSION, config.theorem_rows]
        self._cache_dir = analysis.settings.cache_dir
        wanted = config.theorem_rows and registered.standing is None
        exact = registered.chain.config.lm_precision == "float32"
        if wanted and not exact:
            log.info("theorem 2.1 is left out: its steps are too small for lm_precision=bfloat16")
        ways = len(registered.links) - 1
        chosen = evenly_chosen(ways, config.theorem_checkpoints) if wanted and exact else []
        self.links = [registered.links[number] for number in chosen]

    def lacks(self, link: Link) -> bool:
        """Whether it is still to be measured at a checkpoint."""
        return link in self.links and not self._folder(link).exists()

    def measure(self, link: Link, lm: HookedLM, points: Datapoints) -> None:
        """Measure at a checkpoint, and keep the numbers; an LM that is too large has none.

        Args:
            link: over the checkpoint.
            lm: loaded whole.
            points: that are followed, the set `sample` among them.
        """
        with whole_folder(self._folder(link)) as draft:
            if reason := _unfit(lm):
                log.info("theorem 2.1 is left out: %s", reason)
                return
            rows = self._registered.chain.corpus.rows("held_out")[: self._config.theorem_rows]
            at = points.sets["sample"][0][self._sampled(len(points.sets["sample"][0]))]
            texts = self._registered.chain.corpus.rows("analysis")[points.rows[at]]
            found = measure_theorem(
                lm,
                torch.from_numpy(rows.astype(np.int64)),
                torch.from_numpy(texts.astype(np.int64)),
                torch.from_numpy(points.positions[at].astype(np.int64)),
                self._config.seed,
            )
            np.savez(draft / FILE, **vars(found))

    def tables(self, results: Sequence[CheckpointResult]) -> dict[str, pd.DataFrame]:
        """`theorem` and `theorem_path` (`saetrack.analysis.geometry.theorem`); or none.

        Args:
            results: of all checkpoints of the chain, in order.

        Raises:
            UserError: the cache cannot be read.
        """
        found, paths = {}, {}
        rates = learning_rate_sums(self._registered)
        for before, after in pairwise(results):
            if before.link not in self.links or (numbers := self._numbers(before.link)) is None:
                continue
            found[before.lm_step] = numbers
            sampled = torch.from_numpy(self._sampled(len(before.sample)))
            paths[before.lm_step] = TrainingPath(
                after.lm_step,
                (after.sample - before.sample)[sampled].norm(dim=1).numpy(),
                rates.get(after.lm_step, float("nan")),
                after.parameter_displacement,
            )
        if not found:
            return {}
        return {
            "theorem": theorem_table(found),
            "theorem_path": theorem_path_table(found, paths),
        }

    def _sampled(self, size: int) -> Int[np.ndarray, " tokens"]:
        """Which of the sample's tokens are looked at, each of a row of its own."""
        return np.array(evenly_chosen(size, self._config.theorem_rows))

    def _numbers(self, link: Link) -> TheoremNumbers | None:
        folder = self._folder(link)
        with readable(folder):
            if folder.is_dir() and not (folder / FILE).exists():
                return None
            with np.load(folder / FILE, allow_pickle=False) as arrays:
                return TheoremNumbers(
                    **{
                        name: array if array.ndim else array.item()
                        for name, array in arrays.items()
                    }
                )

    def _folder(self, link: Link) -> Path:
        name = content_hash([self._asked, link.identity])[:32]
        return self._cache_dir / "theorem" / name


def _unfit(lm: HookedLM) -> str | None:
    """Why nothing is measured of an LM; None if it can be."""
    if not lm.computes_with_parameters:
        return "it takes a hook in the residual stream of an architecture of the catalogue"
    parameters = sum(weight.numel() for weight in lm.parameters())
    if parameters > MAX_PARAMETERS:
        return f"the LM has {parameters:,} parameters, more than {MAX_PARAMETERS:,}"
    return None
