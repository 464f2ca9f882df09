"""What one checkpoint says under a study's questions, and how it is kept on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from safetensors.torch import load_file

from saetrack.analysis.contexts.top_contexts import Contexts
from saetrack.chain.plan import Link
from saetrack.sae.files import save_tensors

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class CheckpointResult:
    """What one checkpoint says.

    Attributes:
        link: of the chain.
        contexts: top contexts of its SAE's features.
        status: which features are live (`saetrack.analysis.contexts.liveness`).
        labels: what they mean (`saetrack.analysis.meaning.labels`).
        progress: of the followed sets (`saetrack.analysis.formation.progress_measure`).
        baseline: of the random contexts.
        statistics: of the followed features: `feature`, `determinism`, `determined`
            (`saetrack.analysis.meaning.determinism`), `recall` of the token that they have at the end,
            `coherence_other`, the similarity of their contexts without their own token.
        regions: of the sampled features by activation strength (`saetrack.analysis.formation.regions`); of
            the final checkpoint only, else empty.
        sample: residuals of the sampled tokens, (tokens, d_in).
        sampled_features_x: residuals at the final top contexts of the sampled features, (sampled,
            k, d_in); zero where a list is shorter.
    """

    link: Link
    contexts: Contexts
    status: pd.DataFrame
    labels: pd.DataFrame
    progress: pd.DataFrame
    baseline: pd.DataFrame
    statistics: pd.DataFrame
    regions: pd.DataFrame
    sample: Float[Tensor, "tokens d_in"]
    sampled_features_x: Float[Tensor, "sampled k d_in"]

    TABLES = ("status", "labels", "progress", "baseline", "statistics", "regions")

    def save(self, folder: Path) -> None:
        """Write tables as parquet, arrays as npz, the sample as safetensors."""
        for name in self.TABLES:
            getattr(self, name).to_parquet(folder / f"{name}.parquet")
        save_contexts(folder / "contexts.npz", self.contexts)
        residuals = {"sample": self.sample, "sampled_features_x": self.sampled_features_x}
        save_tensors(folder / "residuals.safetensors", residuals)

    @classmethod
    def load(cls, folder: Path, link: Link) -> CheckpointResult:
        """Read what `save` wrote."""
        found: dict[str, Any] = {
            name: pd.read_parquet(folder / f"{name}.parquet") for name in cls.TABLES
        }
        found |= load_file(folder / "residuals.safetensors")
        return cls(link=link, contexts=load_contexts(folder / "contexts.npz"), **found)


def save_contexts(path: Path, contexts: Contexts) -> None:
    """Write contexts as npz."""
    np.savez(path, **vars(contexts))


def load_contexts(path: Path) -> Contexts:
    """Read what `save_contexts` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return Contexts(**{**arrays, "tokens": int(arrays["tokens"])})
