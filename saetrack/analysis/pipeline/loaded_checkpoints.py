"""A chain's checkpoints in memory: each LM is loaded, and each link pulled, as rarely as possible.

The checkpoint that was loaded last stays until another is asked for: passes that follow each other
over one checkpoint share it. Two things stay longer: the final link, which is needed when
datapoints are chosen and again at the end, and the weights of the last LM that was read, to which
those of the next one are compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from saetrack.analysis.geometry.continuity import parameter_displacement
from saetrack.analysis.pipeline.feature_pass import FeaturePass
from saetrack.analysis.pipeline.registered_chain import RegisteredChain
from saetrack.chain.plan import Link

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class LoadedCheckpoints:
    """The checkpoints of one chain, one in memory at a time."""

    def __init__(self, registered: RegisteredChain) -> None:
        """Loads nothing yet."""
        self._registered = registered
        self._loaded: tuple[Link, FeaturePass] | None = None
        self._token_embeddings: Tensor | None = None
        self._weights: tuple[Link, dict[str, Tensor]] | None = None

    def load(self, link: Link) -> FeaturePass:
        """A link's LM, whole, and its SAE."""
        if self._loaded is None or self._loaded[0] is not link:
            self._loaded = None  # makes room before the next one comes
            opened = self._registered.open(link, whole=True)
            self._loaded = link, opened
            if link is self._registered.links[-1]:
                self._token_embeddings = opened.lm.token_embeddings().cpu()
        return self._loaded[1]

    def token_embeddings(self) -> Float[Tensor, "vocabulary width"]:
        """The final LM's input embedding, on the CPU."""
        if self._token_embeddings is None:
            lm = self._registered.lm(self._registered.links[-1])
            self._token_embeddings = lm.token_embeddings().cpu()
        return self._token_embeddings

    def parameter_displacement(self, before: Link | None, link: Link) -> float:
        """How far the LM's weights below the hook moved between two links; NaN without the first.

        The weights of the link that was asked for last are still in memory. Those of another
        `before`, as after a crash, are loaded.
        """
        weights, moved = self.load(link).lm.weights_below(), float("nan")
        if before is not None:
            if self._weights is None or self._weights[0] is not before:
                self._weights = before, self._registered.lm(before).weights_below()
            moved = parameter_displacement(self._weights[1], weights)
        self._weights = link, weights
        return moved

    def drop(self) -> None:
        """Let go of everything."""
        self._loaded = self._token_embeddings = self._weights = None
