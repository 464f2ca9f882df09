"""One link: started from its parent's weights, trained on its checkpoint, evaluated, registered."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from saetrack.activations import ResidualStream
from saetrack.lm.checkpoints import CheckpointSource
from saetrack.lm.residual import ResidualLM
from saetrack.plan import Chain, Link
from saetrack.progress import Progress
from saetrack.sae.metrics import Evaluation, evaluate
from saetrack.sae.model import SAE, geometric_median, new_sae
from saetrack.sae.step import TrainStep
from saetrack.sae.training import train

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from saetrack.sae.objective import Losses

log = logging.getLogger(__name__)

# Shares of a link's budget at which it is evaluated, besides before its first and after its last
# token: close together early, where a warm start changes fastest.
EVALUATION_SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)


@dataclass(frozen=True)
class TrainedLink:
    """What a link leaves behind.

    Attributes:
        sae: the weights, on the CPU.
        evaluation: on held-out tokens, after the last training token.
        duration_s: of the training, LM included.
        revived: features that were started anew while this link trained.
        adam: moments, if the next link carries them on.
    """

    sae: SAE
    evaluation: Evaluation
    duration_s: float
    revived: list[int]
    adam: dict[str, Tensor] | None


class Recorder(Protocol):
    """Receives one link while it trains; nothing counts until `register` returns."""

    def log(self, metrics: dict[str, float], done_tokens: int) -> None:
        """Keep metrics measured after `done_tokens` training tokens of this link."""

    def register(self, trained: TrainedLink) -> int:
        """Keep the link, whole or not at all; returns its version."""


class LinkStore(Protocol):
    """Where links are kept. The chain needs no more than this of a registry."""

    def versions(self, chain: Chain) -> dict[str, int]:
        """Version of each link of the chain that is registered, by identity."""

    def weights(self, chain: Chain, version: int) -> tuple[SAE, dict[str, Tensor] | None]:
        """The SAE of a version, and Adam's moments if they were kept."""

    def record(self, chain: Chain, link: Link) -> Recorder:
        """Begin recording a link; what an earlier, broken attempt left is cleared away."""


def run_link(
    chain: Chain, link: Link, source: CheckpointSource, store: LinkStore, device: torch.device
) -> int:
    """Train one link from its parent's weights and register it; its version.

    A link that is registered already is left alone.
    """
    registered = store.versions(chain)
    if link.identity in registered:
        return registered[link.identity]
    lm = ResidualLM(
        source.fetch(link.checkpoint),
        chain.config.layer,
        convention=chain.config.convention,
        precision=chain.config.lm_precision,
        device=device,
    )
    stream = ResidualStream(lm, chain.corpus, chain.config.corpus.exclude_bos, chain.config.seed)
    step = _start(chain, link, stream, store, device)
    recorder = store.record(chain, link)
    trained = _train_link(chain, link, stream, step, recorder)
    version = recorder.register(trained)
    log.info("%s", _finished_line(chain, link, trained, version))
    return version


def _start(
    chain: Chain, link: Link, stream: ResidualStream, store: LinkStore, device: torch.device
) -> TrainStep:
    """The first link's random SAE, or the parent's weights with what else is carried over."""
    config = chain.config
    half_buffer = min(config.buffer_tokens // 2, link.tokens)
    if link.parent_identity is None:
        median = geometric_median(stream.first_tokens(half_buffer))
        sae = new_sae(len(median), config.d_sae, median, config.seed).to(device)
        return TrainStep(sae, config.objective)
    parent_version = store.versions(chain)[link.parent_identity]
    sae, adam = store.weights(chain, parent_version)
    step = TrainStep(sae.to(device), config.objective)
    if config.carry.b_dec == "median":
        median = geometric_median(stream.first_tokens(half_buffer))
        with torch.no_grad():
            step.sae.b_dec.copy_(median)
    if adam is not None:
        step.load_moments(adam)
    return step


def _train_link(
    chain: Chain, link: Link, stream: ResidualStream, step: TrainStep, recorder: Recorder
) -> TrainedLink:
    config = chain.config
    watch = _Watch(chain, link, step, stream.held_out(), recorder)
    watch.evaluate(0)
    batches = stream.mixed_batches(link.tokens, config.batch_tokens, config.buffer_tokens)
    began_s = time.perf_counter()
    revived = train(step, batches, link.optimiser, config.revival, watch.after_step)
    duration_s = time.perf_counter() - began_s - watch.evaluation_s
    return TrainedLink(
        sae=step.sae,
        evaluation=watch.evaluate(link.tokens),
        duration_s=duration_s,
        revived=sorted(revived),
        adam=step.moments() if config.carry.adam == "carried" else None,
    )


class _Watch:
    """Looks at a link while it trains: progress for people, held-out metrics for the record."""

    def __init__(
        self,
        chain: Chain,
        link: Link,
        step: TrainStep,
        held_out: Float[Tensor, "tokens d_in"],
        recorder: Recorder,
    ) -> None:
        self.evaluation_s = 0.0
        self._step = step
        self._held_out = held_out
        self._recorder = recorder
        self._batch_tokens = chain.config.batch_tokens
        self._due_tokens = [share * link.tokens for share in EVALUATION_SHARES]
        self._done_tokens = 0
        self._progress = Progress(chain.label(link), link.tokens, "tokens")

    def after_step(self, done_tokens: int, _: Losses) -> None:
        """Show progress; evaluate where a share of the budget is reached."""
        self._progress.advance(done_tokens - self._done_tokens)
        self._done_tokens = done_tokens
        reached = [due for due in self._due_tokens if due <= done_tokens]
        if reached:
            del self._due_tokens[: len(reached)]
            self.evaluate(done_tokens)

    def evaluate(self, done_tokens: int) -> Evaluation:
        """Measure on the held-out tokens, and record it."""
        began_s = time.perf_counter()
        evaluation = evaluate(
            self._step.sae, self._held_out, self._step.objective, self._batch_tokens
        )
        self._recorder.log(evaluation.scalars(), done_tokens)
        self.evaluation_s += time.perf_counter() - began_s
        return evaluation


def _finished_line(chain: Chain, link: Link, trained: TrainedLink, version: int) -> str:
    result = trained.evaluation
    return (
        f"{chain.label(link)}: explained variance {result.explained_variance:.3f}, "
        f"L0 {result.l0:.1f}, dead {100 * result.dead:.1f} %, "
        f"{link.tokens / trained.duration_s:,.0f} tokens/s, version {version}"
    )
