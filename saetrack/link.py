"""One link while it trains: watched on held-out tokens, saved, and handed to the registry."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from saetrack.plan import Chain, Link
from saetrack.sae.metrics import Evaluation, evaluate
from saetrack.sae.model import SAE
from saetrack.sae.timing import part
from saetrack.sae.training import Training
from saetrack.sae.warm_start import Parent, Start
from saetrack.splicing import Splicing

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedLink:
    """What a link leaves behind.

    Attributes:
        sae: the weights.
        evaluation: on held-out tokens, after the last training token.
        metrics: every number of that evaluation, CE losses included.
        train_s: seconds of training, LM included; shared by all layers of one pass.
        residual_spread: of the checkpoint's residuals; the next link may scale by it.
        revived: features that were started anew before or while this link trained.
        adam: moments, if the next link carries them on.
        processes: that trained it together. Another number takes the same steps to rounding, so it
            is told and, like the device, is no part of the link's identity.
    """

    sae: SAE
    evaluation: Evaluation
    metrics: dict[str, float]
    train_s: float
    residual_spread: float
    revived: list[int]
    adam: dict[str, Tensor] | None
    processes: int = 1


class Recorder(AbstractContextManager["Recorder"], Protocol):
    """Receives one link while it trains; nothing counts until `register` returns.

    While the block lasts, no other process trains the same link.
    """

    def log(self, metrics: dict[str, float], done_tokens: int) -> None:
        """Keep metrics measured after `done_tokens` training tokens of this link."""

    def register(self, trained: TrainedLink) -> int:
        """Keep the link, whole or not at all; returns its version."""


class LinkStore(Protocol):
    """Where links are kept. The chain needs no more than this of a registry."""

    def versions(self, chain: Chain) -> dict[str, int]:
        """Version of each link of the chain that is registered, by identity."""

    def adopt(self, chain: Chain, link: Link) -> int | None:
        """Register in this chain what another chain has trained under the same identity.

        Returns its version here, or None if no chain has it.
        """

    def parent(self, chain: Chain, link: Link) -> Parent:
        """What a link starts from. Its parent must be registered."""

    def claim(self, chain: Chain, link: Link) -> Recorder | None:
        """The right to train a link; waits while another process that lives has it.

        What an earlier, broken attempt left is cleared away. None if the link is registered.
        """


class LinkTraining:
    """One link of a stage, from its start to what it leaves behind."""

    def __init__(
        self,
        chain: Chain,
        link: Link,
        start: Start,
        held_out: Float[Tensor, "tokens d_in"],
        splicing: Splicing | None,
        recorder: Recorder,
    ) -> None:
        """A link that has not trained yet; `restore` makes it one that has."""
        config = chain.config
        self.chain = chain
        self.link = link
        self.training = Training(start.step, link.optimiser, config.revival)
        self.training.revived |= start.restarted
        self._b_dec_lag = start.b_dec_lag
        self._residual_spread = start.residual_spread
        self._held_out = held_out
        self._splicing = splicing
        self._recorder = recorder
        # Every evaluation so far, by training tokens: a continued link records them again.
        self._history: list[tuple[int, dict[str, float]]] = []

    @part("metrics")
    def evaluate(self, train_s: float) -> Evaluation:
        """Measure on the held-out tokens, and record it."""
        config = self.chain.config
        step = self.training.step
        evaluation = evaluate(
            step.sae,
            self._held_out,
            step.objective,
            config.evaluation.matched_l0,
        )
        metrics = {**evaluation.scalars(), "train_s": train_s}
        if self._splicing is not None:
            metrics |= self._splicing.metrics(step.sae)
        self._record(self.training.done_tokens, metrics)
        return evaluation

    def finish(self, train_s: float) -> int:
        """Evaluate, record how the link started, register; the version."""
        evaluation = self.evaluate(train_s)
        before, after = self._history[0][1], self._history[-1][1]
        assert self.training.first_loss is not None
        start = {
            "start_loss": self.training.first_loss,
            "start_explained_variance": before["explained_variance"],
            "start_dead": before["dead"],
            "start_b_dec_lag": self._b_dec_lag,
            "sparse_share": self.training.step.sparse_steps / self.training.done_steps,
        }
        step = self.training.step
        ranks = step.sae.ranks
        keeps_adam = self.chain.config.carry.adam == "carried"
        trained = TrainedLink(
            sae=step.sae.whole(),
            evaluation=evaluation,
            metrics={**after, **start},
            train_s=train_s,
            residual_spread=self._residual_spread,
            revived=sorted(self.training.revived),
            adam=ranks.whole(step.adam.state()) if keeps_adam else None,
            processes=ranks.count,
        )
        with part("registry"):
            self._recorder.log(start, 0)
            version = self._recorder.register(trained)
        log.info("%s", self._finished_line(evaluation, train_s, version))
        return version

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and facts from which `restore` goes on."""
        training = self.training
        facts = {
            "done_steps": training.done_steps,
            "done_tokens": training.done_tokens,
            "first_loss": training.first_loss,
            "revived": sorted(training.revived),
            "b_dec_lag": self._b_dec_lag,
            "residual_spread": self._residual_spread,
            "history": self._history,
        }
        return training.step.state(), facts

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Self:
        """Go on from a `state`; its evaluations are recorded again."""
        training = self.training
        training.step.load(tensors)
        training.done_steps = facts["done_steps"]
        training.done_tokens = facts["done_tokens"]
        training.first_loss = facts["first_loss"]
        training.revived = set(facts["revived"])
        self._b_dec_lag = facts["b_dec_lag"]
        self._residual_spread = facts["residual_spread"]
        for done_tokens, metrics in facts["history"]:
            self._record(done_tokens, metrics)
        return self

    def _finished_line(self, evaluation: Evaluation, train_s: float, version: int) -> str:
        return (
            f"L{self.chain.layer} {self.chain.label(self.link)}: "
            f"explained variance {evaluation.explained_variance:.3f}, L0 {evaluation.l0:.1f}, "
            f"dead {100 * evaluation.dead:.1f} %, {self.link.tokens / train_s:,.0f} tokens/s, "
            f"version {version}"
        )

    def _record(self, done_tokens: int, metrics: dict[str, float]) -> None:
        self._history.append((done_tokens, metrics))
        with part("registry"):
            self._recorder.log(metrics, done_tokens)
