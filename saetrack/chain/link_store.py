"""What the training of a chain asks of a registry, and what it gives to it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from saetrack.chain.plan import Chain, Link
from saetrack.sae.metrics import Evaluation
from saetrack.sae.model import SAE
from saetrack.sae.warm_start import Parent


@dataclass(frozen=True)
class TrainedLink:
    """A link after its last training token, as it is registered.

    Attributes:
        sae: the weights.
        evaluation: on held-out tokens, after the last training token.
        metrics: every number of that evaluation, CE losses included.
        tokens: that it was trained on; fewer than its budget where it ended at a plateau.
        train_s: seconds of training, LM included; shared by all hooks of one pass.
        residual_mean_distance: of the checkpoint's residuals; the next link may scale by it.
        processes: how many trained it together. Another number gives the same weights except for
            rounding; so it is recorded but, like the device, is no part of the link's identity.
        warnings: what looks wrong with it but may be right, a line each.
    """

    sae: SAE
    evaluation: Evaluation
    metrics: dict[str, float]
    tokens: int
    train_s: float
    residual_mean_distance: float
    processes: int = 1
    warnings: tuple[str, ...] = ()


class Recorder(AbstractContextManager["Recorder"], Protocol):
    """Receives one link while it trains; the link is in the registry once `register` returns.

    While the block lasts, no other process trains the same link.
    """

    def log(self, metrics: dict[str, float], done_tokens: int) -> None:
        """Keep metrics measured after `done_tokens` training tokens of this link."""

    def register(self, trained: TrainedLink) -> int:
        """Keep the whole link or nothing; returns its version."""


class LinkStore(Protocol):
    """Where links are kept: all that training needs of a registry."""

    def versions(self, chain: Chain) -> dict[str, int]:
        """Version of each link of the chain that is registered, by identity."""

    def adopt(self, chain: Chain, link: Link) -> int | None:
        """Register in this chain what another chain has trained under the same identity.

        Returns its version here, or None if no chain has it.
        """

    def parent(self, chain: Chain, link: Link) -> Parent:
        """What a link starts from; its parent must be registered."""

    def claim(self, chain: Chain, link: Link) -> Recorder | None:
        """The right to train a link; waits while another running process has it.

        What an interrupted attempt left in the registry is removed. None if the link is registered.
        """
