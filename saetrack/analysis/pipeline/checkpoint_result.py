"""What an analysis finds at one checkpoint, and how it is kept on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.torch import load_file

from saetrack.analysis.contexts.top_contexts import Contexts
from saetrack.analysis.effects.attribution import FeatureEffects
from saetrack.analysis.logits.feature_logits import FeatureLogits
from saetrack.chain.plan import Link
from saetrack.sae.files import save_tensors
from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class CheckpointResult:
    """What is found at one checkpoint: all that an analysis needs of it, from one pass.

    Attributes:
        link: of the chain.
        contexts: top contexts of its SAE's features.
        status: which features are live (`saetrack.analysis.contexts.liveness`).
        labels: what they mean (`saetrack.analysis.meaning.labels`).
        progress: of the followed sets (`saetrack.analysis.formation.progress_measure`).
        baseline: of the random contexts.
        statistics: of the followed features: `feature`, `determinism`
            (`saetrack.analysis.meaning.determinism`), `recall` of the token that they have at the
            end, `coherence_other`, the similarity of their contexts without their own token.
        regions: of the sampled features by activation strength
            (`saetrack.analysis.formation.regions`); of the final checkpoint only, else empty.
        labels_of_directions: what random directions would be labelled, a control.
        nulls: concepts beside those that nulls expect (`saetrack.analysis.meaning.nulls`).
        labels_by_authors: labels by contexts of the authors' rule, under the same thresholds; of
            the final checkpoint where rules are compared, else empty.
        sample: residuals of the sampled tokens, (tokens, d_in).
        sampled_features_x: residuals at the final top contexts of the sampled features, (sampled,
            k, d_in); zero where a list is shorter.
        parameter_displacement: how far the LM's weights below the hook moved since the link before
            (`saetrack.analysis.geometry.continuity`); NaN at the first.
        probes: what is read from few features (`saetrack.analysis.probes.sparse_probes`).
        logits: what features promote; None for an LM without a direct path to its logits.
        effects: what features do to the loss; None where this is left out.
        ablations: features that were truly taken out (`saetrack.analysis.effects.ablation`).
        core: metrics of the SAE (`saetrack.analysis.effects.core_metrics`); may be empty.
    """

    link: Link
    contexts: Contexts
    status: pd.DataFrame
    labels: pd.DataFrame
    progress: pd.DataFrame
    baseline: pd.DataFrame
    statistics: pd.DataFrame
    regions: pd.DataFrame
    labels_of_directions: pd.DataFrame
    nulls: pd.DataFrame
    labels_by_authors: pd.DataFrame
    sample: Float[Tensor, "tokens d_in"]
    sampled_features_x: Float[Tensor, "sampled k d_in"]
    probes: pd.DataFrame
    parameter_displacement: float
    logits: FeatureLogits | None
    effects: FeatureEffects | None
    ablations: pd.DataFrame
    core: dict[str, float]

    TABLES = (
        *("status", "labels", "progress", "baseline", "statistics", "regions"),
        *("labels_of_directions", "nulls", "labels_by_authors", "ablations", "probes"),
    )

    @property
    def lm_step(self) -> int:
        """Of its checkpoint."""
        return self.link.checkpoint.lm_step

    @property
    def checkpoint_index(self) -> int:
        """Of its checkpoint."""
        return self.link.checkpoint.checkpoint_index

    def save(self, folder: Path) -> None:
        """Write tables as parquet, contexts as npz, residuals as safetensors."""
        for name in self.TABLES:
            getattr(self, name).to_parquet(folder / f"{name}.parquet")
        save_contexts(folder / "contexts.npz", self.contexts)
        for name, found in (("logits", self.logits), ("effects", self.effects)):
            if found is not None:
                np.savez(folder / f"{name}.npz", **vars(found))
        residuals = {"sample": self.sample, "sampled_features_x": self.sampled_features_x}
        save_tensors(folder / "residuals.safetensors", residuals)
        numbers = {"parameter_displacement": self.parameter_displacement, "core": self.core}
        (folder / "numbers.json").write_text(json.dumps(numbers))

    @classmethod
    def load(cls, folder: Path, link: Link) -> CheckpointResult:
        """Read what `save` wrote.

        Raises:
            UserError: it cannot be read.
        """
        with readable(folder):
            found: dict[str, Any] = {
                name: pd.read_parquet(folder / f"{name}.parquet") for name in cls.TABLES
            }
            found |= load_file(folder / "residuals.safetensors")
            found |= json.loads((folder / "numbers.json").read_text())
            contexts = load_contexts(folder / "contexts.npz")
            if (logits := _arrays(folder / "logits.npz")) is not None:
                logits = FeatureLogits(**logits)
            if (effects := _arrays(folder / "effects.npz")) is not None:
                effects = FeatureEffects(**{**effects, "tokens": int(effects["tokens"])})
            return cls(link=link, contexts=contexts, logits=logits, effects=effects, **found)


def save_contexts(path: Path, contexts: Contexts) -> None:
    """Write contexts as npz."""
    np.savez(path, **vars(contexts))


def load_contexts(path: Path) -> Contexts:
    """Read what `save_contexts` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return Contexts(**{**arrays, "tokens": int(arrays["tokens"])})


def _arrays(path: Path) -> Any:
    """What an npz holds, by name; None if there is none."""
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turn what goes wrong when a cached folder is read into one line that says what to do."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, BadZipFile, SafetensorError) as error:
        raise UserError(
            f"{folder}: cached results that cannot be read ({type(error).__name__}); "
            "delete the folder and run again"
        ) from None
